"""The sha256 of a file that is still being written, in a thread that follows its writer.

Reading back what was written, rather than hashing what passes by, makes a resumed download and a fresh one the
same case, hashes what the disk holds, and keeps memory at one buffer. It also asks the disk to keep what was
written every now and then, so that a machine that stops loses little (`SYNC_EVERY`).
"""

import hashlib
import io
import os
import threading
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
