"""One file, from a source to its place: one program at a time, checked before it gets its name.

`transfer` brings the bytes and `place` says where they go. Nothing that is wrong ever has the file's name, and
nothing that is right is fetched twice.
"""

import errno
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from qwenchat.errors import FileError
from qwenchat.i18n import _
from qwenchat.models.download.destination import Place, Slot
from qwenchat.models.download.part import Part, discard, mistrust_tail
from qwenchat.models.download.progress import Arriving, Checking, Completed, Following, Report, StartedOver
from qwenchat.models.download.retry import Fault, WireError
from qwenchat.models.download.transfer import Patience, Transfer, stopped
from qwenchat.models.sources.source import Location, RemoteFile, Source
from qwenchat.text.safe import human_size

_POLL_S = 0.2
_READ = 1 << 20


def give_up(arrived: Arriving) -> None:
    """Delete what has arrived of a file, for good: call it when the download has ended.

    What another program is bringing stays, and so does what the disk does not let go: it serves the next download.
    """
    slot = arrived.slot
    with suppress(OSError), filelock.FileLock(slot.lock, timeout=0, mode=0o664):
        discard(slot.part)
        if not slot.lock_stays:
            slot.lock.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Terms:
    """What all files of one download share."""

    source: Source
    repo: str
    revision: str
    place: Place
    patience: Patience
    report: Report
    stop: threading.Event
    started: float
    """When this machine did (Unix time)."""
    commit: "Agreed"


