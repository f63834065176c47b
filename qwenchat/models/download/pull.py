"""Downloads a model: lists and selects its files, checks disk space, then downloads, verifies and renames each file.

`pull` is the only entry point for command line and screen. It blocks, so it is run in a thread. Stopping it preserves
the part files, and calling it again resumes them; pausing needs nothing else. Each file is downloaded under its lock,
by one program at a time, and renamed to its final name only after its sha256 was checked. `transfer` receives bytes.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from qwenchat.errors import FileError, Recovery, RecoveryKind
from qwenchat.files import free_bytes, sha256_of
from qwenchat.i18n import _
from qwenchat.models.download.destination import Destination, PartFilePaths
from qwenchat.models.download.http import Timeouts
from qwenchat.models.download.part import PartFile, delete, locked, truncate_unsynced_tail
from qwenchat.models.download.plan import DownloadPlan, select_files
from qwenchat.models.download.progress import (
    Checking,
    CopyFound,
    DownloadProgress,
    FileCompleted,
    PartFileOpened,
    PartProgress,
    PullEvent,
    Report,
    SpeedMeter,
    StartedOver,
    WaitingForOther,
)
from qwenchat.models.download.retry import (
    Attempts,
    RetryPolicy,
    SourceError,
    SourceFault,
    explain,
    explain_disk_error,
    interrupted,
    offline,
)
from qwenchat.models.download.transfer import Transfer
from qwenchat.models.fit import DISK_RESERVE, disk_missing
from qwenchat.models.library import Library
from qwenchat.models.sources.source import Location, RemoteFile, Source
from qwenchat.text.safe import human_size

_JOIN_TIMEOUT_S = 2.0
_LOCK_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """Options of a download, mostly for tests."""

    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    timeouts: Timeouts = field(default_factory=Timeouts)
    files_at_once: int = 3
    """Parts of a split model that are downloaded in parallel."""
    report_every_s: float = 0.25
    """Seconds between two progress reports."""
    free_bytes: Callable[[Path], int] = free_bytes
    boot_time: Callable[[], float] = psutil.boot_time
    """When this machine started (Unix time)."""


def pull(
    plan: DownloadPlan,
    report: Report,
    stop: threading.Event,
    *,
    library: Library | None = None,
    options: PullOptions | None = None,
) -> Path:
    """Download a model and return the path of its file, or of its first part.

    A copy that `library` finds is used from where it is, if the plan allows it. `report` is called from several
    threads, one at a time. Raises NotFound, NetworkError, FileError, and Interrupted after `stop` was set.
    """
    if plan.source is None:
        return _local_file(plan, library)
    return _ModelPull(plan, plan.source, library, options or PullOptions(), report=report, stop=stop).run()


def _local_file(plan: DownloadPlan, library: Library | None) -> Path:
    """Return the model's file on this machine, because no connection may be opened. Raises NetworkError."""
    path = library.find(plan.reference) if library and plan.reference else None
    if path is None:
        raise offline(str(plan.reference or plan.selection.repo))
    return path


def existing_copy(library: Library, file: RemoteFile, report: Report, stop: threading.Event) -> Path | None:
    """Return the path of an identical file on this machine, whichever program downloaded it; None if there is none.

    Raises Interrupted when stopped.
    """
    if not file.sha256:
        return None

    def compute_sha256(path: Path) -> str:
        report(Checking(file.name))
        return _sha256_unless_stopped(path, stop)

    return library.find_copy(file.size, file.sha256, compute_sha256)


def _sha256_unless_stopped(path: Path, stop: threading.Event) -> str:
    def raise_if_stopped(_chunk: memoryview) -> None:
        if stop.is_set():
            raise interrupted()

    return sha256_of(path, raise_if_stopped)


