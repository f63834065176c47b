"""A small model guesses for a large one: what it guesses changes how fast an answer comes, not which one.

Both are chains, whose answers never say the same twice, so that nothing is looked up. That of the large model has many
layers, so that the small one is worth its time.
"""

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from qwenchat.chat.message import FinishReason
from qwenchat.chat.sampling import Sampling
from qwenchat.doctor.models import drafts
from qwenchat.engines.local.protocol import DraftModel
from qwenchat.engines.worker.draft_account import FIRST_PAUSE, DraftPause
from qwenchat.engines.worker.draft_model import ModelDrafts
from qwenchat.engines.worker.llama import LlamaModel
from qwenchat.engines.worker.step_costs import MOST_OUTPUTS, StepCosts
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.program import Program
from tests.fakes import ggufs
from tests.fakes.answering import NOISE, answered, last_logits, load, logits
from tests.fakes.engines import GREEDY, LIKELIEST, answer, engine, questions

WORDS = [f" {number}{word}".encode() for number in range(60) for word in ("one", "two", "six")]
"""The answer, word by word."""
VOCABULARY = ggufs.Vocabulary.small(WORDS)
DEEP, SHALLOW = ggufs.Shape(layers=24, tied=False), ggufs.Shape(layers=1, tied=False)
WARM = Sampling(temperature=5.0, top_k=50, repeat_penalty=1.02)
"""Hot enough that what is sampled is often not what is likeliest."""


@dataclass(frozen=True)
class Files:
    """A large model, and what may guess for it."""

    large: ggufs.Chain
    right: Path
    """It says the same."""
    wrong: Path
    """It says the same backwards."""
    unsure: Path
    """Its weights are random."""


@pytest.fixture(scope="module")
def files(models: Path) -> Files:
    folder = models / "drafts"
    folder.mkdir()
    padded, backwards = replace(VOCABULARY, padding=100), WORDS[::-1]
    return Files(
        large=ggufs.write_chain(folder / "large.gguf", WORDS, shape=DEEP, vocabulary=padded),
        right=ggufs.write_chain(folder / "right.gguf", WORDS, shape=SHALLOW, vocabulary=VOCABULARY).path,
        wrong=ggufs.write_chain(folder / "wrong.gguf", backwards, shape=SHALLOW, vocabulary=VOCABULARY).path,
        unsure=ggufs.write_model(folder / "unsure.gguf", shape=SHALLOW, vocabulary=VOCABULARY),
    )


def drafting(files: Files, small: Path, **plan: Any) -> LlamaModel:
    draft = DraftModel(path=str(small).encode(), name="Small")
    return load(files.large.path, n_ctx=512, draft=draft, **plan)


@pytest.fixture(scope="module")
def right(files: Files) -> Iterator[LlamaModel]:
    yield drafting(files, files.right)


@pytest.fixture(scope="module")
def plain(files: Files) -> Iterator[LlamaModel]:
    yield load(files.large.path, n_ctx=512, drafts=False)


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no measured time decide what is drafted: tiny models take as long as the program around them."""
    monkeypatch.setattr(StepCosts, "learn", lambda costs, tokens, seconds: None)


@pytest.fixture(autouse=True)
def rested(right: LlamaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no pause go on from one test to the next."""
    monkeypatch.setattr(right, "draft_pause", DraftPause())


def prompt_of(model: LlamaModel, text: str = "Hello") -> "array[int]":
    marked = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return model.vocabulary.tokenise(marked, special=True)


def small_of(model: LlamaModel) -> LlamaModel:
    assert model.draft_model
    return model.draft_model


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        LIKELIEST,
        structs.replace(GREEDY, repeat_penalty=1.6),
        *(structs.replace(WARM, seed=seed) for seed in range(4)),
    ],
)
def test_the_answer_is_that_without_a_draft_model(sampling: Sampling, right: LlamaModel, plain: LlamaModel) -> None:
    prompt = prompt_of(plain)
    ahead, one_by_one = answered(right, prompt, sampling), answered(plain, prompt, sampling)
    assert ahead.ids == one_by_one.ids and ahead.text == one_by_one.text
    assert (ahead.done.reason, ahead.done.usage.completion_tokens) == (one_by_one.done.reason, len(one_by_one.ids))
    usage = ahead.done.usage
    assert usage.drafted_by == "Small" and 0 < usage.accepted_tokens <= usage.drafted_tokens
    assert len(ahead.steps) == len(one_by_one.steps) - usage.accepted_tokens
    if sampling in (GREEDY, LIKELIEST):
        assert usage.accepted_tokens > 100 and usage.accepted_tokens == usage.drafted_tokens


