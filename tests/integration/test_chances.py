"""How likely tokens were, as engines report it: the worker, a real llama-server, and what other servers send."""

import math
from pathlib import Path

import pytest
from msgspec import structs

from qwenchat.chat.events import Delta, TokenChance
from qwenchat.chat.ports import MOST_CHANCES
from qwenchat.chat.sampling import Dialect, Sampling
from qwenchat.engines.remote.api import ServedModel
from tests.fakes import ggufs, guide
from tests.fakes.engines import GREEDY, engine, questions, read, remote_engine, request
from tests.fakes.llama_server import llama_server
from tests.fakes.standin_chat import answer_chunks, api_of, asked, chunk, generated, streamed
from tests.fakes.standin_server import event_stream, standin_server
from tests.fakes.standin_vllm import standin_vllm


def together(deltas: list[Delta]) -> list[tuple[TokenChance, ...]]:
    """Return the chances of all tokens of an answer."""
    return [each for delta in deltas for each in delta.chances]


async def test_the_worker_and_a_llama_server_agree(tmp_path: Path) -> None:
    wanted = request(questions("How do I download a model?"), structs.replace(GREEDY, max_tokens=12), chances=5)
    with llama_server(guide.MODEL, context=1024) as server:
        async with (
            remote_engine(server.url, "guide.gguf") as there,
            engine(guide.MODEL, tmp_path, n_ctx=1024, threads=1, flash_attention=True) as here,
        ):
            far, near = await read(there.generate(wanted)), await read(here.generate(wanted))
            assert there.capabilities.logprobs and here.capabilities.logprobs
    assert far.ids == near.ids
    assert len(together(far.deltas)) == len(together(near.deltas)) == len(near.ids) == 12
    for token, said_there, said_here in zip(near.ids, together(far.deltas), together(near.deltas), strict=True):
        assert said_here[0].token_id == token, "the likeliest token was taken"
        assert len(said_here) == 5
        assert sum(math.exp(each.logprob) for each in said_here) <= 1.0001
        assert [each.logprob for each in said_here] == sorted((each.logprob for each in said_here), reverse=True)
        known = {each.token_id: each for each in said_there}
        for each in said_here[:2]:
            assert known[each.token_id].text == each.text
            assert known[each.token_id].logprob == pytest.approx(each.logprob, abs=0.02)


async def test_an_unlikely_token_is_reported_beside_the_likeliest_ones(tiny: Path, tmp_path: Path) -> None:
    flat = Sampling(temperature=100.0, top_k=0, seed=3, max_tokens=20)
    async with engine(tiny, tmp_path, threads=1) as here:
        said = await read(here.generate(request(questions("Hello"), flat, chances=2)))
        quiet = await read(here.generate(request(questions("Hello"), flat)))
    assert said.ids == quiet.ids, "looking at the chances changes nothing"
    assert not together(quiet.deltas)
    reported = together(said.deltas)
    for token, chances in zip(said.ids, reported, strict=False):  # bytes that end no character have none
        assert token in {each.token_id for each in chances}
    assert {3} <= {len(chances) for chances in reported} <= {2, 3}


async def test_each_token_has_its_chances_whatever_its_text_is(chain: ggufs.Chain, tmp_path: Path) -> None:
    async with engine(chain.path, tmp_path, threads=1) as here:
        said = await read(here.generate(request(questions("Hello"), chances=10_000)))
        cut = await read(here.generate(request(questions("Hello"), structs.replace(GREEDY, stop=("你好",)), chances=1)))
    assert [chances[0].token_id for chances in together(said.deltas)] == list(said.ids) == list(chain.ids)
    assert {len(chances) for chances in together(said.deltas)} == {MOST_CHANCES}
    for delta in cut.deltas:
        ids = [chances[0].token_id for chances in delta.chances]
        assert ids == list(delta.token_ids)[: len(ids)]


async def test_a_schema_hides_no_chance(endless: ggufs.Chain, tmp_path: Path) -> None:
    bound = structs.replace(GREEDY, schema='{"enum": ["yes"]}')
    async with engine(endless.path, tmp_path, threads=1) as here:
        free = await read(here.generate(request(questions("Hello"), structs.replace(GREEDY, max_tokens=1), chances=1)))
        said = await read(here.generate(request(questions("Hello"), bound, chances=1)))
    assert said.text == '"yes"'
    likeliest, taken = together(said.deltas)[0]
    assert [likeliest.token_id] == list(free.ids)
    assert taken.token_id == said.ids[0]
    assert math.isfinite(taken.logprob)


async def test_what_vllm_sends() -> None:
    told = {
        "tokens": ["Yes", "<|im_end|>"],
        "token_logprobs": [-0.5, -0.1],
        "top_logprobs": [{"Yes": -0.5, "No": -0.9}, {"<|im_end|>": -0.1}],
        "text_offset": [0, 3],
    }
    choice = {"index": 0, "text": "Yes", "token_ids": [89], "finish_reason": "length", "logprobs": told}
    usage = {"prompt_tokens": 5, "completion_tokens": 1}
    async with (
        standin_vllm(event_stream({"choices": [choice]}, {"choices": [], "usage": usage})) as server,
        remote_engine(server.url, "Qwen/Qwen2-72B-Instruct") as there,
    ):
        said = await read(
            there.generate(request(questions("Is it?"), structs.replace(GREEDY, max_tokens=1), chances=8))
        )
        assert there.capabilities.logprobs
    assert server.asked_for("/v1/completions")[0].json["logprobs"] == 8
    assert together(said.deltas) == [(TokenChance("Yes", 89, -0.5), TokenChance("No", -1, -0.9))]


@pytest.mark.parametrize(
    ("dialect", "serves"), [(Dialect.OPENAI, True), (Dialect.LM_STUDIO, False), (Dialect.DASHSCOPE, False)]
)
async def test_what_chat_apis_send(dialect: Dialect, serves: bool) -> None:
    likely = [{"token": "No", "logprob": -0.2, "bytes": [78, 111]}, {"token": "Yes", "logprob": -1.7, "bytes": None}]
    told = {"content": [{"token": "Yes", "logprob": -1.7, "bytes": None, "top_logprobs": likely}], "refusal": None}
    first = chunk({"content": "Yes"})
    choices = first["choices"]
    assert isinstance(choices, list)
    choices[0]["logprobs"] = told
    path = "/v1/chat/completions"
    async with standin_server() as server:
        server.reply(path, streamed(first, *answer_chunks(finish="length")))
        async with api_of(server, dialect, "/v1") as api:
            wanted = structs.replace(asked("Is it?", sampling=GREEDY), chances=100)
            _parts, _end, events = await generated(api, ServedModel(id="m", n_ctx=4096), wanted)
            assert api.capabilities.logprobs is serves
    sent = server.asked_for(path)[0].json
    assert [sent.get(name) for name in ("logprobs", "top_logprobs")] == ([True, 20] if serves else [None, None])
    deltas = [event for event in events if isinstance(event, Delta)]
    assert together(deltas) == [(TokenChance("No", -1, -0.2), TokenChance("Yes", -1, -1.7))]
