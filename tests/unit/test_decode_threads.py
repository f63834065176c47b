"""How many threads decode while other programs use the same cores."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.engines.worker import threads
from qwenchat.engines.worker.threads import LONGEST_PATIENCE_S, PATIENCE_S, DecodeThreads, ThreadCount


@pytest.mark.parametrize(
    ("count", "lost", "expected"),
    [
        (2, 0.0, 2),
        (2, 0.3, 2),  # a screen that draws: one thread alone would be slower
        (2, 0.67, 1),  # one other program that computes
        (2, 1.5, 1),  # six of them
        (8, 0.1, 8),
        (8, 0.5, 7),  # one of eight threads shares its core
        (8, 2.67, 5),
        (64, 63.0, 1),
        (1, 0.9, 1),
    ],
)
def test_a_thread_less_for_each_core_that_is_lost(count: int, lost: float, expected: int) -> None:
    now = ThreadCount(most=count, count=count)
    assert now.after(decoded_s=0.5, waited_s=lost * 0.5).count == expected


def test_all_threads_are_tried_again_less_and_less_often() -> None:
    now, waits = ThreadCount(most=4, count=4), []
    for _trial in range(6):
        now = now.after(decoded_s=0.5, waited_s=0.4)
        assert now.count == 3
        seconds = 0.0
        while now.count < 4:
            now, seconds = now.after(decoded_s=0.5, waited_s=0.0), seconds + 0.5
        waits.append(seconds)
    assert waits == [4.0, 8.0, 16.0, 32.0, 32.0, 32.0]
    while now.patience_s > PATIENCE_S:  # the machine is free for longer than that
        now = now.after(decoded_s=0.5, waited_s=0.0)
    assert now == ThreadCount(most=4, count=4)


def test_nothing_is_tried_while_a_single_thread_has_to_wait() -> None:
    now = ThreadCount(most=2, count=1)
    for _window in range(1000):
        now = now.after(decoded_s=0.5, waited_s=0.3)
    assert now.count == 1
    for _window in range(10):
        now = now.after(decoded_s=0.5, waited_s=0.0)
    assert now.count == 2


@given(most=st.integers(1, 512), lost=st.lists(st.floats(0, 600), max_size=30), decoded_s=st.floats(0.5, 60.0))
def test_there_is_always_a_thread_and_never_one_too_many(most: int, lost: list[float], decoded_s: float) -> None:
    now = ThreadCount(most=most, count=most)
    for each in lost:
        now = now.after(decoded_s=decoded_s, waited_s=each * decoded_s)
        assert 1 <= now.count <= most and now.patience_s <= LONGEST_PATIENCE_S


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every step be a window, in which all threads but one only waited."""
    waited = iter(range(0, 10**15, 10**12))
    monkeypatch.setattr(threads, "WINDOW_S", 0.0)
    monkeypatch.setattr(threads, "waited_ns", lambda: {1: next(waited)})
    yield


@pytest.mark.usefixtures("busy")
def test_long_steps_and_repeatable_answers_have_all_threads() -> None:
    chosen = DecodeThreads(8)
    assert [step(chosen, 1), step(chosen, 1)] == [8, 1]
    assert [step(chosen, 512), step(chosen, 1, exact=True), step(chosen, 1)] == [8, 8, 1]


@pytest.mark.usefixtures("busy")
def test_beside_a_screen_long_steps_are_for_the_first_thread_too() -> None:
    chosen = DecodeThreads(8, beside_screen=True)
    assert [step(chosen, 512), step(chosen, 512), step(chosen, 1, exact=True)] == [8, 1, 8]


def step(chosen: DecodeThreads, tokens: int, *, exact: bool = False) -> int:
    count = chosen.begin(tokens, exact=exact)
    chosen.end()
    return count


def test_where_nothing_is_known_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "WINDOW_S", 0.0)
    monkeypatch.setattr(threads, "_TASKS", threads._TASKS / "none")
    chosen = DecodeThreads(4, beside_screen=True)
    for _step in range(5):
        assert chosen.begin(1, exact=False) == 4
        chosen.end()
    assert threads.waited_ns() == {}


def test_threads_that_python_started_do_not_compute() -> None:
    began, ends = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        ends.wait()

    other = threading.Thread(target=wait)
    other.start()
    began.wait()
    found = threads.waited_ns()
    ends.set()
    other.join()
    assert threading.get_native_id() in found and other.native_id not in found
