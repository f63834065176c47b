"""Sessions and messages as rows, and back. A row that makes no sense is an error of the database, not of the code."""

import math
import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from qwenchat.chat.conversation import Attachment, FinishReason, Message, Role, Session, Status, Timings, Usage
from qwenchat.chat.sampling import Sampling
from qwenchat.text import whole

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
            text=text,
            created=created,
            status=_STATUSES[status],
            finished=finished,
            model=model,
            model_file=model_file,
            sampling=more.sampling,
            token_ids=unpacked(token_ids),
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
