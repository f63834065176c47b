"""A whole model, from a source to its place: choose its files, see that they fit the disk, bring them side by side.

The one way in for the command line and the screen. It blocks and is run in a thread; stopping it keeps what has
arrived, and calling it again carries on, so that pausing and resuming are just that.

A file that is to be downloaded, among the models that are on this machine already, whoever brought them.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from qwenchat.errors import FileError, NotFound
from qwenchat.i18n import _
from qwenchat.models.download.destination import Place
from qwenchat.models.download.file import Agreed, Download, Terms
from qwenchat.models.download.plan import Wanted, choose
from qwenchat.models.download.progress import (
    AtHand,
    Checking,
    Meter,
    PartProgress,
    Progress,
    PullEvent,
    Report,
    Retrying,
)
from qwenchat.models.download.retry import Fault, WireError, explain
from qwenchat.models.download.transfer import Patience, stopped
from qwenchat.models.layouts import free_bytes
from qwenchat.models.library import Library
from qwenchat.models.sources.source import RemoteFile, Source
from qwenchat.models.verify import sha256_of
from qwenchat.text.safe import human_size


def same_file(library: Library, file: RemoteFile, report: Report, stop: threading.Event) -> Path | None:
    """Return a model of one file that any program here has, whole and with the same sha256.

    Those of the same size whose sha256 nobody has noted are hashed. Raises Interrupted when stopped.
    """
    if not file.sha256:
        return None
    alike = [
        entry.found
        for entry in library.usable()
        if entry.header and len(entry.header.parts) == 1 and entry.header.file_size == file.size
    ]
    if known := next((found.path for found in alike if found.sha256 == file.sha256), None):
        return known
    unknown = [found.path for found in alike if not found.sha256]
    if unknown:
        report(Checking(file.name))
    return next((path for path in unknown if _sha256(path, stop) == file.sha256), None)


def _sha256(path: Path, stop: threading.Event) -> str:
    """Return a file's sha256; empty for one that can't be read, which is no reason not to download."""

    def heed(_count: int) -> None:
        if stop.is_set():
            raise stopped()

    with suppress(FileError, NotFound):
        return sha256_of(path, heed)
    return ""


SPARE = 512 << 20
"""Bytes that a download leaves free on the disk."""
_FAREWELL_S = 2.0


@dataclass(frozen=True, slots=True)
class Manner:
    """How to download, where the defaults won't do."""

    patience: Patience = field(default_factory=Patience)
    at_once: int = 3
    """Parts of a split model that come side by side."""
    every_s: float = 0.25
    """Between two reports of progress."""
    free: Callable[[Path], int] = free_bytes
    boot_time: Callable[[], float] = psutil.boot_time
    at_hand: Callable[[RemoteFile, Report, threading.Event], Path | None] = lambda file, report, stop: None
    """Finds a file of the same size and sha256 that another program has."""


def pull(
    wanted: Wanted,
    source: Source,
    place: Place,
    report: Report,
    stop: threading.Event,
    *,
    manner: Manner | None = None,
) -> Path:
    """Bring a model to its place and return the path of its file, the first of several.

    A file that `Manner.at_hand` knows is used where it lies. `report` is called from several threads, one at a time.
    Raises NotFound, NetworkError, FileError, and Interrupted after `stop` was set.
    """
    return _Pull(wanted, source, place, manner or Manner(), report=report, stop=stop).run()


