"""A JSON Schema is enforced to the letter, or refused with the keyword and its place. No model is needed for that."""

import json
from random import Random
from typing import Any

import jsonschema
import pytest

from qwenchat.engines.schema import compiler
from qwenchat.engines.schema.check import enforceable
from qwenchat.engines.schema.document import REFUSED, rewritten
from qwenchat.engines.schema.patterns import PatternRefused, translated
from qwenchat.engines.schema.refusal import Reason, SchemaRefused, refused
from tests.fakes import schemas

EVERY, ANSWERS = 5, 4
"""One schema of the official suite in five, four answers each; `tests.bench.schema` takes all, 20 answers each."""


@pytest.mark.parametrize("case", list(schemas.suite())[::EVERY], ids=lambda case: case.name)
def test_the_official_suite_is_followed_or_refused(case: schemas.Case) -> None:
    try:
        compiler.check(case.text)
    except SchemaRefused as error:
        assert error.pointer.startswith("#")
        return
    _ended, wrong = schemas.problems(case, ANSWERS, Random(case.name))
    assert wrong == []


def refusal(schema: Any) -> tuple[Reason, str]:
    """Return why a schema is refused, and where."""
    with pytest.raises(SchemaRefused) as caught:
        compiler.check(json.dumps(schema))
    return caught.value.reason, caught.value.pointer


@pytest.mark.parametrize("keyword", sorted(REFUSED))
def test_a_keyword_that_would_be_ignored_is_refused_with_its_place(keyword: str) -> None:
    schema = {"type": "object", "properties": {"a/b": {"type": "string", keyword: {}}}}
    assert refusal(schema) == (Reason.KEYWORD, f"#/properties/a~1b/{keyword}")
    words = refused(SchemaRefused(Reason.KEYWORD, f"#/properties/a~1b/{keyword}"))
    assert f"#/properties/a~1b/{keyword}" in words.message and f"`{keyword}`" in words.message and words.hint


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words(reason: Reason) -> None:
    words = refused(SchemaRefused(reason, "#/type", "detail\x1b[31m"))
    assert "{" not in words.message + words.hint and "\x1b" not in words.message and "\n" not in words.message


@pytest.mark.parametrize(
    ("schema", "reason", "pointer"),
    [
        ({"type": "array", "uniqueItems": True}, Reason.KEYWORD, "#/uniqueItems"),
        ({"$defs": {"a": {"not": {}}}, "items": {"$ref": "#/$defs/a"}}, Reason.KEYWORD, "#/$defs/a/not"),
        ({"$ref": "#/paths/a", "paths": {"a": {"if": {}}}}, Reason.KEYWORD, "#/paths/a/if"),
        ({"allOf": [{"$ref": "https://example.com/a.json"}]}, Reason.REFERENCE, "#/allOf/0/$ref"),
        ({"$ref": "#/$defs/nowhere"}, Reason.REFERENCE, "#/$ref"),
        ({"$ref": "#/allOf/-1", "allOf": [{}]}, Reason.REFERENCE, "#/$ref"),
        ({"properties": {"a": {"$id": "b.json"}}}, Reason.KEYWORD, "#/properties/a/$id"),
        ({"type": "string", "format": "iri"}, Reason.FORMAT, "#/format"),
        ({"type": "integer", "format": "int32"}, Reason.FORMAT, "#/format"),
        ({"type": "string", "pattern": "(?=a)b"}, Reason.PATTERN, "#/pattern"),
        ({"type": "string", "pattern": "(a"}, Reason.OTHER, "#/pattern"),
        ({"patternProperties": {"(?i)a": {}}}, Reason.PATTERN, "#/patternProperties/(?i)a"),
        ({"enum": ["a", "a\0b"]}, Reason.TEXT, "#/enum/1"),
        ({"const": {"a\x7f": ["\x7f"]}}, Reason.TEXT, "#/const/a\x7f/0"),
        ({"const": 2**53 + 1}, Reason.NUMBER, "#/const"),
        ({"const": 1e-7}, Reason.NUMBER, "#/const"),
        ({"minimum": 2**60}, Reason.NUMBER, "#/minimum"),
        ({"minimum": 2, "exclusiveMinimum": True}, Reason.NOT_A_SCHEMA, "#/exclusiveMinimum"),
        ({"minProperties": 2}, Reason.REPEATED_NAMES, "#/minProperties"),
        (
            {"properties": {"a": {"oneOf": [{"minimum": 1}, {"maximum": 2}]}}},
            Reason.OVERLAPPING,
            "#/properties/a/oneOf",
        ),
        ({"properties": {"a": {"type": "strnig"}}}, Reason.OTHER, "#/properties/a/type"),
        ({"minLength": 3, "maxLength": 2, "type": "string"}, Reason.IMPOSSIBLE, "#/minLength"),
        ({"$ref": "#"}, Reason.IMPOSSIBLE, "#/$ref"),
        ({"type": "object", "properties": [], "x": 1}, Reason.NOT_A_SCHEMA, "#/properties"),
        ({"items": {"items": 3}}, Reason.NOT_A_SCHEMA, "#/items/items"),
        ([], Reason.NOT_A_SCHEMA, "#"),
        (True, Reason.NOT_A_SCHEMA, "#"),
        ("\ud800", Reason.NOT_JSON, "#"),
        (float("nan"), Reason.NOT_JSON, "#"),
        ({"x-guidance": {"lenient": True}, "not": {}}, Reason.KEYWORD, "#/not"),
        ({"name": "n", "strict": True, "schema": {"not": {}}}, Reason.KEYWORD, "#/schema/not"),
        ({"anyOf": [{"const": n} for n in range(30_000)]}, Reason.TOO_LARGE, "#/anyOf/9999/const"),
    ],
)
def test_what_cannot_be_enforced_is_refused(schema: Any, reason: Reason, pointer: str) -> None:
    assert refusal(schema) == (reason, pointer)


