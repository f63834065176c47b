"""Open WebUI's chat export: an array of chats, each with a tree of messages or, in old exports, a plain list.

Reasoning that is folded in an answer (`<details type="reasoning">`) becomes a part of it.
"""

import re
from html import unescape
from typing import Any

import msgspec

from qwenchat.chat.message import Part, Reasoning, Role
from qwenchat.sessions.archive import Archive
from qwenchat.sessions.conversion import ForeignChat, ForeignNode, archive_of, role_of, spoken_parts, unix_ms, words
from qwenchat.sessions.importers import ImportFormat

_FOLDED = re.compile(r'<details type="reasoning"[^<>]{0,500}>\s{0,20}(?:<summary>[^<>]{0,500}</summary>)?')
_FOLDED_END = "</details>"
_QUOTED = re.compile("^&gt; ?|^> ?", re.MULTILINE)


class _OpenWebUIMessage(msgspec.Struct):
    role: str
    content: Any = None
    id: str | None = None
    parent: str | None = msgspec.field(default=None, name="parentId")
    timestamp: Any = None
    model: Any = None


class _OpenWebUIHistory(msgspec.Struct):
    messages: dict[str, _OpenWebUIMessage]
    current: str | None = msgspec.field(default=None, name="currentId")


class _OpenWebUIChat(msgspec.Struct):
    history: _OpenWebUIHistory | None = None
    messages: list[_OpenWebUIMessage] | None = None
    title: str | None = None
    params: dict[str, Any] | None = None
    system: str | None = None
    tags: Any = None
    timestamp: Any = None
    id: str | None = None


class _OpenWebUIExport(msgspec.Struct):
    chat: _OpenWebUIChat
    id: str | None = None
    title: str | None = None
    created_at: Any = None
    updated_at: Any = None
    pinned: bool | None = None
    meta: dict[str, Any] | None = None


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has a `chat`, or the `history` of one, with messages in either."""
    chat = record.get("chat", record)
    if not isinstance(chat, dict):
        return False
    return isinstance(chat.get("history"), dict) or ("chat" in record and isinstance(chat.get("messages"), list))


def read(record: dict[str, Any], modified: int) -> Archive | None:
    """Return the archive with all branches."""
    found = msgspec.convert(record if "chat" in record else {"chat": record}, _OpenWebUIExport)
    chat = found.chat
    messages, current = _tree(chat)
    params = chat.params or {}
    system = [chat.system, params.get("system"), *(words(m.content) for m in messages.values() if m.role == "system")]
    return archive_of(
        ForeignChat(
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


def _tree(chat: _OpenWebUIChat) -> tuple[dict[str, _OpenWebUIMessage], str | None]:
    """Return the messages by their ids, and the id at the end of the open branch."""
    if chat.history is not None and chat.history.messages:
        return chat.history.messages, chat.history.current
    messages: dict[str, _OpenWebUIMessage] = {}
    above: str | None = None
    for number, message in enumerate(chat.messages or ()):
        name = message.id or str(number)
        messages[name] = msgspec.structs.replace(message, parent=above)
        above = name
    return messages, above


def _node(message: _OpenWebUIMessage) -> ForeignNode:
    model = message.model if isinstance(message.model, str) else ""
    role, text = role_of(message.role), words(message.content)
    parts = _answer_parts(text) if role is Role.ASSISTANT else spoken_parts(role, text)
    return ForeignNode(message.parent, role, parts=parts, created=unix_ms(message.timestamp), model=model)


def _answer_parts(text: str) -> tuple[Part, ...]:
    """Return the parts of an answer, in which folded reasoning is a separate part."""
    parts: list[Part] = []
    done = 0
    while (opening := _FOLDED.search(text, done)) and (end := text.find(_FOLDED_END, opening.end())) >= 0:
        parts += _text_parts(text[done : opening.start()])
        parts.append(Reasoning(unescape(_QUOTED.sub("", text[opening.end() : end].strip("\n")))))
        done = end + len(_FOLDED_END)
    return (*parts, *_text_parts(text[done:])) if parts else spoken_parts(Role.ASSISTANT, text)


def _text_parts(text: str) -> tuple[Part, ...]:
    return spoken_parts(Role.ASSISTANT, text.strip("\n")) if text.strip() else ()


def _tags(tags: object) -> tuple[str, ...]:
    """Return tags, which are strings or, in old exports, objects with a name."""
    named = [tag.get("name") if isinstance(tag, dict) else tag for tag in tags] if isinstance(tags, list) else []
    return tuple(tag for tag in named if isinstance(tag, str) and tag.strip())


FORMAT = ImportFormat("Open WebUI", knows, read)
