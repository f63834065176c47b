"""Locks that end with the program that holds them, however it ends: one a session, while an answer streams into it.

A program whose questions wait in the outbox holds one, too. Nothing is read from the database here.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from qwenchat.chat.memory import session_busy
from qwenchat.errors import FileError, StoreError
from qwenchat.i18n import _
from qwenchat.paths import private_folder
from qwenchat.text.safe import safe_name


class SessionLocks:
    """Locks as files in a folder; a file is there only while its lock is held, or after its holder was killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self, prefix: str) -> list[str]:
        """Return the names of the files of locks, held or not, that begin with `prefix`."""
        return [file.stem for file in self._folder.glob(f"{prefix}*.lock")]

    @contextmanager
    def hold(self, session_id: str) -> Iterator[None]:
        """Hold the lock of a session. Raises StoreError when it is held already, here or by another program."""
        with self.hold_if_free(session_id) as held:
            if not held:
                raise session_busy()
            yield

    @contextmanager
    def hold_if_free(self, name: str) -> Iterator[bool]:
        """Hold a lock unless it is held already; the value says whether."""
        lock = FileLock(
            self._folder / f"{safe_name(name)}.lock",
            blocking=False,
            mode=0o600,
            thread_local=False,
            fallback_to_soft=False,  # a mere file would outlive its holder
        )
        try:
            private_folder(self._folder)
            lock.acquire()
        except Timeout:
            yield False
            return
        except FileError as error:
            raise StoreError(error.message, error.hint) from error
        except OSError as error:
            raise StoreError(
                _("The session can't be locked: {reason}.").format(reason=error.strerror or error),
                _("Make {folder} writable.").format(folder=self._folder),
            ) from error
        try:
            yield True
        finally:
            # Whoever opened the file before it went sees that it has no name any more, and opens a new one.
            with suppress(OSError):  # Windows lets no open file go; then it stays
                Path(lock.lock_file).unlink()
            lock.release()
