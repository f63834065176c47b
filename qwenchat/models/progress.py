"""What a download reports while it runs, as values that a bar, a log line or JSON can be made of."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PartProgress:
    """One file of a download."""

    name: str
    done: int
    """Bytes on disk."""
    size: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """The whole download, a few times a second."""

    parts: tuple[PartProgress, ...]
    done: int
    """Bytes on disk, of all parts."""
    total: int | None
    bytes_per_second: float
    """Over the last seconds."""
    seconds_left: float | None
    """None while it can't be told."""


@dataclass(frozen=True, slots=True)
class Retrying:
    """An attempt failed and another follows in `wait_s` seconds."""

    name: str
    reason: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class Following:
    """Another program is downloading this file; its progress is what is reported."""

    name: str


@dataclass(frozen=True, slots=True)
class StartedOver:
    """What was kept of this file was of no use."""

    name: str


@dataclass(frozen=True, slots=True)
class Checking:
    """All bytes are here and the sha256 is being finished."""

    name: str


@dataclass(frozen=True, slots=True)
class Completed:
    """A file has its name now. `verified`: its sha256 was known beforehand and is right."""

    name: str
    path: Path
    verified: bool


@dataclass(frozen=True, slots=True)
class AtHand:
    """Another program has this very file; it is used where it lies and nothing is downloaded."""

    name: str
    path: Path


PullEvent = AtHand | Progress | Retrying | Following | StartedOver | Checking | Completed
Report = Callable[[PullEvent], None]
"""Called from several threads, one at a time."""


class Meter:
    """Speed over a sliding window, from totals seen now and then."""

    def __init__(self, window_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s, self._clock = window_s, clock
        self._seen: deque[tuple[float, int]] = deque()

    def speed(self, done: int) -> float:
        """Note that `done` bytes are here now and return bytes a second; a fall in `done` begins anew."""
        now = self._clock()
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= self._window_s:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if now > since else 0.0


def human_time(seconds: float) -> str:
    """Return a duration as `1:02:03` or `2:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
