"""Downloads that go on in the background while a person chats: start, pause, resume, give up.

Each has a thread of its own, and several run side by side. Pausing, and leaving the program, keep what has arrived;
giving up deletes it. No Textual here, no network before `start`, and nothing is asked of the person: the licence is
the screen's to show.
"""

import threading
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from qwenchat.errors import Interrupted, QwenchatError
from qwenchat.i18n import _
from qwenchat.models.download.file import give_up
from qwenchat.models.download.plan import Order
from qwenchat.models.download.progress import (
    Arriving,
    Checking,
    Progress,
    PullEvent,
    Report,
    arrived,
    figures,
    words,
)
from qwenchat.text.safe import clean_line

_FAREWELL_S = 3.0
"""Longer than `models.pull` waits for its own threads."""


class State(StrEnum):
    """How far a download is."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True)
class Download:
    """One download as it stands."""

    reference: str
    """What was ordered, and what to type to use the model when it is here."""
    state: State = State.RUNNING
    progress: Progress | None = None
    note: str = ""
    """What happens besides bytes, in words."""
    error: QwenchatError | None = None
    path: Path | None = None
    """The model's file, once it is done."""

    @property
    def share(self) -> float | None:
        """What has arrived, from 0 to 1; None while the size is not known."""
        if self.state is State.DONE:
            return 1.0
        known = self.progress
        return known.done / known.total if known and known.total else None


class Puller(Protocol):
    """What carries downloads out: `program.Program`."""

    def order(self, text: str) -> Order:
        """Return what a reference orders. Raises WrongUse or NotFound."""
        ...

    def pull(self, order: Order, report: Report, stop: threading.Event) -> Path:
        """Carry out an order, blocking, until it is done or `stop` is set."""
        ...


Listener = Callable[[Download], object]
"""Called with a download whenever it changes, from any thread, one at a time."""


@dataclass(slots=True)
class _Job:
    """A download with its thread."""

    shown: Download
    before: "_Job | None"
    """The same download before it was paused."""
    parts: dict[str, Arriving]
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    ended: bool = False


class Downloads:
    """All downloads of this run of the program. Safe from any thread."""

    def __init__(self, puller: Puller) -> None:
        self._puller = puller
        self._jobs: dict[str, _Job] = {}
        self._listeners: list[Listener] = []
        self._lock = threading.RLock()

    def all(self) -> list[Download]:
        """Return the downloads, in the order in which they were started, without those that were given up."""
        with self._lock:
            return [job.shown for job in self._jobs.values() if job.shown.state is not State.GIVEN_UP]

    def in_brief(self) -> str:
        """Return how far the first running download is, and how many run beside it; nothing while none runs."""
        running = [download for download in self.all() if download.state is State.RUNNING]
        if not running:
            return ""
        first, beside = running[0], len(running) - 1
        share = "" if first.share is None else f"{first.share:.0%} "
        return f"↓ {share}{clean_line(first.reference, 40)}" + (f" +{beside}" if beside else "")

    def get(self, reference: str) -> Download | None:
        """Return one download, None if there is none of that name."""
        return next((download for download in self.all() if download.reference == reference), None)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` of every change from now on; call what is returned to end that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def start(self, reference: str) -> None:
        """Start a download, or carry one on that was paused or failed. One that runs or is done stays as it is."""
        with self._lock:
            before = self._jobs.get(reference)
            if before and before.shown.state in (State.RUNNING, State.DONE):
                return
            kept = before if before and before.shown.state is not State.GIVEN_UP else None
            shown = Download(reference, progress=kept.shown.progress if kept else None)
            job = _Job(shown, before, dict(kept.parts) if kept else {})
            context = copy_context()  # the language is there
            job.thread = threading.Thread(target=context.run, args=(self._run, job), name="downloads", daemon=True)
            self._jobs[reference] = job
        self._tell(job)
        job.thread.start()

    def pause(self, reference: str) -> None:
        """Stop a download and keep what has arrived."""
        with self._lock:
            job = self._jobs.get(reference)
            if job is None or job.shown.state is not State.RUNNING:
                return
            job.stop.set()
            self._show(job, replace(job.shown, state=State.PAUSED, note=""))

    def cancel(self, reference: str) -> None:
        """Give a download up and delete what has arrived; a model that is complete stays."""
        with self._lock:
            job = self._jobs.get(reference)
            if job is None or job.shown.state is State.GIVEN_UP:
                return
            job.stop.set()
            self._show(job, replace(job.shown, state=State.GIVEN_UP, note=""))
            if job.ended:
                self._discard(job)

    def close(self) -> None:
        """Stop them all and keep what has arrived: the end of the program. May be called twice."""
        for download in self.all():
            self.pause(download.reference)
        for job in list(self._jobs.values()):
            if job.thread and job.thread.is_alive():
                job.thread.join(_FAREWELL_S)

    def _run(self, job: _Job) -> None:
        if job.before and job.before.thread:
            job.before.thread.join()  # it holds the file's lock until it ends
            job.before = None
        end = replace(job.shown, state=State.FAILED)
        try:
            order = self._puller.order(job.shown.reference)
            path = self._puller.pull(order, lambda event: self._note(job, event), job.stop)
            end = replace(end, state=State.DONE, path=path)
        except Interrupted:
            end = replace(end, state=State.PAUSED)
        except QwenchatError as error:
            end = replace(end, error=error)
        finally:
            self._end(job, end)

    def _note(self, job: _Job, event: PullEvent) -> None:
        with self._lock:
            shown = job.shown
            if isinstance(event, Arriving):
                job.parts[event.name] = event
            if shown.state is not State.RUNNING:
                return
            if isinstance(event, Progress):
                moved = shown.progress is None or event.done != shown.progress.done
                self._show(job, replace(shown, progress=event, note="" if moved else shown.note))
            elif said := _("checking its sha256") if isinstance(event, Checking) else words(event):
                self._show(job, replace(shown, note=clean_line(said, 500)))

    def _end(self, job: _Job, end: Download) -> None:
        """Show how a download ended, unless the person has decided otherwise meanwhile."""
        with self._lock:
            job.ended = True
            if job.shown.state is State.GIVEN_UP:
                self._discard(job)
            elif job.shown.state is State.RUNNING or end.state is State.DONE:
                self._show(job, replace(end, progress=job.shown.progress))

    def _show(self, job: _Job, shown: Download) -> None:
        job.shown = shown
        self._tell(job)

    def _tell(self, job: _Job) -> None:
        with self._lock:
            if self._jobs.get(job.shown.reference) is job:
                for listener in list(self._listeners):
                    listener(job.shown)

    @staticmethod
    def _discard(job: _Job) -> None:
        for part in job.parts.values():
            give_up(part)


def state_words(download: Download) -> str:
    """Return how a download stands, in a few words of the language being spoken."""
    match download.state:
        case State.RUNNING if download.note:
            return download.note
        case State.RUNNING:
            return figures(download.progress) if download.progress else _("asking for its files…")
        case State.PAUSED:
            known = download.progress
            return _("paused: {arrived}").format(arrived=arrived(known)) if known else _("paused")
        case State.DONE:
            return _("here")
        case State.FAILED:
            return download.error.message if download.error else _("failed")
    return _("given up")
