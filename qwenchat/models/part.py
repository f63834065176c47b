"""The part of a file that has arrived: appended to, hashed as it grows, and taken up again by a later run.

What lies here never has the file's name. Whoever opens a part holds its lock.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from qwenchat.models.checksum import SYNC_EVERY, RunningHash


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
