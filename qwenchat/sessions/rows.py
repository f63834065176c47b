"""Converts sessions and messages to rows of the database and back, including parts, attachments and pieces.

A message that consists of one Text is stored in its row alone. Any other one has a row for each part in `parts`. A
streaming answer appends its fragments to `pieces`, which become parts when it ends. An invalid row is an error of the
database, not a bug. Callers handle transactions and locks.
"""

import math
import sqlite3
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs
from msgspec.structs import replace

from qwenchat.chat.memory import no_such_message, no_such_session
from qwenchat.chat.message import (
    Attachment,
    Citation,
    FinishReason,
    Message,
    Part,
    PartKind,
    Reasoning,
    Role,
    Status,
    Text,
    Timings,
    ToolCall,
    ToolResult,
    Usage,
    merged,
    text_parts,
)
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.storage.migrate import Schema
from qwenchat.text.safe import encodable

Row = Sequence[Any]

SCHEMA = Schema(Path(__file__).parent / "migrations", application_id=0x5157454E)
"""`QWEN` marks the databases of sessions."""

SESSION_COLUMNS = (
    "id, created, updated, trashed, pinned, leaf, model, title, tags, sampling, draft, system, context, tools, "
    "collections, level"
)
MESSAGE_COLUMNS = "id, parent, role, status, created, finished, model, model_file, details, text, token_ids"
PART_COLUMNS = "kind, details, token_ids, text"

BRANCH = """
WITH RECURSIVE path (n, parent) AS (
    SELECT n, parent FROM messages WHERE id = ? AND removed IS NULL
    UNION ALL
    SELECT messages.n, messages.parent FROM path JOIN messages ON messages.n = path.parent AND messages.removed IS NULL
)"""
"""For `load`: the messages from the first one to the one with the given id."""
TREE = "WITH path (n) AS (SELECT n FROM messages WHERE session = ? AND removed IS NULL)"
"""For `load`: all messages of the session with the given row number."""
_ONE = "WITH path (n) AS (SELECT n FROM messages WHERE id = ?)"
_ATTACHMENTS = "attachments WHERE message = ? ORDER BY position"


class _MessageDetails(msgspec.Struct, frozen=True):
    """The fields of a message without columns of their own; they are not searched."""

    sampling: Sampling | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: str = ""
    summarises: int = 0


