"""The window keeps what must stay, drops whole turns from the oldest on, and moves in steps."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.chat import context
from qwenchat.errors import PromptTooLong


def test_all_fits() -> None:
    assert context.fit([10, 5, 5, 5], 100, 20) == context.Window(1, 25, 0, 0)


def test_questions_and_answers_go_in_pairs() -> None:
    view = context.fit([10, 40, 40, 40, 40, 40], 200, 30)
    assert view.left_out % 2 == 0
    assert view.tokens <= 170


def test_a_question_without_answer_does_not_shift_the_pairs() -> None:
    view = context.fit([10, 100, 100, 300, 100, 300, 100], 1000, 200, answers={3, 5})
    assert view.start == 4  # a question


def test_what_must_stay_and_does_not_fit_is_refused_with_numbers() -> None:
    with pytest.raises(PromptTooLong, match=r"1,010 tokens.*room for 800"):
        context.fit([10, 1000], 1000, 200)


def test_the_cut_moves_in_steps_of_about_a_quarter() -> None:
    counts, starts = [20], []
    for _turn in range(60):
        counts += [30, 30]
        starts.append(context.fit([*counts, 30], 1000, 100).start)
    moves = [after - before for before, after in pairwise(starts) if after != before]
    assert len(moves) < 16  # not at every turn
    assert min(moves) >= 8  # but by several turns at once


@given(st.lists(st.integers(1, 300), min_size=2, max_size=40), st.integers(1, 2))
def test_the_window_always_fits_and_keeps_the_ends(counts: list[int], keep: int) -> None:
    try:
        view = context.fit(counts, 1024, 256, keep)
    except PromptTooLong:
        assert counts[0] + sum(counts[1:][-keep:]) > 768
        return
    assert view.tokens == counts[0] + sum(counts[view.start :]) <= 768
    assert view.start <= max(1, len(counts) - keep)
    assert view.left_out == view.start - 1
    assert view.left_out_tokens == sum(counts[1 : view.start])