def nested(levels: int) -> str:
    return '{"items":' * levels + "{}" + "}" * levels


@pytest.mark.parametrize("text", ["{", nested(100), nested(100_000), "1" * 5000, "x" * 2_000_000])
def test_text_that_is_no_usable_json_is_refused(text: str) -> None:
    with pytest.raises(SchemaRefused) as caught:
        compiler.check(text)
    assert caught.value.reason in (Reason.NOT_JSON, Reason.TOO_LARGE)


ALLOWED: list[tuple[Any, list[str], list[str]]] = [
    ({"type": "string", "pattern": "^a]$"}, ['"a]"'], ['"a"', '"]"']),
    ({"type": "string", "pattern": "^a}$"}, ['"a}"'], ['"a"']),
    ({"type": "string", "pattern": "^\\d{4}-\\d{2}$"}, ['"2024-05"'], ['"2024-5"', '"٢٠٢٤-٠٥"']),
    ({"type": "string", "pattern": "^a|b$"}, ['"ax"', '"xb"'], ['"x"']),
    ({"type": "string", "pattern": "^\\$5$"}, ['"$5"'], ['"5"']),
    ({"type": "string", "pattern": "^a\\\\b$"}, ['"a\\\\b"'], ['"a\\b"']),
    ({"type": "string", "maxLength": 20_000}, ['"a"'], []),
    ({"type": "string", "maxLength": 1001}, ['"' + "a" * 1001 + '"'], ['"' + "a" * 1002 + '"']),
    ({"type": "array", "minItems": 1_000_000_000}, [], ["[]", "[1,2]"]),
    ({"type": "string"}, ['"a\\nb"'], ['"a\nb"', '"a\tb"', '"a\0b"', '"\\ud800"', '"\\u0061"']),
    ({"enum": ["C:\\temp", "好 😀", 'a"b']}, ['"C:\\\\temp"', '"好 😀"', '"a\\"b"'], ['"C:temp"', '"\\u597d 😀"']),
    ({"type": "integer", "minimum": 3, "maximum": 12}, ["3", "12"], ["2", "13", "3.5"]),
    ({"type": "number", "multipleOf": 0.01, "minimum": 0}, ["19.99", "2"], ["1.999", "-1"]),
    ({"type": ["string", "null"], "enum": ["a", None, 1]}, ['"a"', "null"], ["1", '"b"']),
    ({"$ref": "#/$defs/a", "maxLength": 1, "$defs": {"a": {"type": "string"}}}, ['"a"'], ['"ab"', "1"]),
    ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "integer"}}}, ["1"], ["{}", '"a"']),
    ({"required": ["b", "a"], "properties": {"a": {}, "b": {}}, "type": "object"}, ['{"a":1,"b":2}'], ['{"a":1}']),
    (
        {"type": "object", "properties": {"a": {"type": "integer"}}},
        ['{"a":1,"x":[]}'],
        ['{"\\u0061":"x"}', '{"a":1,"a":2}'],
    ),
    ({"type": "string", "format": "date"}, ['"2024-02-29"'], ['"2023-02-29"', '"2024-02-30"', '"0000-01-01"']),
    (
        {"format": "date-time", "type": "string", "pattern": "^2"},
        ['"2024-02-29T23:59:59.5Z"'],
        ['"1999-01-01T00:00:00Z"', '"2024-02-29T23:59:60Z"'],
    ),
    ({"type": "array", "uniqueItems": False, "maxItems": 2.0}, ["[1,1]"], ["[1,1,1]"]),
    ({"$ref": "#/$defs/中 文", "$defs": {"中 文": {"type": "integer"}}}, ["1"], ['"a"']),
    ({"$ref": "#/components/schemas/A", "components": {"schemas": {"A": {"const": 1}}}}, ["1"], ["2"]),
    ({"oneOf": [{"const": 1}, {"const": 2}], "anyOf": [{"const": 2}]}, ["2"], ["1"]),
    ({"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"const": 1}}}, ["1"], ["2", "{}"]),
    ({"x-guidance": {"whitespace_pattern": "z"}, "type": "array"}, ["[1, 2]", "[1,\n  2]"], ["[1,z2]", "[1,\n\n2]"]),
    ({"type": "string", "pattern": "^\\S+$"}, ['"a"'], ['"\ufeff"', '"\x85"', '" "']),
    ({"type": "string", "pattern": "^[^\\s]$"}, ['"a"'], ['"\ufeff"', '"\x85"']),
    ({"type": "string", "pattern": "^.$"}, ['"a"'], ['"\\r"', '"\u2028"']),
    (
        {"title": "T", "description": "D", "default": 3, "examples": ["x"], "deprecated": True, "maximum": 1},
        ["1"],
        ["2"],
    ),
]


@pytest.mark.parametrize(("schema", "good", "bad"), ALLOWED, ids=lambda value: ascii(value)[:50])
def test_an_answer_follows_to_the_letter(schema: Any, good: list[str], bad: list[str]) -> None:
    compiler.check(json.dumps(schema))
    made = schemas.matcher(json.dumps(schema))
    assert [text for text in good if not schemas.allows(made, text)] == []
    assert [text for text in bad if schemas.allows(made, text)] == []


PYDANTIC: dict[str, Any] = {
    "$defs": {
        "Cat": {
            "properties": {"kind": {"const": "cat", "type": "string"}, "lives": {"default": 9, "type": "integer"}},
            "required": ["kind"],
            "title": "Cat",
            "type": "object",
        },
        "Dog": {
            "properties": {"kind": {"enum": ["dog", "wolf"], "type": "string"}},
            "required": ["kind"],
            "type": "object",
        },
        "Node": {
            "properties": {
                "value": {"title": "Value"},
                "children": {"items": {"$ref": "#/$defs/Node"}, "type": "array", "maxItems": 1},
                "parent_节点": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}], "default": None},
            },
            "required": ["value"],
            "type": "object",
        },
    },
    "properties": {
        "items": {"items": {}, "type": "array"},
        "score": {"exclusiveMinimum": 0, "maximum": 1, "type": "number"},
        "when": {"format": "date-time", "type": "string"},
        "level": {"enum": ["low", "high"], "type": "string"},
        "pet": {
            "discriminator": {"mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}, "propertyName": "kind"},
            "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
        },
        "root": {"$ref": "#/$defs/Node"},
        "scores": {"additionalProperties": {"type": "integer"}, "type": "object"},
    },
    "required": ["items", "score", "when", "pet", "root"],
    "title": "Model",
    "type": "object",
    "additionalProperties": False,
}
"""What Pydantic makes of a model with usual types."""


