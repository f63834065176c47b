"""What a download reports while it runs, as values that a bar, a log line or JSON can be made of, and in words."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwenchat.i18n import _
from qwenchat.models.download.destination import Slot
from qwenchat.text.safe import human_size


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
class Arriving:
    """A file's bytes go to this part; `download.give_up` takes it away again."""

    name: str
    path: Path
    slot: Slot
    """The part with its lock."""


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


PullEvent = Arriving | AtHand | Progress | Retrying | Following | StartedOver | Checking | Completed
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


def words(event: PullEvent) -> str:
    """Return what a person should know of an event besides bytes; empty for nothing."""
    match event:
        case Retrying(_name, reason, wait_s):
            return _("{reason} Trying again in {seconds:.0f} s.").format(reason=reason, seconds=wait_s)
        case Following(name):
            return _("Another program is downloading {name}; waiting for it.").format(name=name)
        case StartedOver(name):
            return _("{name} has to be downloaded from its start again.").format(name=name)
        case AtHand(name, path):
            return _("{name} is on this machine already: {path}").format(name=name, path=path)
        case Completed(name, _path, False):
            return _("{name} is here. The source gives no sha256 to check it with.").format(name=name)
    return ""


def arrived(event: Progress) -> str:
    """Return how many bytes are here, and of how many."""
    done = human_size(event.done)
    return done if event.total is None else _("{done} of {total}").format(done=done, total=human_size(event.total))


def figures(event: Progress) -> str:
    """Return bytes, speed and time left in a few words."""
    speed = _("{speed}/s").format(speed=human_size(event.bytes_per_second))
    left = _("{time} left").format(time=human_time(event.seconds_left)) if event.seconds_left else ""
    return "  ".join(part for part in (arrived(event), speed, left) if part)
