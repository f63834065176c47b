"""One lock a session, held while an answer streams into it. The system frees it when its holder dies, however."""

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
    """Locks as files in a folder; a file is there only while its session is held, or after its holder was killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def hold(self, session_id: str) -> Iterator[None]:
        """Hold a session. Raises StoreError when it is held already, here or by another program."""
        with self.hold_if_free(session_id) as held:
            if not held:
                raise session_busy()
            yield

    @contextmanager
    def hold_if_free(self, session_id: str) -> Iterator[bool]:
        """Hold a session unless it is held; the value says whether."""
        lock = FileLock(
            self._folder / f"{safe_name(session_id)}.lock",
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
