"""Our own `json` format, everything kept as it is (`exporters.json`)."""

from typing import Any

import msgspec

from qwenchat.chat.message import Message
from qwenchat.chat.session import Session
from qwenchat.i18n import _
from qwenchat.sessions.archive import Archive, BadRecord
from qwenchat.sessions.exporters.json import VERSION
from qwenchat.sessions.importers import Format


class _Conversation(msgspec.Struct, frozen=True):
    version: int
    session: Session
    messages: tuple[Message, ...]


def knows(record: dict[str, Any]) -> bool:
    """Tell our records by what they say of themselves."""
    return record.get("format") == "qwenchat"


def read(record: dict[str, Any], _modified: int) -> Archive:
    """Return the archive. Raises BadRecord for one of a later version, msgspec.ValidationError for a wrong field."""
    version = record.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise BadRecord(_("a later qwenchat wrote it, in version {version}").format(version=version))
    found = msgspec.convert(record, _Conversation)
    return Archive(found.session, found.messages)


FORMAT = Format("qwenchat json", knows, read)
