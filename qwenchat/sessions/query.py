"""Reads what a user types into the search box: words, "exact phrases" and filters. Nothing typed is an error.

`role:user model:7b before:2025-03 after:2025-01-31 tag:work in:0198a2` narrow the search, and `in:reasoning` searches
what models wrote for themselves in place of what was said. A filter whose value makes no sense is searched for as
words.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime

from qwenchat.chat.message import Role
from qwenchat.sessions.words import fold, phrase, quoted, tokens, unspaced
from qwenchat.text.safe import encodable

_ITEM = re.compile(
    r"""(?:(?P<filter>role|model|before|after|tag|in)[:：])?(?:["“](?P<exact>[^"”]*)["”]?|(?P<word>\S+))"""
)
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")
_MIN_PREFIX = 3
_MAX_INITIALS = 12
_MAX_TYPED = 1000
"""Characters that are read of what was typed."""
_MAX_ITEMS = 32
"""Words and phrases that are looked for."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to find: all of `items`, in messages that pass all filters."""

    items: tuple[str, ...] = ()
    """Words and phrases as typed."""
    open: bool = False
    """Whether the last item may be the beginning of a word: it was typed without quotes."""
    roles: frozenset[Role] = field(default_factory=frozenset)
    """One of these; any if empty."""
    models: tuple[str, ...] = ()
    """All of these are part of the model's reference."""
    before: int | None = None
    """Unix milliseconds; earlier only."""
    after: int | None = None
    """Unix milliseconds; then or later."""
    tags: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    """The session's id begins with all of these."""
    reasoning: bool = False
    """Whether to search the reasoning of answers in place of the texts of messages."""

    @property
    def narrows(self) -> bool:
        """Whether any filter is given."""
        times = (self.before, self.after)
        others = self.roles or self.models or self.reasoning
        return self.few or bool(others) or any(time is not None for time in times)

    @property
    def few(self) -> bool:
        """Whether a filter is given that few sessions may pass."""
        return bool(self.tags or self.sessions)

    @property
    def initials(self) -> str:
        """The one word that is looked for, if it may stand for the pinyin initials of several Chinese characters."""
        word = self.items[0].lower() if self.open and len(self.items) == 1 else ""
        return word if 2 <= len(word) <= _MAX_INITIALS and word.isascii() and word.isalpha() else ""

    @property
    def match(self) -> str:
        """The FTS5 expression for all items; empty where there is nothing to look up."""
        return " AND ".join(filter(None, map(phrase, self.items)))

    @property
    def wider(self) -> str:
        """The same with the last word as the beginning of one, empty where that makes no difference.

        Half a word may already be longer than the stem that is indexed (`migratio`, stem `migrat`): then its own
        beginnings count too.
        """
        found = [token for token, _start, _end in tokens(fold(self.items[-1]))] if self.open and self.items else []
        if not found or len(found[-1]) < _MIN_PREFIX or unspaced(found[-1]):
            return ""
        word = found[-1]
        stems = [quoted([*found[:-1], word[:end]]) for end in range(max(5, len(word) - 3), len(word))]
        last = " OR ".join([quoted(found) + " *", *stems])
        return " AND ".join([*filter(None, map(phrase, self.items[:-1])), f"({last})"])


def parse_query(typed: str) -> Query:
    """Return the query that `typed` means."""
    items: list[str] = []
    bare = reasoning = False
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
            bare = found["word"] is not None
    return Query(
        items=tuple(items[:_MAX_ITEMS]),
        open=bare,
        roles=frozenset(roles),
        models=tuple(values["model"]),
        before=times.get("before"),
        after=times.get("after"),
        tags=tuple(values["tag"]),
        sessions=tuple(values["in"]),
        reasoning=reasoning,
    )


def _time(date: str) -> int | None:
    """Return when a year, month or day begins here, in Unix milliseconds."""
    found = _DATE.fullmatch(date)
    if not found:
        return None
    year, month, day = (int(part or 1) for part in found.groups())
    try:
        return int(datetime(year, month, day).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None
