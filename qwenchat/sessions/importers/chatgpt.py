"""ChatGPT's export: `conversations.json`, alone or in its zip, with every branch.

Hidden nodes, tools, tool calls and the model's notes to itself are left out, because their formats keep changing. A
picture becomes its kind in brackets.
"""

from typing import Any

import msgspec

from qwenchat.sessions.archive import Archive
from qwenchat.sessions.conversion import ForeignChat, ForeignNode, archive_of, role_of, spoken_parts, unix_ms, words
from qwenchat.sessions.importers import ImportFormat

_SPOKEN = ("text", "multimodal_text", "code")
"""Kinds of content that users see as an answer; `code` only if it is addressed to the user."""


class _ChatGPTAuthor(msgspec.Struct):
    role: str


class _ChatGPTContent(msgspec.Struct):
    content_type: str = "text"
    parts: list[Any] | None = None
    text: str | None = None


class _ChatGPTMessage(msgspec.Struct):
    author: _ChatGPTAuthor
    content: _ChatGPTContent | None = None
    create_time: Any = None
    recipient: str | None = None
    metadata: dict[str, Any] | None = None


class _ChatGPTNode(msgspec.Struct):
    message: _ChatGPTMessage | None = None
    parent: str | None = None


class _ChatGPTChat(msgspec.Struct):
    mapping: dict[str, _ChatGPTNode]
    title: str | None = None
    create_time: Any = None
    update_time: Any = None
    current_node: str | None = None
    conversation_id: str | None = None
    id: str | None = None
    is_starred: bool | None = None


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has a `mapping`."""
    return isinstance(record.get("mapping"), dict)


def read(record: dict[str, Any], modified: int) -> Archive | None:
    """Return the archive with all branches."""
    found = msgspec.convert(record, _ChatGPTChat)
    key = found.conversation_id or found.id or next(iter(found.mapping), "")
    return archive_of(
        ForeignChat(
            "chatgpt",
            key,
            {name: _node(node) for name, node in found.mapping.items()},
            modified,
            title=found.title or "",
            system="\n\n".join(filter(None, (_system(node.message) for node in found.mapping.values()))),
            created=unix_ms(found.create_time),
            updated=unix_ms(found.update_time),
            current=found.current_node,
            pinned=bool(found.is_starred),
        )
    )


def _node(node: _ChatGPTNode) -> ForeignNode:
    message = node.message
    if message is None or not _is_spoken(message):
        return ForeignNode(node.parent, None, ())
    model = (message.metadata or {}).get("model_slug")
    role = role_of(message.author.role)
    return ForeignNode(
        node.parent,
        role,
        parts=spoken_parts(role, _text(message)),
        created=unix_ms(message.create_time),
        model=model if isinstance(model, str) else "",
    )


def _is_spoken(message: _ChatGPTMessage) -> bool:
    hidden = (message.metadata or {}).get("is_visually_hidden_from_conversation")
    kind = message.content.content_type if message.content else ""
    return not hidden and kind in _SPOKEN and message.recipient in (None, "all")


def _system(message: _ChatGPTMessage | None) -> str:
    return _text(message) if message and message.author.role == "system" and _is_spoken(message) else ""


def _text(message: _ChatGPTMessage) -> str:
    content = message.content
    return "" if content is None else words(content.parts) or content.text or ""


FORMAT = ImportFormat("ChatGPT", knows, read)