def test_the_schemas_of_pydantic_are_followed() -> None:
    compiler.check(json.dumps(PYDANTIC))
    made, random, ended = schemas.matcher(json.dumps(PYDANTIC)), Random(1), 0
    validator = jsonschema.Draft202012Validator(PYDANTIC)
    for _attempt in range(20):
        if (answer := schemas.drawn(made, random, 1000)) is not None:
            ended += 1
            validator.validate(json.loads(answer))
            names = list(json.loads(answer))
            assert names == [name for name in PYDANTIC["properties"] if name in names]
    assert ended > 3


@pytest.mark.parametrize(
    "pattern",
    [
        "a++",
        "a{2}{3}",
        "(?i)a",
        "(?P<n>a)",
        "[]a]",
        "[^]",
        "[a-\\d]",
        "\\bfoo",
        "(a)\\1",
        "\\p{L}",
        "\\cA",
        "a{,3}",
        "\\0",
        "^*",
        "\\",
        "[a",
        "[a-",
        "\\ud83d",
        "\\x00",
        "\x01",
    ],
)
def test_a_pattern_that_programs_read_differently_is_refused(pattern: str) -> None:
    with pytest.raises(PatternRefused):
        translated(pattern)


def test_no_schema_reaches_the_compiler_with_options_for_it() -> None:
    schema = {"x-guidance": {"lenient": True}, "properties": {"x-guidance": {"x-guidance": {}, "type": "string"}}}
    assert rewritten(json.dumps(schema)).schema == {
        "$ref": "#/$defs/0",
        "$defs": {"0": {"properties": {"x-guidance": {"type": "string"}}}},
    }


async def test_of_several_schemas_those_that_can_be_enforced_are_found() -> None:
    usual = [f'{{"type": "object", "properties": {{"x{place}": {{"type": "string"}}}}}}' for place in range(5)]
    pointing = '{"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}'
    assert await enforceable([]) == set()
    assert await enforceable([*usual, pointing]) == {*usual, pointing}
    assert await enforceable([*usual, '{"not": {}}', pointing]) == {*usual, pointing}