class _ModelPull:
    """The download of one model: its files are downloaded in parallel threads, and their progress is added up."""

    def __init__(
        self,
        plan: DownloadPlan,
        source: Source,
        library: Library | None,
        options: PullOptions,
        *,
        report: Report,
        stop: threading.Event,
    ) -> None:
        self._plan, self._source, self._library, self._options = plan, source, library, options
        self._stop = stop
        self._halt = threading.Event()
        """Ends the threads: set when the download is stopped or when one of its files fails."""
        self._meter = SpeedMeter()
        self._report_lock = threading.Lock()
        self._listener = report
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._failures: list[BaseException] = []
        self._paths: dict[str, Path] = {}

    def run(self) -> Path:
        selection = self._plan.selection
        try:
            files = select_files(self._listed_files(), selection, self._source.name)
            if copy := self._existing_copy(files):
                return copy
            shared = _Shared(
                plan=self._plan,
                source=self._source,
                options=self._options,
                report=self._report,
                stop=self._halt,
                commit=_CommonCommit(),
            )
            pulls = [_FilePull(file, shared) for file in files]
            self._check_disk_space(sum(pull.missing() for pull in pulls))
            return self._pull_all(pulls)
        except SourceError as error:
            raise explain(error, selection.file or selection.repo) from error

    def _listed_files(self) -> list[RemoteFile]:
        repo, revision = self._plan.selection.repo, self._plan.selection.revision
        attempts = Attempts(self._options.retry_policy, repo, self._report, self._stop)
        while True:
            try:
                return self._source.files(repo, revision)
            except SourceError as error:
                attempts.wait_after(error)

    def _existing_copy(self, files: list[RemoteFile]) -> Path | None:
        if len(files) != 1 or self._library is None or not self._plan.may_use_copy:
            return None
        copy = existing_copy(self._library, files[0], self._report, self._stop)
        if copy:
            self._report(CopyFound(files[0].name, copy))
        return copy

    def _check_disk_space(self, needed: int) -> None:
        folder = self._plan.destination.root
        free = self._options.free_bytes(folder)
        lacking = disk_missing(needed, free)
        if needed and lacking:
            raise FileError(
                _(
                    "The download needs {needed} and must leave {spare} free, but the disk of {folder} has only {free}."
                ).format(
                    needed=human_size(needed), spare=human_size(DISK_RESERVE), folder=folder, free=human_size(free)
                ),
                _("Free {lacking}.").format(lacking=human_size(lacking)),
                recoveries=(Recovery(RecoveryKind.OTHER_FOLDER),),
            )

    def _pull_all(self, pulls: "list[_FilePull]") -> Path:
        """Download the files in a few threads, and report progress until all have ended."""
        waiting: queue.SimpleQueue[_FilePull] = queue.SimpleQueue()
        for pull in pulls:
            waiting.put(pull)
        threads = [self._thread(waiting) for _number in range(min(self._options.files_at_once, len(pulls)))]
        try:
            for thread in threads:
                thread.start()
            running = len(threads)
            while running and not self._stop.is_set() and not self._halt.is_set():
                with suppress(queue.Empty):
                    self._ended.get(timeout=self._options.report_every_s)
                    running -= 1
                self._report_progress(pulls)
        except KeyboardInterrupt:
            raise interrupted() from None
        finally:
            self._end(threads, pulls)
        if self._failures:
            raise self._failures[0]
        if len(self._paths) < len(pulls):
            raise interrupted()
        return self._paths[pulls[0].file.name]

    def _thread(self, waiting: "queue.SimpleQueue[_FilePull]") -> threading.Thread:
        context = copy_context()  # contains the language
        return threading.Thread(target=context.run, args=(self._pull_waiting, waiting), name="download", daemon=True)

    def _pull_waiting(self, waiting: "queue.SimpleQueue[_FilePull]") -> None:
        try:
            with suppress(queue.Empty):
                while not self._halt.is_set():
                    pull = waiting.get_nowait()
                    self._paths[pull.file.name] = pull.run()
        except SourceError as error:
            self._fail(explain(error, pull.file.name))
        except BaseException as failure:
            self._fail(failure)
        finally:
            self._ended.put(None)

    def _fail(self, failure: BaseException) -> None:
        self._failures.append(failure)
        self._halt.set()

    def _end(self, threads: list[threading.Thread], pulls: "list[_FilePull]") -> None:
        """Stop all threads. A thread that still waits for a server or a name lookup ends later and writes nothing."""
        self._halt.set()
        for pull in pulls:
            pull.abort()
        for thread in threads:
            if thread.ident is not None:
                thread.join(_JOIN_TIMEOUT_S)

    def _report_progress(self, pulls: "list[_FilePull]") -> None:
        parts = tuple(PartProgress(pull.file.name, pull.done, pull.size) for pull in pulls)
        done, sizes = sum(part.done for part in parts), [part.size for part in parts]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        speed = self._meter.speed(done)
        left = (total - done) / speed if total is not None and speed > 0 else None
        self._report(DownloadProgress(parts, done, total, bytes_per_second=speed, seconds_left=left))

    def _report(self, event: PullEvent) -> None:
        """Call the listener. If it fails, for instance because of a closed pipe, the whole download ends."""
        with self._report_lock:
            try:
                self._listener(event)
            except Exception as failure:
                self._fail(failure)


