"""ShareGPT: `conversations` of `from` and `value`, or of `role` and `content`; `system` is beside or among them.

Function calls (`function_call`) and their results (`observation`) become parts of the answer. Behind several calls, an
observation may be an array with the result of each.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from qwenchat.chat.message import Part, ToolCall, text_parts
from qwenchat.sessions.conversion import ImportedChat, LinearTurn, linear
from qwenchat.sessions.foreign import (
    Speaker,
    id_in,
    list_in,
    object_in,
    parts_of,
    speaker_of,
    text_in,
    tool_result,
    written_calls,
)
from qwenchat.sessions.importers import ImportFormat


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has `conversations`."""
    return isinstance(record.get("conversations"), list) and "format" not in record


def read(record: dict[str, Any], modified: int) -> ImportedChat:
    """Return the archive."""
    turns: list[LinearTurn] = []
    for value in list_in(record.get("conversations")):
        before = turns[-1].parts if turns else ()
        turns.append(_turn(value, called=sum(isinstance(part, ToolCall) for part in before or ())))
    if system := text_in(record.get("system")):
        turns.insert(0, LinearTurn(system, Speaker.SYSTEM, text_parts(system)))
    return linear("sharegpt", turns, modified, key=id_in(record.get("id")), title=text_in(record.get("title")))


def _turn(value: object, *, called: int) -> LinearTurn:
    """Return a turn; the one before it made so many calls."""
    turn = object_in(value)
    name = text_in(turn.get("from"), turn.get("role"))
    speaker = speaker_of(name)
    content = turn.get("content") if turn.get("value") is None else turn["value"]
    parts: tuple[Part, ...] | None = None
    if speaker is Speaker.CALL:
        parts = written_calls(content)
    elif speaker is Speaker.RESULT:
        parts = tuple(tool_result(turn.get("tool_call_id"), turn.get("name"), each) for each in _each(content, called))
    elif turn:
        parts = parts_of(content, speaker)
    return LinearTurn(value, speaker, parts, name)


def _each(content: object, count: int) -> Sequence[object]:
    """Return the results of so many calls, if an observation is an array of just these."""
    if count < 2 or not isinstance(content, str):
        return [content]
    try:
        results = msgspec.json.decode(content, type=list[str])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return [content]
    return results if len(results) == count else [content]


FORMAT = ImportFormat("ShareGPT", knows, read)
