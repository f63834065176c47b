"""What is reported of a prefill between the steps that the worker computes."""

import asyncio

import pytest

from qwenchat.chat.events import Prefilling
from qwenchat.engines.local import prefill_progress
from qwenchat.engines.local.prefill_progress import PrefillProgress, PrefillSpeed
from qwenchat.engines.local.protocol import CHUNK, WorkerProgress


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefill_progress, "EVERY_S", 0.001)


def step(done: int, seconds: float, total: int = 4000) -> WorkerProgress:
    return WorkerProgress(1, done, total, seconds)


@pytest.mark.usefixtures("often")
async def test_estimates_go_by_the_last_step_and_stay_within_the_current_one() -> None:
    found: asyncio.Queue[Prefilling] = asyncio.Queue()
    progress = PrefillProgress(speed := PrefillSpeed(), found.put_nowait)
    progress.advance(step(0, 0.0))
    assert await found.get() == Prefilling(0, 4000, 0.0, 0.0)
    progress.advance(step(32, 0.001))  # 32,000 tokens a second
    assert (await found.get()).done == 32
    last = 32
    while last < 32 + CHUNK - 1:
        estimate = await found.get()
        assert last < estimate.done < 32 + CHUNK and estimate.seconds_left > 0
        last = estimate.done
    progress.advance(step(32 + CHUNK, 0.2))
    progress.stop()
    assert (await found.get()).done == 32 + CHUNK and found.empty()
    assert speed.tokens_per_second == pytest.approx(CHUNK / 0.199)


@pytest.mark.usefixtures("often")
async def test_what_was_reported_is_never_taken_back() -> None:
    found: asyncio.Queue[Prefilling] = asyncio.Queue()
    progress = PrefillProgress(PrefillSpeed(10_000.0), found.put_nowait)
    progress.advance(step(0, 0.0))
    while (await found.get()).done < 100:
        pass
    progress.advance(step(64, 0.1))  # others were computed beside it
    progress.advance(step(4000, 10.0))
    end = await found.get()
    while found.qsize():
        last, end = end, found.get_nowait()
        assert last.done < end.done
    assert end == Prefilling(4000, 4000, 400.0, 0.0)


async def test_nothing_is_estimated_before_a_speed_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefill_progress, "EVERY_S", 0.0)
    found: list[Prefilling] = []
    progress = PrefillProgress(PrefillSpeed(), found.append)
    progress.advance(step(0, 0.0))
    for _turn in range(20):
        await asyncio.sleep(0)
    progress.stop()
    assert [each.done for each in found] == [0]
