"""Downloads that run in the background while the user chats: start, pause, resume, cancel.

Each has a thread of its own, and several run side by side. Pausing, and ending the program, leave the part files;
cancelling deletes them. Nothing is downloaded before `start`. The user is not asked for anything here: showing the
licence is up to the screen.
"""

import threading
from collections.abc import Callable
from contextvars import copy_context
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field, structs

from qwenchat.errors import Interrupted, QwenchatError
from qwenchat.i18n import _
from qwenchat.models.download.part import delete_unfinished
from qwenchat.models.download.plan import DownloadPlan
from qwenchat.models.download.progress import (
    Checking,
    DownloadProgress,
    PartFileOpened,
    PullEvent,
    Report,
    bytes_text,
    event_text,
    progress_text,
)
from qwenchat.text.safe import clean_line

_JOIN_TIMEOUT_S = 3.0
"""Longer than `download.pull` waits for its own threads."""


class DownloadState(StrEnum):
    """How far a download is."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Download(Struct, frozen=True):
    """The state of one download at one moment."""

    reference: str
    """The model reference that was downloaded, with which the model can be used when it is done."""
    state: DownloadState = DownloadState.RUNNING
    progress: DownloadProgress | None = None
    note: str = ""
    """What happens besides bytes, in words."""
    error: QwenchatError | None = None
    path: Path | None = None
    """The model's file, once it is done."""

    @property
    def fraction(self) -> float | None:
        """How much has arrived, from 0 to 1; None while the size is not known."""
        if self.state is DownloadState.DONE:
            return 1.0
        progress = self.progress
        return progress.done / progress.total if progress and progress.total else None


class Puller(Protocol):
    """Plans downloads and carries them out: `program.Program`."""

    def plan_download(self, text: str) -> DownloadPlan:
        """Return how to download a model. Raises WrongUse or NotFound."""
        ...

    def pull(self, plan: DownloadPlan, report: Report, stop: threading.Event) -> Path:
        """Carry out a download, blocking, until it is done or `stop` is set."""
        ...


DownloadListener = Callable[[Download], object]
"""Called with a download whenever it changes, from any thread, one at a time."""


class _Task(Struct):
    """A download with its thread."""

    download: Download
    previous: "_Task | None"
    """The task of the same download that was paused, cancelled or failed before."""
    part_files: dict[str, PartFileOpened]
    """By file name, those of the previous task included."""
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    is_ended: bool = False


