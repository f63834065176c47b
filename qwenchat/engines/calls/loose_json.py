"""Reads the JSON that small models write: in a fence, with a comment behind it, in single quotes, with a last comma."""

import ast
import json
import re
from typing import Any

_LARGEST = 1 << 20
"""Characters; more is not read at all."""
_FENCE = re.compile(r"^\s*```[a-z0-9]*\s*\n|\n?\s*```\s*$", re.IGNORECASE)
_WORDS = {"true": "True", "false": "False", "null": "None"}
_WORD = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|\b(true|false|null)\b""")


def json_object(text: str) -> dict[str, Any] | None:
    """Return the object that a text begins with, after white space or a fence; None where there is none."""
    if len(text) > _LARGEST:
        return None
    text = _FENCE.sub("", text).strip()
    if not text.startswith("{"):
        return None
    try:
        found, _end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        found = _as_python(text[: _end_of_object(text)])
    return found if isinstance(found, dict) else None


def is_whole_object(text: str) -> bool:
    """Say whether the first brace of a text is closed."""
    return _end_of_object(text[text.find("{") :]) > 0


def _end_of_object(text: str) -> int:
    """Return where the brace is closed with which a text begins; 0 where it is not."""
    depth, quote, escaped = 0, "", False
    for place, char in enumerate(text):
        if escaped:
            escaped = False
        elif quote:
            escaped = char == "\\"
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if not depth:
                return place + 1
    return 0


def _as_python(text: str) -> object:
    """Return the literal that a text is once JSON's words are Python's; None where it is none."""
    literal = _WORD.sub(lambda match: match[1] or _WORDS[match[2]], text)
    try:
        found = ast.literal_eval(literal)
        return json.loads(json.dumps(found))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
