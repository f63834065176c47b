"""Reports how far a prefill is: what the worker says after each step, and estimates while a step is computed.

A step takes seconds, on slow or busy machines half a minute. An estimate goes by the speed of the last step, stays
below the end of the current one, and is never smaller than what was reported before.
"""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from qwenchat.chat.events import Prefilling
from qwenchat.engines.local.protocol import CHUNK, WorkerProgress

EVERY_S = 0.5
"""Seconds between estimates."""


class PrefillSpeed(Struct):
    """How fast a loaded model prefilled last."""

    tokens_per_second: float = 0.0
    """Of the last step; 0 before the first."""


class PrefillProgress:
    """The progress of one request."""

    def __init__(self, speed: PrefillSpeed, report: Callable[[Prefilling], object]) -> None:
        """Estimate by `speed`, which is kept up to date for the requests that follow."""
        self._speed, self._report = speed, report
        self._last = WorkerProgress(0, 0, 0, 0.0)
        """After the last step."""
        self._reported = -1
        """Tokens in the last report."""
        self._next: asyncio.TimerHandle | None = None

    def advance(self, progress: WorkerProgress) -> None:
        """Report what the worker says after a step, or before the first one."""
        self.stop()
        last, self._last = self._last, progress
        if progress.done > last.done and progress.seconds > last.seconds:
            self._speed.tokens_per_second = (progress.done - last.done) / (progress.seconds - last.seconds)
        self._show(progress.done, progress.seconds)
        if progress.done < progress.total:
            self._estimate_later(0.0)

    def stop(self) -> None:
        """End the estimates."""
        if self._next:
            self._next.cancel()
        self._next = None

    def _estimate_later(self, waited_s: float) -> None:
        self._next = asyncio.get_running_loop().call_later(EVERY_S, self._estimate, waited_s + EVERY_S)

    def _estimate(self, waited_s: float) -> None:
        """Report an estimate, `waited_s` after the last step."""
        last = self._last
        end = min(last.done + CHUNK, last.total)
        done = min(last.done + self._speed.tokens_per_second * waited_s, end - 1)
        self._show(done, last.seconds + waited_s)
        self._estimate_later(waited_s)

    def _show(self, done: float, seconds: float) -> None:
        if int(done) <= self._reported:
            return
        self._reported = int(done)
        speed = done / seconds if seconds else 0.0
        left = (self._last.total - done) / speed if speed else 0.0
        self._report(Prefilling(int(done), int(self._last.total), speed, left))
