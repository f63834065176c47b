"""The part of a file that has arrived: appended to, hashed as it grows, and taken up again by a later run.

What lies here never has the file's name. Whoever opens a part holds its lock.

The sha256 of a file that is still being written, in a thread that follows its writer.

Reading back what was written, rather than hashing what passes by, makes a resumed download and a fresh one the
same case, hashes what the disk holds, and keeps memory at one buffer. It also asks the disk to keep what was
written every now and then, so that a machine that stops loses little (`SYNC_EVERY`).
"""

import hashlib
import io
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SYNC_EVERY = 64 << 20
"""Bytes between two fsyncs."""
_BUFFER = 1 << 18
"""Small enough to stay in a core's cache between the copy and the hash."""


class RunningHash:
    """Follows one file. Made and used by one thread; `close` ends the follower."""

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
        """Say that the file's first `written` bytes are there."""
        with self._changed:
            self._written = written
            self._changed.notify_all()

    def restart(self) -> None:
        """Say that the file is empty again."""
        with self._changed:
            self._written = self._hashed = 0
            self._sha256 = hashlib.sha256()

    def caught_up(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` and say whether all that was written is hashed. Raises OSError as reading did."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._failure or self._hashed == self._written, timeout_s)
            if self._failure:
                raise self._failure
            return bool(done)

    def hexdigest(self) -> str:
        """Return the digest; call it when it has caught up."""
        return self._sha256.hexdigest()

    def close(self) -> None:
        """End the follower."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _follow(self) -> None:
        try:
            with self._file.open("r+b", buffering=0) as file:
                self._read_along(file)
        except OSError as failure:
            with self._changed:
                self._failure = failure
                self._changed.notify_all()

    def _read_along(self, file: io.FileIO) -> None:
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
                if sha256 is self._sha256:  # else it was restarted meanwhile, and these bytes count for nothing
                    self._hashed += count
                    self._changed.notify_all()
            unsynced += count
            if unsynced >= SYNC_EVERY:
                os.fsync(file.fileno())
                unsynced = 0


class Part:
    """One part on disk. Every method raises OSError as the disk does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        self.size = os.lseek(self._descriptor, 0, os.SEEK_END)
        """Bytes."""
        self._hash = RunningHash(path)
        self._hash.grow(self.size)

    def append(self, chunk: bytes) -> None:
        """Add bytes; if the disk fills up, `size` tells how many of them it took."""
        rest = memoryview(chunk)
        try:
            while rest:
                count = os.write(self._descriptor, rest)
                self.size += count
                rest = rest[count:]
        finally:
            self._hash.grow(self.size)

    def clear(self) -> None:
        """Drop all that has arrived."""
        self._hash.restart()
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.size = 0
        self.keep_validator("")

    def sync(self) -> None:
        """Have the disk keep everything."""
        os.fsync(self._descriptor)

    def sha256(self, waiting: Callable[[], None]) -> str:
        """Return the digest of it all; `waiting` is called a few times a second until it is known, and may raise."""
        while not self._hash.caught_up(0.2):
            waiting()
        return self._hash.hexdigest()

    def validator(self) -> str:
        """Return what `If-Range` takes for these bytes, empty if that is not known."""
        with suppress(OSError, UnicodeDecodeError):
            return _mark(self.path).read_text("latin-1").strip()
        return ""

    def keep_validator(self, validator: str) -> None:
        """Remember it for a later run; empty forgets it."""
        if validator:
            _mark(self.path).write_text(validator, "latin-1")
        else:
            _mark(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the part as it is."""
        self._hash.close()
        os.close(self._descriptor)


def discard(path: Path) -> None:
    """Delete a part and what belongs to it."""
    path.unlink(missing_ok=True)
    _mark(path).unlink(missing_ok=True)


def mistrust_tail(path: Path, started: float) -> None:
    """Cut off what a machine that stopped may not have written: call it with the time (Unix) it started at.

    A file may have its full length after a crash and zeros at its end; what is older than two syncs was kept.
    """
    with suppress(FileNotFoundError):
        state = path.stat()
        if state.st_mtime < started:
            os.truncate(path, max(0, state.st_size - 2 * SYNC_EVERY))


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.etag")
