"""Part files: the bytes of an unfinished download, locked, hashed while they are appended, and resumed by a later run.

A part file never has the name of the finished file, and is opened only under its lock. Nothing here knows where the
bytes come from or whether they are correct.
"""

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from qwenchat.models.download.destination import PartFilePaths

SYNC_EVERY = 64 << 20
"""Bytes between two fsyncs."""
_BUFFER = 1 << 18
"""Bytes: small enough to stay in a core's cache between the copy and the hash."""


@contextmanager
def locked(paths: PartFilePaths, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a part file. While another program holds it, `wait` is called repeatedly; it may raise to stop.

    Raises OSError.
    """
    lock: filelock.BaseFileLock = filelock.FileLock(paths.lock, mode=0o664)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0)
        except NotImplementedError:  # a disk without locks
            lock = filelock.SoftFileLock(paths.lock)
        except filelock.Timeout:
            wait()
    try:
        yield
    finally:
        if not paths.lock_stays:
            with suppress(OSError):
                paths.lock.unlink()
        lock.release()


def delete_unfinished(paths: PartFilePaths) -> None:
    """Delete the part file of a download that the user has cancelled; call it after the download has ended.

    A part file that another program is filling is not deleted. A part file that can't be deleted is resumed by the next
    download of the file.
    """
    with suppress(OSError), filelock.FileLock(paths.lock, timeout=0, mode=0o664):
        delete(paths.part_file)
        if not paths.lock_stays:
            paths.lock.unlink(missing_ok=True)


def delete(part_file: Path) -> None:
    """Delete a part file and its validator."""
    part_file.unlink(missing_ok=True)
    _validator_file(part_file).unlink(missing_ok=True)


def truncate_unsynced_tail(part_file: Path, boot_time: float) -> None:
    """Cut off bytes that may be lost because the machine stopped; `boot_time` is its last start (Unix time).

    After a crash, a file may have its full length and zeros at its end. Everything before the last two syncs is safe.
    """
    with suppress(FileNotFoundError):
        state = part_file.stat()
        if state.st_mtime < boot_time:
            os.truncate(part_file, max(0, state.st_size - 2 * SYNC_EVERY))


class PartFile:
    """One open part file. Every method may raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        self.size = os.lseek(self._descriptor, 0, os.SEEK_END)
        """Bytes."""
        self._hash = RunningHash(path)
        self._hash.grow(self.size)

    def append(self, chunk: bytes) -> None:
        """Append bytes. If the disk is full, `size` counts those that were written."""
        rest = memoryview(chunk)
        try:
            while rest:
                count = os.write(self._descriptor, rest)
                self.size += count
                rest = rest[count:]
        finally:
            self._hash.grow(self.size)

    def clear(self) -> None:
        """Delete all bytes."""
        self._hash.restart()
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.size = 0
        self.save_validator("")

    def sync(self) -> None:
        """Wait until all bytes are on the disk."""
        os.fsync(self._descriptor)

    def sha256(self, while_waiting: Callable[[], None]) -> str:
        """Return the sha256 of all bytes; `while_waiting` is called a few times per second and may raise to stop."""
        while not self._hash.caught_up(0.2):
            while_waiting()
        return self._hash.hexdigest()

    def validator(self) -> str:
        """Return the `If-Range` value for these bytes; empty if it is not known."""
        with suppress(OSError, UnicodeDecodeError):
            return _validator_file(self.path).read_text("latin-1").strip()
        return ""

    def save_validator(self, validator: str) -> None:
        """Save the `If-Range` value for a later run; an empty one deletes it."""
        if validator:
            _validator_file(self.path).write_text(validator, "latin-1")
        else:
            _validator_file(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file without deleting it."""
        self._hash.close()
        os.close(self._descriptor)


class RunningHash:
    """The sha256 of a file that is still being written, computed in a thread that follows the writer.

    It reads the file instead of hashing the bytes while they arrive. So a resumed download needs no special case, the
    hash covers the bytes on the disk, and memory stays at one buffer. It also syncs the file every `SYNC_EVERY` bytes,
    so that little is lost when the machine stops. Only one thread may create and use it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._changed = threading.Condition()
        self._written = self._hashed = 0
        self._sha256 = hashlib.sha256()
        self._closed = False
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._follow, name="sha256", daemon=True)
        self._thread.start()

    def grow(self, written: int) -> None:
        """Tell the hash thread that the file has grown to `written` bytes."""
        with self._changed:
            self._written = written
            self._changed.notify_all()

    def restart(self) -> None:
        """Start over, because the file is empty again."""
        with self._changed:
            self._written = self._hashed = 0
            self._sha256 = hashlib.sha256()

    def caught_up(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` and return whether all written bytes are hashed. Raises OSError if reading failed."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._failure or self._hashed == self._written, timeout_s)
            if self._failure:
                raise self._failure
            return bool(done)

    def hexdigest(self) -> str:
        """Return the digest; valid only after `caught_up` returned True."""
        return self._sha256.hexdigest()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _follow(self) -> None:
        try:
            with self._file.open("r+b", buffering=0) as file:
                self._hash_written_bytes(file)
        except OSError as failure:
            with self._changed:
                self._failure = failure
                self._changed.notify_all()

    def _hash_written_bytes(self, file: io.FileIO) -> None:
        buffer = memoryview(bytearray(_BUFFER))
        unsynced = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._written > self._hashed)
                if self._closed:
                    return
                sha256, start, ready = self._sha256, self._hashed, self._written - self._hashed
            file.seek(start)
            count = file.readinto(buffer[: min(ready, _BUFFER)])
            sha256.update(buffer[:count])
            with self._changed:
                if sha256 is self._sha256:  # otherwise the hash was restarted, and these bytes do not count
                    self._hashed += count
                    self._changed.notify_all()
            unsynced += count
            if unsynced >= SYNC_EVERY:
                os.fsync(file.fileno())
                unsynced = 0


def _validator_file(part_file: Path) -> Path:
    return part_file.with_name(f"{part_file.name}.etag")
