"""The messages of OpenAI's chats become turns: calls and their results are parts of the answer that made them.

Nothing in a message can pass for a special token: what it says travels as plain text, as in every chat.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from qwenchat.chat.message import Text, ToolCall, ToolResult, TurnPart
from qwenchat.chat.ports import Mode
from qwenchat.chat.prompt import Turn
from qwenchat.chat.tools import ToolSpec
from qwenchat.server.api_errors import invalid, unsupported
from qwenchat.server.requests import ChatMessageIn, NamedTool, RequestedTool, given

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_TOOLS = 128
_NO_ARGUMENTS = '{"type": "object", "properties": {}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadChat:
    """A chat as an engine is asked about it."""

    turns: tuple[Turn, ...]
    mode: Mode
    must_call: bool = False


def read_chat(
    messages: Sequence[ChatMessageIn],
    tools: Sequence[RequestedTool] = (),
    choice: str | NamedTool | None = None,
    *,
    continues: bool = False,
) -> ReadChat:
    """Return a chat with the tools that may be called in it; it `continues` its last message.

    Raises ApiError, which names the message that makes no sense.
    """
    turns: list[Turn] = []
    for place, message in enumerate(messages):
        _add(turns, message, f"messages[{place}]")
    last, specs = turns[-1], _specs(tools, choice)
    open_calls = _open_calls(last)
    if open_calls:
        raise invalid("messages", f"The call {next(iter(open_calls))} has no message with its result.")
    if continues and (last.role != "assistant" or last.parts):
        raise invalid("continue_final_message", "The last message is no answer that could be continued.")
    answers_results = bool(last.parts) and isinstance(last.parts[-1], ToolResult)
    if specs:
        has_system = turns[0].role == "system"
        turns = [replace(turns[0], tools=specs) if has_system else Turn("system", "", tools=specs), *turns[has_system:]]
    return ReadChat(
        turns=tuple(turns),
        mode=Mode.CONTINUE if continues or answers_results else Mode.ANSWER,
        must_call=choice == "required" or isinstance(choice, NamedTool),
    )


def _add(turns: list[Turn], message: ChatMessageIn, param: str) -> None:
    """Add a message to the turns before it."""
    text, last = _text(message, param), turns[-1] if turns else None
    if message.role == "tool":
        call = _open_calls(last).get(message.tool_call_id or "")
        if call is None or last is None:
            raise invalid(f"{param}.tool_call_id", "No call before this message has this id.")
        turns[-1] = replace(last, text="", parts=(*last.parts, ToolResult(call.id, call.name, text)))
    elif message.role == "assistant":
        parts = _parts(text, message)
        if last and last.role == "assistant" and last.parts and isinstance(last.parts[-1], ToolResult):
            turns[-1] = replace(last, text=text, parts=(*last.parts, *parts))
        else:
            turns.append(Turn("assistant", text, parts=parts if message.tool_calls else ()))
    elif message.role == "user":
        turns.append(Turn("user", text))
    elif last and last.role == "system":
        turns[-1] = replace(last, text=f"{last.text}\n\n{text}")
    else:
        turns.append(Turn("system", text))


def _parts(text: str, message: ChatMessageIn) -> tuple[TurnPart, ...]:
    calls = (ToolCall(each.id, each.function.name, each.function.arguments) for each in message.tool_calls or ())
    return (*([Text(text)] if text else []), *calls)


def _open_calls(turn: Turn | None) -> dict[str, ToolCall]:
    """Return the calls of a turn that have no result yet, by their ids."""
    parts = turn.parts if turn else ()
    answered = {part.call_id for part in parts if isinstance(part, ToolResult)}
    return {part.id: part for part in parts if isinstance(part, ToolCall) and part.id not in answered}


def _text(message: ChatMessageIn, param: str) -> str:
    if message.content is None:
        if message.role != "assistant":
            raise invalid(f"{param}.content", "The message has no content.")
        return ""
    if isinstance(message.content, str):
        return message.content
    for place, part in enumerate(message.content):
        if part.type != "text" or part.text is None:
            raise unsupported(f"{param}.content[{place}]", "Only parts of the type text are supported.")
    return "\n".join(part.text or "" for part in message.content)


def _specs(tools: Sequence[RequestedTool], choice: str | NamedTool | None) -> tuple[ToolSpec, ...]:
    """Return the tools that may be called; where one of them has to be, that one alone."""
    if len(tools) > _MOST_TOOLS:
        raise invalid("tools", f"There may be at most {_MOST_TOOLS} tools.")
    specs = {each.function.name: _spec(each, f"tools[{place}]") for place, each in enumerate(tools)}
    if len(specs) < len(tools):
        raise invalid("tools", "Two tools have the same name.")
    if isinstance(choice, NamedTool):
        if choice.function.name not in specs:
            raise invalid("tool_choice", "There is no tool of this name.")
        return (specs[choice.function.name],)
    if choice == "required" and not specs:
        raise invalid("tool_choice", "There is no tool that could be called.")
    return () if choice == "none" else tuple(specs.values())


def _spec(tool: RequestedTool, param: str) -> ToolSpec:
    function = tool.function
    if not _NAME.fullmatch(function.name):
        raise invalid(f"{param}.function.name", "A name has up to 64 letters, digits, hyphens and underscores.")
    parameters = given(function.parameters) or _NO_ARGUMENTS
    if not isinstance(msgspec.json.decode(parameters), dict):
        raise invalid(f"{param}.function.parameters", "The parameters are no JSON Schema.")
    return ToolSpec(name=function.name, description=function.description or "", parameters=parameters)
