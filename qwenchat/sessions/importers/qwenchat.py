"""The lossless `json` format of qwenchat (`exporters.json`), in versions 1 to 3."""

from typing import Any

import msgspec

from qwenchat.chat.message import (
    Attachment,
    FinishReason,
    Message,
    Part,
    PartKind,
    Role,
    Status,
    Timings,
    Usage,
    text_parts,
)
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.i18n import _
from qwenchat.sessions.archive import PART_TYPES, Archive, BadRecord
from qwenchat.sessions.conversion import ImportedChat
from qwenchat.sessions.exporters.json import VERSION
from qwenchat.sessions.importers import ImportFormat


class _MessageFields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a message that all versions have."""

    id: str
    session: str
    parent: str | None
    role: Role
    created: int
    status: Status = Status.COMPLETE
    finished: int | None = None
    model: str = ""
    model_file: str = ""
    sampling: Sampling | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    attachments: tuple[Attachment, ...] = ()
    error: str = ""
    summarises: int = 0

    def with_parts(self, parts: tuple[Part, ...]) -> Message:
        return Message(parts=parts, **{name: getattr(self, name) for name in _MessageFields.__struct_fields__})


class _MessageWithText(_MessageFields, frozen=True, kw_only=True):
    text: str
    token_ids: tuple[int, ...] = ()


class _MessageWithParts(_MessageFields, frozen=True, kw_only=True):
    parts: tuple[dict[str, Any], ...]


class _ArchiveOfTexts(msgspec.Struct, frozen=True):
    session: Session
    messages: tuple[_MessageWithText, ...]


class _ArchiveOfParts(msgspec.Struct, frozen=True):
    session: Session
    messages: tuple[_MessageWithParts, ...]


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record declares this format."""
    return record.get("format") == "qwenchat"


def read(record: dict[str, Any], _modified: int) -> ImportedChat:
    """Return the archive. Raises BadRecord for a later version, msgspec.ValidationError for an invalid field."""
    version = record.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise BadRecord(_("it was written by a newer qwenchat (format version {version})").format(version=version))
    if version < 2:
        old = msgspec.convert(record, _ArchiveOfTexts)
        texts = tuple(each.with_parts(text_parts(each.text, each.token_ids)) for each in old.messages)
        return ImportedChat(Archive(old.session, texts))
    found = msgspec.convert(record, _ArchiveOfParts)
    messages = tuple(each.with_parts(tuple(map(_part, each.parts))) for each in found.messages)
    return ImportedChat(Archive(found.session, messages))


def _part(record: dict[str, Any]) -> Part:
    return msgspec.convert(record, PART_TYPES[msgspec.convert(record.get("kind"), PartKind)])


FORMAT = ImportFormat("qwenchat json", knows, read)
