"""Rewrites a JSON Schema so that llguidance enforces all of it, and refuses what it can't.

llguidance ignores some keywords, approximates others, and can be told by the schema itself to ignore more. What reaches
it is therefore a new schema, of the keywords that it enforces exactly. Nothing is fetched: a reference leads to
another place in the same document. Nothing is compiled here, and nothing is checked afterwards.

A document without `$schema` follows the draft 2020-12. In older drafts, the keywords beside a `$ref` have no effect;
here they have, and the answer follows both.
"""

import json
import math
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from urllib.parse import unquote

from qwenchat.engines.schema.patterns import FORMATS, PatternRefused, translated
from qwenchat.engines.schema.refusal import LARGEST_TEXT, Reason, SchemaRefused

LARGEST = 20_000
"""Subschemas of a document, and values of its `enum` and `const`."""
DEEPEST = 60
"""Levels of a document; llguidance accepts 128 of arrays and objects together."""
MOST_OPTIONS = 200
"""Of a `oneOf`; each is compared with every other one."""
LARGEST_INTEGER = 2**53
"""Above it, llguidance rounds numbers."""
WHITE_SPACE = r" |\n[ \t]{0,20}"
"""What may stand between two tokens of JSON: enough for any usual layout, and no model can write it for ever."""
ESCAPES = '"\\bfnrt'
"""Letters after a backslash. Without `u`, a name can't be written in another way than a schema's rule for it knows."""
_COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems", "maxProperties", "minProperties"})
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_SCHEMAS = frozenset({"items", "additionalItems", "additionalProperties"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS = frozenset({"properties", "patternProperties"})
_OTHERS = frozenset({"$ref", "type", "required", "const", "enum", "format", "pattern", "uniqueItems"})
_ENFORCED = _COUNTS | _NUMBERS | _SCHEMAS | _LISTS | _MAPS | _OTHERS
REFUSED = frozenset(
    {
        *("$recursiveRef", "$recursiveAnchor", "$dynamicRef", "$dynamicAnchor", "$anchor", "$vocabulary"),
        *("not", "if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas"),
        *("contains", "minContains", "maxContains", "unevaluatedItems", "unevaluatedProperties", "propertyNames"),
        *("extends", "disallow", "divisibleBy"),
    }
)
"""Keywords of all drafts that would be ignored. Any other name is a note for readers, as the drafts say."""
_FORMATS_OF_LLGUIDANCE = frozenset({"duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"})
KNOWN_FORMATS = _FORMATS_OF_LLGUIDANCE | FORMATS.keys()
_UNWRITABLE = re.compile(r"[^\x08\t\n\f\r\x20-\x7e\x80-\U0010ffff]")
"""What JSON writes only as `\\u001f`, which answers don't contain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A subschema: where it stands in the document, and as it is rewritten."""

    pointer: str
    written: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrittenSchema:
    """A rewritten schema."""

    schema: Mapping[str, object]
    """What llguidance compiles: a reference into its own `$defs`, one for each place that a reference leads to."""
    parts: Sequence[Part]
    """The subschemas, inner ones first."""
    pointer: str
    """Where the schema stands in what was given."""


def rewritten(text: str) -> RewrittenSchema:
    """Return a schema, given as JSON, as llguidance needs it. Raises SchemaRefused.

    The wrapper of OpenAI's requests is taken off: `{"type": "json_schema", "json_schema": {"name", "schema"}}`, or its
    inner object.
    """
    if len(text) > LARGEST_TEXT:
        raise SchemaRefused(Reason.TOO_LARGE)
    try:
        value: object = json.loads(text, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # fails for half of a surrogate pair
    except json.JSONDecodeError as error:
        raise SchemaRefused(Reason.NOT_JSON, detail=f"{error.lineno}:{error.colno}") from error
    except (ValueError, RecursionError) as error:  # NaN, half of a surrogate pair
        raise SchemaRefused(Reason.NOT_JSON) from error
    return _Rewriting(*_unwrapped(value)).document()


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _unwrapped(value: object) -> tuple[object, str]:
    """Return the schema inside OpenAI's wrapper, and its pointer."""
    pointer = "#"
    if isinstance(value, dict) and value.get("type") == "json_schema" and isinstance(value.get("json_schema"), dict):
        value, pointer = value["json_schema"], f"{pointer}/json_schema"
    if isinstance(value, dict) and {"name", "schema"} <= value.keys() <= {
        "type",
        "name",
        "description",
        "strict",
        "schema",
    }:
        return value["schema"], f"{pointer}/schema"
    return value, pointer


class _Rewriting:
    """The state of one rewriting: the places that references lead to, and how much was written."""

    def __init__(self, root: object, pointer: str) -> None:
        self._root, self._base = root, pointer
        self._places: dict[str, int] = {}
        """The number of each place in the new `$defs`, by its pointer inside the schema."""
        self._waiting: deque[str] = deque()
        """Places that are not rewritten yet."""
        self._parts: list[Part] = []
        self._count = 0

    def document(self) -> RewrittenSchema:
        """Rewrite everything that the root refers to."""
        if not isinstance(self._root, dict):
            raise SchemaRefused(Reason.NOT_A_SCHEMA, self._base)
        first = self._reference("#", self._base)
        definitions: dict[str, object] = {}
        while self._waiting:
            place = self._waiting.popleft()
            definitions[str(self._places[place])] = self._schema(self._target(place), self._base + place)
        return RewrittenSchema(schema={**first, "$defs": definitions}, parts=self._parts, pointer=self._base)

    def _target(self, place: str) -> object:
        """Return what stands at a pointer inside the schema. Raises KeyError, IndexError or ValueError."""
        value = self._root
        for name in place.split("/")[1:]:
            if isinstance(value, list):
                value = value[int(name) if name.isdecimal() else len(value)]
            elif isinstance(value, dict):
                value = value[name.replace("~1", "/").replace("~0", "~")]
            else:
                raise KeyError(name)
        return value

    def _reference(self, reference: object, pointer: str) -> dict[str, str]:
        """Return a `$ref` to the place in the new `$defs` of what is referred to."""
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise SchemaRefused(Reason.REFERENCE, pointer)
        place = unquote(reference[1:])
        try:
            self._target(place)
        except (KeyError, IndexError, ValueError):
            raise SchemaRefused(Reason.REFERENCE, pointer) from None
        if place not in self._places:
            self._places[place] = len(self._places)
            self._waiting.append(place)
        return {"$ref": f"#/$defs/{self._places[place]}"}

    def _schema(self, schema: object, pointer: str) -> object:
        """Return one subschema and all inside it as llguidance needs them."""
        self._measure(pointer)
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise SchemaRefused(Reason.NOT_A_SCHEMA, pointer)
        self._refuse_repeated_names(schema, pointer)
        written: dict[str, object] = {}
        for keyword, value in schema.items():
            here = f"{pointer}/{escaped(keyword)}"
            is_embedded = keyword in ("$id", "id") and pointer != self._base and isinstance(value, str)
            if keyword in REFUSED or is_embedded:  # inside another document, references mean something else
                raise SchemaRefused(Reason.KEYWORD, here)
            if keyword in _ENFORCED:
                written.update(self._rewritten(keyword, value, here))
        self._parts.append(Part(pointer=pointer, written=written))
        if own := FORMATS.get(str(schema.get("format"))):
            return {"allOf": [written, {"pattern": own}]}
        return written

    def _rewritten(self, keyword: str, value: object, pointer: str) -> Mapping[str, object]:
        """Return a keyword that is enforced, with its value; nothing where it needs no words of its own."""
        if keyword == "$ref":
            return self._reference(value, pointer)
        if keyword == "format":
            return _format(value, pointer)
        if keyword == "uniqueItems":
            if value is not False:
                raise SchemaRefused(Reason.KEYWORD, pointer)
            return {}
        return {keyword: self._value(keyword, value, pointer)}

    def _value(self, keyword: str, value: object, pointer: str) -> object:
        """Return the value of a keyword as llguidance needs it."""
        new = value
        if keyword in ("const", "enum"):
            self._check_literal(value, pointer)
        elif keyword in _NUMBERS:
            _check_number(value, pointer)
        elif keyword in _COUNTS and isinstance(value, float) and value.is_integer():
            new = int(value)
        elif keyword == "pattern":
            new = _pattern(value, pointer)
        elif keyword in _LISTS or (keyword == "items" and isinstance(value, list)):
            new = self._list(value, pointer)
            if keyword == "oneOf" and self._exclude_each_other(value):
                new = [{"anyOf": new}]
        elif keyword in _SCHEMAS:
            new = self._schema(value, pointer)
        elif keyword in _MAPS:
            new = self._map(keyword, value, pointer)
        return new

    def _list(self, value: object, pointer: str) -> list[object]:
        if not isinstance(value, list):
            raise SchemaRefused(Reason.NOT_A_SCHEMA, pointer)
        return [self._schema(each, f"{pointer}/{i}") for i, each in enumerate(value)]

    def _exclude_each_other(self, options: object) -> bool:
        """Return whether no value can follow two of the options, as far as tags and fixed values show it."""
        if not isinstance(options, list) or len(options) > MOST_OPTIONS:
            return False
        return all(self._are_disjoint(*pair) for pair in combinations(options, 2))

    def _are_disjoint(self, one: object, other: object, levels: int = 3) -> bool:
        one, other = self._behind_references(one), self._behind_references(other)
        if not (isinstance(one, dict) and isinstance(other, dict) and levels):
            return False
        if (values := _fixed(one)) is not None and (others := _fixed(other)) is not None:
            return not any(value == another for value in values for another in others)
        if one.get("type") != "object" or other.get("type") != "object":
            return False
        names = {*_names(one.get("required")), *_names(other.get("required"))}
        mine, theirs = _properties(one), _properties(other)
        return any(
            self._are_disjoint(mine[name], theirs[name], levels - 1) for name in names & mine.keys() & theirs.keys()
        )

    def _behind_references(self, schema: object) -> object:
        """Return what a schema refers to, in several steps; what it says beside that would only narrow it."""
        for _step in range(DEEPEST):
            if not isinstance(schema, dict) or "$ref" not in schema:
                break
            self._reference(schema["$ref"], self._base)
            schema = self._target(unquote(schema["$ref"][1:]))
        return schema

    def _map(self, keyword: str, value: object, pointer: str) -> dict[str, object]:
        if not isinstance(value, dict):
            raise SchemaRefused(Reason.NOT_A_SCHEMA, pointer)
        written: dict[str, object] = {}
        for name, each in value.items():
            here = f"{pointer}/{escaped(name)}"
            written[_pattern(name, here) if keyword == "patternProperties" else name] = self._schema(each, here)
        return written

    def _check_literal(self, value: object, pointer: str) -> None:
        """Raise SchemaRefused for a value of `enum` or `const` that can't be written exactly."""
        self._measure(pointer)
        if isinstance(value, str):
            if _UNWRITABLE.search(value):
                raise SchemaRefused(Reason.TEXT, pointer)
        elif isinstance(value, list):
            for i, each in enumerate(value):
                self._check_literal(each, f"{pointer}/{i}")
        elif isinstance(value, dict):
            for name, each in value.items():
                self._check_literal(each, f"{pointer}/{escaped(name)}")
        elif value is not None and not isinstance(value, bool):
            _check_number(value, pointer)

    def _measure(self, pointer: str) -> None:
        self._count += 1
        if self._count > LARGEST or pointer.count("/") > DEEPEST:
            raise SchemaRefused(Reason.TOO_LARGE, pointer)

    def _refuse_repeated_names(self, schema: Mapping[str, object], pointer: str) -> None:
        """Refuse a number of properties that could be reached only by repeating a free name."""
        least = schema.get("minProperties")
        is_free = schema.get("additionalProperties") is not False or bool(schema.get("patternProperties"))
        if isinstance(least, int | float) and least > 1 and is_free:
            raise SchemaRefused(Reason.REPEATED_NAMES, f"{pointer}/minProperties")


def _check_number(value: object, pointer: str) -> None:
    """Raise SchemaRefused for a number that llguidance would round, or could not write."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SchemaRefused(Reason.NOT_A_SCHEMA, pointer)
    exact = abs(value) <= LARGEST_INTEGER if isinstance(value, int) else _is_short(value)
    if not exact:
        raise SchemaRefused(Reason.NUMBER, pointer)


def _is_short(value: float) -> bool:
    """Return whether a number is written without an exponent and in few enough digits to be exact."""
    digits = repr(value).lstrip("-").replace(".", "").lstrip("0")
    return math.isfinite(value) and "e" not in repr(value) and len(digits) <= 15


def _fixed(schema: Mapping[str, object]) -> Sequence[object] | None:
    """Return the only values that a schema allows; None if they are not listed."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _properties(schema: Mapping[str, object]) -> Mapping[str, object]:
    value = schema.get("properties")
    return value if isinstance(value, dict) else {}


def _format(value: object, pointer: str) -> Mapping[str, object]:
    if not isinstance(value, str):
        raise SchemaRefused(Reason.NOT_A_SCHEMA, pointer)
    if value in _FORMATS_OF_LLGUIDANCE:
        return {"format": value}
    if value not in FORMATS:
        raise SchemaRefused(Reason.FORMAT, pointer, value)
    return {}


def _pattern(value: object, pointer: str) -> str:
    if not isinstance(value, str):
        raise SchemaRefused(Reason.NOT_A_SCHEMA, pointer)
    try:
        return translated(value)
    except PatternRefused as error:
        raise SchemaRefused(Reason.PATTERN, pointer, str(error)) from error


def escaped(name: str) -> str:
    """Return a name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
