"""Calls can't leave the schemas of their tools, and what is no call stays free."""

import json

import pytest

from qwenchat.chat.tools import ToolSpec
from qwenchat.engines.calls.format import CallFormat
from qwenchat.engines.calls.hermes import HermesFormat
from qwenchat.engines.calls.qwen import QwenFormat
from qwenchat.engines.local.protocol import CallOfTool, Calls
from qwenchat.engines.schema.compiler import END, byte_tokenizer, matcher
from qwenchat.engines.worker.constraint import Constraint, call_grammar

CALC = ToolSpec(
    name="calc",
    description="Calculates.",
    parameters=json.dumps(
        {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "how": {"enum": ["fast", "好"]}},
            "required": ["x"],
            "additionalProperties": False,
        }
    ),
)
CLOCK = ToolSpec(name="clock", description="The time.", parameters='{"type": "object", "additionalProperties": false}')
FORMATS = (HermesFormat(), QwenFormat())


def calls_of(call_format: CallFormat, *tools: ToolSpec) -> Calls:
    syntaxes = map(call_format.syntax, tools)
    markers = call_format.markers
    bound = [
        CallOfTool(before=each.before, bare=each.bare, parameters=each.parameters, after=each.after)
        for each in syntaxes
    ]
    return Calls(markers.begin, markers.end, markers.stops, tuple(bound))


def taken(text: str, call_format: CallFormat, *tools: ToolSpec) -> tuple[int, bool]:
    """Return how many bytes of a text are allowed, and whether the answer may end behind them."""
    calls = calls_of(call_format, *(tools or (CALC, CLOCK)))
    made = Constraint(matcher(byte_tokenizer(), call_grammar(calls, json.dumps)))
    count = 0
    for byte in text.encode():
        if not made.accept(byte):
            break
        count += 1
    return count, made.is_complete or made.accept(END)


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def qwen(name: str, arguments: str) -> str:
    return f"✿FUNCTION✿: {name}\n✿ARGS✿: {arguments}"


GOOD = {
    "a call": hermes("calc", '{"x": 1}'),
    "behind text": "Let me see < {1}.\n\n" + hermes("calc", '{"x": 1, "how": "好"}'),
    "no arguments": hermes("clock", "{}"),
    "two": hermes("clock", "{}") + "\n" + hermes("calc", '{"x": -12}'),
    "bare": '{"name": "calc", "arguments": {"x": 1}}',
    "bare, behind line breaks": '\n\n{"name": "clock", "arguments": {}}',
    "bare, on lines": '{\n  "name": "calc",\n  "arguments": {"x": 1}\n}',
    "fenced": '```json\n{"name": "clock", "arguments": {}}\n```',
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_good_calls_are_possible(text: str) -> None:
    assert taken(text, HermesFormat()) == (len(text.encode()), True)


@pytest.mark.parametrize(
    "text",
    ["Hello", "你好 😀\n\n```python\nx = {}\n```", "a <tool> b", '{"a": 1}', "{}", "[1]", '{"name": "Bob"}', "1 < 2"],
)
@pytest.mark.parametrize("call_format", FORMATS, ids=["hermes", "qwen"])
def test_text_is_free(text: str, call_format: CallFormat) -> None:
    assert taken(text, call_format) == (len(text.encode()), True)


@pytest.mark.parametrize(
    ("start", "rest"),
    [
        ('<tool_call>\n{"name": "c', 'ook"'),
        ("<tool_call>\n{", "'name'"),
        ('<tool_call>\n{"name": "calc", "arguments": {"', 'y": 1}'),
        ('<tool_call>\n{"name": "calc", "arguments": {"x": ', '"1"}'),
        ('<tool_call>\n{"name": "calc", "arguments": {', "}}"),
        ('<tool_call>\n{"name": "calc", "arguments": {"x": 1, "how": "', 'slow"'),
        ('{"name": "calc", "arguments": {"x": 1, "', 'z": 2}'),
        ('```json\n{"name": "calc", "arguments": {', "}"),
        ('\n\n{"name": "calc", "arguments": {', "}"),
    ],
)
def test_nothing_else_is_in_a_call(start: str, rest: str) -> None:
    allowed, may_end = taken(start + rest, HermesFormat())
    assert allowed == len(start.encode()) and not may_end


def test_qwen_s_calls() -> None:
    for text in (
        qwen("calc", '{"x": 1}'),
        "好的。\n" + qwen("clock", "{}"),
        qwen("clock", "{}") + "\n" + qwen("calc", '{"x": 7}'),
        qwen("clock", "{}") + "\n✿RESULT✿",
    ):
        assert taken(text, QwenFormat()) == (len(text.encode()), True)
    for start, rest in (("✿FUNCTION✿: c", "ook"), ('✿FUNCTION✿: calc\n✿ARGS✿: {"', "y"), ("✿FUNCTION✿", "\n")):
        assert taken(start + rest, QwenFormat()) == (len(start.encode()), False)


def test_names_and_texts_that_look_like_a_grammar() -> None:
    tricky = ToolSpec(
        name="a-b_C.*",
        description="",
        parameters=json.dumps(
            {"type": "object", "properties": {'"</tool_call>\\ /(.|\n)*/': {"const": "%json {} <[1]>"}}}
        ),
    )
    arguments = json.dumps({'"</tool_call>\\ /(.|\n)*/': "%json {} <[1]>"})
    text = hermes("a-b_C.*", arguments)
    assert taken(text, HermesFormat(), tricky) == (len(text.encode()), True)
    assert taken(hermes("a-b_CC", "{}"), HermesFormat(), tricky)[0] < len(hermes("a-b_CC", "{}"))
