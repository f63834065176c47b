"""The database file: opens it, runs transactions on it, and explains every failure.

All use of `sqlite3` goes through `read` and `write`, so that a full disk and a busy or damaged file become a StoreError
wherever they occur. Nothing here knows about sessions and messages.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qwenchat.errors import FileError, Recovery, RecoveryKind, StoreDamaged, StoreError
from qwenchat.i18n import _, reason_of
from qwenchat.paths import private_folder
from qwenchat.storage.read_only import ReadableFile, can_write, cannot_be_saved
from qwenchat.text.words import index_text

BUSY_S = 30.0
"""Seconds that a writer waits for another one before it fails; a large import is one long transaction."""

_EMPTY_LOG_S = 1.0
"""Seconds to wait for other programs before the write-ahead log is left as it is."""


_IN_MEMORY = ":memory:"


class Database:
    """Connections to one file, safe from any thread: many readers, one writer at a time.

    A connection serves one `with` block at a time and is reused by the next. Every method raises StoreError.
    """

    def __init__(self, file: Path, busy_s: float = BUSY_S) -> None:
        self.file = file
        self._readable = None if can_write(file) else _readable(file)
        self._busy_s = busy_s
        self._idle: list[sqlite3.Connection] = []
        self._writing = threading.Lock()
        self._own = threading.local()

    @property
    def is_read_only(self) -> bool:
        """Whether the file can't be written, so that `write` fails."""
        return self._readable is not None

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Read a consistent state of the database; inside `write`, including the changes made there."""
        if own := self._of_this_thread():
            yield own
            return
        with explained(self.file), self._borrowed() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Commit all changes of the block to disk or, if it raises, none of them.

        A nested block of the same thread is part of the outer one.
        """
        if own := self._of_this_thread():
            yield own
            return
        if self._readable:
            raise cannot_be_saved(self.file)
        if not self._writing.acquire(timeout=self._busy_s):
            raise _busy(self.file)
        try:
            with explained(self.file), self._borrowed() as connection:
                connection.execute("BEGIN IMMEDIATE")
                self._own.connection = connection
                yield connection
                connection.execute("COMMIT")
        finally:
            self._own.connection = None
            self._writing.release()

    def empty_log(self) -> None:
        """Move all changes from the write-ahead log into the file, unless another program is reading old ones.

        The log then holds no deleted content any more. Not for use inside `write`.
        """
        with explained(self.file):
            connection = connect(self.file, _EMPTY_LOG_S)
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()

    def close(self) -> None:
        """Close the idle connections. May be called twice."""
        while self._idle:
            self._idle.pop().close()
        if self._readable:
            self._readable.close()

    def _of_this_thread(self) -> sqlite3.Connection | None:
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        return connection

    @contextmanager
    def _borrowed(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect(self._readable.uri if self._readable else self.file, self._busy_s)
        try:
            yield connection
        except BaseException:
            connection.close()  # which rolls back
            raise
        self._idle.append(connection)


class MemoryDatabase:
    """The same in memory: one connection, which one thread uses at a time. Nothing of it is written anywhere."""

    is_read_only = False

    def __init__(self) -> None:
        self.file = Path(_IN_MEMORY)
        self._connection = connect(_IN_MEMORY)
        self._using = threading.RLock()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Read a consistent state of the database; inside `write`, including the changes made there."""
        with self._using, explained(self.file):
            yield self._connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Apply all changes of the block or, if it raises, none of them; a nested block is part of the outer one."""
        with self._using, explained(self.file):
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def empty_log(self) -> None:
        """Do nothing: there is no log."""

    def close(self) -> None:
        """Forget everything. May be called twice."""
        with self._using:
            self._connection.close()


def connect(file: Path | str, busy_s: float = BUSY_S) -> sqlite3.Connection:
    """Open an existing file, or a URI, with the settings and functions that we need."""
    connection = sqlite3.connect(
        file if isinstance(file, str) else f"{file.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=busy_s,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.create_function("index_text", 1, index_text, deterministic=True)
    for pragma in (
        "foreign_keys = ON",
        "synchronous = FULL",  # each commit waits until it is on the disk
        "secure_delete = ON",  # deleted content is overwritten
        "temp_store = MEMORY",
        "cache_size = -4000",  # KiB
        f"journal_size_limit = {64 << 20}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


@contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """Read an existing file without changing it, not even by applying its write-ahead log. Raises StoreError."""
    readable = _readable(file)
    try:
        with explained(file):
            connection = connect(readable.uri)
            try:
                yield connection
            finally:
                connection.close()
    finally:
        readable.close()


def _readable(file: Path) -> ReadableFile:
    try:
        return ReadableFile(file)
    except OSError as error:
        raise unwritable(file, reason_of(error)) from error


def make_private(file: Path) -> None:
    """Create an empty file that only its owner can read, unless it exists. SQLite copies its mode to its other files.

    Raises StoreError.
    """
    try:
        private_folder(file.parent)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    except FileError as error:
        raise StoreError(error.message, error.hint, recoveries=error.recoveries) from error
    except OSError as error:
        raise unwritable(file, reason_of(error)) from error


@contextmanager
def explained(file: Path) -> Iterator[None]:
    """Turn SQLite's errors into StoreErrors with a hint. The error of a wrong statement, a bug, is not changed."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise
    except sqlite3.DatabaseError as error:
        raise _explanation(file, error) from error


def _explanation(file: Path, error: sqlite3.DatabaseError) -> Exception:
    code = getattr(error, "sqlite_errorcode", None)
    match code and code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return _busy(file)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return unwritable(file, reason_of(error))
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR if code != sqlite3.SQLITE_IOERR_SHORT_READ:
            return StoreError(
                _("Reading or writing {file} failed: {reason}.").format(file=file, reason=reason_of(error)),
                _("Check whether the disk is full or failing. Nothing that was stored before is lost."),
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_IOERR | None:
            return damaged(file, reason_of(error))
        case sqlite3.SQLITE_CONSTRAINT:
            return StoreError(
                _("This conflicts with stored data: {reason}.").format(reason=error),
                _("Another program may have stored it already."),
            )
        case _:
            return error


def damaged(file: Path, reason: str) -> StoreDamaged:
    """Return the error for a file that is no longer an intact database."""
    return StoreDamaged(
        _("The database {file} is damaged: {reason}.").format(file=file, reason=reason),
        _("The damaged file is preserved."),
        recoveries=(Recovery(RecoveryKind.RECOVER_STORE),),
    )


def _busy(file: Path) -> StoreError:
    return StoreError(
        _("Another program has been writing to {file} for too long.").format(file=file),
        _("Try again when it has finished, or end it."),
    )


def unwritable(file: Path, reason: str) -> StoreError:
    """Return the error for a file that can't be opened or created."""
    return StoreError(
        _("{file} can't be opened for writing: {reason}.").format(file=file, reason=reason),
        _("Make the file and its folder writable, or set QWENCHAT_HOME to a folder that is."),
    )
