"""Open WebUI's chat export: an array of chats, each with a tree of messages, or in old ones a plain list."""

from typing import Any

import msgspec

from qwenchat.sessions.archive import Archive
from qwenchat.sessions.foreign import Conversation, Node, archive_of, role_of, unix_ms, words
from qwenchat.sessions.importers import Format


class _Message(msgspec.Struct):
    role: str
    content: Any = None
    id: str | None = None
    parent: str | None = msgspec.field(default=None, name="parentId")
    timestamp: Any = None
    model: Any = None


class _History(msgspec.Struct):
    messages: dict[str, _Message]
    current: str | None = msgspec.field(default=None, name="currentId")


class _Chat(msgspec.Struct):
    history: _History | None = None
    messages: list[_Message] | None = None
    title: str | None = None
    params: dict[str, Any] | None = None
    system: str | None = None
    tags: Any = None
    timestamp: Any = None
    id: str | None = None


class _Export(msgspec.Struct):
    chat: _Chat
    id: str | None = None
    title: str | None = None
    created_at: Any = None
    updated_at: Any = None
    pinned: bool | None = None
    meta: dict[str, Any] | None = None


def knows(record: dict[str, Any]) -> bool:
    """Tell it by `chat`, or by the `history` that stands in a chat, with messages in either."""
    chat = record.get("chat", record)
    if not isinstance(chat, dict):
        return False
    return isinstance(chat.get("history"), dict) or ("chat" in record and isinstance(chat.get("messages"), list))


def read(record: dict[str, Any], modified: int) -> Archive | None:
    """Return the archive with all branches."""
    found = msgspec.convert(record if "chat" in record else {"chat": record}, _Export)
    chat = found.chat
    messages, current = _tree(chat)
    params = chat.params or {}
    system = [chat.system, params.get("system"), *(words(m.content) for m in messages.values() if m.role == "system")]
    return archive_of(
        Conversation(
            "openwebui",
            found.id or chat.id or "\n".join(messages),
            {name: _node(message) for name, message in messages.items()},
            modified,
            title=found.title or chat.title or "",
            system="\n\n".join(text for text in dict.fromkeys(system) if isinstance(text, str) and text),
            created=unix_ms(found.created_at) or unix_ms(chat.timestamp),
            updated=unix_ms(found.updated_at),
            current=current,
            pinned=bool(found.pinned),
            tags=_tags((found.meta or {}).get("tags") or chat.tags),
        )
    )


def _tree(chat: _Chat) -> tuple[dict[str, _Message], str | None]:
    """Return the messages by their ids and the one at the end of the branch being read."""
    if chat.history is not None and chat.history.messages:
        return chat.history.messages, chat.history.current
    messages: dict[str, _Message] = {}
    above: str | None = None
    for number, message in enumerate(chat.messages or ()):
        name = message.id or str(number)
        messages[name] = msgspec.structs.replace(message, parent=above)
        above = name
    return messages, above


def _node(message: _Message) -> Node:
    model = message.model if isinstance(message.model, str) else ""
    return Node(message.parent, role_of(message.role), words(message.content), unix_ms(message.timestamp), model)


def _tags(tags: object) -> tuple[str, ...]:
    """Return tags, which are words or, in old exports, objects with a name."""
    named = [tag.get("name") if isinstance(tag, dict) else tag for tag in tags] if isinstance(tags, list) else []
    return tuple(tag for tag in named if isinstance(tag, str) and tag.strip())


FORMAT = Format("Open WebUI", knows, read)
