"""Whatever is broken in a file of other programs' chats costs no more than it must."""

import copy
from io import BytesIO
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenchat.errors import FileError
from qwenchat.sessions import importers, records
from tests.fakes.foreign import CHATGPT, CLAUDE, EVERY_FORMAT, JSON, WRITTEN, openwebui, read

DROPPED = object()
ODD: tuple[object, ...] = (
    DROPPED, None, True, 0, -1, 7.5, 10**30, "", "x", "root", "\ud800\x1b", [], [None], ["x"], [[]], {}, {"x": 1},
    {"text": []}, [{"type": "text"}], {"type": "tool_use", "input": [1]}, [{"type": "tool_result", "content": {}}],
)  # fmt: skip
GOOD = {"messages": [{"role": "user", "content": "Good"}]}


@pytest.mark.parametrize("odd", [7, None, "x", [], {}, [7], {"content_type": 5}, {"content_type": "text", "parts": 5}])
def test_one_odd_field_costs_one_message(odd: object) -> None:
    for field in ("author", "content", "create_time", "metadata", "recipient", "id"):
        made = copy.deepcopy(CHATGPT)
        made["mapping"]["a1"]["message"][field] = odd
        said = {message.text for message in read(made).archives[0].messages}
        assert said >= {"Or so.", "[picture]\nWhat is it?", "A cat."} - {""}, field
    made = copy.deepcopy(CHATGPT)
    made["mapping"]["a1"] = odd
    assert len(read(made).archives[0].messages) >= 4


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a document."""
    inside: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    return [*([path] if path else []), *(place for key, each in inside for place in places(each, (*path, key)))]


def damaged(document: JSON, place: tuple[str | int, ...], value: object) -> JSON:
    """The document with another value at a place; without the place if the value is `DROPPED`."""
    copied = copy.deepcopy(document)
    parent: Any = copied
    for key in place[:-1]:
        parent = parent[key]
    if value is DROPPED:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return copied


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damage_anywhere_costs_no_other_chat(data: st.DataObject) -> None:
    document = data.draw(st.sampled_from(EVERY_FORMAT))
    place = data.draw(st.sampled_from(places(document)))
    value = data.draw(st.sampled_from(ODD))
    reading = read(damaged(document, place, value), GOOD)
    assert "Good" in [message.text for archive in reading.archives for message in archive.messages]
    assert len(reading.archives) + len(reading.problems) + reading.empty == 2


@pytest.mark.parametrize("document", EVERY_FORMAT)
def test_damage_within_a_message_costs_no_other_message(document: JSON) -> None:
    whole = {message.text for message in read(document).archives[0].messages}
    for number, (place, value) in enumerate(product(places(document), ODD)):
        if len(place) >= 4 and number % 5 == 0:
            found = read(damaged(document, place, value), GOOD)
            said = " ".join(message.text for archive in found.archives for message in archive.messages)
            lost = [text for text in whole if text not in said]
            assert len(lost) <= 1, (place, value, lost)


def test_a_file_of_good_chats_and_bad_ones_names_the_bad_ones() -> None:
    reading = read(CLAUDE, 5, {"x": 1}, {"mapping": {"a": 1}}, {"chat_messages": []}, openwebui())
    assert [(problem.place, problem.reason) for problem in reading.problems] == [
        ("record 2", "it is not a chat in a known format"),
        ("record 3", "it is not a chat in a known format"),
        ("record 4", "none of its messages can be read: its contents can't be read"),
    ]
    assert (len(reading.archives), reading.empty, reading.formats) == (2, 1, ("Claude", "Open WebUI"))


def test_every_reason_is_in_the_words_of_a_user() -> None:
    for data in (b"", b" \n", b"[1,", b"\x89PNG", b'{"a": tru}', b'[{"a": "\xff"}]', b"PK\x03\x04 no zip"):
        with pytest.raises(FileError) as caught:
            importers.read(records.records_in(BytesIO(data), WRITTEN))
        words = caught.value.message
        assert not any(word in words for word in ("Expected", "Input data", "malformed", "codec", "zip file", "`"))
        assert words.endswith(".")
        assert caught.value.hint