class _PartDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields of a tool call, its result or a citation without columns of their own."""

    id: str = ""
    """The id of the call."""
    name: str = ""
    """The name of the tool, or of the document."""
    is_error: bool = False
    took_ms: int = 0
    number: int = 0
    digest: str = ""
    start: int = 0
    page: int | None = None
    heading: str = ""


_NO_DETAILS = _MessageDetails()
_message_details = msgspec.json.Decoder(_MessageDetails)
_part_details = msgspec.json.Decoder(_PartDetails)
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
        encodable(session.model),
        encodable(session.title),
        _json([encodable(tag) for tag in session.tags]),
        _json(_set_fields(session.sampling)),
        encodable(session.draft),
        encodable(session.system),
        session.context,
        None if session.tools is None else int(session.tools),
        _json([encodable(name) for name in session.collections]),
        session.level,
    )


def session_of(row: Row) -> Session:
    """Return a session from SESSION_COLUMNS. Raises sqlite3.DatabaseError for invalid values."""
    session_id, created, updated, trashed, pinned, leaf, model, title, tags, sampling, draft, system, *more = row
    context, tools, collections, level = more
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
            tools=None if tools is None else bool(tools),
            collections=_tags.decode(collections),
            level=level,
            leaf=leaf,
            pinned=bool(pinned),
            tags=_tags.decode(tags),
            draft=draft,
            trashed=trashed,
        )
    except msgspec.MsgspecError as error:
        raise _bad_row(session_id, error) from error


def message_of(
    row: Row,
    session: str,
    parent: str | None,
    *,
    parts: tuple[Part, ...] = (),
    attachments: tuple[Attachment, ...] = (),
) -> Message:
    """Return a message from MESSAGE_COLUMNS, with the text of its row if it has no `parts`.

    Raises sqlite3.DatabaseError for invalid values.
    """
    message_id, _parent, role, status, created, finished, model, model_file, details, text, token_ids = row
    try:
        more = _NO_DETAILS if details == "{}" else _message_details.decode(details)
        return Message(
            id=message_id,
            session=session,
            parent=parent,
            role=_ROLES[role],
            parts=parts or text_parts(text, unpacked(token_ids)),
            created=created,
            status=_STATUSES[status],
            finished=finished,
            model=sys.intern(model),
            model_file=sys.intern(model_file),
            sampling=more.sampling,
            finish_reason=more.finish_reason,
            usage=more.usage,
            timings=more.timings,
            attachments=attachments,
            error=more.error,
            summarises=more.summarises,
        )
    except (msgspec.MsgspecError, KeyError, struct.error) as error:
        raise _bad_row(message_id, error) from error


def part_row(part: Part) -> Row:
    """Return the values of PART_COLUMNS."""
    match part:
        case Text(text, token_ids):
            kind, details = PartKind.TEXT, _PartDetails()
        case Reasoning(text, token_ids):
            kind, details = PartKind.REASONING, _PartDetails()
        case ToolCall(call_id, name, text, token_ids):
            kind, details = PartKind.TOOL_CALL, _PartDetails(id=encodable(call_id), name=encodable(name))
        case ToolResult(call_id, name, text, is_error, took_ms):
            kind, token_ids = PartKind.TOOL_RESULT, ()
            details = _PartDetails(id=encodable(call_id), name=encodable(name), is_error=is_error, took_ms=took_ms)
        case Citation(text=text):
            kind, token_ids = PartKind.CITATION, ()
            details = _citation_details(part)
    return kind, _json(details), packed(token_ids), encodable(text)


def part_of(row: Row) -> Part:
    """Return a part from PART_COLUMNS. Raises sqlite3.DatabaseError for invalid values."""
    kind, details, token_ids, text = row
    try:
        tokens = unpacked(token_ids)
        if kind == PartKind.TEXT:
            return Text(text, tokens)
        if kind == PartKind.REASONING:
            return Reasoning(text, tokens)
        more = _part_details.decode(details)
        if PartKind(kind) is PartKind.TOOL_CALL:
            return ToolCall(more.id, more.name, text, tokens)
        if PartKind(kind) is PartKind.CITATION:
            return _citation_of(more, text)
        return ToolResult(more.id, more.name, text=text, is_error=more.is_error, took_ms=more.took_ms)
    except (msgspec.MsgspecError, ValueError, struct.error) as error:
        raise _bad_row(kind, error) from error


def _citation_details(citation: Citation) -> _PartDetails:
    return _PartDetails(
        name=encodable(citation.document),
        number=citation.number,
        digest=citation.digest,
        start=citation.start,
        page=citation.page,
        heading=encodable(citation.heading),
    )


def _citation_of(details: _PartDetails, text: str) -> Citation:
    return Citation(
        number=details.number,
        document=details.name,
        digest=details.digest,
        start=details.start,
        text=text,
        page=details.page,
        heading=details.heading,
    )


def details_json(message: Message) -> str:
    """Return the value of a message's column `details`."""
    details: dict[str, Any] = {
        "sampling": None if message.sampling is None else _set_fields(message.sampling),
        "finish_reason": message.finish_reason,
        "usage": message.usage,
        "timings": None if message.timings is None else _finite(message.timings),
        "error": encodable(message.error) or None,
        "summarises": message.summarises or None,
    }
    return _json({name: value for name, value in details.items() if value is not None})


def packed(token_ids: Sequence[int]) -> bytes:
    """Return token ids as little-endian uint32."""
    return struct.pack(f"<{len(token_ids)}I", *token_ids)


def unpacked(data: bytes) -> tuple[int, ...]:
    """Return the token ids in `data`. Raises struct.error if it ends in the middle of one."""
    return struct.unpack(f"<{len(data) // 4}I", data)


