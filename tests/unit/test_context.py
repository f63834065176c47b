"""The context plan keeps what must stay, trims whole messages from the oldest on, and moves in steps."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.chat.context import ContextPlan, MessageCounts, plan_context
from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.chat.ports import Mode, ModelInfo, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import UNSET
from qwenchat.errors import PromptTooLong
from tests.fakes.scripted import ScriptedEngine


class CountingEngine(ScriptedEngine):
    """Counts a turn as the number that it says; what the template writes by itself is given."""

    def __init__(self, system: int, n_ctx: int, *, exact: bool = True) -> None:
        super().__init__(n_ctx=n_ctx)
        self.system, self.exact = system, exact
        self.counted: list[int] = []
        """How many turns each call counted."""

    async def count(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> TokenCounts:
        self.counted.append(len(turns))
        values = tuple(int(turn.text) for turn in turns)
        return TokenCounts(values=values, around=self.system, exact=self.exact, additive=self.exact)


def said(counts: Sequence[int], roles: str) -> list[Message]:
    """Return messages that take `counts` tokens; `roles` is a letter each, q or a."""
    role = {"q": Role.USER, "a": Role.ASSISTANT}
    return [
        Message(id=f"m{n}", session="s", parent=None, role=role[letter], parts=text_parts(str(count)), created=n)
        for n, (count, letter) in enumerate(zip(counts, roles, strict=True))
    ]


async def planned(
    counts: Sequence[int],
    n_ctx: int,
    *,
    reserve: int,
    roles: str = "",
    mode: Mode = Mode.ANSWER,
    reads_history: bool = True,
) -> ContextPlan:
    """Return the plan for a default system prompt and messages of `counts` tokens."""
    engine = CountingEngine(counts[0], n_ctx)
    info = ModelInfo(
        reference="m", name="m", file="f", n_ctx=n_ctx, defaults=UNSET, load_s=0.0, reads_history=reads_history
    )
    branch = said(counts[1:], roles or ("qa" * len(counts))[: len(counts) - 1])
    return await plan_context(engine, info, branch, system="", max_tokens=reserve, mode=mode, counts=MessageCounts())


async def test_all_fits() -> None:
    plan = await planned([10, 5, 5, 5], 100, reserve=20)
    assert (len(plan.turns), plan.used, plan.trimmed, plan.trimmed_tokens, plan.first_seen) == (3, 25, 0, 0, None)


@pytest.mark.parametrize(
    ("roles", "mode", "turns", "used", "first_seen"),
    [
        ("qaq", Mode.ANSWER, 1, 14, "m2"),
        ("q", Mode.ANSWER, 1, 12, None),
        ("qaqa", Mode.CONTINUE, 2, 19, "m2"),
        ("qaqa", Mode.ANSWER, 0, 10, ""),  # nothing is asked yet
        ("", Mode.ANSWER, 0, 10, None),
    ],
)
async def test_a_model_that_reads_no_history_sees_the_last_question_alone(
    roles: str, mode: Mode, turns: int, used: int, first_seen: str | None
) -> None:
    counts = [10, *range(2, 2 + len(roles))]
    plan = await planned(counts, 100, reserve=20, roles=roles, mode=mode, reads_history=False)
    assert (len(plan.turns), plan.used, plan.first_seen) == (turns, used, first_seen)
    assert plan.trimmed == len(roles) - turns and plan.trimmed_tokens == sum(counts) - used


async def test_questions_and_answers_go_in_pairs() -> None:
    plan = await planned([10, 40, 40, 40, 40, 40], 200, reserve=30)
    assert plan.trimmed % 2 == 0
    assert plan.used <= 170


async def test_a_question_without_answer_does_not_shift_the_pairs() -> None:
    plan = await planned([10, 100, 100, 300, 100, 300, 100], 1000, reserve=200, roles="qqaqaq")
    assert plan.first_seen == "m3"  # a question


async def test_what_must_stay_and_does_not_fit_is_refused_with_numbers() -> None:
    plan = await planned([10, 1000], 1000, reserve=200)
    assert plan.too_long
    with pytest.raises(PromptTooLong, match=r"1,010 tokens.*room for 800"):
        plan.check()


async def test_the_cut_moves_in_steps_of_about_a_quarter() -> None:
    counts, starts = [20], []
    for _turn in range(60):
        counts += [30, 30]
        starts.append((await planned([*counts, 30], 1000, reserve=100)).trimmed)
    moves = [after - before for before, after in pairwise(starts) if after != before]
    assert len(moves) < 16  # not at every turn
    assert min(moves) >= 8  # but by several turns at once


@given(st.lists(st.integers(1, 300), min_size=2, max_size=40), st.booleans())
def test_the_plan_always_fits_and_keeps_the_ends(counts: list[int], continuing: bool) -> None:
    mode, keep = (Mode.CONTINUE, 2) if continuing else (Mode.ANSWER, 1)
    plan = asyncio.run(planned(counts, 1024, reserve=256, mode=mode))
    if plan.too_long:
        assert plan.used == counts[0] + sum(counts[1:][-keep:]) > 768
        return
    assert plan.used == counts[0] + sum(counts[1 + plan.trimmed :]) <= 768
    assert plan.trimmed <= max(0, len(counts) - 1 - keep)
    assert plan.trimmed_tokens == sum(counts[1 : 1 + plan.trimmed])
    assert len(plan.turns) == len(counts) - 1 - plan.trimmed


async def test_a_message_is_counted_once_while_counts_are_exact() -> None:
    engine, counts = CountingEngine(10, 1000), MessageCounts()
    info = await engine.load()
    for length in (3, 5):
        branch = said([5] * length, "qaqaq"[:length])
        await plan_context(engine, info, branch, system="", max_tokens=None, counts=counts)
    assert engine.counted == [3, 2]


async def test_what_can_only_be_estimated_alone_is_counted_as_a_whole() -> None:
    engine, counts = CountingEngine(10, 1000, exact=False), MessageCounts()
    info = await engine.load()
    branch = said([5, 5, 5], "qaq")
    plan = await plan_context(engine, info, branch, system="", max_tokens=None, counts=counts)
    assert engine.counted == [3] and not plan.counts.exact
