"""Calls are read out of what a model generates, however its text is cut into pieces."""

import json
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.chat.events import Called, Delta, EngineEvent, Finished, Prefilling
from qwenchat.chat.message import FinishReason, Timings, ToolCall, Usage
from qwenchat.chat.tools import ToolSpec
from qwenchat.engines.calls.format import CallFormat
from qwenchat.engines.calls.hermes import HermesFormat
from qwenchat.engines.calls.qwen import QwenFormat
from qwenchat.engines.calls.reader import CallReader

HERMES, QWEN = HermesFormat(), QwenFormat()
TOOLS = (
    ToolSpec(name="calc", description="", parameters='{"properties": {"x": {}}, "required": ["x"]}'),
    ToolSpec(name="clock", description="", parameters='{"properties": {"zone": {}, "at": {}}}'),
)
CALL = '<tool_call>\n{"name": "calc", "arguments": {"x": "1}"}}\n</tool_call>'
ARGUMENTS = {"x": "1}"}


class Read:
    """What came out of a reader."""

    def __init__(self, events: Iterable[EngineEvent]) -> None:
        self.events = list(events)
        self.calls = [event.call for event in self.events if isinstance(event, Called)]
        self.text = "".join(event.text for event in self.events if isinstance(event, Delta))
        self.ids = [token for event in self.events for token in _ids(event)]
        assert isinstance(self.events[-1], Finished)
        self.reason = self.events[-1].reason

    @property
    def said(self) -> list[tuple[str, object] | str]:
        """The calls with their arguments, and the texts around them."""
        said: list[tuple[str, object] | str] = []
        for event in self.events:
            if isinstance(event, Called):
                said.append((event.call.name, json.loads(event.call.arguments)))
            elif isinstance(event, Delta) and said and isinstance(last := said[-1], str):
                said[-1] = last + event.text
            elif isinstance(event, Delta):
                said.append(event.text)
        return [each.strip() if isinstance(each, str) else each for each in said]


def _ids(event: EngineEvent) -> tuple[int, ...]:
    if isinstance(event, Called):
        return event.call.token_ids
    return event.token_ids if isinstance(event, Delta) else ()


def pieces_of(text: str, cuts: Iterable[int] = ()) -> list[str]:
    places = sorted({0, *(cut % (len(text) + 1) for cut in cuts), len(text)})
    return [text[start:end] for start, end in pairwise(places)]


def read(
    pieces: str | list[str],
    call_format: CallFormat = HERMES,
    *,
    reason: FinishReason = FinishReason.STOP,
    in_reasoning: bool = False,
    in_text: bool = False,
) -> Read:
    """Read pieces, each of which is a token; a text is a token for each character."""
    reader = CallReader(call_format, TOOLS, in_reasoning=in_reasoning, in_text=in_text)
    events: list[EngineEvent] = [Delta(piece, (number,)) for number, piece in enumerate(pieces)]
    events.append(Finished(reason, Usage(), Timings()))
    return Read(out for event in events for out in reader.feed(event))


ANSWERS = {
    "text alone": "Hello < world <tool> ✿FUN",
    "a call": CALL,
    "text, then a call": f"Let me see.\n{CALL}",
    "two calls": f"{CALL}\n{CALL}",
    "text between and behind": f"One {CALL} two {CALL} three",
    "a bare call": '{"name": "clock", "arguments": {}}',
    "a fenced one": '```json\n{"name": "clock", "arguments": {}}\n```',
    "a bare one, and text": ' {"name": "clock", "arguments": {}}\nNow',
    "JSON that is no call": '{"name": "Bob", "arguments": {"a": 1}}',
    "other JSON": '```json\n{"a": "<tool_call>"}\n```',
    "broken": "<tool_call>\nnothing\n</tool_call> and on",
    "reasoning": f"<think>\nI could {CALL}, or not.\n</think>\n\n{CALL}",
    "reasoning and a bare call": '<think></think>\n\n{"name": "clock", "arguments": {}}',
    "no reasoning": f"<thinking>{CALL}",
}


@pytest.mark.parametrize("text", ANSWERS.values(), ids=ANSWERS)
@given(cuts=st.lists(st.integers(0, 400)))
def test_the_pieces_do_not_matter(text: str, cuts: list[int]) -> None:
    pieces = pieces_of(text, cuts)
    whole, cut = read([text]), read(pieces)
    assert cut.said == whole.said and cut.reason == whole.reason
    assert cut.ids == sorted(set(cut.ids))
    begun = "<tool_call>"
    for place, event in enumerate(cut.events):
        is_before_call = any(isinstance(later, Called) for later in cut.events[place:])
        if isinstance(event, Delta) and is_before_call and "<think>" not in text:
            assert not any(event.text.endswith(begun[:length]) for length in range(3, len(begun)))


@pytest.mark.parametrize("text", ANSWERS.values(), ids=ANSWERS)
def test_every_token_goes_on_once_and_in_order(text: str) -> None:
    """But for the white space and the fence behind a call."""
    said = read(text)
    lost = [text[number] for number in range(len(text)) if number not in said.ids]
    assert said.ids == sorted(said.ids) and "".join(lost).strip("` \n") == ""
    for call in said.calls:
        assert len(call.token_ids) == call.token_ids[-1] - call.token_ids[0] + 1


