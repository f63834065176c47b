"""Claude's export: `conversations.json`, alone or in its zip.

Thoughts and tool calls become parts of the answer, artifacts become text, and what was extracted from an attached file
becomes an attachment of the question.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from qwenchat.chat.message import Part, Text, ToolCall
from qwenchat.sessions.conversion import ForeignChat, ForeignNode, ImportedChat, archive_of
from qwenchat.sessions.foreign import (
    by_id,
    document,
    file_trace,
    id_in,
    lines,
    list_in,
    object_in,
    parent_in,
    parts_of,
    speaker_of,
    text_file,
    text_in,
    unix_ms,
)
from qwenchat.sessions.importers import ImportFormat


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has `chat_messages`."""
    return isinstance(record.get("chat_messages"), list)


def read(record: dict[str, Any], modified: int) -> ImportedChat:
    """Return the archive, with all branches if the export says how messages follow each other."""
    nodes: dict[str, ForeignNode] = {}
    before: str | None = None
    for name, message in by_id(list_in(record.get("chat_messages")), "uuid").items():
        nodes[name] = _node(message, before)
        before = name
    return archive_of(
        ForeignChat(
            "claude",
            id_in(record.get("uuid")),
            nodes,
            modified,
            title=text_in(record.get("name")),
            created=unix_ms(record.get("created_at")),
            updated=unix_ms(record.get("updated_at")),
            current=text_in(record.get("current_leaf_message_uuid")),
            pinned=record.get("is_starred") is True,
        )
    )


def _node(message: dict[str, Any], before: str | None) -> ForeignNode:
    """Return the node of a message, which follows the one before it unless it names another."""
    name = text_in(message.get("sender"), message.get("role"))
    speaker = speaker_of(name)
    content = message.get("content") or message.get("text")
    parts = parts_of(content, speaker) if message else None
    files = [*map(object_in, list_in(message.get("attachments"))), *map(object_in, list_in(message.get("files")))]
    texts = [text_file(file.get("file_name"), file.get("extracted_content")) for file in files]
    traces = (Text(file_trace(file)) for file, text in zip(files, texts, strict=True) if file and not text)
    return ForeignNode(
        parent_in(message, "parent_message_uuid") if "parent_message_uuid" in message else before,
        speaker,
        None if parts is None else lines((*traces, *_readable(parts))),
        created=unix_ms(message.get("created_at")),
        model=text_in(message.get("model")),
        attachments=tuple(text for text in texts if text),
        name=name,
    )


def _readable(parts: tuple[Part, ...]) -> Iterator[Part]:
    """Yield the parts of an answer, in which a call that writes an artifact is its text."""
    for part in parts:
        arguments = _arguments(part) if isinstance(part, ToolCall) and part.name == "artifacts" else {}
        text = text_in(arguments.get("content"), arguments.get("new_str"))
        yield Text(document(text_in(arguments.get("title"), arguments.get("id")), text)) if text else part


def _arguments(call: ToolCall) -> dict[str, Any]:
    try:
        return object_in(msgspec.json.decode(call.arguments))
    except (msgspec.DecodeError, RecursionError):
        return {}


FORMAT = ImportFormat("Claude", knows, read)
