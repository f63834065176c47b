"""The export of llama-server's web interface: `conv` and `messages`, with every branch.

Reasoning and tool calls become parts of the answer, and files of text become attachments of the question.
"""

from typing import Any

import msgspec

from qwenchat.chat.message import Part, Reasoning, Text
from qwenchat.sessions.conversion import ForeignChat, ForeignNode, ImportedChat, archive_of
from qwenchat.sessions.foreign import (
    Speaker,
    by_id,
    file_trace,
    id_in,
    lines,
    list_in,
    object_in,
    parts_of,
    speaker_of,
    text_file,
    text_in,
    tool_call,
    tool_result,
    unix_ms,
)
from qwenchat.sessions.importers import ImportFormat


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has `conv` and `messages`."""
    return isinstance(record.get("conv"), dict) and isinstance(record.get("messages"), list)


def read(record: dict[str, Any], modified: int) -> ImportedChat:
    """Return the archive with all branches."""
    chat = object_in(record.get("conv"))
    return archive_of(
        ForeignChat(
            "llama-server",
            id_in(chat.get("id")),
            {name: _node(message) for name, message in by_id(list_in(record.get("messages")), "id").items()},
            modified,
            title=text_in(chat.get("name")),
            updated=unix_ms(chat.get("lastModified")),
            current=id_in(chat.get("currNode")),
            pinned=chat.get("pinned") is True,
        )
    )


def _node(message: dict[str, Any]) -> ForeignNode:
    name = text_in(message.get("role"))
    speaker = speaker_of(name)
    extras = list(map(object_in, list_in(message.get("extra"))))
    files = [text_file(each.get("name"), each.get("content")) for each in extras]
    parts = _parts(message, speaker) if message else None
    traces = (Text(file_trace(each)) for each, file in zip(extras, files, strict=True) if each and not file)
    parent = id_in(message.get("parent"))
    return ForeignNode(
        None if parent == "-1" or message.get("parent", "") is None else parent,
        speaker,
        () if message.get("type") == "root" else None if parts is None else lines((*traces, *parts)),
        created=unix_ms(message.get("timestamp")),
        model=text_in(message.get("model")),
        attachments=tuple(file for file in files if file),
        children=[id_in(child) for child in list_in(message.get("children"))],
        name=name,
    )


def _parts(message: dict[str, Any], speaker: Speaker) -> tuple[Part, ...] | None:
    if speaker is Speaker.RESULT:
        return (tool_result(message.get("toolCallId"), message.get("name"), message.get("content")),)
    said = parts_of(message.get("content"), speaker)
    if said is None:
        return None
    reasoning = text_in(message.get("reasoningContent"), message.get("thinking"))
    calls = message.get("toolCalls")
    try:
        found = msgspec.json.decode(calls) if isinstance(calls, str) and calls else calls
    except (msgspec.DecodeError, RecursionError):
        found = None
    functions = [(object_in(each), object_in(object_in(each).get("function"))) for each in list_in(found)]
    made = [tool_call(each.get("id"), call.get("name"), call.get("arguments")) for each, call in functions if call]
    return (*([Reasoning(reasoning)] if reasoning else ()), *said, *made)


FORMAT = ImportFormat("llama-server", knows, read)