class _CommonCommit:
    """The commit under which all files of one download are published: the first one that any of them reports.

    A repository can get new commits during a download, but the parts of a split model must be in the same folder. If a
    commit changes a size or a sha256, the download fails (`transfer`).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._commit: str | None = None

    def agree(self, commit: str) -> str:
        """Return the common commit, which becomes `commit` if there is none yet."""
        with self._lock:
            if self._commit is None:
                self._commit = commit
            return self._commit


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """Values that all files of one download share."""

    plan: DownloadPlan
    source: Source
    options: PullOptions
    report: Report
    stop: threading.Event
    commit: _CommonCommit


class _FilePull:
    """The download of one file: locked, transferred, verified, renamed. `run` belongs to one thread."""

    def __init__(self, file: RemoteFile, shared: _Shared) -> None:
        self.file = file
        self._shared = shared
        self._transfer: Transfer | None = None
        self._part_file: PartFile | None = None
        self._size_on_disk = 0
        """Bytes, while no part file is open."""

    @property
    def done(self) -> int:
        """Bytes on disk; safe to read from any thread."""
        return part_file.size if (part_file := self._part_file) else self._size_on_disk

    @property
    def size(self) -> int | None:
        """Bytes of the complete file, None while unknown; safe to read from any thread."""
        return transfer.size if (transfer := self._transfer) else self.file.size

    def missing(self) -> int:
        """Return the bytes that still have to be downloaded, as far as known. Raises FileError."""
        with self._disk_errors():
            if self._destination.stored(self.file):
                self._size_on_disk = self.file.size or 0
                return 0
            self._size_on_disk = _size(self._destination.part_file_paths(self.file).part_file)
            return max(0, (self.file.size or 0) - self._size_on_disk)

    def run(self) -> Path:
        """Download the file and return its path.

        Raises SourceError, Interrupted when stopped, and FileError if the file can't be written.
        """
        with self._disk_errors():
            if self._is_complete():
                return self._publish(self.file.sha256 or "")
            paths = self._destination.part_file_paths(self.file)
            with locked(paths, self._waiting_for(paths)):
                if self._is_complete():  # another program had the lock until now
                    return self._publish(self.file.sha256 or "")
                return self._download(paths)

    def abort(self) -> None:
        """Wake up the thread if it waits for bytes; set the stop event first. May be called from any thread."""
        if transfer := self._transfer:
            transfer.abort()

    @property
    def _destination(self) -> Destination:
        return self._shared.plan.destination

    def _locate(self) -> Location:
        selection = self._shared.plan.selection
        return self._shared.source.locate(selection.repo, selection.revision, self.file.name)

    def _is_complete(self) -> bool:
        """Return whether the right file already exists under its name. Raises FileError for a different file."""
        stored = self._destination.stored(self.file)
        if stored is None:
            return False
        is_right_size = self.file.size in (None, stored.stat().st_size)
        if self._destination.holds_verified_files:
            return is_right_size
        if not is_right_size or self.file.sha256 not in (None, self._hashed(stored)):
            raise FileError(
                _("{file} already exists and is a different file.").format(file=stored),
                _("Move it away."),
                recoveries=(Recovery(RecoveryKind.OTHER_FOLDER),),
            )
        return True

    def _hashed(self, file: Path) -> str:
        self._shared.report(Checking(self.file.name))
        return _sha256_unless_stopped(file, self._shared.stop)

    def _waiting_for(self, paths: PartFilePaths) -> Callable[[], None]:
        """Return the function to call while another program holds the lock; it reports that program's progress."""
        is_reported = False

        def wait() -> None:
            nonlocal is_reported
            if not is_reported:
                self._shared.report(WaitingForOther(self.file.name))
                is_reported = True
            self._size_on_disk = _size(paths.part_file) or self._size_on_disk
            if self._shared.stop.wait(_LOCK_POLL_S):
                raise interrupted()

        return wait

    def _download(self, paths: PartFilePaths) -> Path:
        part_file, report = paths.part_file, self._shared.report
        if wrong_size := self._destination.stored(self.file):
            wrong_size.replace(part_file)  # it may be incomplete: then it is resumed
        truncate_unsynced_tail(part_file, self._shared.options.boot_time())
        report(PartFileOpened(self.file.name, part_file, paths))
        while True:
            transfer = self._transfer = self._new_transfer()
            sha256 = self._fill(part_file, transfer)
            if self.file.sha256 in (None, sha256):
                self._destination.store(self.file, part_file, sha256)
                delete(part_file)
                return self._publish(sha256, transfer.commit)
            delete(part_file)
            if not transfer.resumed:
                raise SourceError(SourceFault.WRONG_HASH, self._shared.source.name)
            report(StartedOver(self.file.name))  # the bytes of the earlier run may have been wrong

    def _new_transfer(self) -> Transfer:
        shared, options = self._shared, self._shared.options
        return Transfer(
            self.file,
            self._locate,
            retry_policy=options.retry_policy,
            timeouts=options.timeouts,
            report=shared.report,
            stop=shared.stop,
        )

    def _fill(self, path: Path, transfer: Transfer) -> str:
        part_file = self._part_file = PartFile(path)
        try:
            return transfer.run(part_file)
        finally:
            self._size_on_disk, self._part_file = part_file.size, None
            part_file.close()
            if not part_file.size and transfer.size:
                delete(path)

    def _publish(self, sha256: str, commit: str = "") -> Path:
        commit = self._shared.commit.agree(commit or self._locate().commit)
        path = self._destination.publish(self.file, sha256, commit, self._shared.plan.selection.revision)
        self._size_on_disk = path.stat().st_size
        self._shared.report(FileCompleted(self.file.name, path, verified=self.file.sha256 is not None))
        return path

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Turn each OSError into a FileError that explains it."""
        try:
            yield
        except OSError as error:
            folder, missing = self._destination.root, max(0, (self.size or 0) - self.done)
            raise explain_disk_error(error, self.file.name, folder, missing) from error


def _size(file: Path) -> int:
    """Return the bytes of a file, 0 if there is none."""
    return file.stat().st_size if file.exists() else 0
