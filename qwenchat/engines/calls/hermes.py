"""The format of Hermes, which Qwen2.5 and its kin learnt: `<tool_call>{"name": …, "arguments": …}</tool_call>`.

Source of the wording: the chat template of Qwen2.5-Instruct. Results are a turn of the user's to the model.
"""

import json
import re
from collections.abc import Collection, Sequence

from qwenchat.chat.message import Reasoning, Text, ToolCall, ToolResult, TurnPart
from qwenchat.chat.prompt import Plain, PromptPart, Special, Tokens
from qwenchat.chat.tools import ToolSpec
from qwenchat.engines.calls.format import CallMarkers, CallSyntax, unforged
from qwenchat.engines.calls.loose_json import json_object

_BEGIN, _END = "<tool_call>", "</tool_call>"
_RESULT, _RESULT_END = "<tool_response>", "</tool_response>"
_BARE = '{"name":"'
"""What a call without markers begins with, white space left out."""
_ARGUMENTS = ',"arguments":{'
"""What follows the name in it."""
_LONGEST_NAME = 100
"""Characters of a name, which small models make up."""
_FENCES = ("```json", "```")


class HermesFormat:
    """Implements `CallFormat`."""

    markers = CallMarkers(begin=_BEGIN, end=_END, stops=(_RESULT,), all=(_BEGIN, _END, _RESULT, _RESULT_END))

    def system(self, text: str, tools: Sequence[ToolSpec], *, chinese: bool) -> list[PromptPart]:
        signatures = "\n".join(_signature(tool) for tool in tools)
        return [
            Plain(
                f"{text}\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
                "You are provided with function signatures within <tools></tools> XML tags:\n"
                f"<tools>\n{signatures}\n</tools>\n\n"
                "For each function call, return a json object with function name and arguments within "
            ),
            Special(
                f"{_BEGIN}{_END} XML tags:\n"
                f'{_BEGIN}\n{{"name": <function-name>, "arguments": <args-json-object>}}\n{_END}'
            ),
        ]

    def answer(self, parts: Sequence[TurnPart], *, is_open: bool) -> list[PromptPart]:
        written: list[PromptPart] = []
        before: TurnPart | None = None
        for part in parts:
            if isinstance(part, ToolResult):
                turn = [] if isinstance(before, ToolResult) else [Special("<|im_end|>"), Plain("\n"), *_turn("user")]
                between = [Plain("\n")] if isinstance(before, ToolResult) else []
                result = Plain(unforged(part.text, self.markers))
                written += [*turn, *between, Special(f"{_RESULT}\n"), result, Special(f"\n{_RESULT_END}")]
            else:
                if isinstance(before, ToolResult):
                    written += _answer_again()
                written += _generated(part, is_first=not isinstance(before, Text | ToolCall | Reasoning))
            before = part
        if is_open and isinstance(before, ToolResult):
            written += _answer_again()
        return written

    def syntax(self, tool: ToolSpec) -> CallSyntax:
        name = json.dumps(tool.name)
        return CallSyntax(
            before=f'\n{{"name": {name}, "arguments": ',
            bare=rf'[ \n]*(```(json)?[ \n]*)?\{{[ \n]*"name":[ \n]*"{re.escape(tool.name)}",[ \n]*"arguments":',
            after=f"}}\n{_END}",
            parameters=tool.parameters,
        )

    def may_be_bare(self, text: str, names: Collection[str]) -> bool:
        opened = text.lstrip()
        fence = next((fence for fence in _FENCES if opened.startswith(fence)), "")
        if not fence and any(fence.startswith(opened) for fence in _FENCES):
            return True
        written = "".join(opened.removeprefix(fence).split()).replace("'", '"')
        name, is_whole, rest = written.removeprefix(_BARE).partition('"')
        if not written.startswith(_BARE):
            return _BARE.startswith(written) or (fence == "```" and "json".startswith(written))
        if not is_whole or name in names:
            return len(name) <= _LONGEST_NAME
        return rest.startswith(_ARGUMENTS) or _ARGUMENTS.startswith(rest)

    def parse(self, text: str) -> tuple[str, str] | None:
        found = json_object(text)
        if not found or not isinstance(name := found.get("name"), str):
            return None
        arguments = found.get("arguments", found.get("parameters")) or {}
        if isinstance(arguments, str):  # some models write the object as a text once more
            arguments = json_object(arguments) or arguments
        return name, json.dumps(arguments, ensure_ascii=False)


def _signature(tool: ToolSpec) -> str:
    function = {"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters)}
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)


def _turn(role: str) -> list[PromptPart]:
    return [Special("<|im_start|>"), Plain(f"{role}\n")]


def _answer_again() -> list[PromptPart]:
    return [Special("<|im_end|>"), Plain("\n"), *_turn("assistant")]


def _generated(part: Text | Reasoning | ToolCall, *, is_first: bool) -> list[PromptPart]:
    """Return a part as it was sampled, else as the template would write it."""
    if part.token_ids:
        return [Tokens(part.token_ids)]
    if isinstance(part, ToolCall):
        call = f'\n{{"name": {json.dumps(part.name)}, "arguments": {part.arguments}}}\n'
        return [*([] if is_first else [Plain("\n")]), Special(_BEGIN), Plain(call), Special(_END)]
    return [Plain(f"<think>{part.text}</think>\n\n" if isinstance(part, Reasoning) else part.text)]