class _Pull:
    """One download of one model."""

    def __init__(
        self, wanted: Wanted, source: Source, place: Place, manner: Manner, *, report: Report, stop: threading.Event
    ) -> None:
        self._wanted, self._source, self._place, self._manner = wanted, source, place, manner
        self._stop = stop
        self._halt = threading.Event()
        """What the parts listen to: set when stopped, and when one of them failed."""
        self._meter = Meter()
        self._one_at_a_time = threading.Lock()
        self._listener = report
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._failures: list[BaseException] = []
        self._paths: dict[str, Path] = {}
        self._terms = Terms(
            source,
            wanted.repo,
            wanted.revision,
            place,
            manner.patience,
            self._report,
            self._halt,
            manner.boot_time(),
            Agreed(),
        )

    def run(self) -> Path:
        """Do it all."""
        subject = self._wanted.file or self._wanted.repo
        try:
            files = choose(self._files(), self._wanted, self._source.name)
            if len(files) == 1 and (path := self._manner.at_hand(files[0], self._report, self._stop)):
                self._report(AtHand(files[0].name, path))
                return path
            downloads = [Download(file, self._terms) for file in files]
            self._check_room(sum(download.missing() for download in downloads))
            return self._bring(downloads)
        except WireError as error:
            raise explain(error, subject) from error

    def _files(self) -> list[RemoteFile]:
        failures = 0
        while True:
            try:
                return self._source.files(self._wanted.repo, self._wanted.revision)
            except WireError as error:
                failures += 1
                error.final = error.final or error.fault is Fault.FORBIDDEN
                if not self._manner.patience.allows(error, failures, moved=False):
                    raise
                wait_s = self._manner.patience.wait_s(error, failures)
                self._report(Retrying(self._wanted.repo, explain(error, self._wanted.repo).message, wait_s))
                if self._stop.wait(wait_s):
                    raise stopped() from error

    def _check_room(self, missing: int) -> None:
        free = self._manner.free(self._place.root)
        if missing and missing + SPARE > free:
            raise FileError(
                _("{needed} are to come and {spare} should stay free, but the disk below {folder} has {free}.").format(
                    needed=human_size(missing), spare=human_size(SPARE), folder=self._place.root, free=human_size(free)
                ),
                _("Make {lacking} of room, or choose another disk with --to.").format(
                    lacking=human_size(missing + SPARE - free)
                ),
            )

    def _bring(self, downloads: list[Download]) -> Path:
        """Run the downloads in threads, a few at once, and report until all have ended."""
        waiting: queue.SimpleQueue[Download] = queue.SimpleQueue()
        for download in downloads:
            waiting.put(download)
        threads = [self._thread(waiting) for _number in range(min(self._manner.at_once, len(downloads)))]
        try:
            for thread in threads:
                thread.start()
            working = len(threads)
            while working and not self._stop.is_set() and not self._halt.is_set():
                with suppress(queue.Empty):
                    self._ended.get(timeout=self._manner.every_s)
                    working -= 1
                self._progress(downloads)
        except KeyboardInterrupt:
            raise stopped() from None
        finally:
            self._end(threads, downloads)
        if self._failures:
            raise self._failures[0]
        if len(self._paths) < len(downloads):
            raise stopped()
        return self._paths[downloads[0].file.name]

    def _thread(self, waiting: "queue.SimpleQueue[Download]") -> threading.Thread:
        context = copy_context()  # the language is there
        return threading.Thread(target=context.run, args=(self._work, waiting), name="download", daemon=True)

    def _work(self, waiting: "queue.SimpleQueue[Download]") -> None:
        try:
            with suppress(queue.Empty):
                while not self._halt.is_set():
                    download = waiting.get_nowait()
                    self._paths[download.file.name] = self._one(download)
        except BaseException as failure:
            self._failures.append(failure)
            self._halt.set()
        finally:
            self._ended.put(None)

    def _one(self, download: Download) -> Path:
        try:
            return download.run()
        except WireError as error:
            raise explain(error, download.file.name) from error

    def _end(self, threads: list[threading.Thread], downloads: list[Download]) -> None:
        """Stop what still runs. A thread that a server or a name lookup holds ends by itself; it writes no more."""
        self._halt.set()
        for download in downloads:
            download.abort()
        for thread in threads:
            if thread.ident is not None:
                thread.join(_FAREWELL_S)

    def _progress(self, downloads: list[Download]) -> None:
        parts = tuple(PartProgress(download.file.name, download.done, download.size) for download in downloads)
        done, sizes = sum(part.done for part in parts), [part.size for part in parts]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        speed = self._meter.speed(done)
        left = (total - done) / speed if total is not None and speed > 0 else None
        self._report(Progress(parts, done, total, speed, left))

    def _report(self, event: PullEvent) -> None:
        """Tell the listener; one that fails (its pipe is closed) ends the download, whichever thread told it."""
        with self._one_at_a_time:
            try:
                self._listener(event)
            except Exception as failure:
                self._failures.append(failure)
                self._halt.set()