def test_text_goes_through_at_once() -> None:
    reader = CallReader(HERMES, TOOLS)
    assert [*reader.feed(Delta("Hello", (1,)))] == [Delta("Hello", (1,))]
    assert [*reader.feed(Delta(" a <b", (2,)))] == [Delta(" a <b", (2,))]
    assert [*reader.feed(Delta(" <too", (3,)))] == []
    assert [*reader.feed(Delta("th", (4,)))] == [Delta(" <too", (3,)), Delta("th", (4,))]
    assert [*reader.feed(prefilling := Prefilling(1, 2, 3.0, 4.0))] == [prefilling]


def test_what_is_held_back_is_not_lost_where_the_engine_fails() -> None:
    for text in ("So <too", CALL[:30], '{"name": "calc", "arg', "\n"):
        reader = CallReader(HERMES, TOOLS)
        pieces = [event for number, char in enumerate(text) for event in reader.feed(Delta(char, (number,)))]
        pieces += reader.release()
        assert pieces == [Delta(char, (number,)) for number, char in enumerate(text)]
        assert reader.release() == []


def test_a_token_of_text_and_call_is_in_neither() -> None:
    said = read(["Well.", " So<tool", f"_call>{CALL.removeprefix('<tool_call>')}", " Then"])
    assert said.said == ["Well. So", ("calc", ARGUMENTS), "Then"]
    assert said.ids == [0, 3] and said.calls[0].token_ids == ()
    assert all(not event.token_ids for event in said.events if isinstance(event, Delta) and event.text == " So")


def test_a_call_ends_the_answer_only_where_the_model_stopped() -> None:
    assert read(CALL).reason is FinishReason.TOOL_CALLS
    assert read(CALL, reason=FinishReason.LENGTH).reason is FinishReason.LENGTH
    assert read("No.").reason is FinishReason.STOP


BROKEN = {
    "no end": CALL.removesuffix("</tool_call>"),
    "a comment behind it": CALL.replace("}}", "}} // that is the sum"),
    "single quotes": "<tool_call>{'name': 'calc', 'arguments': {'x': '1}'}}</tool_call>",
    "a last comma": '<tool_call>{"name": "calc", "arguments": {"x": "1}",},}</tool_call>',
    "a fence": '<tool_call>\n```json\n{"name": "calc", "arguments": {"x": "1}"}}\n```\n</tool_call>',
    "a brace too few": '<tool_call>\n{"name": "calc", "arguments": {"x": "1}"}\n</tool_call>',
    "another name for the arguments": '<tool_call>{"name": "calc", "parameters": {"x": "1}"}}</tool_call>',
    "arguments as text": '<tool_call>{"name": "calc", "arguments": "{\\"x\\": \\"1}\\"}"}</tool_call>',
    "bare, in single quotes": "{'name': 'calc', 'arguments': {'x': '1}'}}",
    "bare, a brace too few": '{"name": "calc", "arguments": {"x": "1}"}',
    "bare, in a fence without a language": '```\n{"name": "calc", "arguments": {"x": "1}"}}\n```',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("whole", [True, False])
def test_what_small_models_write_is_read(text: str, whole: bool) -> None:
    said = read([text] if whole else text)
    assert said.said == [("calc", ARGUMENTS)] and said.reason is FinishReason.TOOL_CALLS


def test_one_without_an_end_ends_where_the_next_begins() -> None:
    said = read(CALL.removesuffix("</tool_call>") + CALL)
    assert said.said == [("calc", ARGUMENTS)] * 2


@pytest.mark.parametrize("text", ["<tool_call>", "<tool_call>\n{", "<tool_call>no JSON</tool_call>", '{"name": "calc'])
def test_what_can_not_be_read_is_text(text: str) -> None:
    for reason in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.CANCELLED):
        said = read(text, reason=reason)
        assert said.text == text and not said.calls and said.reason is reason
        assert said.ids == [*range(len(text))]


@pytest.mark.parametrize("length", range(1, len(CALL) - len("\n</tool_call>")))
def test_a_call_that_a_limit_cuts_off_is_none(length: int) -> None:
    said = read(CALL[:length], reason=FinishReason.LENGTH)
    assert said.text == CALL[:length] and not said.calls


def test_a_whole_call_that_a_limit_ends_is_one() -> None:
    said = read(CALL.removesuffix("\n</tool_call>"), reason=FinishReason.LENGTH)
    assert said.said == [("calc", ARGUMENTS)] and said.reason is FinishReason.LENGTH


def test_reasoning_calls_nothing() -> None:
    for text, inside in ((f"<think>{CALL}", False), (f"\n<think>{CALL}", False), (CALL, True)):
        said = read(text, in_reasoning=inside)
        assert said.text == text and not said.calls
    said = read(f"{CALL}</think>\n\n{CALL}", in_reasoning=True)
    assert len(said.calls) == 1 and said.text.startswith(f"{CALL}</think>")