def test_nothing_is_read_before_the_first_token_and_then_in_proportion(
    right: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, order = small_of(right), list[tuple[str, int]]()
    decode = LlamaModel.decode

    def noting(model: LlamaModel, *steps: Any) -> list[int]:
        order.append(("small" if model is small else "large", len(steps[0].tokens)))
        return decode(model, *steps)

    small.slots[0].truncate(0)
    right.slots[0].truncate(0)
    monkeypatch.setattr(LlamaModel, "decode", noting)
    prompt = prompt_of(right, "a b c " * 60)
    run = answered(right, prompt, LIKELIEST)
    assert len(run.ids) == len(WORDS)
    first = next(place for place, (which, _count) in enumerate(order) if which == "small")
    assert [which for which, _count in order[:first]].count("large") > len(prompt) // 512 + 1 + 128 // 8 - 1
    assert sum(count for which, count in order if which == "small") < len(prompt) + 2 * len(run.ids)
    assert run.done.usage.accepted_tokens > 50


@pytest.mark.parametrize("sampling", [GREEDY, LIKELIEST])
def test_a_draft_model_that_is_wrong_or_unsure_pauses(sampling: Sampling, files: Files, plain: LlamaModel) -> None:
    prompt = prompt_of(plain)
    expected = answered(plain, prompt, sampling).ids
    for small in (files.wrong, files.unsure):
        run = answered(drafting(files, small), prompt, sampling)
        assert run.ids == expected
        usage = run.done.usage
        assert usage.accepted_tokens == 0 and usage.drafted_by == ""
        trials = 1 + len(run.ids) // FIRST_PAUSE  # no more, as pauses get longer
        assert usage.drafted_tokens <= 6 * trials / 2
        if small == files.wrong:
            assert usage.drafted_tokens


def test_a_pause_goes_on_in_the_next_answer_unless_that_must_be_repeatable(files: Files) -> None:
    model = drafting(files, files.wrong)
    prompt = prompt_of(model)
    repeatable = structs.replace(LIKELIEST, seed=1)
    first, second, third = (answered(model, prompt, LIKELIEST).done.usage.drafted_tokens for _answer in range(3))
    assert first > second and first > third
    alike = {answered(model, prompt, repeatable).done.usage.drafted_tokens for _answer in range(2)}
    assert len(alike) == 1 and min(alike) > third


def test_a_pause_ends_where_drafts_are_right_again(right: LlamaModel, files: Files) -> None:
    tokens = prompt_of(right)
    drafts = ModelDrafts(right, small_of(right), tokens, is_exact=True)
    offered = list[int]()
    for place, token in enumerate(files.large.ids):
        tokens.append(token)
        if draft := drafts.draft(MOST_OUTPUTS):
            offered.append(place)
            drafts.learn(len(draft), 0 if place < 60 else len(draft))
    drafts.close()
    assert max(after - before for before, after in pairwise(offered)) > FIRST_PAUSE
    assert offered[-1] > len(WORDS) - 20


def test_a_repeatable_answer_is_decoded_in_the_same_steps_again(right: LlamaModel) -> None:
    prompt = prompt_of(right, "a b c " * 60)

    def steps() -> "list[array[int]]":
        return [
            step.tokens
            for step in answered(right, prompt, structs.replace(WARM, seed=7)).steps
            if len(step.tokens) < 33
        ]

    small_of(right).slots[0].truncate(0)
    first = steps()
    assert max(map(len, first)) > 1
    answered(right, prompt_of(right, "something else"), LIKELIEST)
    right.step_costs._single_s = 1e-6  # as if it were much faster than it is
    assert steps() == first and steps() == first
    right.step_costs._single_s = 0.0


def test_the_time_that_drafts_take_is_counted(right: LlamaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a step of the large model takes no time, no draft can pay."""
    prompt = prompt_of(right)
    assert answered(right, prompt, LIKELIEST).done.usage.accepted_tokens > 100
    monkeypatch.setattr(StepCosts, "steps_in", lambda costs, seconds: 1e6 * seconds)
    slow = answered(right, prompt, LIKELIEST).done.usage
    assert slow.drafted_tokens < 20


def test_both_kv_caches_hold_the_chat_after_several_turns(right: LlamaModel, plain: LlamaModel) -> None:
    prompt, small = prompt_of(plain), small_of(right)
    for turn in range(4):
        sampling = Sampling(temperature=5.0, repeat_penalty=1.02, max_tokens=50 + turn)
        run = answered(right, prompt, structs.replace(sampling, top_k=1 if turn % 2 else 3))
        assert run.done.usage.accepted_tokens > 0
        whole = prompt + array("i", run.ids)
        assert small.c.llama_memory_seq_pos_max(small._memory, 0) + 1 == len(small.slots[0].cached)
        for model in (right, small):
            cached = model.slots[0].reuse(whole)
            assert cached > 0
            assert model.decode_all(whole[cached:])
            now = last_logits(model)
            assert now == pytest.approx(logits(model, whole), abs=NOISE)
        prompt = whole + plain.vocabulary.tokenise("<|im_end|>\n", special=True) + prompt_of(plain, f"more {turn}")


def test_an_answer_is_cancelled_while_the_small_model_drafts(
    right: LlamaModel, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, small, decode, drafts = prompt_of(right), small_of(right), right.c.llama_decode, [0]

    def cancelling(ctx: Any, batch: Any) -> int:
        drafts[0] += ctx == small.ctx
        if drafts[0] == 30:
            right.abort.set()
        code: int = decode(ctx, batch)
        assert code == 2 or drafts[0] != 30
        return code

    with monkeypatch.context() as patched:
        patched.setattr(right.c, "llama_decode", cancelling)
        run = answered(right, prompt, LIKELIEST, watch=lambda step: drafts[0] >= 30)
    assert run.done.reason is FinishReason.CANCELLED and drafts[0] == 30
    assert run.ids == files.large.ids[: len(run.ids)]
    assert answered(right, prompt, LIKELIEST).ids == files.large.ids


def test_a_failure_of_the_small_model_is_none_of_the_answer(
    right: LlamaModel, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, decode = small_of(right), right.c.llama_decode
    monkeypatch.setattr(right.c, "llama_decode", lambda ctx, batch: -3 if ctx == small.ctx else decode(ctx, batch))
    run = answered(right, prompt_of(right), LIKELIEST)
    assert run.ids == files.large.ids and run.done.usage.drafted_tokens == 0


def test_a_model_with_other_tokens_or_a_damaged_one_is_not_used(files: Files, models: Path, tmp_path: Path) -> None:
    others = ggufs.write_chain(tmp_path / "others.gguf", [*WORDS[1:], WORDS[0]], shape=SHALLOW)
    longer = replace(VOCABULARY, padding=300)
    padded = ggufs.write_model(tmp_path / "longer.gguf", shape=SHALLOW, vocabulary=longer)
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(files.right.read_bytes()[:-5000])
    for path, fault in ((others.path, "vocabulary"), (padded, "vocabulary"), (damaged, "load")):
        model = drafting(files, path)
        assert (model.draft_model, model.draft_fault) == (None, fault)
        run = answered(model, prompt_of(model), LIKELIEST)
        assert run.ids == files.large.ids and run.done.usage.drafted_tokens == 0


async def test_the_engine_says_who_guessed_and_who_can_not(files: Files, tmp_path: Path) -> None:
    small = DraftModel(path=str(files.right).encode(), name="Small")
    async with engine(files.large.path, tmp_path, draft=small) as running:
        assert not (await running.load()).warnings
        said = await answer(running, questions("Hello"), GREEDY)
        assert said.ids == files.large.ids and said.usage.drafted_by == "Small"
    other = replace_path(small, ggufs.write_chain(tmp_path / "other.gguf", WORDS[:9], shape=SHALLOW).path)
    async with engine(files.large.path, tmp_path, draft=other) as running:
        assert (await running.load()).warnings == ("No draft model is used. Small has another vocabulary.",)
        assert (await answer(running, questions("Hello"), GREEDY)).ids == files.large.ids


def replace_path(draft: DraftModel, path: Path) -> DraftModel:
    return DraftModel(path=str(path).encode(), name=draft.name)


async def test_the_program_finds_a_draft_model_by_itself(files: Files, tmp_path: Path) -> None:
    """`large.gguf` is in a folder with models of the same tokens, some of which are small enough."""
    environ = {
        "QWENCHAT_HOME": str(tmp_path),
        "QWENCHAT_HUB_FOLDERS": str(files.right.parent),
        "QWENCHAT_MODEL_DEFAULT": str(files.large.path),
    }
    program = Program(environ)
    draft = program.planner(str(files.large.path), LoadOptions())([]).plan.draft
    assert draft and Path(os.fsdecode(draft.path)).name in ("right.gguf", "wrong.gguf", "unsure.gguf")
    assert [found.check for found in drafts(program)] == ["draft"]
    assert not program.planner(str(files.right), LoadOptions())([]).plan.draft
    assert not list(drafts(Program(environ | {"QWENCHAT_MODEL_DRAFT": "off"})))
    named = Program(environ | {"QWENCHAT_MODEL_DRAFT": str(files.right)})
    running = named.engine(str(files.large.path), LoadOptions(ctx=1024))
    try:
        said = await answer(running, questions("Hello"), GREEDY)
        assert said.ids == files.large.ids and said.usage.drafted_by
    finally:
        await running.close()