class BackgroundDownloads:
    """All downloads of this run of the program. Safe to use from any thread."""

    def __init__(self, puller: Puller) -> None:
        self._puller = puller
        self._tasks: dict[str, _Task] = {}
        self._listeners: list[DownloadListener] = []
        self._lock = threading.RLock()

    def all(self) -> list[Download]:
        """Return the downloads, in the order in which they were started, without cancelled ones."""
        with self._lock:
            downloads = [task.download for task in self._tasks.values()]
        return [download for download in downloads if download.state is not DownloadState.CANCELLED]

    def summary(self) -> str:
        """Return how far the first running download is, and how many others run; empty while none runs."""
        running = [download for download in self.all() if download.state is DownloadState.RUNNING]
        if not running:
            return ""
        first, others = running[0], len(running) - 1
        percent = "" if first.fraction is None else f"{first.fraction:.0%} "
        return f"↓ {percent}{clean_line(first.reference, 40)}" + (f" +{others}" if others else "")

    def get(self, reference: str) -> Download | None:
        """Return the download of a model reference, None if there is none."""
        return next((download for download in self.all() if download.reference == reference), None)

    def latest(self, download: Download) -> Download:
        """Return a download as it is now, the same object where nothing has changed.

        Changes in two threads may reach a screen in the wrong order.
        """
        with self._lock:
            return self._tasks[download.reference].download

    def listen(self, listener: DownloadListener) -> Callable[[], None]:
        """Call `listener` at every change from now on; call the function that is returned to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def start(self, reference: str) -> None:
        """Start a download, or resume one that is paused or has failed. One that runs or is done stays as it is."""
        with self._lock:
            before = self._tasks.get(reference)
            if before and before.download.state in (DownloadState.RUNNING, DownloadState.DONE):
                return
            resumed = before if before and before.download.state is not DownloadState.CANCELLED else None
            task = _Task(
                Download(reference, progress=resumed.download.progress if resumed else None),
                previous=before,
                part_files=dict(resumed.part_files) if resumed else {},
            )
            context = copy_context()  # it holds the language
            task.thread = threading.Thread(target=context.run, args=(self._run, task), name="downloads", daemon=True)
            self._tasks[reference] = task
        self._notify(task)
        task.thread.start()

    def pause(self, reference: str) -> None:
        """Stop a download and leave its part files."""
        with self._lock:
            task = self._tasks.get(reference)
            if task is None or task.download.state is not DownloadState.RUNNING:
                return
            task.stop.set()
            self._update(task, structs.replace(task.download, state=DownloadState.PAUSED, note=""))

    def cancel(self, reference: str) -> None:
        """Stop a download and delete its part files; a model that is complete stays."""
        with self._lock:
            task = self._tasks.get(reference)
            if task is None or task.download.state is DownloadState.CANCELLED:
                return
            task.stop.set()
            self._update(task, structs.replace(task.download, state=DownloadState.CANCELLED, note=""))
            if task.is_ended:
                _delete_part_files(task)

    def close(self) -> None:
        """Pause all downloads, as when the program ends, and wait for their threads. May be called twice."""
        for download in self.all():
            self.pause(download.reference)
        for task in list(self._tasks.values()):
            if task.thread and task.thread.is_alive():
                task.thread.join(_JOIN_TIMEOUT_S)

    def _run(self, task: _Task) -> None:
        if task.previous and task.previous.thread:
            task.previous.thread.join()  # it holds the lock of the part file until it ends
            task.previous = None
        result = structs.replace(task.download, state=DownloadState.FAILED)
        try:
            plan = self._puller.plan_download(task.download.reference)
            path = self._puller.pull(plan, lambda event: self._handle(task, event), task.stop)
            result = structs.replace(result, state=DownloadState.DONE, path=path)
        except Interrupted:
            result = structs.replace(result, state=DownloadState.PAUSED)
        except QwenchatError as error:
            result = structs.replace(result, error=error)
        finally:
            self._end(task, result)

    def _handle(self, task: _Task, event: PullEvent) -> None:
        with self._lock:
            download = task.download
            if isinstance(event, PartFileOpened):
                task.part_files[event.name] = event
            if download.state is not DownloadState.RUNNING:
                return
            if isinstance(event, DownloadProgress):
                has_moved = download.progress is None or event.done != download.progress.done
                self._update(task, structs.replace(download, progress=event, note="" if has_moved else download.note))
                return
            text = _("checking its sha256") if isinstance(event, Checking) else event_text(event)
            if text:
                self._update(task, structs.replace(download, note=clean_line(text, 500)))

    def _end(self, task: _Task, result: Download) -> None:
        """Note how a download ended, unless the user paused or cancelled it meanwhile."""
        with self._lock:
            task.is_ended = True
            if task.download.state is DownloadState.CANCELLED:
                _delete_part_files(task)
            elif task.download.state is DownloadState.RUNNING or result.state is DownloadState.DONE:
                self._update(task, structs.replace(result, progress=task.download.progress))

    def _update(self, task: _Task, download: Download) -> None:
        task.download = download
        self._notify(task)

    def _notify(self, task: _Task) -> None:
        with self._lock:
            if self._tasks.get(task.download.reference) is task:
                for listener in list(self._listeners):
                    listener(task.download)


def _delete_part_files(task: _Task) -> None:
    for opened in task.part_files.values():
        delete_unfinished(opened.paths)


def state_text(download: Download) -> str:
    """Return the state of a download in a few words of the user's language."""
    progress = download.progress
    match download.state:
        case DownloadState.RUNNING if download.note:
            return download.note
        case DownloadState.RUNNING:
            return progress_text(progress) if progress else _("listing files…")
        case DownloadState.PAUSED:
            return _("paused: {arrived}").format(arrived=bytes_text(progress)) if progress else _("paused")
        case DownloadState.DONE:
            return _("on this computer")
        case DownloadState.FAILED:
            return download.error.message if download.error else _("failed")
    return _("cancelled")
