"""Several requests on one model: they are decoded together, and each behaves as if it were alone."""

import asyncio
import json
import math
from contextlib import aclosing
from pathlib import Path

import pytest
from msgspec import structs

from qwenchat.chat.events import Delta, Prefilling, PromptScored, TokenChance
from qwenchat.chat.message import FinishReason
from qwenchat.chat.ports import Generation, Mode
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local import prefill_progress
from qwenchat.engines.local.protocol import Done, Generate, PlainText, RunTimed, TimeRun
from qwenchat.errors import EngineDied, WrongUse
from tests.fakes import ggufs, guide
from tests.fakes.engines import GREEDY, LIKELIEST, answer, engine, questions, read, request
from tests.fakes.ggufs import Chain


async def test_more_requests_than_slots_are_all_answered(chain: Chain, tmp_path: Path) -> None:
    async with engine(chain.path, tmp_path, parallel=3, n_ctx=512, threads=1) as made:
        answers = await asyncio.gather(*(answer(made, questions("word " * count)) for count in range(1, 60, 8)))
    assert {each.ids for each in answers} == {chain.ids}
    assert [each.finished.reason for each in answers] == [FinishReason.STOP] * 8


async def test_a_question_is_prefilled_while_others_decode(
    endless: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps of 64 tokens, in each of which the other gets a token."""
    monkeypatch.setattr(prefill_progress, "EVERY_S", 3600.0)  # what is reported comes from the worker alone
    async with engine(endless.path, tmp_path, parallel=2, n_ctx=16_384, threads=1) as made:
        first = made.generate(request(questions("go"), GREEDY))
        while not isinstance(await anext(first), Delta):
            pass
        second = await answer(made, questions("long " * 800), structs.replace(GREEDY, max_tokens=5))
        await first.cancel()
        began_before = [event async for event in first]
    assert second.finished.reason is FinishReason.LENGTH
    total = second.prefill[-1].total
    on_the_way = {event.done for event in second.prefill} - {0, total}  # not all: newer progress replaces older
    assert on_the_way and all(done % 64 == 0 for done in on_the_way)
    decoded = sum(len(event.token_ids) for event in began_before if isinstance(event, Delta))
    assert decoded >= total // 64


async def test_the_slot_with_most_of_a_prompt_is_taken(endless: Chain, tmp_path: Path) -> None:
    short = structs.replace(LIKELIEST, max_tokens=4)
    async with engine(endless.path, tmp_path, parallel=2, n_ctx=1024, threads=1) as made:
        one, two = questions("apple " * 40), questions("pear " * 50)
        await asyncio.gather(answer(made, one, short), answer(made, two, short))
        again = await asyncio.gather(answer(made, two, short), answer(made, one, short))
    assert [each.usage.cached_tokens for each in again] == [each.usage.prompt_tokens - 1 for each in again]


async def test_a_chat_is_not_dropped_from_its_slot_for_another_that_begins_alike(
    endless: Chain, tmp_path: Path
) -> None:
    """All chats have the same system prompt. One after the other, each is in a slot of its own."""
    short = structs.replace(LIKELIEST, max_tokens=4)
    async with engine(endless.path, tmp_path, parallel=2, n_ctx=1024, threads=1) as made:
        chats = [questions("apple " * 40), questions("pear " * 50)]
        for each in chats:
            await answer(made, each, short)
        again = [await answer(made, each, short) for each in chats]
    assert [each.usage.cached_tokens for each in again] == [each.usage.prompt_tokens - 1 for each in again]


@pytest.mark.parametrize("when", ["prefill", "decode"])
async def test_one_that_is_cancelled_disturbs_no_other(when: str, endless: Chain, tmp_path: Path) -> None:
    async with engine(endless.path, tmp_path, parallel=2, n_ctx=4096, threads=1) as made:
        other = asyncio.create_task(answer(made, questions("go"), structs.replace(GREEDY, max_tokens=200)))
        left = made.generate(request(questions("long " * 300), structs.replace(GREEDY, max_tokens=4000)))
        async for event in left:
            if isinstance(event, Prefilling if when == "prefill" else Delta):
                await left.cancel()
        stayed = await other
        after = await answer(made, questions("go"), structs.replace(GREEDY, max_tokens=20))
    assert stayed.ids == (endless.ids * 200)[:200]
    assert after.ids == (endless.ids * 20)[:20]


async def test_one_gets_on_although_others_are_cancelled_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an editor does while its user types: each time, what is decoded together is stopped, and the next waits."""
    monkeypatch.setattr(prefill_progress, "EVERY_S", 3600.0)  # what is reported comes from the worker alone
    slow = ggufs.write_model(tmp_path / "slow.gguf", shape=ggufs.Shape(layers=4, width=512, heads=8, ff=2048))
    done = [0]

    async def watch(generation: Generation) -> None:
        async for event in generation:
            if isinstance(event, Prefilling):
                done.append(event.done)

    async with engine(slow, tmp_path, parallel=3, threads=1) as made:
        long = made.generate(request(questions("long " * 700), GREEDY))
        watching = asyncio.create_task(watch(long))
        others = [made.generate(request(questions("go"), GREEDY))]
        await anext(others[0])
        worker, before = made._worker, done[-1]
        assert worker
        for _round in range(24):
            last = max(worker._waiting)
            others.append(made.generate(request(questions("go"), GREEDY)))
            while max(worker._waiting) == last:
                await asyncio.sleep(0)
            await others[-2].cancel()
            await anext(others[-1])
        gained = done[-1] - before
        for each in (long, *others):
            await each.cancel()
        await asyncio.gather(watching, *(read(each) for each in others))
    assert gained >= 256


async def test_a_schema_binds_its_own_answer_alone(tiny: Path, tmp_path: Path) -> None:
    bound = Sampling(temperature=1.0, seed=1, max_tokens=40, schema='{"enum": ["yes", "no"]}')
    async with engine(tiny, tmp_path, parallel=3, n_ctx=512, threads=1) as made:
        free, *chosen = await asyncio.gather(
            answer(made, questions("tell me"), structs.replace(GREEDY, max_tokens=30)),
            answer(made, questions("one"), bound),
            answer(made, questions("two"), bound),
        )
        with pytest.raises(WrongUse):
            await answer(made, questions("three"), structs.replace(bound, schema='{"not": {}}'))
    assert {each.text for each in chosen} <= {'"yes"', '"no"'}
    assert len(free.ids) == 30


@pytest.mark.parametrize("count", [1, 3])
async def test_an_answer_with_a_schema_does_not_wait_for_one_without(
    count: int, endless: Chain, tmp_path: Path
) -> None:
    """Its schema is made while others decode, which overwrite the logits of its prompt."""
    numbers = '", "'.join(str(number) for number in range(2000))
    async with engine(endless.path, tmp_path, parallel=1 + count, n_ctx=16_384, threads=1) as made:
        free = made.generate(request(questions("go"), GREEDY))
        while not isinstance(await anext(free), Delta):
            pass
        chosen = await asyncio.gather(
            *(
                answer(
                    made,
                    questions(f"say {place}"),
                    structs.replace(GREEDY, schema=f'{{"enum": ["{place}", "{numbers}"]}}'),
                )
                for place in range(count)
            )
        )
        await free.cancel()
        rest = await read(free)
    assert [json.loads(each.text) in map(str, range(2000)) for each in chosen] == [True] * count
    assert rest.finished.reason is FinishReason.CANCELLED
    assert set(rest.ids) == set(endless.ids)


async def test_a_worker_that_dies_fails_all_requests_and_starts_again(endless: Chain, tmp_path: Path) -> None:
    async with engine(endless.path, tmp_path, parallel=2, n_ctx=2048, threads=1) as made:
        running = [made.generate(request(questions("go"), GREEDY)) for _request in range(2)]
        for each in running:
            while not isinstance(await anext(each), Delta):
                pass
        assert made._worker
        made._worker.kill()
        for each in running:
            with pytest.raises(EngineDied):
                await read(each)
        assert (await answer(made, questions("go"), structs.replace(GREEDY, max_tokens=5))).ids


async def test_closing_ends_all_requests(endless: Chain, tmp_path: Path) -> None:
    async with engine(endless.path, tmp_path, parallel=2, n_ctx=2048, threads=1) as made:
        running = [made.generate(request(questions("go"), GREEDY)) for _request in range(3)]
        await anext(running[0])
        await asyncio.gather(made.close(), made.close())
    assert [(await read(each)).finished.reason for each in running] == [FinishReason.CANCELLED] * 3


async def test_the_chances_of_a_prompt_are_those_of_sampling_it(tmp_path: Path) -> None:
    """A prompt that a model wrote itself has in each place the chances that it was sampled with."""
    sampled = structs.replace(LIKELIEST, max_tokens=30)
    async with engine(guide.MODEL, tmp_path, n_ctx=512, threads=1, scores=True) as made:
        written = await read(
            made.generate(request(questions("How do I search?"), sampled, mode=Mode.COMPLETE, chances=3))
        )
        turns = [*questions("How do I search?"), Turn("assistant", "", written.ids)]
        whole = request(turns, structs.replace(GREEDY, max_tokens=0), mode=Mode.COMPLETE, chances=3)
        events = [event async for event in made.generate(structs.replace(whole, scored_turns=3))]
    scored = [event for event in events if isinstance(event, PromptScored)]
    chances = [each for event in scored for each in event.chances]
    tokens = [token for event in scored for token in event.token_ids]
    assert tokens[-len(written.ids) :] == list(written.ids) and chances[0] == ()
    expected = [each for delta in written.deltas for each in delta.chances]
    for token, before, after in zip(written.ids, expected, chances[-len(written.ids) :], strict=True):
        assert math.isclose(of(token, before), of(token, after), abs_tol=0.05)


async def test_prompts_are_scored_side_by_side(endless: Chain, tmp_path: Path) -> None:
    """More logits than a batch has room for are never asked of it."""
    prompts = ["apple " * 60, "pear " * 70, "fig " * 80]
    async with engine(endless.path, tmp_path, parallel=3, n_ctx=1024, threads=1, scores=True) as made:

        async def scored(text: str) -> list[int]:
            asked = request([Turn("user", text)], structs.replace(GREEDY, max_tokens=1), mode=Mode.RAW, chances=1)
            events = [event async for event in made.generate(structs.replace(asked, scored_turns=1))]
            return [token for event in events if isinstance(event, PromptScored) for token in event.token_ids]

        together = await asyncio.gather(*map(scored, prompts))
        alone = [list(await made.tokens([Turn("user", text)], Mode.RAW)) for text in prompts]
    assert together == alone


async def test_one_that_is_cancelled_before_it_has_begun_is_cancelled_whatever_begins_before_it(
    endless: Chain, tmp_path: Path
) -> None:
    """Those of other programs have their numbers before they wait for their turn: later ones may come before them."""
    async with engine(endless.path, tmp_path, parallel=2, n_ctx=16_384, threads=1) as made:
        await made.load()
        worker = made._worker
        assert worker
        first, second = worker.number(), worker.number()

        async def reason(number: int, max_tokens: int) -> FinishReason:
            job = Generate(number, [PlainText("x")], structs.replace(GREEDY, max_tokens=max_tokens))
            async with aclosing(worker.ask(job)) as got:
                async for reply in got:
                    if isinstance(reply, Done):
                        return reply.reason
            raise AssertionError("it never ended")

        busy = asyncio.create_task(worker.ask_once(TimeRun(worker.number(), depth=0, prompt=2000, generate=0)))
        await asyncio.sleep(0)
        reasons = [asyncio.create_task(reason(second, 9)), asyncio.create_task(reason(first, 16_000))]
        await asyncio.sleep(0)
        worker.cancel(first)
        assert isinstance(await busy, RunTimed)
        assert await asyncio.gather(*reasons) == [FinishReason.LENGTH, FinishReason.CANCELLED]


def of(token: int, chances: tuple[TokenChance, ...]) -> float:
    return next(each.logprob for each in chances if each.token_id == token)
