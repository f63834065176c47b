"""Guessing ahead changes how fast an answer comes, not which one: llama.cpp decodes drafts, the sampler takes them."""

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from qwenchat.chat.message import FinishReason
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.protocol import Done, Generate, Piece, WorkerReply
from qwenchat.engines.worker.c_api import DecodeFailed
from qwenchat.engines.worker.cache_slot import CacheSlot
from qwenchat.engines.worker.constraint import Constraints
from qwenchat.engines.worker.generation import GenerationJob
from qwenchat.engines.worker.llama import LlamaModel
from qwenchat.engines.worker.schedule import Schedule
from qwenchat.engines.worker.step_costs import MOST_OUTPUTS
from tests.fakes import ggufs, guide
from tests.fakes.answering import NOISE, answered, is_same_but_for_noise, last_logits, load, logits
from tests.fakes.engines import GREEDY, LIKELIEST

WALK = "once upon a time "
QUESTIONS = ("How do I search?", "怎样搜索？", "a b c " * 20)
PENALISED = replace(GREEDY, repeat_penalty=1.6)
"""What was written becomes less likely, so that drafts are wrong now and then."""


@pytest.fixture(scope="module", params=["noise", "sentences"])
def pair(request: pytest.FixtureRequest, tiny: Path) -> Iterator[tuple[LlamaModel, LlamaModel]]:
    """A model with drafts and the same one without: random weights, whose answers turn in circles, or trained ones."""
    path = tiny if request.param == "noise" else guide.MODEL
    yield load(path, n_ctx=512), load(path, n_ctx=512, drafts=False)


@pytest.fixture(scope="module")
def noise(tiny: Path) -> Iterator[LlamaModel]:
    yield load(tiny, n_ctx=512)


@pytest.fixture(scope="module")
def walk(models: Path) -> ggufs.Chain:
    """A model whose answer goes round in a circle."""
    return ggufs.write_chain(models / "walk.gguf", WALK, ends=False)


@pytest.fixture(scope="module")
def walking(walk: ggufs.Chain) -> Iterator[LlamaModel]:
    yield load(walk.path, n_ctx=512)


@pytest.fixture(scope="module")
def walking_plain(walk: ggufs.Chain) -> Iterator[LlamaModel]:
    yield load(walk.path, n_ctx=512, drafts=False)


def turn(model: LlamaModel, question: str) -> "array[int]":
    marked = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return model.vocabulary.tokenise(marked, special=True)


def asked_twice(model: LlamaModel, question: str) -> "array[int]":
    """Return the prompt of a question that was asked and answered before."""
    prompt = turn(model, question)
    said = answered(model, prompt, replace(GREEDY, max_tokens=60)).ids
    return prompt + array("i", said) + model.vocabulary.tokenise("<|im_end|>\n", special=True) + prompt


@pytest.mark.parametrize("sampling", [GREEDY, LIKELIEST, PENALISED], ids=["greedy", "likeliest", "penalised"])
def test_greedy_answers_are_those_without_drafts(sampling: Sampling, pair: tuple[LlamaModel, LlamaModel]) -> None:
    model, without = pair
    accepted, sampling = 0, replace(sampling, max_tokens=80)
    for question in QUESTIONS:
        prompt = asked_twice(without, question)
        ahead, plain = answered(model, prompt, sampling), answered(without, prompt, sampling)
        assert is_same_but_for_noise(without, prompt, ahead, plain)
        assert plain.done.usage.drafted_tokens == 0
        assert len(ahead.steps) == len(plain.steps) - ahead.done.usage.accepted_tokens or ahead.ids != plain.ids
        accepted += ahead.done.usage.accepted_tokens
    assert accepted > 30


