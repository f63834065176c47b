"""A repeatable answer is the same to the byte, whatever the KV cache held before."""

from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from qwenchat.chat.events import Prefilling
from qwenchat.chat.ports import Mode
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.worker.c_api import Abort, bindings
from qwenchat.engines.worker.cache_slot import EXACT_STEP
from qwenchat.engines.worker.llama import LlamaModel, Step
from tests.fakes.engines import LIKELIEST, answer, engine, planned, questions, request

SEEDED = Sampling(temperature=2.0, seed=7, max_tokens=60)
GREEDY = Sampling(temperature=0.0, max_tokens=60)
HISTORY = [*questions("word " * 60), Turn("assistant", "Hello world " * 10), Turn("user", "tell me " * 5)]


async def fresh(path: Path, folder: Path, turns: list[Turn], sampling: Sampling) -> tuple[int, ...]:
    """Return the answer of a new process that has no saved KV cache."""
    async with engine(path, folder / "fresh", kv_limit=0) as made:
        return (await answer(made, turns, sampling)).ids


async def test_a_question_is_answered_again_as_at_first(tiny: Path, tmp_path: Path) -> None:
    expected = await fresh(tiny, tmp_path, HISTORY, SEEDED)
    others = replace(LIKELIEST, max_tokens=20)
    async with engine(tiny, tmp_path) as made:

        async def again() -> tuple[int, ...]:
            return (await answer(made, HISTORY, SEEDED, cache_key="s")).ids

        await answer(made, [*HISTORY[:-1], Turn("user", "else " * 30)], others, cache_key="s")  # an unseeded turn
        assert await again() == expected
        assert await again() == expected  # regenerated
        said = await answer(made, HISTORY, others, cache_key="s")
        await answer(
            made, [*HISTORY, Turn("assistant", said.text, said.ids), Turn("user", "on")], others, cache_key="s"
        )
        assert await again() == expected  # after a later turn
        await cancel_in_prefill(made)
        assert await again() == expected
        await answer(made, questions("another chat"), others, cache_key="t")
        assert await again() == expected  # from the saved KV cache of the same process
    async with engine(tiny, tmp_path) as made:
        resumed = await answer(made, HISTORY, SEEDED, cache_key="s")
    assert resumed.ids == expected
    assert resumed.usage.cached_tokens >= EXACT_STEP


async def cancel_in_prefill(made: LocalEngine) -> None:
    generation = made.generate(
        request([*HISTORY, Turn("assistant", "x" * 600), Turn("user", "?")], GREEDY, cache_key="s")
    )
    async for event in generation:
        if isinstance(event, Prefilling) and event.done:
            await generation.cancel()


async def test_an_answer_is_continued_again_as_at_first(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        begun = await answer(made, HISTORY, SEEDED)
        turns = [*HISTORY, Turn("assistant", begun.text, begun.ids)]
        first, second = [(await answer(made, turns, SEEDED, mode=Mode.CONTINUE)).ids for _time in range(2)]
    async with engine(tiny, tmp_path) as made:
        assert (await answer(made, turns, SEEDED, mode=Mode.CONTINUE)).ids == first == second


async def test_the_next_repeatable_turn_prefills_the_answer_and_less_than_a_step(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        first = await answer(made, HISTORY, GREEDY)
        turns = [*HISTORY, Turn("assistant", first.text, first.ids), Turn("user", "on")]
        second = await answer(made, turns, GREEDY)
    assert second.ids == await fresh(tiny, tmp_path, turns, GREEDY)
    assert first.usage.prompt_tokens - EXACT_STEP < second.usage.cached_tokens <= first.usage.prompt_tokens


async def test_other_threads_do_not_take_over_exact_steps(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        await answer(made, HISTORY, GREEDY, cache_key="s")
    async with engine(tiny, tmp_path, threads=2) as made:
        assert (await answer(made, HISTORY, GREEDY, cache_key="s")).usage.cached_tokens == 0
        unseeded = await answer(made, HISTORY, LIKELIEST, cache_key="s")
    assert unseeded.usage.cached_tokens == unseeded.usage.prompt_tokens - 1


@pytest.fixture(scope="module")
def model(tiny: Path) -> Iterator[LlamaModel]:
    yield LlamaModel(bindings(), planned(tiny).plan, Abort(), lambda fraction: True)


def test_only_whole_steps_from_the_beginning_are_exact(model: LlamaModel) -> None:
    prompt = array("i", [token % 300 for token in range(3 * EXACT_STEP + 10)])
    slot = model.slots[0]

    def decode(start: int, end: int) -> None:
        assert model.decode(Step(slot, prompt[start:end])) == [end - start - 1]

    assert slot.reuse(prompt, exact=True) == 0
    for start in range(0, len(prompt), EXACT_STEP):
        decode(start, min(start + EXACT_STEP, len(prompt)))
    assert slot.exact_tokens == 3 * EXACT_STEP
    assert slot.reuse(prompt[: 2 * EXACT_STEP], exact=True) == EXACT_STEP  # the last token needs its logits
    decode(EXACT_STEP, EXACT_STEP + 1)
    decode(EXACT_STEP + 1, 2 * EXACT_STEP)
    assert slot.exact_tokens == EXACT_STEP
    decode(2 * EXACT_STEP, 3 * EXACT_STEP)  # a whole step, but not upon exact ones
    assert slot.exact_tokens == EXACT_STEP
    assert slot.reuse(prompt) == 3 * EXACT_STEP
    assert slot.reuse(prompt, exact=True) == EXACT_STEP
