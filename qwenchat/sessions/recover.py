"""`qwenchat sessions recover`: builds a new database from the readable content of a damaged one.

The damaged file is never changed, only renamed once the new one is complete. Rows with lost relations are repaired: a
message without a session gets one, a lost parent is replaced by the previous message, and an answer that lost a text
part gets its complete text back as one part.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from qwenchat.chat.message import Message
from qwenchat.errors import StoreError
from qwenchat.i18n import _, reason_of
from qwenchat.sessions import rows
from qwenchat.sessions.salvage import Value, salvage
from qwenchat.storage.database import connect, explained, make_private, unwritable
from qwenchat.storage.migrate import lost_its_beginning, migrate

_TABLES = {
    "sessions": "-tiiIiTttttttIItI",
    "messages": "-tiIttiIIIttttb",
    "pieces": "-ibttt",
    "parts": "-iittbt",
    "blobs": "-tb",
    "attachments": "-iiitti",
    "outbox": "-tiTitt",
    "outbox_files": "-iitti",
}
"""The types of each table's columns: text, integer, blob; capitals may be NULL. All tables differ."""
_ADDED: dict[str, tuple[Value, ...]] = {
    "sessions": (None, None, "[]", None),
    "pieces": ("text", "{}"),
    "attachments": (0,),
    "outbox_files": (0,),
}
"""The values of the last columns for shorter rows, which were written before these columns were added."""
_KINDS: dict[str, tuple[type, ...]] = {"-": (), "t": (str,), "i": (int,), "b": (bytes,), "T": (str,), "I": (int,)}
_MAY_BE_NULL = "-TI"

_REPAIRS = """
INSERT INTO sessions (n, id, created, updated, pinned, model, title, tags, sampling, draft, system)
    SELECT session, 'recovered-' || session, min(created), max(created), 0, '', :title, '[]', '{}', '', ''
    FROM (SELECT session, created FROM messages UNION ALL SELECT session, created FROM outbox)
    WHERE session NOT IN (SELECT n FROM sessions) GROUP BY session;
UPDATE messages SET parent = (
        SELECT max(before.n) FROM messages AS before
        WHERE before.session = messages.session AND before.n < messages.n AND before.removed IS NULL
    ) WHERE parent IS NOT NULL AND parent NOT IN (SELECT n FROM messages);
UPDATE sessions SET leaf = (SELECT id FROM messages WHERE session = sessions.n AND removed IS NULL ORDER BY n DESC)
    WHERE leaf IS NULL OR leaf NOT IN (SELECT id FROM messages);
DELETE FROM pieces WHERE message NOT IN (SELECT n FROM messages);
DELETE FROM parts WHERE message NOT IN (SELECT n FROM messages);
DELETE FROM parts WHERE kind = 'text' AND message IN (
        SELECT n FROM messages WHERE text <> coalesce((
            SELECT group_concat(text, char(10, 10)) FROM (
                SELECT text FROM parts WHERE message = messages.n AND kind = 'text' AND text <> '' ORDER BY position
            )
        ), '')
    );
INSERT INTO parts (message, position, kind, details, token_ids, text)
    SELECT n, (SELECT max(position) + 1 FROM parts WHERE message = messages.n), 'text', '{}', x'', text FROM messages
    WHERE text <> '' AND n IN (SELECT message FROM parts)
    AND n NOT IN (SELECT message FROM parts WHERE kind = 'text');
DELETE FROM attachments WHERE message NOT IN (SELECT n FROM messages) OR blob NOT IN (SELECT n FROM blobs);
DELETE FROM outbox_files WHERE question NOT IN (SELECT n FROM outbox) OR blob NOT IN (SELECT n FROM blobs);
DELETE FROM blobs WHERE n NOT IN (SELECT blob FROM attachments UNION SELECT blob FROM outbox_files)
"""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The result of a recovery: the numbers of saved rows."""

    sessions: int
    messages: int
    attachments: int
    damaged: Path
    """The new path of the damaged database."""


def recover(file: Path) -> Recovered | None:
    """Replace a damaged database by a new one with its readable content; return None if it is not damaged.

    No other program may have it open. Raises StoreError; then nothing has changed.
    """
    if lost_its_beginning(file):
        make_private(file)
    elif not file.exists() or is_intact(file):
        return None
    new = file.with_name(file.name + ".recovering")
    try:
        _remove(new)
        migrate(new, rows.SCHEMA)
        sessions, messages, attachments = _rebuild(file, new)
        aside = _set_aside(file)
        new.rename(file)
    except OSError as error:
        raise unwritable(file, reason_of(error)) from error
    finally:
        _remove(new)
    return Recovered(sessions, messages, attachments, aside)


def is_intact(file: Path) -> bool:
    """Return whether SQLite finds no damage and every row is valid, by reading everything.

    Raises StoreError for a file that can't be opened.
    """
    if lost_its_beginning(file):
        return False
    with explained(file):
        try:
            connection = connect(file)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False
        try:
            found: str = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            indexes = connection.execute("SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL TABLE%'")
            for (index,) in indexes.fetchall():
                connection.execute(f"INSERT INTO {index} ({index}) VALUES ('integrity-check')")
            return found == "ok" and _rows_are_valid(connection)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False
        finally:
            connection.close()


def _rebuild(file: Path, new: Path) -> tuple[int, int, int]:
    """Fill `new` with the readable rows; return the numbers of sessions, messages and attachments."""
    with explained(new):
        connection = connect(new)
        try:
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.execute("BEGIN")
            for table, row in _readable(file):
                marks = ",".join("?" * len(row))
                connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
            _blank_unreadable(connection)
            for statement in _REPAIRS.split(";"):
                connection.execute(statement, {"title": _("Recovered")} if ":title" in statement else {})
            connection.execute("COMMIT")
            if connection.execute("PRAGMA foreign_key_check").fetchone():
                raise StoreError(_("The recovered rows are inconsistent."), _("Please report this."))
            tables = ("sessions", "messages", "attachments")
            counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
        finally:
            connection.close()
    return counts[0], counts[1], counts[2]


def _readable(file: Path) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """Yield the table name and the values of every row that can be used."""
    for saved in salvage(file):
        for table, shape in _TABLES.items():
            added = _ADDED.get(table, ())
            missing = len(shape) - len(saved.values)
            if not 0 <= missing <= len(added):
                continue
            values = (*saved.values, *added[len(added) - missing :])
            if all(map(_fits, values, shape)):
                row = (saved.n, *values[1:])
                if saved.complete and (table != "blobs" or _is_blob(row)):
                    yield table, row
                elif table == "messages":
                    yield table, (*row[:-1], b"")  # tokens that end before the text would mislead the model


def _fits(value: Value, kind: str) -> bool:
    return kind in _MAY_BE_NULL if value is None else isinstance(value, _KINDS[kind])


def _is_blob(row: tuple[Value, ...]) -> bool:
    return isinstance(row[2], bytes) and sha256(row[2]).hexdigest() == row[1]


def _rows_are_valid(connection: sqlite3.Connection) -> bool:
    """Return whether every text and value can be read, which SQLite's own checks do not cover."""
    try:
        for table, columns, read, _blank in _READERS:
            if not _has_columns(connection, table, columns):  # a database of an older schema
                continue
            for row in connection.execute(f"SELECT {columns} FROM {table}"):
                read(row)
    except sqlite3.DatabaseError as error:
        if hasattr(error, "sqlite_errorcode"):
            raise
        return False
    return True


