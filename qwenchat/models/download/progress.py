"""The events that a download reports while it runs, for progress bars, log lines and JSON, and their texts.

An event's `kind` and field names appear in JSON; they are a contract with scripts.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar

from qwenchat.i18n import _
from qwenchat.models.download.destination import PartFilePaths
from qwenchat.text.safe import human_size, human_time


@dataclass(frozen=True, slots=True)
class PartProgress:
    """The progress of one file of a download; a model in one file has one part."""

    name: str
    done: int
    """Bytes on disk."""
    size: int | None
    """Bytes; None while unknown."""


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """The progress of the whole download, reported a few times per second."""

    kind: ClassVar[str] = "progress"
    parts: tuple[PartProgress, ...]
    done: int
    """Bytes on disk, of all parts."""
    total: int | None
    """Bytes; None while unknown."""
    _: KW_ONLY
    bytes_per_second: float
    """The average of the last seconds."""
    seconds_left: float | None
    """None while it can't be estimated."""


@dataclass(frozen=True, slots=True)
class Retrying:
    """An attempt failed; the next one follows in `wait_s` seconds."""

    kind: ClassVar[str] = "retrying"
    name: str
    reason: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class WaitingForOther:
    """Another program is downloading this file, and its progress is reported."""

    kind: ClassVar[str] = "following"
    name: str


@dataclass(frozen=True, slots=True)
class StartedOver:
    """The part file of an earlier run was useless, and the download starts over."""

    kind: ClassVar[str] = "started_over"
    name: str


@dataclass(frozen=True, slots=True)
class PartFileOpened:
    """A file is now downloaded to this part file, which `part.delete_unfinished` deletes."""

    kind: ClassVar[str] = "arriving"
    name: str
    path: Path
    paths: PartFilePaths
    """The part file and its lock; not in the JSON."""


@dataclass(frozen=True, slots=True)
class Checking:
    """All bytes were received, and the sha256 is being computed."""

    kind: ClassVar[str] = "checking"
    name: str


@dataclass(frozen=True, slots=True)
class FileCompleted:
    """A file is complete under its final name. `verified`: its sha256 was known in advance and is right."""

    kind: ClassVar[str] = "completed"
    name: str
    path: Path
    verified: bool


@dataclass(frozen=True, slots=True)
class CopyFound:
    """The same file is already on this machine; it is used from there and nothing is downloaded."""

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
    """Measures speed over a sliding window from occasional totals."""

    def __init__(self, window_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s, self._clock = window_s, clock
        self._seen: deque[tuple[float, int]] = deque()

    def speed(self, done: int) -> float:
        """Record the total of `done` bytes and return bytes per second. If `done` decreases, measuring starts over."""
        now = self._clock()
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= self._window_s:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if now > since else 0.0


def event_text(event: PullEvent) -> str:
    """Return the text of an event that is not mere progress; empty if there is nothing to report."""
    match event:
        case Retrying(_name, reason, wait_s):
            return _("{reason} Trying again in {seconds:.0f} s.").format(reason=reason, seconds=math.ceil(wait_s))
        case WaitingForOther(name):
            return _("Another program is downloading {name}; waiting for it.").format(name=name)
        case StartedOver(name):
            return _("The download of {name} has to start over.").format(name=name)
        case CopyFound(name, path):
            return _("{name} is already on this computer: {path}").format(name=name, path=path)
        case FileCompleted(name, _path, False):
            return _("{name} was downloaded, but the source gives no sha256 to verify it.").format(name=name)
    return ""


def bytes_text(progress: DownloadProgress) -> str:
    """Return the downloaded bytes and the total as text."""
    done = human_size(progress.done)
    if progress.total is None:
        return done
    return _("{done} of {total}").format(done=done, total=human_size(progress.total))


def progress_text(progress: DownloadProgress) -> str:
    """Return bytes, speed and time left as a short text."""
    speed = _("{speed}/s").format(speed=human_size(progress.bytes_per_second))
    left = _("{time} left").format(time=human_time(progress.seconds_left)) if progress.seconds_left else ""
    return "  ".join(text for text in (bytes_text(progress), speed, left) if text)
