"""ShareGPT: `conversations` of `from` and `value`, or of `role` and `content`; `system` stands beside or among them."""

from typing import Any

import msgspec

from qwenchat.sessions.archive import Archive
from qwenchat.sessions.foreign import linear, words
from qwenchat.sessions.importers import Format

_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant"}


class _Turn(msgspec.Struct):
    speaker: str = msgspec.field(default="", name="from")
    value: Any = None
    role: str = ""
    content: Any = None


class _Conversation(msgspec.Struct):
    conversations: list[_Turn]
    system: str | None = None


def knows(record: dict[str, Any]) -> bool:
    """Tell it by `conversations`."""
    return isinstance(record.get("conversations"), list)


def read(record: dict[str, Any], modified: int) -> Archive | None:
    """Return the archive; function calls and what they gave are passed over."""
    found = msgspec.convert(record, _Conversation)
    turns = [("system", found.system)] if found.system else []
    for turn in found.conversations:
        name = turn.speaker or turn.role
        turns.append((_ROLES.get(name, name), words(turn.content if turn.value is None else turn.value)))
    return linear("sharegpt", turns, modified)


FORMAT = Format("ShareGPT", knows, read)
