"""Chooses how many threads decode: fewer while other programs use the same cores.

The threads that compute a token wait for each other hundreds of times, and spin while they wait. While one of them has
no core, the others spin for nothing: beside busy programs, two threads decode several times slower than one. How long
threads that could run waited for a core is known on Linux alone (`schedstat`); elsewhere the number never changes. Nor
does it for long steps, whose threads wait rarely, and for answers that must be repeatable: the number of threads
changes the last bits of a result.

Beside a screen, all threads but the first have a lower priority, so that the screen has a core at once. The first has
the usual one: where other programs use all cores, it computes alone and has its share, in long steps too, which threads
of a lower priority would hold up.
"""

import math
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, structs

LONG_STEP = 256
"""Tokens from which on a step is computed by all threads. Beside busy programs, two threads were half as fast as one in
steps of 128 tokens, and as fast in steps of 512."""
WINDOW_S = 0.5
"""Seconds of decoding after which the number of threads is decided again."""
PATIENCE_S, LONGEST_PATIENCE_S = 2.0, 32.0
"""Seconds of undisturbed decoding before all threads are tried again; twice as many after each trial that failed."""
_UNDISTURBED = 0.1
"""Cores that threads may wait for without being disturbed; the screen takes about as much."""
_NICER = 10
"""Added to the nice value of threads that make way."""
_TASKS = Path("/proc/self/task")


class ThreadCount(Struct, frozen=True, kw_only=True):
    """How many threads decode, of at most `most`, and what was observed with them."""

    most: int
    count: int
    patience_s: float = PATIENCE_S
    """Undisturbed seconds that it takes to try all threads again."""
    undisturbed_s: float = 0.0

    def after(self, *, decoded_s: float, waited_s: float) -> "ThreadCount":
        """Return the number for the time after `decoded_s` seconds, in which the threads waited `waited_s` for a core.

        `lost` cores make decoding slower by about that share of its time, if it is not more than one; without the
        threads that have no core it is slower by their share of all threads. The smaller loss is chosen.
        """
        lost = waited_s / decoded_s
        without = min(math.ceil(lost), self.count - 1)
        if without and lost > without / self.count:
            was_tried = self.count == self.most
            patience_s = min(2 * self.patience_s, LONGEST_PATIENCE_S) if was_tried else self.patience_s
            return structs.replace(self, count=self.count - without, patience_s=patience_s, undisturbed_s=0.0)
        undisturbed_s = self.undisturbed_s + decoded_s if lost < _UNDISTURBED else 0.0
        if undisturbed_s < self.patience_s:
            return structs.replace(self, undisturbed_s=undisturbed_s)
        if self.count == self.most:
            return ThreadCount(most=self.most, count=self.most)
        return structs.replace(self, count=self.most, undisturbed_s=0.0)


class DecodeThreads:
    """The threads of one model. The caller reports the beginning and the end of each step."""

    def __init__(self, most: int, *, beside_screen: bool = False) -> None:
        self._now = ThreadCount(most=most, count=most)
        self._beside_screen = beside_screen
        self.used = most
        """Threads of the current step."""
        self._is_new = True
        """Whether there may be threads that have computed nothing before."""
        self._waited: dict[int, int] | None = None
        """Nanoseconds that each thread had waited when the window began; None before that."""
        self._decoded_s = self._began = 0.0
        self._is_observed = False

    def begin(self, tokens: int, *, exact: bool) -> int:
        """Return how many threads compute a step of so many tokens."""
        self._is_observed = (tokens < LONG_STEP or self._beside_screen) and not exact and self._now.most > 1
        used, self.used = self.used, self._now.count if self._is_observed else self._now.most
        self._is_new |= self.used > used
        if not self._is_observed:
            self._waited = None
        elif self._waited is None:
            self._waited, self._decoded_s = waited_ns(), 0.0
        self._began = time.perf_counter()
        return self.used

    def end(self) -> None:
        """Note that the step has ended."""
        if self._beside_screen and self._is_new:
            _make_way()
        self._is_new = False
        if not self._is_observed or self._waited is None:
            return
        self._decoded_s += time.perf_counter() - self._began
        if self._decoded_s < WINDOW_S:
            return
        now, before = waited_ns(), self._waited
        waited_s = sum(waited - before.get(thread, 0) for thread, waited in now.items()) / 1e9
        self._now = self._now.after(decoded_s=self._decoded_s, waited_s=waited_s)
        self._waited, self._decoded_s = now, 0.0


def waited_ns() -> dict[int, int]:
    """Return the nanoseconds that each thread which computes has waited for a core; nothing where that is unknown."""
    found: dict[int, int] = {}
    for thread in _computing():
        with suppress(OSError, ValueError, IndexError):  # it has ended, or this system does not count
            found[thread] = int((_TASKS / str(thread) / "schedstat").read_text().split()[1])
    return found


def _computing() -> list[int]:
    """Return the threads that compute: the current one and those that Python did not start. Empty if unknown."""
    others = {thread.native_id for thread in threading.enumerate()} - {threading.get_native_id()}
    try:
        return [thread for task in _TASKS.iterdir() if (thread := int(task.name)) not in others]
    except OSError:
        return []


def _make_way() -> None:
    """Lower the priority of the threads that compute, but for the current one."""
    if others := set(_computing()) - {threading.get_native_id()}:
        lower = min(os.getpriority(os.PRIO_PROCESS, 0) + _NICER, 19)
        for thread in others:
            with suppress(OSError):  # it has ended
                os.setpriority(os.PRIO_PROCESS, thread, lower)
