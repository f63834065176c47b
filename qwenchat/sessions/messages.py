"""Messages in the database: written with their attachments and pieces, read back as branches and trees."""

import json
import sqlite3
from collections.abc import Collection

from qwenchat.chat.conversation import Attachment, Message, Status
from qwenchat.chat.memory import no_such_message, no_such_session
from qwenchat.sessions import rows
from qwenchat.text import whole

BRANCH = """
WITH RECURSIVE path (n, parent) AS (
    SELECT n, parent FROM messages WHERE id = ? AND removed IS NULL
    UNION ALL
    SELECT messages.n, messages.parent FROM path JOIN messages ON messages.n = path.parent AND messages.removed IS NULL
)"""
TREE = "WITH path (n) AS (SELECT n FROM messages WHERE session = ? AND removed IS NULL)"


def load(connection: sqlite3.Connection, path: str, key: object, session_id: str) -> list[Message]:
    """Return the messages of `path`, a WITH clause, parents first."""
    columns = rows.MESSAGE_COLUMNS.replace("parent", "messages.parent")
    found = connection.execute(
        f"{path} SELECT path.n, EXISTS (SELECT 1 FROM attachments WHERE message = path.n), {columns} "
        "FROM path CROSS JOIN messages ON messages.n = path.n ORDER BY path.n",
        (key,),
    ).fetchall()
    ids = {row[0]: row[2] for row in found}
    messages = []
    for n, attached, *row in found:
        attachments = _attachments(connection, n) if attached else ()
        pieces = _pieces(connection, n) if row[3] == Status.STREAMING else ()
        messages.append(rows.message_of(row, session_id, ids.get(row[1]), attachments, pieces))
    return messages


def is_kept(connection: sqlite3.Connection, message_id: str) -> bool:
    """Say whether a message with this id is there, deleted or not."""
    return connection.execute("SELECT 1 FROM messages WHERE id = ?", (message_id,)).fetchone() is not None


def insert(connection: sqlite3.Connection, message: Message, *, below_deleted: bool = False) -> None:
    """Keep a new message. Raises NotFound for a session, or a parent in it, that is not kept.

    A parent must not be deleted either, unless `below_deleted`: what follows a deleted message is read as the first of
    its branch.
    """
    session = connection.execute("SELECT n FROM sessions WHERE id = ?", (message.session,)).fetchone()
    if session is None:
        raise no_such_session(message.session)
    parent = connection.execute(
        "SELECT n FROM messages WHERE id = ? AND session = ? AND (removed IS NULL OR ?)",
        (message.parent, session[0], below_deleted),
    ).fetchone()
    if parent is None and message.parent is not None:
        raise no_such_message(message.parent)
    n = connection.execute(
        f"INSERT INTO messages (session, {rows.MESSAGE_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            session[0],
            message.id,
            parent and parent[0],
            message.role,
            message.status,
            message.created,
            message.finished,
            whole(message.model),
            whole(message.model_file),
            rows.details_json(message),
            whole(message.text),
            rows.packed(message.token_ids),
        ),
    ).lastrowid
    for position, attachment in enumerate(message.attachments):
        connection.execute("INSERT OR IGNORE INTO blobs (sha256, data) VALUES (?, ?)", _blob(attachment))
        connection.execute(
            "INSERT INTO attachments (message, position, blob, name, media_type) "
            "SELECT ?, ?, n, ?, ? FROM blobs WHERE sha256 = ?",
            (n, position, whole(attachment.name), whole(attachment.media_type), attachment.digest),
        )


def take_out(connection: sqlite3.Connection, ids: Collection[str]) -> bool:
    """Delete the rows of messages; none of them where one is not there or anything else follows one."""
    wanted = json.dumps([*ids])
    listed = "SELECT n FROM messages WHERE removed IS NULL AND id IN (SELECT value FROM json_each(?))"
    found = {n for (n,) in connection.execute(listed, (wanted,))}
    below = {n for (n,) in connection.execute(f"SELECT n FROM messages WHERE parent IN ({listed})", (wanted,))}
    if len(found) < len(ids) or not below <= found:
        return False
    connection.execute(f"DELETE FROM messages WHERE n IN ({listed})", (wanted,))
    return True


def _attachments(connection: sqlite3.Connection, n: int) -> tuple[Attachment, ...]:
    found = connection.execute(
        "SELECT name, media_type, data FROM attachments JOIN blobs ON blobs.n = blob WHERE message = ? "
        "ORDER BY position",
        (n,),
    )
    return tuple(Attachment(*row) for row in found)


def _blob(attachment: Attachment) -> tuple[str, bytes]:
    return attachment.digest, attachment.data


def _pieces(connection: sqlite3.Connection, n: int) -> list[tuple[str, bytes]]:
    return connection.execute("SELECT text, token_ids FROM pieces WHERE message = ? ORDER BY n", (n,)).fetchall()


def fold(connection: sqlite3.Connection, message_id: str) -> None:
    """Make an answer's pieces part of its text, which puts it into the search index."""
    n, text, token_ids = connection.execute(
        "SELECT n, text, token_ids FROM messages WHERE id = ?", (message_id,)
    ).fetchone()
    if pieces := _pieces(connection, n):
        whole = rows.joined(text, token_ids, pieces)
        connection.execute("UPDATE messages SET text = ?, token_ids = ? WHERE n = ?", (*whole, n))
        connection.execute("DELETE FROM pieces WHERE message = ?", (n,))
