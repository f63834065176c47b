"""OpenAI's chat `messages`, as in requests and fine-tuning files, one chat per line or in an array.

Tool calls and their results become parts of the answer, and so does `reasoning_content`, which DeepSeek's API and vLLM
write beside `content`.
"""

from typing import Any

import msgspec

from qwenchat.chat.message import Part, Reasoning, Role, ToolResult
from qwenchat.sessions.archive import Archive
from qwenchat.sessions.conversion import LinearTurn, linear, spoken_parts, tool_call, words
from qwenchat.sessions.importers import ImportFormat

_ROLES = {"developer": "system"}


class _OpenAIMessage(msgspec.Struct):
    role: str
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    """The name of `reasoning_content` in other services."""
    tool_calls: Any = None
    tool_call_id: Any = None
    name: Any = None


class _OpenAIChat(msgspec.Struct):
    messages: list[_OpenAIMessage]
    title: Any = ""


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has `messages`, but none of the keys of other formats that have them, too."""
    return isinstance(record.get("messages"), list) and not {"history", "format", "mapping"} & record.keys()


def read(record: dict[str, Any], modified: int) -> Archive | None:
    """Return the archive."""
    found = msgspec.convert(record, _OpenAIChat)
    tools: dict[str, str] = {}
    turns = [_turn(message, tools) for message in found.messages]
    return linear("openai", turns, modified, found.title if isinstance(found.title, str) else "")


def _turn(message: _OpenAIMessage, tools: dict[str, str]) -> LinearTurn:
    """Return a turn; `tools` maps the ids of earlier calls to the names of their tools and is updated."""
    role, text = _ROLES.get(message.role, message.role), words(message.content)
    if role == "tool":
        call_id = message.tool_call_id if isinstance(message.tool_call_id, str) else ""
        name = message.name if isinstance(message.name, str) else tools.get(call_id, "")
        return LinearTurn(role, text, (ToolResult(call_id, name, text),))
    if role != Role.ASSISTANT:
        return LinearTurn(role, text)
    reasoning = message.reasoning_content or message.reasoning
    parts: list[Part] = [Reasoning(reasoning)] if isinstance(reasoning, str) and reasoning else []
    parts += spoken_parts(Role.ASSISTANT, text)
    for record in message.tool_calls if isinstance(message.tool_calls, list) else ():
        if isinstance(record, dict) and (call := tool_call(record.get("id"), record.get("function"))):
            tools[call.id] = call.name
            parts.append(call)
    return LinearTurn(role, text, tuple(parts))


FORMAT = ImportFormat("OpenAI messages", knows, read)