def _set_fields(sampling: Sampling) -> dict[str, object]:
    chosen: dict[str, object] = {**structs.asdict(sampling), "stop": [encodable(stop) for stop in sampling.stop]}
    if sampling.schema is not None:
        chosen["schema"] = encodable(sampling.schema)
    return {name: value for name, value in chosen.items() if value not in (None, []) and not _infinite(value)}


def _infinite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _finite(timings: Timings) -> dict[str, float]:
    return {name: value if math.isfinite(value) else 0.0 for name, value in structs.asdict(timings).items()}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _bad_row(row_id: object, error: Exception) -> sqlite3.DatabaseError:
    return sqlite3.DatabaseError(f"the row of {row_id!r} is invalid: {error!r}")


def load(
    connection: sqlite3.Connection,
    path: str,
    key: object,
    session_id: str,
    shared: MutableMapping[str, Message] | None = None,
) -> list[Message]:
    """Return the messages of `path`, which is BRANCH or TREE, parents first.

    `shared` has messages that are in memory already, by their ids. Those that are still as they are stored are returned
    as they are, and nothing of them is read but the state; those that are read are added.
    """
    shared = {} if shared is None else shared
    states = connection.execute(
        f"{path} SELECT path.n, id, messages.parent, status, finished "
        "FROM path CROSS JOIN messages ON messages.n = path.n ORDER BY path.n",
        (key,),
    ).fetchall()
    ids = {n: message_id for n, message_id, *_state in states}
    found: dict[int, Message] = {}
    for n, message_id, parent, *state in states:
        message = shared.get(message_id)
        if message and [message.parent, message.status, message.finished] == [ids.get(parent), *state]:
            found[n] = message
    for n, message in _read(connection, [n for n in ids if n not in found], session_id, ids):
        found[n] = message
        if message.status is Status.COMPLETE or message.finished is not None:  # if it is continued, it ends later
            shared[message.id] = message
    return [found[n] for n in ids]


def _read(
    connection: sqlite3.Connection, wanted: Sequence[int], session_id: str, ids: Mapping[int, str]
) -> Iterator[tuple[int, Message]]:
    """Yield the messages with the `wanted` row numbers, and those numbers; `ids` are theirs and their parents'."""
    columns = MESSAGE_COLUMNS.replace("parent", "messages.parent").replace("id,", "messages.id,", 1)
    rows = connection.execute(
        "SELECT messages.n, EXISTS (SELECT 1 FROM attachments WHERE message = messages.n), "
        f"role = 'assistant' AND EXISTS (SELECT 1 FROM parts WHERE message = messages.n), {columns} "
        "FROM json_each(?) AS wanted CROSS JOIN messages ON messages.n = wanted.value",
        (_json(wanted),),
    )
    for n, has_attachments, has_parts, *row in rows:
        row[0] = ids[n]  # its children have the same object
        parts = _parts(connection, n) if has_parts else ()
        attachments = attachments_of(connection, _ATTACHMENTS, n) if has_attachments else ()
        message = message_of(row, session_id, ids.get(row[1]), parts=parts, attachments=attachments)
        yield n, _with_pieces(connection, n, message) if message.status is Status.STREAMING else message


def is_stored(connection: sqlite3.Connection, message_id: str) -> bool:
    """Return whether a message with this id is stored, deleted or not."""
    return connection.execute("SELECT 1 FROM messages WHERE id = ?", (message_id,)).fetchone() is not None


