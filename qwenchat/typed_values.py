"""What is wrong with the values of a file that a user writes, in words: settings, themes and tool servers.

msgspec would say it in its own English, with names of Python's types. Nothing is converted or corrected here.
"""

import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct, inspect

from qwenchat.i18n import _, enumerated
from qwenchat.text import syntax
from qwenchat.text.safe import clean_line

Document = TypeVar("Document", bound=msgspec.Struct)


def problem(document: object, kind: type[msgspec.Struct], *, strict: bool = True, hides_values: bool = False) -> str:
    """Return what is first wrong with a document of this type, as a clause; empty where nothing is.

    `strict` is msgspec's: whether the text "1" is no number. With `hides_values`, which may be secrets, their types
    are named in their place.
    """
    return _Rules(strict=strict, hides_values=hides_values).problem("", document, inspect.type_info(kind))


def read_toml(file: Path, kind: type[Document]) -> tuple[Document | None, str]:
    """Return what a TOML file holds, or None and what is first wrong with it, as a clause. Raises OSError."""
    text = ""
    try:
        text = file.read_text("utf-8")
        document = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        return None, syntax.fault(error, text)
    if wrong := problem(document, kind):
        return None, wrong
    return msgspec.convert(document, kind), ""


def shown(value: object) -> str:
    """Return a value as a file would have it, short and clean."""
    import json  # noqa: PLC0415 - the first frame waits for this module

    return clean_line(json.dumps(value, ensure_ascii=False, default=str), 60)


class _Rules(Struct, frozen=True, kw_only=True):
    """The rules for one document. Each method returns the first problem that a value has, or an empty text."""

    strict: bool
    hides_values: bool

    def problem(self, key: str, value: Any, kind: inspect.Type) -> str:
        if isinstance(kind, inspect.Metadata):
            return self.problem(key, value, kind.type)
        match kind:
            case inspect.UnionType():  # of one type with None
                wanted = next(each for each in kind.types if not isinstance(each, inspect.NoneType))
                found = "" if value is None else self.problem(key, value, wanted)
            case inspect.StructType() if isinstance(value, dict):
                found = _unknown(key, value, kind) or self._of_values(key, value, kind) or _missing(key, value, kind)
            case inspect.DictType() if isinstance(value, dict):
                found = self._of_values(key, value, kind)
            case inspect.StructType() | inspect.DictType():
                words = _('"{key}" must be a group of settings, not {value}')
                found = (words if key else _("it must be a group of settings, not {value}")).format(
                    key=key, value=self._named(value)
                )
            case inspect.VarTupleType(max_length=int(most)) if isinstance(value, list | tuple) and len(value) > most:
                words = _('"{key}" can have at most {most} items, not {count}')
                found = words.format(key=key, most=most, count=len(value))
            case inspect.VarTupleType() if isinstance(value, list | tuple):
                found = _first(self.problem(f"{key}[{i}]", each, kind.item_type) for i, each in enumerate(value))
            case inspect.VarTupleType():
                found = _('"{key}" must be a list, not {value}').format(key=key, value=self._named(value))
            case _:
                found = self._of_value(key, value, kind)
        return found

    def _of_values(self, key: str, value: dict[str, Any], kind: inspect.StructType | inspect.DictType) -> str:
        if isinstance(kind, inspect.DictType):
            kinds = dict.fromkeys(value, kind.value_type)
        else:
            kinds = {field.encode_name: field.type for field in kind.fields}
        known = ((name, each) for name, each in value.items() if name in kinds)
        return _first(self.problem(_inner(key, name), each, kinds[name]) for name, each in known)

    def _of_value(self, key: str, value: object, kind: inspect.Type) -> str:
        choices = low = high = None
        match kind:
            case inspect.LiteralType() | inspect.EnumType():
                named = kind.values if isinstance(kind, inspect.LiteralType) else [each.value for each in kind.cls]
                is_right, choices = value in named, enumerated(each for each in named if each != "")
                words = _('"{key}" can be one of {choices}, but not {value}')
            case inspect.BoolType():
                is_right = self._converts(value, bool)
                words = _('"{key}" can be true or false, but not {value}')
            case inspect.IntType() | inspect.FloatType():
                low, high, number = kind.ge, kind.le, int if isinstance(kind, inspect.IntType) else float
                is_right = self._converts(value, Annotated[number, Meta(ge=low, le=high)])
                words = _number(is_whole=number is int, is_limited=high is not None)
            case _:
                is_right = self._converts(value, str)
                words = _('"{key}" must be text in quotation marks, not {value}')
        return "" if is_right else words.format(key=key, value=self._named(value), choices=choices, low=low, high=high)

    def _converts(self, value: object, kind: Any) -> bool:
        try:
            msgspec.convert(value, kind, strict=self.strict)
        except msgspec.ValidationError:
            return False
        return True

    def _named(self, value: object) -> str:
        return _type_of(value) if self.hides_values else shown(value)


def _type_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return _("true or false")
        case int() | float():
            return _("a number")
        case str():
            return _("a text")
        case list():
            return _("a list")
        case _:
            return _("a group of settings")


def _unknown(key: str, value: dict[str, Any], kind: inspect.StructType) -> str:
    known = {field.encode_name for field in kind.fields}
    for name in value:
        if kind.forbid_unknown_fields and name not in known:
            near = get_close_matches(name, known, 1)
            words = _('"{key}" is unknown; "{near}" is close to it') if near else _('"{key}" is unknown')
            return words.format(key=_inner(key, name), near=_inner(key, *near))
    return ""


def _missing(key: str, value: dict[str, Any], kind: inspect.StructType) -> str:
    missing = (field.encode_name for field in kind.fields if field.required and field.encode_name not in value)
    return next((_('"{key}" is missing').format(key=_inner(key, name)) for name in missing), "")


def _number(*, is_whole: bool, is_limited: bool) -> str:
    if is_whole and is_limited:
        return _('"{key}" must be a whole number from {low:,} to {high:,}, not {value}')
    if is_whole:
        return _('"{key}" must be a whole number of at least {low:,}, not {value}')
    return _('"{key}" must be a number from {low:,} to {high:,}, not {value}')


def _first(problems: Iterator[str]) -> str:
    return next(filter(None, problems), "")


def _inner(key: str, *names: str) -> str:
    """Return the key of a value in a section."""
    return ".".join(filter(None, (key, *(clean_line(name, 60) for name in names))))
