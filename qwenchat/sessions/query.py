"""Parses a search query: words, "exact phrases" and filters. No input is an error.

`role:user model:7b before:2025-03 after:2025-01-31 tag:work in:0198a2` narrow the search, and `in:reasoning` searches
the models' reasoning instead of messages. A filter with an invalid value is searched for as text.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime

from qwenchat.chat.message import Role
from qwenchat.text.safe import encodable
from qwenchat.text.words import fold, phrase, quoted, tokens, unspaced

_ITEM = re.compile(
    r"""(?:(?P<filter>role|model|before|after|tag|in)[:：])?(?:["“](?P<exact>[^"”]*)["”]?|(?P<word>\S+))"""
)
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")
_MIN_PREFIX = 3
_MAX_INITIALS = 12
_MAX_TYPED = 1000
"""Characters of the input that are parsed."""
_MAX_ITEMS = 32
"""Words and phrases that are searched for."""


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query: messages match if they contain all `items` and pass all filters."""

    items: tuple[str, ...] = ()
    """Words and phrases as typed."""
    open: bool = False
    """Whether the last item may be the beginning of a word, because it was typed without quotes."""
    roles: frozenset[Role] = field(default_factory=frozenset)
    """The message has one of these roles; empty: any role."""
    models: tuple[str, ...] = ()
    """The model reference contains all of these."""
    before: int | None = None
    """The message is earlier than this time, in Unix milliseconds."""
    after: int | None = None
    """The message is not earlier than this time, in Unix milliseconds."""
    tags: tuple[str, ...] = ()
    """The session has all of these tags."""
    sessions: tuple[str, ...] = ()
    """The session's id begins with all of these."""
    reasoning: bool = False
    """Whether to search the reasoning of answers instead of the texts of messages."""

    @property
    def narrows(self) -> bool:
        """Whether any filter is given."""
        times = (self.before, self.after)
        others = self.roles or self.models or self.reasoning
        return self.narrows_sessions or bool(others) or any(time is not None for time in times)

    @property
    def narrows_sessions(self) -> bool:
        """Whether a filter is given that only a few sessions may pass."""
        return bool(self.tags or self.sessions)

    @property
    def initials(self) -> str:
        """The query's only word, if it may be the pinyin initials of several Chinese characters; otherwise empty."""
        word = self.items[0].lower() if self.open and len(self.items) == 1 else ""
        return word if 2 <= len(word) <= _MAX_INITIALS and word.isascii() and word.isalpha() else ""

    @property
    def match(self) -> str:
        """The FTS5 expression for all items; empty if there is nothing to look up."""
        return " AND ".join(filter(None, map(phrase, self.items)))

    @property
    def wider(self) -> str:
        """The same with the last word as the beginning of a word; empty if that makes no difference.

        A partial word may already be longer than the indexed stem (`migratio`, stem `migrat`), so its own beginnings
        are searched for too.
        """
        found = [token for token, _start, _end in tokens(fold(self.items[-1]))] if self.open and self.items else []
        if not found or len(found[-1]) < _MIN_PREFIX or unspaced(found[-1]):
            return ""
        word = found[-1]
        stems = [quoted([*found[:-1], word[:end]]) for end in range(max(5, len(word) - 3), len(word))]
        last = " OR ".join([quoted(found) + " *", *stems])
        return " AND ".join([*filter(None, map(phrase, self.items[:-1])), f"({last})"])


def parse_query(typed: str) -> Query:
    """Parse the text that a user typed."""
    items: list[str] = []
    is_open = reasoning = False
    roles: set[Role] = set()
    values: dict[str, list[str]] = {"model": [], "tag": [], "in": []}
    times: dict[str, int] = {}
    for found in _ITEM.finditer(encodable(typed[:_MAX_TYPED])):
        name, value = found["filter"], found["exact"] if found["word"] is None else found["word"]
        if name == "in" and value.lower() == "reasoning":
            reasoning = True
        elif name in values and value:
            values[name].append(value)
        elif name == "role" and value.lower() in list(Role):
            roles.add(Role(value.lower()))
        elif name in ("before", "after") and (time := _time(value)) is not None:
            times[name] = time
        else:
            items.append(value if name is None else found[0])
            is_open = found["word"] is not None
    return Query(
        items=tuple(items[:_MAX_ITEMS]),
        open=is_open,
        roles=frozenset(roles),
        models=tuple(values["model"]),
        before=times.get("before"),
        after=times.get("after"),
        tags=tuple(values["tag"]),
        sessions=tuple(values["in"]),
        reasoning=reasoning,
    )


def _time(date: str) -> int | None:
    """Return the beginning of a year, month or day in local time, in Unix milliseconds; None if it is invalid."""
    found = _DATE.fullmatch(date)
    if not found:
        return None
    year, month, day = (int(part or 1) for part in found.groups())
    try:
        return int(datetime(year, month, day).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None
