"""Sessions and messages as rows, and back. A row that makes no sense is an error of the database, not of the code.

Messages in the database: written with their attachments and pieces, read back as branches and trees.
"""

import json
import math
import sqlite3
import struct
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from qwenchat.chat.memory import no_such_message, no_such_session
from qwenchat.chat.message import Attachment, FinishReason, Message, Role, Status, Timings, Usage, text_parts
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.text.safe import whole

Row = Sequence[Any]

SESSION_COLUMNS = "id, created, updated, trashed, pinned, leaf, model, title, tags, sampling, draft, system, context"
MESSAGE_COLUMNS = "id, parent, role, status, created, finished, model, model_file, details, text, token_ids"


class _Details(msgspec.Struct, frozen=True):
    """What a message has besides its columns; nothing searches in it."""

    sampling: Sampling | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: str = ""


_NONE = _Details()
_details = msgspec.json.Decoder(_Details)
_sampling = msgspec.json.Decoder(Sampling)
_tags = msgspec.json.Decoder(tuple[str, ...])
_ROLES = {role.value: role for role in Role}
_STATUSES = {status.value: status for status in Status}


def session_row(session: Session) -> Row:
    """Return the values of SESSION_COLUMNS."""
    return (
        session.id,
        session.created,
        session.updated,
        session.trashed,
        int(session.pinned),
        session.leaf,
        whole(session.model),
        whole(session.title),
        _json([whole(tag) for tag in session.tags]),
        _json(_set_fields(session.sampling)),
        whole(session.draft),
        whole(session.system),
        session.context,
    )


def session_of(row: Row) -> Session:
    """Return a session from SESSION_COLUMNS. Raises sqlite3.DatabaseError for values that can't be."""
    session_id, created, updated, trashed, pinned, leaf, model, title, tags, sampling, draft, system, context = row
    try:
        return Session(
            id=session_id,
            created=created,
            updated=updated,
            title=title,
            model=model,
            system=system,
            sampling=_sampling.decode(sampling),
            context=context,
            leaf=leaf,
            pinned=bool(pinned),
            tags=_tags.decode(tags),
            draft=draft,
            trashed=trashed,
        )
    except msgspec.MsgspecError as error:
        raise _senseless(session_id, error) from error


def message_of(
    row: Row,
    session: str,
    parent: str | None,
    attachments: tuple[Attachment, ...] = (),
    pieces: Sequence[tuple[str, bytes]] = (),
) -> Message:
    """Return a message from MESSAGE_COLUMNS. Raises sqlite3.DatabaseError for values that can't be."""
    message_id, _parent, role, status, created, finished, model, model_file, details, text, token_ids = row
    if pieces:
        text, token_ids = joined(text, token_ids, pieces)
    try:
        more = _NONE if details == "{}" else _details.decode(details)
        return Message(
            id=message_id,
            session=session,
            parent=parent,
            role=_ROLES[role],
            parts=text_parts(text, unpacked(token_ids)),
            created=created,
            status=_STATUSES[status],
            finished=finished,
            model=model,
            model_file=model_file,
            sampling=more.sampling,
            finish_reason=more.finish_reason,
            usage=more.usage,
            timings=more.timings,
            attachments=attachments,
            error=more.error,
        )
    except (msgspec.MsgspecError, KeyError, struct.error) as error:
        raise _senseless(message_id, error) from error


def details_json(message: Message) -> str:
    """Return the column `details` of a message."""
    details: dict[str, Any] = {
        "sampling": None if message.sampling is None else _set_fields(message.sampling),
        "finish_reason": message.finish_reason,
        "usage": message.usage,
        "timings": None if message.timings is None else _finite(message.timings),
        "error": whole(message.error) or None,
    }
    return _json({name: value for name, value in details.items() if value is not None})


def packed(token_ids: Sequence[int]) -> bytes:
    """Return token ids as little-endian uint32."""
    return struct.pack(f"<{len(token_ids)}I", *token_ids)


def unpacked(data: bytes) -> tuple[int, ...]:
    """Return the token ids in `data`. Raises struct.error when it ends within one."""
    return struct.unpack(f"<{len(data) // 4}I", data)


def joined(text: str, token_ids: bytes, pieces: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Return an answer's text and tokens with the pieces after them."""
    return text + "".join(piece for piece, _ids in pieces), token_ids + b"".join(ids for _piece, ids in pieces)


def _set_fields(sampling: Sampling) -> dict[str, object]:
    chosen: dict[str, object] = {**asdict(sampling), "stop": [whole(stop) for stop in sampling.stop]}
    if sampling.schema is not None:
        chosen["schema"] = whole(sampling.schema)
    return {name: value for name, value in chosen.items() if value not in (None, []) and not _endless(value)}


def _endless(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _finite(timings: Timings) -> dict[str, float]:
    return {name: value if math.isfinite(value) else 0.0 for name, value in asdict(timings).items()}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _senseless(row_id: object, error: Exception) -> sqlite3.DatabaseError:
    return sqlite3.DatabaseError(f"the row of {row_id!r} makes no sense: {error!r}")


BRANCH = """
WITH RECURSIVE path (n, parent) AS (
    SELECT n, parent FROM messages WHERE id = ? AND removed IS NULL
    UNION ALL
    SELECT messages.n, messages.parent FROM path JOIN messages ON messages.n = path.parent AND messages.removed IS NULL
)"""
TREE = "WITH path (n) AS (SELECT n FROM messages WHERE session = ? AND removed IS NULL)"


def load(connection: sqlite3.Connection, path: str, key: object, session_id: str) -> list[Message]:
    """Return the messages of `path`, a WITH clause, parents first."""
    columns = MESSAGE_COLUMNS.replace("parent", "messages.parent")
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
        messages.append(message_of(row, session_id, ids.get(row[1]), attachments, pieces))
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
        f"INSERT INTO messages (session, {MESSAGE_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
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
            details_json(message),
            whole(message.text),
            packed(message.token_ids),
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
        whole = joined(text, token_ids, pieces)
        connection.execute("UPDATE messages SET text = ?, token_ids = ? WHERE n = ?", (*whole, n))
        connection.execute("DELETE FROM pieces WHERE message = ?", (n,))
