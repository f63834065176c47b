"""ShareGPT: `conversations` of `from` and `value`, or of `role` and `content`; `system` is beside or among them.

Function calls (`function_call`) and their results (`observation`) become parts of the answer.
"""

from typing import Any

import msgspec

from qwenchat.chat.message import Part, ToolCall, ToolResult, text_parts
from qwenchat.sessions.conversion import ImportedChat, LinearTurn, linear
from qwenchat.sessions.foreign import (
    Speaker,
    id_in,
    list_in,
    object_in,
    parts_of,
    speaker_of,
    text_in,
    tool_call,
    words,
)
from qwenchat.sessions.importers import ImportFormat


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has `conversations`."""
    return isinstance(record.get("conversations"), list) and "format" not in record


def read(record: dict[str, Any], modified: int) -> ImportedChat:
    """Return the archive."""
    turns = [_turn(turn) for turn in list_in(record.get("conversations"))]
    if system := text_in(record.get("system")):
        turns.insert(0, LinearTurn(system, Speaker.SYSTEM, text_parts(system)))
    return linear("sharegpt", turns, modified, key=id_in(record.get("id")), title=text_in(record.get("title")))


def _turn(value: object) -> LinearTurn:
    turn = object_in(value)
    name = text_in(turn.get("from"), turn.get("role"))
    speaker = speaker_of(name)
    content = turn.get("content") if turn.get("value") is None else turn["value"]
    return LinearTurn(value, speaker, _parts(content, speaker) if turn else None, name)


def _parts(content: object, speaker: Speaker) -> tuple[Part, ...] | None:
    if speaker is Speaker.CALL:
        return _calls(content if isinstance(content, str) else msgspec.json.encode(content).decode())
    if speaker is Speaker.RESULT:
        return (ToolResult("", "", words(content)),)
    return parts_of(content, speaker)


def _calls(text: str) -> tuple[ToolCall, ...]:
    """Return the calls of a turn; text that is not JSON becomes a call without a name."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        found = None
    calls = [object_in(each) for each in (found if isinstance(found, list) else [found])]
    named = tuple(tool_call("", call["name"], call.get("arguments", "")) for call in calls if text_in(call.get("name")))
    return named or (ToolCall("", "", text),)


FORMAT = ImportFormat("ShareGPT", knows, read)