def _has_columns(connection: sqlite3.Connection, table: str, columns: str) -> bool:
    found = {name for _number, name, *_more in connection.execute(f"PRAGMA table_info({table})")}
    return found.issuperset(columns.split(", "))


def _blank_unreadable(connection: sqlite3.Connection) -> None:
    """Blank the unreadable columns of rows whose text is readable."""
    for table, columns, read, blank in _READERS:
        found = connection.execute(f"SELECT n, {columns} FROM {table}")
        unreadable = [(n,) for n, *row in found if not _is_readable(read, row)]
        connection.executemany(f"UPDATE {table} SET {blank} WHERE n = ?", unreadable)


def _message(row: rows.Row) -> Message:
    return rows.message_of(row, "", None)


_READERS: tuple[tuple[str, str, Callable[[rows.Row], object], str], ...] = (
    ("sessions", rows.SESSION_COLUMNS, rows.session_of, "tags = '[]', sampling = '{}', collections = '[]'"),
    ("messages", rows.MESSAGE_COLUMNS, _message, "details = '{}', token_ids = x''"),
    ("parts", rows.PART_COLUMNS, rows.part_of, "details = '{}', token_ids = x''"),
    ("pieces", rows.PART_COLUMNS, rows.part_of, "kind = 'text', details = '{}', token_ids = x''"),
    ("outbox", "follows, text", tuple, "follows = NULL"),
)
"""For each table: its columns, the function that reads a row, and the SQL that makes an unreadable row readable."""


def _is_readable(read: Callable[[rows.Row], object], row: rows.Row) -> bool:
    try:
        read(row)
    except sqlite3.DatabaseError:
        return False
    return True


def _set_aside(file: Path) -> Path:
    """Rename a database and its WAL, and return the new path."""
    aside = file.with_name(f"{file.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    file.rename(aside)
    wal = file.with_name(file.name + "-wal")
    if wal.exists():
        wal.rename(aside.with_name(aside.name + "-wal"))
    file.with_name(file.name + "-shm").unlink(missing_ok=True)
    return aside


def _remove(file: Path) -> None:
    for suffix in ("", "-wal", "-shm", ".lock"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
