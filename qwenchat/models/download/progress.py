"""What a download reports while it runs: values that a bar, a log line or JSON is made of, and their words.

`kind` names an event in JSON, and so do the names of its fields: both are a contract with scripts.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar

from qwenchat.i18n import _
from qwenchat.models.download.destination import PartFilePaths
from qwenchat.text.safe import human_size


@dataclass(frozen=True, slots=True)
class PartProgress:
    """One file of a download: a model in one file has one part."""

    name: str
    done: int
    """Bytes on disk."""
    size: int | None
    """Bytes; None while it is not known."""


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """The whole download, a few times a second."""

    kind: ClassVar[str] = "progress"
    parts: tuple[PartProgress, ...]
    done: int
    """Bytes on disk, of all parts."""
    total: int | None
    """Bytes; None while it is not known."""
    _: KW_ONLY
    bytes_per_second: float
    """Over the last seconds."""
    seconds_left: float | None
    """None while it can't be estimated."""


@dataclass(frozen=True, slots=True)
class Retrying:
    """An attempt failed and another follows in `wait_s` seconds."""

    kind: ClassVar[str] = "retrying"
    name: str
    reason: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class WaitingForOther:
    """Another program is downloading this file; its progress is what is reported."""

    kind: ClassVar[str] = "following"
    name: str


@dataclass(frozen=True, slots=True)
class StartedOver:
    """The part file that an earlier run left was of no use."""

    kind: ClassVar[str] = "started_over"
    name: str


@dataclass(frozen=True, slots=True)
class PartFileOpened:
    """The bytes of a file go to this part file from now on; `part.delete_unfinished` deletes it."""

    kind: ClassVar[str] = "arriving"
    name: str
    path: Path
    paths: PartFilePaths
    """The part file with its lock; not part of the JSON."""


@dataclass(frozen=True, slots=True)
class Checking:
    """All bytes are here and the sha256 is being computed."""

    kind: ClassVar[str] = "checking"
    name: str


@dataclass(frozen=True, slots=True)
class FileCompleted:
    """A file has its name now. `verified`: its sha256 was known beforehand and is right."""

    kind: ClassVar[str] = "completed"
    name: str
    path: Path
    verified: bool


@dataclass(frozen=True, slots=True)
class CopyFound:
    """Another program has this very file; it is used where it lies and nothing is downloaded."""

    kind: ClassVar[str] = "at_hand"
    name: str
    path: Path


PullEvent = (
    DownloadProgress
    | Retrying
    | WaitingForOther
    | StartedOver
    | PartFileOpened
    | Checking
    | FileCompleted
    | CopyFound
)  # fmt: skip
Report = Callable[[PullEvent], None]
"""Called from several threads, one at a time."""


class SpeedMeter:
    """Measures speed over a sliding window, from totals that are seen now and then."""

    def __init__(self, window_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s, self._clock = window_s, clock
        self._seen: deque[tuple[float, int]] = deque()

    def speed(self, done: int) -> float:
        """Note that `done` bytes are here now and return bytes a second; when `done` falls, measuring starts over."""
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


def event_text(event: PullEvent) -> str:
    """Return what the user should know of an event besides bytes; empty for nothing."""
    match event:
        case Retrying(_name, reason, wait_s):
            return _("{reason} Trying again in {seconds:.0f} s.").format(reason=reason, seconds=wait_s)
        case WaitingForOther(name):
            return _("Another program is downloading {name}; waiting for it.").format(name=name)
        case StartedOver(name):
            return _("The download of {name} has to start over.").format(name=name)
        case CopyFound(name, path):
            return _("{name} is on this machine already: {path}").format(name=name, path=path)
        case FileCompleted(name, _path, False):
            return _("{name} was downloaded. The source gives no sha256 to verify it with.").format(name=name)
    return ""


def bytes_text(progress: DownloadProgress) -> str:
    """Return how many bytes are here, and of how many."""
    done = human_size(progress.done)
    if progress.total is None:
        return done
    return _("{done} of {total}").format(done=done, total=human_size(progress.total))


def progress_text(progress: DownloadProgress) -> str:
    """Return bytes, speed and time left in a few words."""
    speed = _("{speed}/s").format(speed=human_size(progress.bytes_per_second))
    left = _("{time} left").format(time=human_time(progress.seconds_left)) if progress.seconds_left else ""
    return "  ".join(text for text in (bytes_text(progress), speed, left) if text)