def test_the_comparison_notices_drafts_that_stay_in_the_cache(
    noise: LlamaModel, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = load(tiny, n_ctx=512, drafts=False)
    monkeypatch.setattr("tests.fakes.answering.check_cache", lambda slot, prompt, sampled: None)
    found = []
    for question in QUESTIONS:
        prompt = turn(without, question)
        plain = answered(without, prompt, replace(PENALISED, max_tokens=80))
        noise.slots[0].truncate(0)
        with monkeypatch.context() as broken:
            broken.setattr(CacheSlot, "truncate", lambda slot, length: None)
            ahead = answered(noise, prompt, replace(PENALISED, max_tokens=80))
        noise.slots[0].truncate(0)
        found.append(is_same_but_for_noise(without, prompt, ahead, plain))
    assert not all(found)


@pytest.mark.parametrize("seed", range(6))
def test_a_seed_draws_the_same_tokens_with_drafts(
    seed: int, walking: LlamaModel, walking_plain: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = walking.vocabulary.tokenise(WALK * 10, special=False)
    sampling = Sampling(temperature=5.0, seed=seed, max_tokens=200, repeat_penalty=1.02)
    drawn, sample = list[int](), walking.c.llama_sampler_sample

    def drawing(*place: Any) -> int:
        drawn.append(sample(*place))
        return drawn[-1]

    monkeypatch.setattr(walking.c, "llama_sampler_sample", drawing)
    ahead = answered(walking, prompt, sampling)
    assert tuple(drawn[: len(ahead.ids)]) == ahead.ids  # one draw for each token, in order, and one for the end
    assert len(drawn) == len(ahead.ids) + (ahead.done.reason is FinishReason.STOP)
    assert ahead.ids == answered(walking_plain, prompt, sampling).ids
    used = ahead.done.usage
    assert 20 < used.accepted_tokens < used.drafted_tokens


def test_a_repeatable_answer_does_not_depend_on_how_fast_the_machine_is(noise: LlamaModel) -> None:
    prompt = turn(noise, QUESTIONS[0])

    def steps() -> "list[array[int]]":
        run = answered(noise, prompt, replace(PENALISED, max_tokens=80))
        assert 0 < run.done.usage.accepted_tokens < run.done.usage.drafted_tokens
        return [step.tokens for step in run.steps]

    first = steps()
    for tokens in [1, *range(2, MOST_OUTPUTS + 1)] * 50:
        noise.step_costs.learn(tokens, 1e-3 if tokens == 1 else 1.0)
    assert steps() == first


def test_an_answer_ends_inside_a_draft(walking: LlamaModel, walk: ggufs.Chain) -> None:
    """By its limit, by a stop string, and by the end of the window."""
    prompt = walking.vocabulary.tokenise(WALK * 12, special=False)
    for limit in range(100, 134, 3):
        run = answered(walking, prompt, replace(LIKELIEST, max_tokens=limit))
        assert run.done.reason is FinishReason.LENGTH and run.ids == (walk.ids * limit)[:limit]
        assert run.done.usage.completion_tokens == limit
        assert run.done.usage.accepted_tokens > limit / 2
    stopped = answered(walking, prompt, replace(LIKELIEST, stop=("time once upon a time once",)))
    assert stopped.done.reason is FinishReason.STOP and stopped.text == "once upon a "
    whole = answered(walking, prompt, LIKELIEST)
    assert whole.done.reason is FinishReason.CONTEXT
    assert len(whole.ids) == walking.n_ctx - len(prompt) + 1 and len(walking.slots[0].cached) == walking.n_ctx


def test_an_end_of_turn_inside_a_draft_ends_the_answer(models: Path) -> None:
    chain = ggufs.write_chain(models / "ends.gguf", "this is a sentence that ends here. ")
    model = load(chain.path, n_ctx=512)
    said = array("i", chain.ids)
    (end,) = model.vocabulary.tokenise("<|im_end|>", special=True)
    prompt = said + array("i", [end, 5, 6, 7, 8, 9, 10, 11, 12, 13])
    run = answered(model, prompt, LIKELIEST)
    assert run.ids == chain.ids and run.done.reason is FinishReason.STOP
    assert 0 < run.done.usage.accepted_tokens < run.done.usage.drafted_tokens


@pytest.mark.parametrize("inside", [False, True])
def test_an_answer_is_cancelled_at_a_draft(
    inside: bool, walking: LlamaModel, walk: ggufs.Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the draft is decoded, or inside llama.cpp."""
    prompt = walking.vocabulary.tokenise(WALK * 12, special=False)
    decode, drafts = walking.c.llama_decode, [0]

    def counting(ctx: Any, batch: Any) -> int:
        drafts[0] += 1 < batch.n_tokens <= MOST_OUTPUTS
        if drafts[0] == 4 and inside:
            walking.abort.set()
        code: int = decode(ctx, batch)
        return code

    monkeypatch.setattr(walking.c, "llama_decode", counting)
    run = answered(walking, prompt, LIKELIEST, watch=lambda step: drafts[0] >= (4 if inside else 3))
    assert run.done.reason is FinishReason.CANCELLED and run.ids == (walk.ids * 200)[: len(run.ids)]
    assert run.done.usage.completion_tokens == len(run.ids)
    assert run.done.usage.accepted_tokens < run.done.usage.drafted_tokens


@pytest.mark.parametrize("limit", range(60, 72, 3))
def test_the_cache_after_drafts_equals_a_fresh_one(limit: int, noise: LlamaModel) -> None:
    prompt = turn(noise, QUESTIONS[0])
    run = answered(noise, prompt, replace(PENALISED, max_tokens=limit))
    assert run.done.usage.accepted_tokens < run.done.usage.drafted_tokens
    whole = prompt + array("i", run.ids)
    assert noise.slots[0].reuse(whole) == len(whole) - 1
    assert noise.decode_all(whole[-1:])
    assert last_logits(noise) == pytest.approx(logits(noise, whole), abs=NOISE)


def test_a_draft_that_can_not_be_decoded_fails_the_request_alone(
    walking: LlamaModel, walk: ggufs.Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = walking.vocabulary.tokenise(WALK * 12, special=False)
    decode = walking.c.llama_decode
    with monkeypatch.context() as failing:
        failing.setattr(
            walking.c,
            "llama_decode",
            lambda ctx, batch: -3 if 1 < batch.n_tokens <= MOST_OUTPUTS else decode(ctx, batch),
        )
        with pytest.raises(DecodeFailed):
            answered(walking, prompt, LIKELIEST)
    slot = walking.slots[0]
    assert slot.cached == (prompt + array("i", walk.ids * 99))[: len(slot.cached)]
    assert answered(walking, prompt, replace(LIKELIEST, max_tokens=50)).ids == (walk.ids * 50)[:50]


SCHEMA = {
    "type": "object",
    "properties": {
        "a_rather_long_name": {"enum": ["yes", "no"]},
        "another_name_that_is_long": {"type": "integer", "minimum": 0, "maximum": 9},
        "the_last_of_the_names": {"const": "a constant of many words"},
    },
    "required": ["a_rather_long_name", "another_name_that_is_long", "the_last_of_the_names"],
    "additionalProperties": False,
}


def test_what_a_schema_forces_is_drafted(tiny: Path) -> None:
    model, plain = load(tiny), load(tiny, drafts=False)
    prompt = model.vocabulary.tokenise("Hi", special=False)
    sampling = Sampling(temperature=0.0, max_tokens=300, schema=json.dumps(SCHEMA))
    ahead, one_by_one = answered(model, prompt, sampling), answered(plain, prompt, sampling)
    jsonschema.validate(json.loads(ahead.text), SCHEMA)
    assert ahead.text == one_by_one.text and ahead.ids == one_by_one.ids
    assert ahead.done.usage.drafted_tokens > 0


def test_forced_tokens_are_those_that_the_tokeniser_makes(tiny: Path) -> None:
    vocabulary = load(tiny).vocabulary
    made = Constraints(vocabulary).of_schema(json.dumps({"const": "Hello world and 你好"}), "").result()
    forced = made.forced()
    assert forced
    expected = vocabulary.tokenise('"Hello world and 你好"', special=False).tolist()
    assert forced == expected[: len(forced)] and made.follow(array("i", expected)) == len(expected)
    assert made.follow(array("i", [expected[0], *expected[:2]])) == 1
    assert made.accept(expected[0])  # nothing was taken before


def test_several_jobs_draft_nothing_while_they_run_together(walk: ggufs.Chain) -> None:
    model = load(walk.path, n_ctx=512, parallel=2)
    prompt = model.vocabulary.tokenise(WALK * 12, special=False)
    replies, ends = list[WorkerReply](), list[int]()
    schedule = Schedule(model, lambda number: False, lambda number, error: ends.append(number))
    for number, limit in ((1, 150), (2, 60)):
        request = Generate(number, [], replace(LIKELIEST, max_tokens=limit))
        slot = schedule.take_slot(prompt)
        schedule.start(GenerationJob(model, slot, request, prompt, report=replies.append))
    longest = 0
    while not schedule.is_idle:
        if len(schedule._running) == 2:
            longest = max(longest, *(len(each.next.tokens) for each in schedule._running if each.next))
        schedule.step()
    by_id = {reply.id: reply.usage for reply in replies if isinstance(reply, Done)}
    assert by_id[2].drafted_tokens == 0 and by_id[1].accepted_tokens > 0
    for number, limit in ((1, 150), (2, 60)):
        ids = [token for reply in replies if isinstance(reply, Piece) and reply.id == number for token in reply.ids]
        assert ids == list((walk.ids * limit)[:limit])
