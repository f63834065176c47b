"""Reads single values of other programs' chats: who speaks, when, and what.

It never relies on the type of a value: an odd one is empty, so that it costs no more than its message. It knows no
format: the importers know where the values are.
"""

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from itertools import groupby
from typing import Any

import msgspec

from qwenchat.chat.events import Delta
from qwenchat.chat.message import Attachment, Part, Reasoning, Text, ToolCall, ToolResult, merged, text_parts
from qwenchat.chat.streaming import ReasoningReader
from qwenchat.i18n import _
from qwenchat.sessions.archive import MAX_TIME
from qwenchat.text.safe import clean_line, fenced


class Speaker(StrEnum):
    """Who speaks in a foreign chat."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    CALL = "call"
    """The model, to a tool."""
    RESULT = "result"
    """A tool."""
    UNKNOWN = "unknown"


_NAMES = {
    Speaker.USER: "user human me you prompter request 用户 人类 我 使用者",
    Speaker.ASSISTANT: "assistant model bot ai gpt chatgpt claude gemini bard bing copilot deepseek qwen llm response "
    "助手 助理 模型 机器人 人工智能 ai助手 智能助手",
    Speaker.SYSTEM: "system developer 系统",
    Speaker.CALL: "function_call tool_call",
    Speaker.RESULT: "tool function observation tool_response tool_result function_response ipython 工具",
}
_SPEAKERS = {name: speaker for speaker, names in _NAMES.items() for name in names.split()}
_SCALES = ((1e11, 1000.0), (1e14, 1.0), (1e17, 1e-3), (1e20, 1e-6))
"""(limit, factor): a time below the limit, times the factor, is in milliseconds. Seconds reach the year 5138."""
_NIL = "00000000-0000-"
"""The beginning of the ids that stand for no message."""
_ADDRESS = re.compile(r"https?://[^\s<>\"]{1,2000}")
_REASONING = ("thinking", "think", "reasoning", "reasoning_content")
_CALLS = ("tool_use", "server_tool_use", "tool_call", "function_call")


class _WrittenCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call as JSON; its arguments stay as they were written."""

    name: Any = None
    arguments: msgspec.Raw = msgspec.Raw(b"null")
    id: Any = None
    content: Any = None


class _Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    error: str


def object_in(value: object) -> dict[str, Any]:
    """Return an object; an empty one for any other value."""
    return value if isinstance(value, dict) else {}


def list_in(value: object) -> list[Any]:
    """Return a list; an empty one for any other value."""
    return value if isinstance(value, list) else []


def text_in(*values: object) -> str:
    """Return the first text that is not empty; an empty text if all others are missing or empty."""
    return next((value for value in values if isinstance(value, str) and value), "")


def id_in(*values: object) -> str:
    """Return the first id, a text or an integer, as text; an empty text without an id."""
    known = (str(value) if isinstance(value, int) and not isinstance(value, bool) else value for value in values)
    return text_in(*known)


def by_id(values: Iterable[object], key: str) -> dict[str, dict[str, Any]]:
    """Return objects by their ids; one without an id of its own gets a made name, another value is an empty object."""
    found: dict[str, dict[str, Any]] = {}
    for number, value in enumerate(values):
        name = id_in(object_in(value).get(key))
        found[name if name and name not in found else f"-{number}"] = object_in(value)
    return found


def parent_in(node: dict[str, Any], key: str) -> str | None:
    """Return a node's parent: None if the node begins the chat, an empty name if its parent is unknown."""
    parent = id_in(node.get(key))
    return None if node.get(key, "") is None or parent.startswith(_NIL) else parent


def speaker_of(name: object) -> Speaker:
    """Return who is meant by the name of a speaker, in any case."""
    return _SPEAKERS.get(name.strip().casefold(), Speaker.UNKNOWN) if isinstance(name, str) else Speaker.UNKNOWN


def unix_ms(time: object) -> int | None:
    """Return a time as Unix milliseconds; None for anything else.

    A time is a number of seconds, milliseconds, microseconds or nanoseconds since 1970, or a text with such a number or
    with a date as in ISO 8601, in UTC if it names no zone.
    """
    if isinstance(time, str):
        time = _seconds(time)
    if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time) or time <= 0:
        return None
    scale = next((scale for limit, scale in _SCALES if time < limit), None)
    return None if scale is None else min(int(time * scale), MAX_TIME - 1)


def parts_of(content: object, speaker: Speaker) -> tuple[Part, ...] | None:
    """Return the parts of a message's content, a text or a list of blocks; None if it is neither.

    Consecutive texts are joined as lines. A block that is neither text nor reasoning nor belongs to a tool becomes a
    `trace`.
    """
    if content is None:
        return ()
    if isinstance(content, str):
        return spoken_parts(content, speaker)
    if not isinstance(content, list | dict):
        return None
    blocks = content if isinstance(content, list) else [content]
    return lines(part for block in blocks for part in _block_parts(block, speaker))


def spoken_parts(text: str, speaker: Speaker) -> tuple[Part, ...]:
    """Return the parts of a text: `<think>` at the beginning of an answer contains its reasoning."""
    if speaker is not Speaker.ASSISTANT:
        return text_parts(text)
    reader = ReasoningReader()
    found = (*reader.feed(Delta(text)), *reader.finish())
    return merged(part for part in found if part not in (Text(""), Reasoning("")))


