"""Where a file that a user writes breaks the rules of TOML or JSON, in the user's language.

The parsers explain it in English; the place that they name is what the user needs. Nothing is parsed or corrected here.
"""

import re

import msgspec

from qwenchat.i18n import _

_OF_TOMLLIB = re.compile(r"\(at line (\d+), column (\d+)\)$")
_OF_MSGSPEC = re.compile(r"\(byte (\d+)\)$")
_FIELD = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]*)`")


def fault(error: Exception, text: str | bytes) -> str:
    """Return where the parser of a text stopped, or which field is wrong, as a clause.

    `error` is of tomllib, json, msgspec or a decoder. A parser that reached the end of the text knows no column.
    """
    if isinstance(error, msgspec.ValidationError):
        return field_fault(error)
    if isinstance(error, UnicodeError):
        return _("it is not UTF-8")
    if isinstance(error, RecursionError):
        return _("it is nested too deeply")
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    line, column = len(text.rstrip().splitlines()) or 1, 0
    from json import JSONDecodeError  # noqa: PLC0415 - the first frame waits for this module

    if isinstance(error, JSONDecodeError):
        line, column = error.lineno, error.colno
    elif found := _OF_TOMLLIB.search(str(error)):
        line, column = int(found[1]), int(found[2])
    elif found := _OF_MSGSPEC.search(str(error)):
        before = text.encode()[: int(found[1])].decode("utf-8", "ignore")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return place(line, column) if column else _("line {line}").format(line=line)


def field_fault(error: msgspec.ValidationError) -> str:
    """Return which field of a record is missing or invalid, as a clause."""
    place = _FIELD.search(str(error))
    path = place[1] if place else ""
    if missing := _MISSING.search(str(error)):
        return _("the field {field} is missing").format(field=".".join(filter(None, (path, missing[1]))))
    return _("the field {field} is invalid").format(field=path) if path else _("a field is invalid")


def place(line: int | str, column: int | str) -> str:
    """Return a place in a text, as a clause; both numbers begin at 1."""
    return _("line {line}, column {column}").format(line=line, column=column)
