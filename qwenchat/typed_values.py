"""What is wrong with the values of a TOML file that a user writes, in words: settings and themes.

msgspec would say it in its own English, with names of Python's types. Nothing is converted or corrected here.
"""

import json
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec
from msgspec import Meta, inspect

from qwenchat.i18n import _, enumerated
from qwenchat.text.safe import clean_line


def problem(document: object, kind: type[msgspec.Struct], *, strict: bool = True) -> str:
    """Return what is first wrong with a document of this type, as a clause; empty where nothing is.

    `strict` is msgspec's: whether the text "1" is no number.
    """
    return _problem("", document, inspect.type_info(kind), strict=strict)


def shown(value: object) -> str:
    """Return a value as a TOML file would have it, short and clean."""
    return clean_line(json.dumps(value, ensure_ascii=False, default=str), 60)


def _problem(key: str, value: Any, kind: inspect.Type, *, strict: bool) -> str:
    if isinstance(kind, inspect.Metadata):
        return _problem(key, value, kind.type, strict=strict)
    match kind:
        case inspect.UnionType():  # of one type with None
            wanted = next(each for each in kind.types if not isinstance(each, inspect.NoneType))
            found = "" if value is None else _problem(key, value, wanted, strict=strict)
        case inspect.StructType() if isinstance(value, dict):
            found = (
                _unknown(key, value, kind) or _of_values(key, value, kind, strict=strict) or _missing(key, value, kind)
            )
        case inspect.DictType() if isinstance(value, dict):
            found = _of_values(key, value, kind, strict=strict)
        case inspect.StructType() | inspect.DictType():
            found = _('"{key}" is a section, not a value').format(key=key)
        case inspect.VarTupleType(max_length=int(most)) if isinstance(value, list) and len(value) > most:
            found = _('"{key}" can have at most {most} items, not {count}').format(key=key, most=most, count=len(value))
        case inspect.VarTupleType() if isinstance(value, list):
            items = (_problem(key, each, kind.item_type, strict=strict) for each in value)
            found = next(filter(None, items), "")
        case inspect.VarTupleType():
            found = _('"{key}" must be a list, not {value}').format(key=key, value=shown(value))
        case _:
            found = _of_value(key, value, kind, strict=strict)
    return found


def _unknown(key: str, value: dict[str, Any], kind: inspect.StructType) -> str:
    known = {field.encode_name for field in kind.fields}
    for name in value:
        if name not in known:
            near = get_close_matches(name, known, 1)
            words = _('"{key}" is unknown; "{near}" is close to it') if near else _('"{key}" is unknown')
            return words.format(key=_inner(key, name), near=_inner(key, *near))
    return ""


def _missing(key: str, value: dict[str, Any], kind: inspect.StructType) -> str:
    missing = (field.encode_name for field in kind.fields if field.required and field.encode_name not in value)
    return next((_('"{key}" is missing').format(key=_inner(key, name)) for name in missing), "")


def _of_values(key: str, value: dict[str, Any], kind: inspect.StructType | inspect.DictType, *, strict: bool) -> str:
    if isinstance(kind, inspect.DictType):
        kinds = dict.fromkeys(value, kind.value_type)
    else:
        kinds = {field.encode_name: field.type for field in kind.fields}
    problems = (_problem(_inner(key, name), each, kinds[name], strict=strict) for name, each in value.items())
    return next(filter(None, problems), "")


def _of_value(key: str, value: object, kind: inspect.Type, *, strict: bool) -> str:
    choices = low = high = None
    match kind:
        case inspect.LiteralType() | inspect.EnumType():
            named = kind.values if isinstance(kind, inspect.LiteralType) else [each.value for each in kind.cls]
            is_right, choices = value in named, enumerated(each for each in named if each != "")
            words = _('"{key}" can be one of {choices}, but not {value}')
        case inspect.BoolType():
            is_right = _converts(value, bool, strict=strict)
            words = _('"{key}" can be true or false, but not {value}')
        case inspect.IntType() | inspect.FloatType():
            low, high, number = kind.ge, kind.le, int if isinstance(kind, inspect.IntType) else float
            is_right = _converts(value, Annotated[number, Meta(ge=low, le=high)], strict=strict)
            words = _number(is_whole=number is int, is_limited=high is not None)
        case _:
            is_right = _converts(value, str, strict=strict)
            words = _('"{key}" must be text in quotation marks, not {value}')
    return "" if is_right else words.format(key=key, value=shown(value), choices=choices, low=low, high=high)


def _number(*, is_whole: bool, is_limited: bool) -> str:
    if is_whole and is_limited:
        return _('"{key}" must be a whole number from {low:,} to {high:,}, not {value}')
    if is_whole:
        return _('"{key}" must be a whole number of at least {low:,}, not {value}')
    return _('"{key}" must be a number from {low:,} to {high:,}, not {value}')


def _converts(value: object, kind: Any, *, strict: bool) -> bool:
    try:
        msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError:
        return False
    return True


def _inner(key: str, *names: str) -> str:
    """Return the key of a value in a section."""
    return ".".join(filter(None, (key, *(clean_line(name, 60) for name in names))))
