"""ShareGPT: `conversations` of `from` and `value`, or of `role` and `content`; `system` is beside or among them.

Function calls (`function_call`) and their results (`observation`) become parts of the answer.
"""

from typing import Any

import msgspec

from qwenchat.chat.message import ToolCall, ToolResult
from qwenchat.sessions.archive import Archive
from qwenchat.sessions.conversion import LinearTurn, linear, tool_call, words
from qwenchat.sessions.importers import ImportFormat

_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant"}


class _ShareGPTTurn(msgspec.Struct):
    speaker: str = msgspec.field(default="", name="from")
    value: Any = None
    role: str = ""
    content: Any = None


class _ShareGPTChat(msgspec.Struct):
    conversations: list[_ShareGPTTurn]
    system: str | None = None


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has `conversations`."""
    return isinstance(record.get("conversations"), list)


def read(record: dict[str, Any], modified: int) -> Archive | None:
    """Return the archive."""
    found = msgspec.convert(record, _ShareGPTChat)
    turns = [LinearTurn("system", found.system)] if found.system else []
    unanswered: list[ToolCall] = []
    for number, turn in enumerate(found.conversations):
        name = turn.speaker or turn.role
        role, text = _ROLES.get(name, name), words(turn.content if turn.value is None else turn.value)
        if role == "function_call":
            unanswered = _calls(text, number)
            turns.append(LinearTurn(role, text, tuple(unanswered)))
        elif role == "observation":
            call = unanswered.pop(0) if unanswered else ToolCall("", "", "")
            turns.append(LinearTurn(role, text, (ToolResult(call.id, call.name, text),)))
        else:
            turns.append(LinearTurn(role, text))
    return linear("sharegpt", turns, modified)


def _calls(text: str, number: int) -> list[ToolCall]:
    """Return the calls of a turn, with generated ids; text that is not JSON becomes a call without a name."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        found = None
    calls = [tool_call("", each) for each in (found if isinstance(found, list) else [found])]
    named = [ToolCall(f"call-{number}-{n}", call.name, call.arguments) for n, call in enumerate(calls) if call]
    return named or [ToolCall(f"call-{number}-0", "", text)]


FORMAT = ImportFormat("ShareGPT", knows, read)
