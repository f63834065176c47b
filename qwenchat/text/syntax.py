"""Where a file that a user writes breaks the rules of TOML or JSON, in the user's language.

The parsers explain it in English; the place that they name is what the user needs. Nothing is parsed or corrected here.
"""

import json
import re

from qwenchat.i18n import _

_OF_TOMLLIB = re.compile(r"\(at line (\d+), column (\d+)\)$")
_OF_MSGSPEC = re.compile(r"\(byte (\d+)\)$")


def fault(error: Exception, text: str) -> str:
    """Return where the parser of a text stopped, as a clause. `error` is of tomllib, json, msgspec.json or a decoder.

    A parser that reached the end of the text does not know the column.
    """
    if isinstance(error, UnicodeError):
        return _("it is not UTF-8")
    if isinstance(error, RecursionError):
        return _("it is nested too deeply")
    line, column = len(text.rstrip().splitlines()) or 1, 0
    if isinstance(error, json.JSONDecodeError):
        line, column = error.lineno, error.colno
    elif found := _OF_TOMLLIB.search(str(error)):
        line, column = int(found[1]), int(found[2])
    elif found := _OF_MSGSPEC.search(str(error)):
        before = text.encode()[: int(found[1])].decode("utf-8", "ignore")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return place(line, column) if column else _("line {line}").format(line=line)


def place(line: int | str, column: int | str) -> str:
    """Return a place in a text, as a clause; both numbers begin at 1."""
    return _("line {line}, column {column}").format(line=line, column=column)
