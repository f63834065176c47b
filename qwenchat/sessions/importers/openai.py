"""OpenAI's chat `messages`, as requests and fine-tuning files hold them, one conversation a line or in an array."""

from typing import Any

import msgspec

from qwenchat.sessions.archive import Archive
from qwenchat.sessions.foreign import linear, words
from qwenchat.sessions.importers import Format

_ROLES = {"developer": "system"}


class _Message(msgspec.Struct):
    role: str
    content: Any = None


class _Conversation(msgspec.Struct):
    messages: list[_Message]
    title: Any = ""


def knows(record: dict[str, Any]) -> bool:
    """Tell it by `messages` without the tree that other formats have beside it."""
    return isinstance(record.get("messages"), list) and not {"history", "format", "mapping"} & record.keys()


def read(record: dict[str, Any], modified: int) -> Archive | None:
    """Return the archive; tools and their calls are passed over."""
    found = msgspec.convert(record, _Conversation)
    turns = [(_ROLES.get(message.role, message.role), words(message.content)) for message in found.messages]
    return linear("openai", turns, modified, found.title if isinstance(found.title, str) else "")


FORMAT = Format("OpenAI messages", knows, read)
