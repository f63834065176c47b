"""What an engine generates becomes parts: reasoning and text, however the markers are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from qwenchat.chat.events import Delta
from qwenchat.chat.message import Message, Part, Reasoning, Role, Text, ToolCall, merged
from qwenchat.chat.prompt import generated_text, turns_of
from qwenchat.chat.streaming import StreamingAnswer

EMPTY = Message(id="a", session="s", parent="q", role=Role.ASSISTANT, parts=(), created=1)


def parts_of(*pieces: str, inside: bool = False) -> tuple[Part, ...]:
    """Return the parts that pieces make; each piece has one token, its number."""
    answer = StreamingAnswer(EMPTY, inside_reasoning=inside)
    for number, piece in enumerate(pieces):
        answer.add(Delta(piece, (number,)))
    answer.finish()
    return answer.snapshot().parts


@pytest.mark.parametrize(
    ("pieces", "parts"),
    [
        (["Hello", " there"], (Text("Hello there", (0, 1)),)),
        (["<think>", "Hm.", "</think>", "\n\n", "Yes."], (Reasoning("Hm.", (0, 1, 2, 3)), Text("Yes.", (4,)))),
        (["\n<think>", "\nHm.\n"], (Reasoning("\nHm.\n", (0, 1)),)),
        (["<th", "ink>Hm", "</", "think>"], (Reasoning("Hm", (0, 1, 2, 3)),)),
        (["<th", "is is no marker"], (Text("<this is no marker", (0, 1)),)),
        (["<", "b>"], (Text("<b>", (0, 1)),)),
        (["<think"], (Text("<think", (0,)),)),
        (["<think>a</", "b></thin"], (Reasoning("a</b></thin", (0, 1)),)),
        (["So: <think>x</think>"], (Text("So: <think>x</think>", (0,)),)),
        (["<think>Hm.</think>Yes."], (Reasoning("Hm.", (0,)), Text("Yes."))),
        (["<think>", "</think>", "\n\n"], (Reasoning("", (0, 1, 2)),)),
        ([], ()),
    ],
)
def test_markers_at_the_beginning_make_reasoning(pieces: list[str], parts: tuple[Part, ...]) -> None:
    assert parts_of(*pieces) == parts


def test_an_answer_may_begin_inside_its_reasoning() -> None:
    assert parts_of("Hm.", "</think>", "\n\nYes.", inside=True) == (Reasoning("Hm.", (0, 1)), Text("Yes.", (2,)))


@given(st.lists(st.integers(1, 6)), st.sampled_from(["<think>a < b</think>\n\nc </think> d", "no <think>", "<think>x"]))
def test_parts_are_the_same_however_the_text_is_cut(cuts: list[int], text: str) -> None:
    pieces, rest = [], text
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    cut_up = [(type(part), part.text) for part in parts_of(*pieces, rest) if isinstance(part, Text | Reasoning)]
    assert cut_up == [(type(part), part.text) for part in parts_of(text) if isinstance(part, Text | Reasoning)]


def test_each_event_says_where_its_fragment_goes() -> None:
    answer = StreamingAnswer(EMPTY)
    events = [
        *answer.add(Delta("<think>", (1,))),
        *answer.add(Delta("Hm", (2,))),
        *answer.add(Delta("m</think>", (3,))),
    ]
    events += answer.add(Delta("Yes", (4,)))
    events += answer.add(Delta("!", (5,)))
    places = [(event.index, event.offset) for event in events]
    assert places == [(0, 0), (0, 0), (0, 2), (1, 0), (1, 3)]


def test_what_is_not_stored_yet_is_given_until_it_is_marked() -> None:
    answer = StreamingAnswer(replace(EMPTY, parts=(Text("Once", (1,)),)))
    answer.add(Delta(" upon", (2,)))
    assert answer.unstored() == [Text(" upon", (2,))]
    answer.mark_stored(1)
    answer.add(Delta(" a", (3,)))
    assert answer.unstored() == [Text(" a", (3,))]
    assert answer.snapshot().parts == (Text("Once upon a", (1, 2, 3)),)


def test_what_is_stored_becomes_whole_parts_and_the_rest_is_still_given() -> None:
    answer = StreamingAnswer(EMPTY)
    call = ToolCall("1", "now", "{}")
    for delta in (Delta("On", (1,)), Delta("ce", (2,)), Delta("?", (3,))):
        answer.add(delta)
    answer.mark_stored(2)
    assert answer.unstored() == [Text("?", (3,))]
    answer.put(call)
    answer.mark_stored(2)
    assert answer.unstored() == []
    answer.add(Delta("Now", (4,)))
    assert answer.unstored() == [Text("Now", (4,))]
    assert answer.open_calls == [call]
    assert answer.snapshot().parts == (Text("Once?", (1, 2, 3)), call, Text("Now", (4,)))


def test_a_text_without_tokens_has_none_when_it_grows() -> None:
    assert merged([Text("Once"), Text(" upon", (2,))]) == (Text("Once upon"),)


def test_reasoning_is_read_again_only_by_who_continues_it() -> None:
    parts = (Reasoning("Hm.", (1, 2)), Text("Yes.", (3,)))
    answer = replace(EMPTY, parts=parts, model_file="f")
    [later] = turns_of("", [answer], "f")
    assert (later.text, later.token_ids) == ("Yes.", (3,))
    [continued] = turns_of("", [answer], "f", continuing=True)
    assert (continued.text, continued.token_ids) == ("<think>Hm.</think>\n\nYes.", (1, 2, 3))
    assert generated_text(parts[:1]) == "<think>Hm."