def insert(connection: sqlite3.Connection, message: Message, *, below_deleted: bool = False) -> None:
    """Store a new message. Raises NotFound for an unknown session, or a parent that is not in it.

    The parent must not be deleted either, unless `below_deleted`: a message below a deleted one is then the first of
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
            encodable(message.model),
            encodable(message.model_file),
            details_json(message),
            encodable(message.text),
            packed(message.token_ids if _is_one_text(message) else ()),
        ),
    ).lastrowid
    _insert_parts(connection, n, message)
    for position, attachment in enumerate(message.attachments):
        connection.execute(
            "INSERT INTO attachments (message, position, blob, name, media_type, in_parts) VALUES (?,?,?,?,?,?)",
            (n, position, *attachment_row(connection, attachment)),
        )


def append(connection: sqlite3.Connection, message_id: str, fragments: Iterable[Part]) -> None:
    """Append fragments to an answer that is streaming. Raises NotFound for any other message."""
    for fragment in merged(fragments):
        added = connection.execute(
            f"INSERT INTO pieces (message, {PART_COLUMNS}) "
            "SELECT n, ?, ?, ?, ? FROM messages WHERE id = ? AND status = 'streaming'",
            (*part_row(fragment), message_id),
        )
        if not added.rowcount:
            raise no_such_message(message_id)


def fold(connection: sqlite3.Connection, message_id: str) -> None:
    """Turn the pieces of a streaming answer into its parts, which adds them to the search index."""
    [message] = load(connection, _ONE, message_id, "")
    [n] = connection.execute("SELECT n FROM messages WHERE id = ?", (message_id,)).fetchone()
    if not connection.execute("DELETE FROM pieces WHERE message = ?", (n,)).rowcount:
        return
    token_ids = packed(message.token_ids if _is_one_text(message) else ())
    connection.execute("UPDATE messages SET text = ?, token_ids = ? WHERE n = ?", (message.text, token_ids, n))
    connection.execute("DELETE FROM parts WHERE message = ?", (n,))
    _insert_parts(connection, n, message)


def attachment_row(connection: sqlite3.Connection, attachment: Attachment) -> Row:
    """Store the contents of a file unless they are already stored; return `blob, name, media_type, in_parts`."""
    digest = attachment.digest
    connection.execute("INSERT OR IGNORE INTO blobs (sha256, data) VALUES (?, ?)", (digest, attachment.data))
    [blob] = connection.execute("SELECT n FROM blobs WHERE sha256 = ?", (digest,)).fetchone()
    return blob, encodable(attachment.name), encodable(attachment.media_type), int(attachment.in_parts)


def attachments_of(connection: sqlite3.Connection, source: str, n: int) -> tuple[Attachment, ...]:
    """Return the attachments of `source`, SQL that names a table and a condition on the number `n`."""
    found = connection.execute(
        f"SELECT name, media_type, (SELECT data FROM blobs WHERE n = blob), in_parts FROM {source}", (n,)
    )
    return tuple(Attachment(name, media_type, data, bool(in_parts)) for name, media_type, data, in_parts in found)


def drop_blobs(connection: sqlite3.Connection) -> None:
    """Delete attached files that no question has any more."""
    connection.execute(
        "DELETE FROM blobs WHERE n NOT IN (SELECT blob FROM attachments UNION SELECT blob FROM outbox_files)"
    )


def _is_one_text(message: Message) -> bool:
    return not message.parts or (len(message.parts) == 1 and isinstance(message.parts[0], Text))


def _insert_parts(connection: sqlite3.Connection, n: int | None, message: Message) -> None:
    if not _is_one_text(message):
        connection.executemany(
            f"INSERT INTO parts (message, position, {PART_COLUMNS}) VALUES (?,?,?,?,?,?)",
            [(n, position, *part_row(part)) for position, part in enumerate(message.parts)],
        )


def _parts(connection: sqlite3.Connection, n: int) -> tuple[Part, ...]:
    rows = connection.execute(f"SELECT {PART_COLUMNS} FROM parts WHERE message = ? ORDER BY position", (n,))
    return tuple(map(part_of, rows))


def _with_pieces(connection: sqlite3.Connection, n: int, message: Message) -> Message:
    """Return a streaming answer with the pieces that were appended since it began to stream."""
    pieces = connection.execute(f"SELECT {PART_COLUMNS} FROM pieces WHERE message = ? ORDER BY n", (n,)).fetchall()
    return replace(message, parts=merged([*message.parts, *map(part_of, pieces)])) if pieces else message
