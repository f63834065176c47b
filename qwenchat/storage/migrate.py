"""Migrates a database, new or of any older schema, to the newest schema, after making a safety copy.

Migrations are the files of a folder in the order of their names; `PRAGMA user_version` counts the applied ones. Each is
one transaction. A database of a newer version or of another program is refused and not changed.
"""

import sqlite3
from pathlib import Path

from filelock import FileLock, Timeout
from msgspec import Struct

from qwenchat.errors import StoreError
from qwenchat.i18n import _, reason_of
from qwenchat.storage.database import (
    BUSY_S,
    MemoryDatabase,
    connect,
    damaged,
    explained,
    make_private,
    reading,
    unwritable,
)

_COPIES = 2
"""The number of safety copies to retain; the oldest is deleted first."""


class Schema(Struct, frozen=True):
    """The tables of one kind of database, as the migrations that make them."""

    folder: Path
    """The folder with the migrations."""
    application_id: int
    """Marks databases of this kind in their headers; the first migration sets it."""

    def migrations(self) -> list[str]:
        """Return the text of every migration, oldest first."""
        return [file.read_text("utf-8") for file in sorted(self.folder.glob("*.sql"))]


def migrate(file: Path, schema: Schema, *, upto: int | None = None, busy_s: float = BUSY_S) -> None:
    """Bring `file` to the newest schema (or only apply `upto` migrations, for tests). Raises StoreError."""
    steps = schema.migrations()[:upto]
    if version_of(file, schema) == len(steps):
        return
    make_private(file)
    try:
        with FileLock(f"{file}.lock", timeout=max(busy_s, 60.0), mode=0o600):
            version = version_of(file, schema)
            if 0 < version < len(steps):
                safety_copy(file, f"schema-{version}")
            with explained(file):
                _apply(file, steps, version)
    except Timeout as error:
        raise StoreError(
            _("Another program is updating {file}.").format(file=file),
            _("Wait until it has finished, then try again."),
        ) from error
    except OSError as error:
        raise unwritable(file, reason_of(error)) from error


def in_memory(schema: Schema) -> MemoryDatabase:
    """Return an empty database of the newest schema that is never written to a disk."""
    database = MemoryDatabase()
    with database.read() as connection:
        for step in schema.migrations():
            connection.executescript(step)
    return database


def safety_copy(file: Path, why: str) -> Path:
    """Copy a database to the folder `copies` beside it, delete all but the newest copies, and return the copy."""
    copy = file.parent / "copies" / f"{file.stem}-{_next_number(file):04}-{why}.db"
    make_private(copy)
    with explained(copy):
        source, target = connect(file), connect(copy)
        try:
            source.backup(target)
        finally:
            source.close()
            target.close()
    for old in safety_copies(file)[:-_COPIES]:
        old.unlink(missing_ok=True)
    return copy


def safety_copies(file: Path) -> list[Path]:
    """Return the safety copies of a database, oldest first."""
    return sorted((file.parent / "copies").glob(f"{file.stem}-[0-9]*.db"))


def _next_number(file: Path) -> int:
    copies = safety_copies(file)
    return int(copies[-1].name.removeprefix(f"{file.stem}-")[:4]) + 1 if copies else 1


def version_of(file: Path, schema: Schema) -> int:
    """Return how many migrations were applied to a file, without changing it. Raises StoreError for a foreign one."""
    if lost_its_beginning(file):
        raise damaged(file, _("it is empty, although its write-ahead log is not"))
    if not _size(file):
        return 0
    with reading(file) as connection:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        mark: int = connection.execute("PRAGMA application_id").fetchone()[0]
        tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and mark != schema.application_id:
        raise StoreError(
            _("{file} is a database of another program.").format(file=file),
            _("Move it away, or set QWENCHAT_HOME to another folder."),
        )
    if version > len(schema.migrations()):
        raise StoreError(
            _("{file} was written by a newer qwenchat.").format(file=file),
            _("Update qwenchat; the file was not changed."),
        )
    return version


def lost_its_beginning(file: Path) -> bool:
    """Return whether a database is empty or missing, but its WAL is not; SQLite would delete such a WAL."""
    has_changes = _size(file.with_name(file.name + "-wal")) > 0  # checked first: SQLite creates the WAL last
    return has_changes and not _size(file)


def _size(file: Path) -> int:
    """Return the bytes of a file, 0 if it does not exist."""
    try:
        return file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _apply(file: Path, steps: list[str], version: int) -> None:
    connection = connect(file)
    try:
        if version == 0:
            connection.execute("PRAGMA page_size = 8192")  # most answers with their tokens fit into one page
            connection.execute("PRAGMA journal_mode = WAL")
        for number, step in enumerate(steps[version:], version + 1):
            connection.executescript(f"BEGIN IMMEDIATE;\n{step}\nPRAGMA user_version = {number};\nCOMMIT;")
    except sqlite3.Error:
        connection.close()
        raise
    connection.close()
