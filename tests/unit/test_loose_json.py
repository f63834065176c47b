"""JSON as small models write it is read, and nothing that they write does harm."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.engines.calls.loose_json import ObjectScanner, is_whole_object, json_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=5)
PIECES = st.sampled_from(
    [*"{}[]:,'\"\\ \n`0-", "true", "null", "```json\n", "name", "é", "\0", "\ud800", "\\u", "1e999"]
)


@given(OBJECTS, st.sampled_from(["", " ", "```json\n", "```\n"]), st.sampled_from(["", "\n```", " // so", "}}", "x"]))
def test_it_agrees_with_json(value: dict[str, object], before: str, behind: str) -> None:
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        assert json_object(before + text + behind) == value
        assert is_whole_object(text + behind)
        assert not is_whole_object(text[:-1]) or value == {}


@given(OBJECTS)
def test_python_s_literals_are_read(value: dict[str, object]) -> None:
    assert json_object(repr(value)) == value


@given(st.lists(PIECES, max_size=30).map("".join))
def test_it_never_raises(text: str) -> None:
    for each in (text, "{" + text, '{"a": ' + text, "{'a': [" + text):
        found = json_object(each)
        assert found is None or json.dumps(found, ensure_ascii=False).encode()


@given(st.lists(PIECES, max_size=20), st.integers(0, 60))
def test_the_end_does_not_depend_on_the_pieces(pieces: list[str], cut: int) -> None:
    text = "{" + "".join(pieces)
    scanner = ObjectScanner()
    scanner.feed(text[:cut])
    assert scanner.feed(text[cut:]) == ObjectScanner().feed(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{'a': true, 'b': null}", {"a": True, "b": None}),
        ('{"a": "it\'s true", "b": [1, 2,],}', {"a": "it's true", "b": [1, 2]}),
        ('{"a": {"b": [1', {"a": {"b": [1]}}),
        ('{"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ('{"a": "open', None),
        ("{1 + 1}", None),
        ("{'a': __import__('os')}", None),
        ("{'a': b'bytes'}", None),
        ("{'a'}", None),
        ("[1]", None),
        ("", None),
        ("text {}", None),
    ],
)
def test_what_models_write(text: str, found: object) -> None:
    assert json_object(text) == found


HOSTILE = {
    "deep lists": '{"a": ' + "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "deep literals": "{'a':" * 100_000,
    "signs": "{'a': " + "-" * 200_000 + "1}",
    "brackets": "{'a': " + "(" * 5_000 + ")" * 5_000 + "}",
    "quotes": "{" + '"\\' * 250_000,
    "a long number": '{"a": ' + "9" * 10_000 + "}",
    "a power": "{'a': 9**9**9}",
    "too long": "{" + " " * (1 << 20) + "}",
    "white space": "```" + "\n" * 500_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_refused(text: str) -> None:
    assert json_object(text) is None
