"""Qwen2's own format: `✿FUNCTION✿: name⏎✿ARGS✿: {…}⏎✿RESULT✿: …⏎✿RETURN✿: answer`, all of it one turn of the model.

Source of the wording: the prompts that Qwen2 was trained on, in English and in Chinese, as `shared/facts` quotes them
from Qwen-Agent 0.0.6.
"""

import json
from collections.abc import Collection, Sequence

from qwenchat.chat.message import Reasoning, Text, ToolCall, ToolResult, TurnPart
from qwenchat.chat.prompt import Plain, PromptPart, Tokens
from qwenchat.chat.tools import ToolSpec
from qwenchat.engines.calls.format import CallMarkers, CallSyntax, unforged
from qwenchat.engines.calls.loose_json import json_object

_FUNCTION, _ARGS, _RESULT, _RETURN = "✿FUNCTION✿", "✿ARGS✿", "✿RESULT✿", "✿RETURN✿"
_AROUND = ":： \n"
"""What may stand around a name and around arguments."""


class QwenFormat:
    """Implements `CallFormat`."""

    markers = CallMarkers(begin=_FUNCTION, end="", stops=(_RESULT, _RETURN), all=(_FUNCTION, _ARGS, _RESULT, _RETURN))

    def system(self, text: str, tools: Sequence[ToolSpec], *, chinese: bool) -> list[PromptPart]:
        names = ",".join(tool.name for tool in tools)
        described = "\n\n".join(_described(tool, chinese=chinese) for tool in tools)
        if chinese:
            words = (
                f"# 工具\n\n## 你拥有如下工具：\n\n{described}\n\n"
                "## 你可以在回复中插入零次、一次或多次以下命令以调用工具：\n\n"
                f"{_FUNCTION}: 工具名称，必须是[{names}]之一。\n{_ARGS}: 工具输入\n{_RESULT}: 工具结果\n"
                f"{_RETURN}: 根据工具结果进行回复，需将图片用![](url)渲染出来"
            )
            return [Plain(f"{text}\n\n{words}")]
        words = (
            f"# Tools\n\n## You have access to the following tools:\n\n{described}\n\n"
            "## When you need to call a tool, please insert the following command in your reply, which can be called "
            "zero or multiple times according to your needs:\n\n"
            f"{_FUNCTION}: The tool to use, should be one of [{names}]\n{_ARGS}: The input of the tool\n"
            f"{_RESULT}: Tool results\n"
            f"{_RETURN}: Reply based on tool results. Images need to be rendered as ![](url)"
        )
        return [Plain(f"{text}\n\n{words}")]

    def answer(self, parts: Sequence[TurnPart], *, is_open: bool) -> list[PromptPart]:
        written: list[PromptPart] = []
        before: TurnPart | None = None
        for part in parts:
            if isinstance(part, ToolResult):
                written.append(Plain(f"\n{_RESULT}: {unforged(part.text, self.markers)}"))
            else:
                if isinstance(before, ToolResult):
                    written.append(Plain(f"\n{_RETURN}:"))
                written += _generated(part, is_first=not isinstance(before, Text | ToolCall))
            before = part
        if is_open and isinstance(before, ToolResult):
            written.append(Plain(f"\n{_RETURN}:"))
        return written

    def syntax(self, tool: ToolSpec) -> CallSyntax:
        return CallSyntax(before=f": {tool.name}\n{_ARGS}: ", bare="", after="", parameters=tool.parameters)

    def may_be_bare(self, text: str, names: Collection[str]) -> bool:
        return False

    def parse(self, text: str) -> tuple[str, str] | None:
        name, separated, arguments = text.partition(_ARGS)
        name = name.strip(_AROUND)
        if not name or len(name.split()) > 1:
            return None
        arguments = arguments.strip(_AROUND)
        found = json_object(arguments) if arguments or not separated else None
        return name, arguments if arguments and found is None else json.dumps(found or {}, ensure_ascii=False)


def _described(tool: ToolSpec, *, chinese: bool) -> str:
    schema = json.dumps(json.loads(tool.parameters), ensure_ascii=False)
    if chinese:
        return f"### {tool.name}\n\n{tool.name}: {tool.description} 输入参数：{schema} 此工具的输入应为JSON对象。"
    return (
        f"### {tool.name}\n\n{tool.name}: {tool.description} Parameters: {schema} "
        "Format the arguments as a JSON object."
    )


def _generated(part: Text | Reasoning | ToolCall, *, is_first: bool) -> list[PromptPart]:
    """Return a part as it was sampled, else as the format has it."""
    if part.token_ids:
        return [Tokens(part.token_ids)]
    if isinstance(part, ToolCall):
        return [Plain(f"{'' if is_first else chr(10)}{_FUNCTION}: {part.name}\n{_ARGS}: {part.arguments}")]
    return [Plain(part.text)] if isinstance(part, Text) else []
