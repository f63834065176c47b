"""Open WebUI's chat export: an array of chats, each with a tree of messages or, in old exports, a plain list.

Reasoning and tool calls that are folded in an answer (`<details type="reasoning">`) become parts of it.
"""

import re
from collections.abc import Iterable
from html import unescape
from typing import Any

import msgspec

from qwenchat.chat.message import Part, Reasoning, Text, ToolCall, ToolResult
from qwenchat.sessions.conversion import ForeignChat, ForeignNode, ImportedChat, archive_of
from qwenchat.sessions.foreign import (
    Speaker,
    by_id,
    file_trace,
    id_in,
    lines,
    list_in,
    object_in,
    parent_in,
    parts_of,
    speaker_of,
    spoken_parts,
    text_in,
    unix_ms,
)
from qwenchat.sessions.importers import ImportFormat
from qwenchat.text.safe import joined

_FOLDED = re.compile(
    r'<details type="(reasoning|tool_calls)"([^<>]{0,100000})>\s{0,20}(?:<summary>[^<>]{0,500}</summary>)?'
)
_FOLDED_END = "</details>"
_QUOTED = re.compile("^&gt; ?|^> ?", re.MULTILINE)
_ATTRIBUTE = re.compile(r'(\w{1,20})="([^"]*)"')


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has a `chat`, or the `history` of one, with messages in either."""
    chat = record.get("chat", record)
    if not isinstance(chat, dict):
        return False
    return isinstance(chat.get("history"), dict) or ("chat" in record and isinstance(chat.get("messages"), list))


def read(record: dict[str, Any], modified: int) -> ImportedChat:
    """Return the archive with all branches."""
    chat = object_in(record.get("chat", record))
    history = object_in(chat.get("history"))
    messages = history.get("messages") or chat.get("messages")
    if isinstance(messages, dict):
        nodes = {name: _node(message, parent_in(object_in(message), "parentId")) for name, message in messages.items()}
    else:
        nodes, before = {}, None
        for name, message in by_id(list_in(messages), "id").items():
            nodes[name] = _node(message, before)
            before = name
    return archive_of(
        ForeignChat(
            "openwebui",
            id_in(record.get("id"), chat.get("id")),
            nodes,
            modified,
            title=text_in(record.get("title"), chat.get("title")),
            system=joined(text_in(chat.get("system")), text_in(object_in(chat.get("params")).get("system"))),
            created=unix_ms(record.get("created_at")) or unix_ms(chat.get("timestamp")),
            updated=unix_ms(record.get("updated_at")),
            current=text_in(history.get("currentId")),
            pinned=record.get("pinned") is True,
            tags=_tags(object_in(record.get("meta")).get("tags") or chat.get("tags")),
        )
    )


def _node(value: object, parent: str | None) -> ForeignNode:
    message = object_in(value)
    name = text_in(message.get("role"))
    speaker = speaker_of(name)
    content = message.get("content")
    parts: tuple[Part, ...] | None = None
    if speaker is Speaker.ASSISTANT and isinstance(content, str):
        parts = _answer_parts(content)
    elif message:
        parts = parts_of(content, speaker)
    files = (Text(file_trace(file)) for file in list_in(message.get("files")) if file)
    return ForeignNode(
        parent,
        speaker,
        None if parts is None else lines((*files, *parts)),
        created=unix_ms(message.get("timestamp")),
        model=text_in(message.get("model")),
        children=list_in(message.get("childrenIds")),
        name=name,
    )


def _answer_parts(text: str) -> tuple[Part, ...]:
    """Return the parts of an answer, in which folded reasoning and tool calls are separate parts."""
    parts: list[Part] = []
    done = 0
    while (opening := _FOLDED.search(text, done)) and (end := text.find(_FOLDED_END, opening.end())) >= 0:
        parts += _text_parts(text[done : opening.start()])
        parts += _folded_parts(opening, text[opening.end() : end])
        done = end + len(_FOLDED_END)
    return (*parts, *_text_parts(text[done:])) if parts else spoken_parts(text, Speaker.ASSISTANT)


def _folded_parts(opening: re.Match[str], text: str) -> Iterable[Part]:
    if opening[1] == "reasoning":
        return (Reasoning(unescape(_QUOTED.sub("", text.strip("\n")))),)
    given = {name: unescape(value) for name, value in _ATTRIBUTE.findall(opening[2])}
    call = ToolCall(given.get("id", ""), given.get("name", ""), _as_text(given.get("arguments", "")))
    result = _as_text(given.get("result", ""))
    return (call, ToolResult(call.id, call.name, result)) if result else (call,)


def _as_text(value: str) -> str:
    """Return a text that may be quoted as JSON."""
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return value
    return found if isinstance(found, str) else value


def _text_parts(text: str) -> tuple[Part, ...]:
    return spoken_parts(text.strip("\n"), Speaker.ASSISTANT) if text.strip() else ()


def _tags(tags: object) -> tuple[str, ...]:
    """Return tags, which are strings or, in old exports, objects with a name."""
    named = [tag.get("name") if isinstance(tag, dict) else tag for tag in list_in(tags)]
    return tuple(tag for tag in named if isinstance(tag, str) and tag.strip())


FORMAT = ImportFormat("Open WebUI", knows, read)