def lines(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return parts with consecutive texts joined as lines."""
    joined: list[Part] = []
    for kind, group in groupby(parts, key=type):
        same = list(group)
        if kind is Text:
            joined += text_parts("\n".join(part.text for part in same if isinstance(part, Text) and part.text))
        else:
            joined += same
    return tuple(joined)


def words(content: object) -> str:
    """Return a content as text alone."""
    return "\n".join(part.text for part in parts_of(content, Speaker.RESULT) or () if isinstance(part, Text))


def tool_call(call_id: object, name: object, arguments: object) -> ToolCall:
    """Return a call. Arguments that are not text already become JSON."""
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return ToolCall(id_in(call_id), text_in(name), "{}" if arguments is None else text)


def written_calls(content: object) -> tuple[Part, ...]:
    """Return the calls of a turn that is nothing else, one or an array, as JSON; other text is a call without a name.

    A call may have its `id`, and the text before it as `content`.
    """
    text = content if isinstance(content, str) else msgspec.json.encode(content).decode()
    try:
        calls = msgspec.json.decode(text, type=list[_WrittenCall] | _WrittenCall)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return (ToolCall("", "", text),)
    parts: list[Part] = []
    for call in calls if isinstance(calls, list) else [calls]:
        if text_in(call.name):
            arguments = bytes(call.arguments).decode()
            given = msgspec.json.decode(arguments) if arguments[0] in '"n' else arguments
            parts += [*text_parts(text_in(call.content)), tool_call(call.id, call.name, given)]
    return tuple(parts) or (ToolCall("", "", text),)


def tool_result(call_id: object, name: object, content: object) -> ToolResult:
    """Return a result; `{"error": "…"}` and nothing else is that of a call that failed."""
    text = words(content)
    try:
        failed = msgspec.json.decode(text, type=_Failure)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return ToolResult(id_in(call_id), text_in(name), text)
    return ToolResult(id_in(call_id), text_in(name), failed.error, is_error=True)


def trace(kind: str, name: object = "") -> str:
    """Return a line in brackets that stands for a picture, a file or anything else that is not imported."""
    shown = next((label for word, label in _labels() if word in kind.lower()), clean_line(kind, 40))
    name = clean_line(name, 120) if isinstance(name, str) else ""
    return f"[{shown}: {name}]" if name else f"[{shown}]"


def file_trace(file: object) -> str:
    """Return the trace of an uploaded file, an object with a name and maybe a type; empty for anything else."""
    found = object_in(file)
    name = text_in(*map(found.get, ("name", "file_name", "filename")), object_in(found.get("file")).get("filename"))
    kind = text_in(*map(found.get, ("mimeType", "mime_type", "type", "file_type", "file_kind")))
    return trace(kind if any(word in kind.lower() for word, _label in _labels()) else "file", name) if found else ""


def link(title: object, address: object) -> str:
    """Return a Markdown link; empty if the address is not one of the web."""
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        return ""
    shown = re.sub(r"[][]", "", clean_line(text_in(title), 120)) or re.sub(r"https?://|/.*", "", address)
    return f"[{shown}]({address.replace('(', '%28').replace(')', '%29')})"


def document(name: object, text: str) -> str:
    """Return a document that was written beside the chat, as a part of its answer."""
    return f"{trace('document', name)}\n{fenced(text)}"


def text_file(name: object, content: object) -> Attachment | None:
    """Return an attached file of text; None if its content is not known."""
    if not isinstance(content, str) or not content:
        return None
    return Attachment(clean_line(text_in(name)) or _("file"), "text/plain", content.encode())


def _labels() -> tuple[tuple[str, str], ...]:
    return (
        ("image", _("picture")),
        ("picture", _("picture")),
        ("audio", _("audio")),
        ("video", _("video")),
        ("document", _("document")),
        ("file", _("file")),
    )


def _seconds(text: str) -> float | None:
    """Return the time of a text, as a number of any unit or in seconds."""
    if len(text) > 40:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _block_parts(block: object, speaker: Speaker) -> Iterable[Part]:
    if isinstance(block, str):
        return spoken_parts(block, speaker)
    found = object_in(block)
    kind = text_in(found.get("type"), found.get("content_type"))
    if kind in _REASONING:
        return _reasoning(found)
    if kind in _CALLS:
        return _called(object_in(found.get("tool_call")) or found)
    if kind.endswith("tool_result"):
        text, is_error = words(found.get("content")), found.get("is_error") is True
        return (ToolResult(id_in(found.get("tool_use_id")), text_in(found.get("name")), text, is_error=is_error),)
    text = text_in(found.get("text"), object_in(found.get("text")).get("value"))
    if text or "text" in found:
        return spoken_parts(text, speaker)
    return text_parts(trace(kind, found.get("name"))) if kind else ()


def _reasoning(found: dict[str, Any]) -> Iterable[Part]:
    text = text_in(*map(found.get, (*_REASONING, "text", "content")))
    return (Reasoning(text),) if text else ()


def _called(found: dict[str, Any]) -> Iterable[Part]:
    """Yield the call of a block and, where the block has it, its result."""
    given = [found[key] for key in ("input", "args", "arguments") if key in found]
    call = tool_call(found.get("id"), found.get("name"), given[0] if given else None)
    yield call
    if output := words(found.get("output")):
        yield ToolResult(call.id, call.name, output)
