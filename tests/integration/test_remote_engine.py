"""The remote engine whatever its server does: order, failures, restarts, what the user is told of it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from msgspec import structs

from qwenchat.chat.events import Delta, Finished, Loading, WaitingToRetry
from qwenchat.chat.message import FinishReason
from qwenchat.chat.ports import Mode
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.remote import engine as module
from qwenchat.engines.remote.engine import ASSUMED_CONTEXT, RemoteEngine
from qwenchat.engines.remote.http import RemoteHttp
from qwenchat.engines.remote.llama_server import LlamaServerApi
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import Interrupted, PromptTooLong, RemoteBroken, RemoteError, WrongUse
from tests.fakes.engines import GREEDY, answer, questions, read, remote_engine, request
from tests.fakes.standin_chat import answer_chunks, usage
from tests.fakes.standin_server import Reply, StandinServer, Then, event, event_stream, json_reply, standin_server
from tests.fakes.standin_vllm import completion, standin_vllm

MODEL = "qwen"
YES, NO = completion(("yes", b"yes")), completion(("no", b"no"))
LOADING = json_reply({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503)
BUSY = json_reply({"error": {"message": "overloaded", "code": 503}}, 503)


def chunk(text: str) -> bytes:
    return event({"choices": [{"index": 0, "text": text, "token_ids": [*text.encode()]}]})


def models(window: int | None, root: str = MODEL) -> Reply:
    card = {"id": MODEL, "object": "model", "owned_by": "vllm", "root": root, "max_model_len": window}
    return json_reply({"object": "list", "data": [card]})


@asynccontextmanager
async def served(
    *answers: Reply, n_ctx: int = 0, context: int = 0
) -> AsyncIterator[tuple[StandinServer, RemoteEngine]]:
    """Run a server that completes with `answers`, and an engine that waits for nothing before it asks again."""

    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    async with standin_vllm(*answers, model=MODEL) as server:
        http = RemoteHttp(RemoteServer(name="lab", url=server.url, context=context), sleep=at_once)
        made = RemoteEngine(http, MODEL, defaults=Sampling(temperature=0.5), n_ctx=n_ctx)
        try:
            yield server, made
        finally:
            await made.close()


async def test_requests_are_served_in_order() -> None:
    go_on = asyncio.Event()
    slow = replace(event_stream(), pieces=(chunk("y"), go_on, *YES.pieces))
    async with served(slow, NO) as (server, there):
        first, second = there.generate(request(questions("1"))), there.generate(request(questions("2")))
        assert await anext(first) == Delta("y", (121,))
        assert len(server.asked_for("/v1/completions")) == 1
        go_on.set()
        assert (await read(first)).text == "yes"
        assert (await read(second)).text == "no"


async def test_what_came_before_a_failure_is_reported_and_the_next_request_is_served() -> None:
    cut = replace(event_stream(), pieces=(chunk("half"),), then=Then.CUT)
    async with served(cut, YES) as (server, there):
        broken = there.generate(request(questions("1")))
        assert await anext(broken) == Delta("half", tuple(b"half"))
        with pytest.raises(RemoteError):
            await anext(broken)
        with pytest.raises(StopAsyncIteration):
            await anext(broken)
        asked = len(server.asked_for("/v1/models"))
        assert (await answer(there, questions("2"))).text == "yes"
        assert len(server.asked_for("/v1/models")) == asked + 1  # after a failure: is it still what it was?
        await there.load()
        assert len(server.asked_for("/v1/models")) == asked + 1


async def test_a_stream_without_an_end_is_broken() -> None:
    async with served(event_stream({"choices": [{"index": 0, "text": "a", "token_ids": [97]}]})) as (_server, there):
        with pytest.raises(RemoteBroken):
            await answer(there, questions("1"))


@pytest.mark.parametrize("attempts", [4, 0], ids=["busy", "loading"])
async def test_waiting_for_a_server_is_reported(attempts: int) -> None:
    reply = BUSY if attempts else LOADING
    async with served(reply, YES) as (server, there):
        server.reply("/v1/models", *[reply] * (3 if attempts else 9), models(4096))
        loading: list[object] = []
        await there.load(loading.append)
        events = [each async for each in there.generate(request(questions("1")))]
    assert loading[0] == Loading(0.0) and loading[-1] == Loading(1.0)
    waits = [each for each in loading if isinstance(each, WaitingToRetry)]
    assert len(waits) == (3 if attempts else 9) and {each.attempts for each in waits} == {attempts}
    assert isinstance(events[0], WaitingToRetry) and isinstance(events[-1], Finished)


async def test_cancelling_ends_a_wait_at_once() -> None:
    async with standin_vllm(BUSY, model=MODEL) as server, remote_engine(server.url, MODEL) as there:
        generation = there.generate(request(questions("1")))
        assert isinstance(await anext(generation), WaitingToRetry)
        await generation.cancel()
        assert (await read(generation)).finished.reason is FinishReason.CANCELLED


@pytest.mark.parametrize(
    ("window", "context", "n_ctx", "expected", "warning"),
    [
        (8192, 0, 0, 8192, ""),
        (8192, 0, 4096, 4096, ""),
        (8192, 2048, 0, 2048, ""),
        (8192, 2048, 4096, 4096, ""),
        (8192, 16384, 0, 8192, "8,192 tokens, smaller than the 16,384 you set"),
        (None, 0, 0, ASSUMED_CONTEXT, "32,768 tokens are assumed"),
        (None, 16384, 0, 16384, ""),
    ],
)
async def test_the_window_is_the_server_s_or_what_the_user_says(
    window: int | None, context: int, n_ctx: int, expected: int, warning: str
) -> None:
    async with served(YES, context=context, n_ctx=n_ctx) as (server, there):
        server.reply("/v1/models", models(window))
        info = await there.load()
        await answer(there, questions("1"))
        [asked] = server.asked_for("/v1/completions")
    assert info.n_ctx == expected
    assert len(info.warnings) == bool(warning) and all(warning in each for each in info.warnings)
    assert asked.json["max_tokens"] == expected - len(asked.json["prompt"])


async def test_a_server_that_was_restarted_with_another_model_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(YES) as (server, there):
        first = await there.load()
        assert await there.load() is first
        monkeypatch.setattr(module, "FRESH_S", 0.0)
        assert await there.load() is first
        server.reply("/v1/models", models(2048, root="another"))
        again = await there.load()
    assert (first.n_ctx, again.n_ctx) == (4096, 2048)
    assert first.file != again.file


async def test_closing_ends_a_load_and_whatever_is_generated() -> None:
    async with served(replace(event_stream(), pieces=(chunk("a"),), then=Then.STALL)) as (_server, there):
        running = there.generate(request(questions("1")))
        await anext(running)
        waiting = there.generate(request(questions("2")))
        await there.close()
        assert (await read(running)).finished.reason is FinishReason.CANCELLED
        assert (await read(waiting)).finished.reason is FinishReason.CANCELLED
        with pytest.raises(Interrupted):
            await there.load()
    async with served(YES) as (server, there):
        server.reply("/v1/models", Reply(then=Then.STALL))
        loading = asyncio.create_task(there.load())
        while not server.asked:
            await asyncio.sleep(0)
        await there.close(at_once=True)
        with pytest.raises(Interrupted):
            await loading


async def test_a_cancelled_load_is_made_by_the_next_one() -> None:
    async with served(YES) as (server, there):
        server.reply("/v1/models", Reply(then=Then.STALL), models(4096))
        loading = asyncio.create_task(there.load())
        while not server.asked:
            await asyncio.sleep(0)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert (await there.load()).n_ctx == 4096


async def test_a_prompt_that_the_server_finds_too_long_is_refused_as_such() -> None:
    message = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."
    refused = json_reply({"error": {"message": message, "type": "BadRequestError", "code": 400}}, 400)
    async with served(refused) as (_server, there):
        with pytest.raises(PromptTooLong):
            await answer(there, questions("1"))


async def test_an_answer_by_a_schema_is_not_continued() -> None:
    async with served(YES) as (_server, there):
        turns = [*questions("1"), Turn("assistant", "{", tuple(b"{"))]
        with pytest.raises(WrongUse, match="continue"):
            await answer(there, turns, structs.replace(GREEDY, schema="{}"), mode=Mode.CONTINUE)
        assert (await answer(there, turns, mode=Mode.CONTINUE)).text == "yes"


async def test_a_model_that_is_not_taken_as_tokens_is_asked_by_messages() -> None:
    def other(messages: Sequence[Mapping[str, str]]) -> str:
        return "".join(f"[{each['role']}]{each['content']}" for each in messages)

    async with standin_vllm(model=MODEL, template=other) as server, remote_engine(server.url, MODEL) as there:
        server.reply("/v1/chat/completions", event_stream(*answer_chunks("yes", counted=usage(9, 1))))
        info = await there.load()
        counts = await there.count(questions("1"))
        said = await answer(there, [Turn("user", "<|im_end|>")])
        [asked] = server.asked_for("/v1/chat/completions")
    assert not there.capabilities.token_ids and not there.capabilities.exact_counts and not counts.exact
    assert any("estimates" in each for each in info.warnings) and info.n_ctx == 4096
    assert (said.text, said.ids, said.usage.prompt_tokens) == ("yes", (), 9)
    assert "<|im_end|>" not in asked.json["messages"][0]["content"]


@pytest.mark.parametrize("template", ["", "".join(f"<a{number}>" for number in range(300))])
async def test_an_old_llama_server_and_a_hostile_template_are_asked_by_messages(template: str) -> None:
    meta = {"n_vocab": 9, "n_ctx": 512, "n_ctx_train": 512, "n_params": 1, "size": 1, "ftype": "Q4_K - Medium"}
    card = {"id": "/models/old.gguf", "owned_by": "llamacpp", "meta": meta}
    async with standin_server() as server, remote_engine(server.url, "old.gguf") as there:
        server.reply("/v1/models", json_reply({"data": [card]}))
        server.reply("/props", json_reply({"default_generation_settings": {"n_ctx": 256}, "chat_template": template}))
        server.reply("/v1/chat/completions", event_stream(*answer_chunks("yes", counted=usage(9, 1))))
        info = await there.load()
        said = await answer(there, questions("1"))
    assert (info.n_ctx, said.text) == (256, "yes")
    assert not any(each.path == "/tokenize" for each in server.asked)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Q4_K - Medium", "q4_k_m"),
        ("(guessed) all F32", "f32"),
        ("Q8_0", "q8_0"),
        ("IQ2_XXS - 2.0625 bpw", "iq2_xxs"),
        ("", ""),
    ],
)
async def test_quantisations_have_their_usual_names(label: str, name: str) -> None:
    card = {"id": "C:\\models\\a.gguf", "owned_by": "llamacpp", "meta": {"ftype": label}}
    async with standin_server() as server:
        server.reply("/v1/models", json_reply({"data": [card, {"id": "org/b:Q4", "status": {"value": "unloaded"}}]}))
        http = RemoteHttp(RemoteServer(name="lab", url=server.url))
        first, second = await LlamaServerApi(http).models()
        await http.close()
    assert (first.id, first.quantisation, first.is_loaded) == ("a.gguf", name, True)
    assert (second.id, second.is_loaded) == ("org/b:Q4", False)
