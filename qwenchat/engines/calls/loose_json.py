"""Reads the JSON that small models write: in a fence, with a comment behind it, in single quotes, with a last comma.

What they write is never run: it is JSON, or else a literal. Nothing here raises, whatever the text is.
"""

import ast
import json
import re
from typing import Any

from qwenchat.text.safe import encodable

_LARGEST = 1 << 20
"""Characters; more is not read at all."""
_DEEPEST = 100
"""Objects and lists inside each other; no schema of a tool needs more, and deeper ones are a danger to the parsers."""
_FENCE = re.compile(r"```[A-Za-z0-9]*\s*")
_WORDS = {"true": "True", "false": "False", "null": "None"}
_WORD = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|\b(true|false|null)\b""", re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}


class ObjectScanner:
    """Finds the end of the object with which a text begins, piece by piece. Quotes may be single ones."""

    def __init__(self) -> None:
        self.end = 0
        """Where the first brace is closed; 0 where it is not, or not yet."""
        self.deepest = 0
        """How many objects and lists were open at most."""
        self._open = list[str]()
        """What closes the objects and lists that are open."""
        self._quote, self._is_escaped = "", False
        self._length = 0

    def feed(self, text: str) -> int:
        """Take more text and return the `end`."""
        for place, char in enumerate(text, self._length + 1):
            if self.end:
                break
            if self._is_escaped:
                self._is_escaped = False
            elif self._quote:
                self._is_escaped = char == "\\"
                self._quote = "" if char == self._quote else self._quote
            elif char in "\"'":
                self._quote = char
            elif char in "{[":
                self._open.append(_CLOSING[char])
                self.deepest = max(self.deepest, len(self._open))
            elif char in "}]" and self._open:
                self._open.pop()
                self.end = 0 if self._open else place
        self._length += len(text)
        return self.end

    @property
    def closing(self) -> str | None:
        """What small models forget at the end: the braces of what is open; None while a string is."""
        return None if self._quote else "".join(reversed(self._open))


def without_fence(text: str) -> str:
    """Return a text from behind the white space and the fence that it may begin with."""
    text = text.lstrip()
    return text[fence.end() :] if (fence := _FENCE.match(text)) else text


def json_object(text: str) -> dict[str, Any] | None:
    """Return the object that a text begins with, after white space or a fence; None where there is none."""
    if len(text) > _LARGEST:
        return None
    text = without_fence(text)
    if not text.startswith("{"):
        return None
    scanner = ObjectScanner()
    end = scanner.feed(text)
    if scanner.deepest > _DEEPEST or scanner.closing is None:
        return None
    whole = text[:end] if end else text.rstrip(" \n`") + scanner.closing
    try:
        found = json.loads(whole, strict=False)
    except ValueError:
        found = _as_python(whole)
    return _encodable(found) if isinstance(found, dict) else None


def is_whole_object(text: str) -> bool:
    """Say whether the first brace of a text is closed."""
    return ObjectScanner().feed(text[text.find("{") :]) > 0


def _as_python(text: str) -> object:
    """Return the literal that a text is once JSON's words are Python's; None where it is not a literal."""
    literal = _WORD.sub(lambda match: match[1] or _WORDS[match[2]], text)
    try:
        return json.loads(json.dumps(ast.literal_eval(literal)))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _encodable(found: dict[str, Any]) -> dict[str, Any]:
    """Return an object without halves of characters, which JSON can name and nothing can store."""
    read: dict[str, Any] = json.loads(encodable(json.dumps(found, ensure_ascii=False)))
    return read
