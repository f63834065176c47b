"""Locks that are released when their program ends, even if it is killed.

A session is locked while an answer streams into it; a program with waiting questions in the outbox also holds a lock.
Nothing is read from the database here.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from qwenchat.chat.memory import session_busy
from qwenchat.errors import FileError, StoreError
from qwenchat.i18n import _, reason_of
from qwenchat.paths import private_folder
from qwenchat.text.safe import safe_name


class SessionLocks:
    """Locks as files in a folder. A file exists while its lock is held, and remains if its holder is killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self, prefix: str) -> list[str]:
        """Return the names of all lock files that begin with `prefix`, held or not."""
        return [file.stem for file in self._folder.glob(f"{prefix}*.lock")]

    @contextmanager
    def hold(self, session_id: str) -> Iterator[None]:
        """Hold the lock of a session. Raises StoreError if it is already held, here or by another program."""
        with self.hold_if_free(session_id) as held:
            if not held:
                raise session_busy()
            yield

    @contextmanager
    def hold_if_free(self, name: str) -> Iterator[bool]:
        """Hold a lock unless it is already held; yield whether it was acquired."""
        lock = FileLock(
            self._folder / f"{safe_name(name)}.lock",
            blocking=False,
            mode=0o600,
            thread_local=False,
            fallback_to_soft=False,  # a soft lock would outlive its holder
        )
        try:
            private_folder(self._folder)
            lock.acquire()
        except Timeout:
            yield False
            return
        except FileError as error:
            raise StoreError(error.message, error.hint, recoveries=error.recoveries) from error
        except OSError as error:
            raise StoreError(
                _("The session can't be locked: {reason}.").format(reason=reason_of(error)),
                _("Make {folder} writable.").format(folder=self._folder),
            ) from error
        try:
            yield True
        finally:
            # Another program that has just opened the file notices that it was deleted, and opens a new one.
            with suppress(OSError):  # Windows can't delete an open file; then it stays
                Path(lock.lock_file).unlink()
            lock.release()
