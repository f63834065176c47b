"""The arguments of a call: a tool's schema from the class of its arguments, and their values from what a model wrote.

A model may have written them freely, so they are checked before the user is asked about a call. For any tool that is
done by the keywords that models get wrong; what a schema says beyond them, the tool itself has to check.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, TypeVar

import msgspec

from qwenchat.text.safe import clean_line
from qwenchat.tools.tool import ToolError

_DEEPEST = 20
"""Levels of arguments that are checked."""
_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "string": (str,),
        "boolean": (bool, str),
        "integer": (int, str),
        "number": (int, float, str),
        "array": (list,),
        "object": (dict,),
        "null": (type(None),),
    }
)
"""What a value of each type can be; numbers and truth values may be written as text, which tools accept."""


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The arguments of a tool: a subclass has one field for each, which its schema describes."""


class SearchArguments(Arguments, frozen=True):
    """The arguments of a tool that looks for words."""

    words: Annotated[str, msgspec.Meta(min_length=1, description="The words to find")]


Given = TypeVar("Given", bound=Arguments)


def schema_of(arguments: type[Arguments], **words: str) -> str:
    """Return the JSON Schema of arguments, as ToolSpec has it; `words` stand for their names in the descriptions.

    The type of an argument comes first, as in the schemas that models were trained on.
    """
    schema = msgspec.json.schema(arguments)["$defs"][arguments.__name__]
    for name, argument in schema["properties"].items():
        if "description" in argument:
            argument["description"] = argument["description"].format(**words)
        schema["properties"][name] = {"type": argument["type"], **argument}
    hidden = ("title", "description")  # of the class; the model reads the rest
    schema = {name: value for name, value in schema.items() if name not in hidden and value != []}
    return json.dumps(schema, ensure_ascii=False)


def given(arguments: Mapping[str, object], wanted: type[Given]) -> Given:
    """Return arguments with their types; numbers may be written as text. Raises ToolError."""
    try:
        return msgspec.convert(arguments, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise ToolError(f"The arguments do not follow the schema: {error}.") from error


def decoded(arguments: str, schema: str) -> dict[str, object]:
    """Return the arguments of a call, given as JSON, checked against a tool's schema. Raises ToolError."""
    try:
        values = msgspec.json.decode(arguments or "{}", type=dict[str, object])
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ToolError(f"The arguments are not a JSON object: {error}.") from error
    if wrong := _problem(values, _document(schema), "the arguments", _DEEPEST):
        raise ToolError(f"The arguments do not follow the schema: {clean_line(wrong)}.")
    return values


def _document(schema: str) -> object:
    """Return a schema; None for one that can't be read, as servers may have."""
    try:
        return msgspec.json.decode(schema)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def _problem(value: object, schema: object, name: str, levels: int) -> str:
    """Return what is wrong with a value, by the first problem; empty where nothing is."""
    if not isinstance(schema, dict) or not levels:
        return ""
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds] if isinstance(kinds, str) else []
    if kinds and not any(_is_of_type(value, kind) for kind in kinds):
        return f"{name} must be of the type {' or '.join(map(str, kinds))}"
    allowed = schema.get("enum")
    if isinstance(allowed, list) and value not in allowed:
        return f"{name} must be one of {json.dumps(allowed, ensure_ascii=False)}"
    if isinstance(value, dict):
        return _problem_of_object(value, schema, levels)
    if isinstance(value, list):
        problems = (_problem(each, schema.get("items"), f"{name}[{i}]", levels - 1) for i, each in enumerate(value))
        return next(filter(None, problems), "")
    return ""


def _problem_of_object(value: Mapping[str, object], schema: Mapping[str, object], levels: int) -> str:
    required, properties = schema.get("required"), schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    wanted = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    if missing := [name for name in wanted if name not in value]:
        return f'"{missing[0]}" is missing'
    unknown = [name for name in value if name not in known]
    if unknown and schema.get("additionalProperties") is False and "patternProperties" not in schema:
        return f'there is no "{unknown[0]}"; there are: {", ".join(known) or "none"}'
    problems = (_problem(each, known.get(name), f'"{name}"', levels - 1) for name, each in value.items())
    return next(filter(None, problems), "")


def _is_of_type(value: object, kind: object) -> bool:
    """Return whether a value is of a JSON type; a type that is not known is left to the tool."""
    if isinstance(value, bool):
        return kind not in ("integer", "number", "string", "array", "object", "null")
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[str(kind)]) if str(kind) in _TYPES else True