@pytest.mark.parametrize(
    "text", ['{"name": "Bob", "age": 3}', '{"a": {"name": "calc"}}', "{}", "[1]", "```python\nx\n```", '{"name": 3}']
)
def test_json_answers_are_no_calls(text: str) -> None:
    assert read(text).text == text


def test_bare_json_behind_text_is_no_call() -> None:
    bare = '{"name": "calc", "arguments": {}}'
    for said in (read(f"So: {bare}"), read(bare, in_text=True)):
        assert bare in said.text and not said.calls


@pytest.mark.parametrize("text", ['{"name": "notes/a b.txt", "arguments": {"x": "1}"}}', CALL.replace("calc", "a.txt")])
@pytest.mark.parametrize("whole", [True, False])
def test_a_made_up_name_is_that_of_the_one_tool_with_such_arguments(text: str, whole: bool) -> None:
    said = read([text] if whole else text)
    assert said.said == [("calc", ARGUMENTS)] and said.reason is FinishReason.TOOL_CALLS
    assert said.calls[0].token_ids == ()  # the model reads the name that it should have written


@pytest.mark.parametrize(
    "arguments", ["{}", '{"y": 1}', '{"x": 1, "zone": ""}', '{"a": {"x": 1}}', '"x"', "[]", '{"zone": 1, "b": 2}']
)
def test_arguments_that_fit_no_tool_are_no_call(arguments: str) -> None:
    text = f'{{"name": "Bob", "arguments": {arguments}}}'
    said = read(text)
    assert said.text == text and not said.calls and said.ids == [*range(len(text))]


def test_a_made_up_name_with_broken_arguments_stays_as_it_is() -> None:
    assert [call.name for call in read('✿FUNCTION✿: Bob\n✿ARGS✿: {"x" 1}', QWEN).calls] == ["Bob"]
    assert read('✿FUNCTION✿: Bob\n✿ARGS✿: {"x": "1}"}', QWEN).said == [("calc", ARGUMENTS)]


def test_arguments_that_fit_several_tools_are_no_call() -> None:
    twice = (*TOOLS, ToolSpec(name="other", description="", parameters=TOOLS[0].parameters))
    reader = CallReader(HERMES, twice)
    text = '{"name": "Bob", "arguments": {"x": 1}}'
    events = [*reader.feed(Delta(text)), *reader.feed(Finished(FinishReason.STOP, Usage(), Timings()))]
    assert events[0] == Delta(text)


def test_ids_of_calls_differ() -> None:
    first, second = read(f"{CALL}{CALL}").calls
    assert first.id != second.id


def test_a_long_object_is_read_in_time() -> None:
    text = '{"name": "calc", "arguments": {"x": [' + "{}, " * 50_000 + "1]}}"
    said = read([text[place : place + 8] for place in range(0, len(text), 8)])
    assert len(said.calls) == 1 and len(said.ids) == len(text) // 8 + 1


QWEN_CALLS = {
    "plain": '✿FUNCTION✿: calc\n✿ARGS✿: {"x": "1}"}',
    "a comment": '✿FUNCTION✿: calc\n✿ARGS✿: {"x": "1}"} to add\n',
    "full-width colons": "✿FUNCTION✿：calc\n✿ARGS✿：{'x': '1}'}",
    "a fence": '✿FUNCTION✿: calc\n✿ARGS✿: ```json\n{"x": "1}"}\n```',
    "a brace too few": '✿FUNCTION✿: calc\n✿ARGS✿: {"x": "1}"',
}


@pytest.mark.parametrize("text", QWEN_CALLS.values(), ids=QWEN_CALLS)
def test_qwen_s_own_calls(text: str) -> None:
    for whole in (True, False):
        said = read([f"好的。\n{text}"] if whole else f"好的。\n{text}", QWEN)
        assert said.said == ["好的。", ("calc", ARGUMENTS)] and said.reason is FinishReason.TOOL_CALLS
    assert read(f"{text}\n{text}", QWEN).said == [("calc", ARGUMENTS)] * 2


def test_qwen_s_calls_without_arguments_and_with_wrong_ones() -> None:
    assert read("✿FUNCTION✿: clock", QWEN).said == [("clock", {})]
    assert read("✿FUNCTION✿: clock\n✿ARGS✿: ", QWEN).calls[0].arguments in ("", "{}")
    assert read("✿FUNCTION✿: calc\n✿ARGS✿: 1+1", QWEN).calls[0].arguments == "1+1"
    for text in ("✿FUNCTION✿", "✿FUNCTION✿: ", "✿FUNCTION✿: two words\n✿ARGS✿: {}"):
        assert read(text, QWEN).text == text
    assert not read("✿FUNCTION✿: cal", QWEN, reason=FinishReason.LENGTH).calls


def test_half_a_surrogate_is_never_part_of_a_call() -> None:
    said = read('<tool_call>{"name": "calc", "arguments": {"x": "\\ud83d"}}</tool_call>')
    assert said.calls[0].arguments.encode() and isinstance(said.calls[0], ToolCall)
