"""The part file: what has arrived of a file, locked, appended to, hashed while it grows, and resumed by a later run.

A part file never has the name of the finished file, and whoever opens one holds its lock. Nothing here knows where
the bytes come from or whether they are the right ones.
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
    """Hold the lock of a part file. While another program holds it, `wait` is called in a loop; it may raise to stop.

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
    """Delete the part file of a download that the user gave up; call it when the download has ended.

    A part file that another program is filling stays, and so does one that the disk does not delete: the next download
    of the file resumes it.
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
    """Cut off what a machine that stopped may not have written to the disk; `boot_time` is when it started (Unix).

    After a crash a file may have its full length and zeros at its end. What is older than two syncs was written.
    """
    with suppress(FileNotFoundError):
        state = part_file.stat()
        if state.st_mtime < boot_time:
            os.truncate(part_file, max(0, state.st_size - 2 * SYNC_EVERY))


class PartFile:
    """One open part file. Every method raises OSError as the disk does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        self.size = os.lseek(self._descriptor, 0, os.SEEK_END)
        """Bytes."""
        self._hash = RunningHash(path)
        self._hash.grow(self.size)

    def append(self, chunk: bytes) -> None:
        """Append bytes. When the disk is full, `size` counts those that were written."""
        rest = memoryview(chunk)
        try:
            while rest:
                count = os.write(self._descriptor, rest)
                self.size += count
                rest = rest[count:]
        finally:
            self._hash.grow(self.size)

    def clear(self) -> None:
        """Drop all bytes."""
        self._hash.restart()
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.size = 0
        self.save_validator("")

    def sync(self) -> None:
        """Wait until the disk has everything."""
        os.fsync(self._descriptor)

    def sha256(self, while_waiting: Callable[[], None]) -> str:
        """Return the sha256 of all bytes; `while_waiting` is called a few times a second, and may raise to stop."""
        while not self._hash.caught_up(0.2):
            while_waiting()
        return self._hash.hexdigest()

    def validator(self) -> str:
        """Return what `If-Range` takes for these bytes; empty if that is not known."""
        with suppress(OSError, UnicodeDecodeError):
            return _validator_file(self.path).read_text("latin-1").strip()
        return ""

    def save_validator(self, validator: str) -> None:
        """Save it for a later run; empty deletes it."""
        if validator:
            _validator_file(self.path).write_text(validator, "latin-1")
        else:
            _validator_file(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file and leave it as it is."""
        self._hash.close()
        os.close(self._descriptor)


class RunningHash:
    """The sha256 of a file that is still being written, computed in a thread that follows the writer.

    It reads back what was written, rather than hashing what passes by: then a resumed download and a fresh one are the
    same case, the hash is of what the disk holds, and memory stays at one buffer. It also syncs the file every
    `SYNC_EVERY` bytes, so that little is lost when the machine stops. Made and used by one thread.
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
        """Note that the first `written` bytes of the file are there."""
        with self._changed:
            self._written = written
            self._changed.notify_all()

    def restart(self) -> None:
        """Note that the file is empty again."""
        with self._changed:
            self._written = self._hashed = 0
            self._sha256 = hashlib.sha256()

    def caught_up(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` and return whether all that was written is hashed. Raises OSError as reading did."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._failure or self._hashed == self._written, timeout_s)
            if self._failure:
                raise self._failure
            return bool(done)

    def hexdigest(self) -> str:
        """Return the digest; call it when the hash has caught up."""
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
                self._hash_what_is_written(file)
        except OSError as failure:
            with self._changed:
                self._failure = failure
                self._changed.notify_all()

    def _hash_what_is_written(self, file: io.FileIO) -> None:
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
                if sha256 is self._sha256:  # otherwise it was restarted meanwhile, and these bytes do not count
                    self._hashed += count
                    self._changed.notify_all()
            unsynced += count
            if unsynced >= SYNC_EVERY:
                os.fsync(file.fileno())
                unsynced = 0


def _validator_file(part_file: Path) -> Path:
    return part_file.with_name(f"{part_file.name}.etag")