class Agreed:
    """The commit that all files of one download are published under: the first that any of them saw.

    A repository can get new commits while a split model comes; its parts have to lie side by side all the same. Sizes
    and hashes that change with a commit end the download (`transfer`).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._commit: str | None = None

    def on(self, commit: str) -> str:
        """Return the commit that counts, which is `commit` where none was seen yet."""
        with self._lock:
            if self._commit is None:
                self._commit = commit
            return self._commit


class Download:
    """One file under way. `run` belongs to one thread; the rest may be read and called from any."""

    def __init__(self, file: RemoteFile, terms: Terms) -> None:
        self.file = file
        self._terms = terms
        self._transfer: Transfer | None = None
        self._part: Part | None = None
        self._seen = 0

    @property
    def done(self) -> int:
        """Bytes on disk."""
        return part.size if (part := self._part) else self._seen

    @property
    def size(self) -> int | None:
        """Of the whole file, None while that is not known."""
        return transfer.size if (transfer := self._transfer) else self.file.size

    def missing(self) -> int:
        """Return the bytes that the disk has to take yet, as far as they are known. Raises FileError."""
        with self._disk():
            if self._terms.place.stored(self.file):
                self._seen = self.file.size or 0
                return 0
            part = self._terms.place.slot(self.file).part
            self._seen = part.stat().st_size if part.exists() else 0
            return max(0, (self.file.size or 0) - self._seen)

    def run(self) -> Path:
        """Bring the file to its place and return its path.

        Raises WireError, Interrupted when stopped, FileError when the disk refuses.
        """
        with self._disk():
            if self._is_there():
                return self._complete(self.file.sha256 or "")
            slot = self._terms.place.slot(self.file)
            with self._alone(slot):
                if self._is_there():  # another program had the lock until now
                    return self._complete(self.file.sha256 or "")
                return self._fetch(slot)

    def abort(self) -> None:
        """Wake up a thread that waits for bytes; set the stop event before."""
        if transfer := self._transfer:
            transfer.abort()

    def _locate(self) -> Location:
        return self._terms.source.locate(self._terms.repo, self._terms.revision, self.file.name)

    def _is_there(self) -> bool:
        """Say whether the right file is in its place. Raises FileError for another file of that name."""
        stored = self._terms.place.stored(self.file)
        if stored is None:
            return False
        right = self.file.size in (None, stored.stat().st_size)
        if self._terms.place.vouches:
            return right
        if not right or self.file.sha256 not in (None, self._digest(stored)):
            raise FileError(
                _("{file} is there already and is not what the download would bring.").format(file=stored),
                _("Move it away, or choose another folder with --to."),
            )
        return True

    def _digest(self, file: Path) -> str:
        self._terms.report(Checking(self.file.name))
        sha256 = hashlib.sha256()
        with file.open("rb", buffering=0) as stream:
            while chunk := stream.read(_READ):
                if self._terms.stop.is_set():
                    raise stopped()
                sha256.update(chunk)
        return sha256.hexdigest()

    @contextmanager
    def _alone(self, slot: Slot) -> Iterator[None]:
        """Hold the file's lock; while another program does, report what it gets done."""
        lock: filelock.BaseFileLock = filelock.FileLock(slot.lock, mode=0o664)
        told = False
        while not lock.is_locked:
            try:
                lock.acquire(timeout=0)
            except NotImplementedError:  # a disk without locks
                lock = filelock.SoftFileLock(slot.lock)
            except filelock.Timeout:
                if not told:
                    self._terms.report(Following(self.file.name))
                    told = True
                self._seen = slot.part.stat().st_size if slot.part.exists() else self._seen
                if self._terms.stop.wait(_POLL_S):
                    raise stopped() from None
        try:
            yield
        finally:
            if not slot.lock_stays:
                with suppress(OSError):
                    slot.lock.unlink()
            lock.release()

    def _fetch(self, slot: Slot) -> Path:
        if damaged := self._terms.place.stored(self.file):
            damaged.replace(slot.part)  # too short or too long for its name: what there is may serve yet
        mistrust_tail(slot.part, self._terms.started)
        self._terms.report(Arriving(self.file.name, slot.part, slot))
        while True:
            transfer = self._transfer = self._new_transfer()
            digest = self._filled(transfer, slot)
            if self.file.sha256 in (None, digest):
                self._terms.place.finish(self.file, slot.part, digest)
                discard(slot.part)
                return self._complete(digest, transfer.commit)
            discard(slot.part)
            if not transfer.kept:
                raise WireError(Fault.WRONG_HASH, self._terms.source.name)
            self._terms.report(StartedOver(self.file.name))  # what an earlier run left may have been the wrong half

    def _new_transfer(self) -> Transfer:
        terms = self._terms
        return Transfer(self.file, self._locate, patience=terms.patience, report=terms.report, stop=terms.stop)

    def _filled(self, transfer: Transfer, slot: Slot) -> str:
        part = self._part = Part(slot.part)
        try:
            return transfer.run(part)
        finally:
            self._seen, self._part = part.size, None
            part.close()
            if not part.size and transfer.size:
                discard(slot.part)

    def _complete(self, sha256: str, commit: str = "") -> Path:
        commit = self._terms.commit.on(commit or self._locate().commit)
        path = self._terms.place.publish(self.file, sha256, commit, self._terms.revision)
        self._seen = path.stat().st_size
        self._terms.report(Completed(self.file.name, path, self.file.sha256 is not None))
        return path

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Turn what the disk refuses into words."""
        try:
            yield
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> FileError:
        name, folder = self.file.name, self._terms.place.root
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            missing = human_size(max(0, (self.size or 0) - self.done))
            return FileError(
                _("The disk is full: {missing} of {name} are missing yet.").format(missing=missing, name=name),
                _("What has arrived is kept. Make room, then run the same command again."),
            )
        if error.errno == errno.EFBIG:
            return FileError(
                _("The disk below {folder} can't hold a file as large as {name}.").format(folder=folder, name=name),
                _("FAT32 ends at 4 GB: choose another disk with --to, or format it as exFAT."),
            )
        return FileError(
            _("{name} can't be written below {folder}: {reason}.").format(
                name=name, folder=folder, reason=error.strerror or error
            ),
            _("Make the folder writable, or choose another with --to or the setting hub.folder."),
        )
