"""Finds words in messages as they are read on the screen: across wrapped lines, ignoring case. No widget here."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from qwenchat.markdown.lines import Line
from qwenchat.markdown.palette import Palette
from qwenchat.tui.transcript.drawing import Highlight

Span = tuple[int, int]
"""First and end character in a line, decoration counted."""

_MARKUP = re.compile(r"[*_`~\\]")


def mentions(text: str, words: str) -> bool:
    """Return whether a message's source has the words, with or without its markup. Fast, and wrong in rare cases."""
    folded, wanted = text.casefold(), words.casefold()
    return wanted in folded or wanted in _MARKUP.sub("", folded)


def occurrences(lines: Sequence[Line], words: str) -> list[list[tuple[int, Span]]]:
    """Return where the words occur: for each occurrence its pieces, as a line's number and a span in it."""
    wanted = words.casefold()
    if not wanted:
        return []
    starts: list[int] = []
    text = ""
    for line in lines:
        starts.append(len(text))
        text += _folded(line.text) + ("\n" if line.glue is None else line.glue)
    starts.append(len(text))
    found = []
    number = 0
    at = text.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        while starts[number + 1] <= at:
            number += 1
        found.append(_pieces(lines, starts, line=number, at=at, end=end))
        at = text.find(wanted, end)
    return found


def _pieces(lines: Sequence[Line], starts: Sequence[int], line: int, at: int, end: int) -> list[tuple[int, Span]]:
    pieces = []
    while line < len(lines) and starts[line] < end:
        first, last = max(at - starts[line], 0), min(end - starts[line], len(lines[line].text))
        if last > first:
            margin = lines[line].margin
            pieces.append((line, (margin + first, margin + last)))
        line += 1
    return pieces


def _folded(text: str) -> str:
    """Return text case-folded, each character by itself and of unchanged length, so that positions stay."""
    folded = text.casefold()
    return folded if len(folded) == len(text) else "".join(f if len(f := c.casefold()) == 1 else c for c in text)


@dataclass(slots=True)
class Search:
    """The state of a search for words: the messages that have them, and the occurrence being read."""

    words: str
    hits: list[int] = field(default_factory=list)
    """Messages, in order."""
    at: int = 0
    """The hit being read."""
    occurrence: int = 0
    """The occurrence being read within it."""

    @classmethod
    def through(cls, texts: Iterable[str], words: str) -> "Search":
        """Return a search of all messages' sources."""
        hits = [index for index, text in enumerate(texts) if mentions(text, words)] if words.strip() else []
        return cls(words, hits)

    def occurrences(self, lines: Sequence[Line]) -> list[list[tuple[int, Span]]]:
        """Return where the words occur in a message's lines, as the function `occurrences` does."""
        return occurrences(lines, self.words)

    def current_line(self, lines: Sequence[Line]) -> int:
        """Return the line of the occurrence being read; `lines` are those of the message being read."""
        found = self.occurrences(lines)
        self.occurrence %= max(len(found), 1)
        return found[self.occurrence][0][0] if found else 0

    def highlights(self, index: int, line: int, lines: Sequence[Line], palette: Palette) -> list[Highlight]:
        """Return what to highlight in one line of a message."""
        current = self.occurrence if index == self.message else None
        return [
            (*span, palette.found_current if number == current else palette.found)
            for number, pieces in enumerate(self.occurrences(lines))
            for at, span in pieces
            if at == line
        ]

    @property
    def message(self) -> int | None:
        """The message being read."""
        return self.hits[self.at] if self.hits else None

    def to_message(self, index: int | None) -> None:
        """Go to the first occurrence in a message, or to the last occurrence of all where the message has none."""
        if index in self.hits:
            self.at, self.occurrence = self.hits.index(index), 0
        else:
            self.at, self.occurrence = max(len(self.hits) - 1, 0), -1

    def step(self, by: int, count: int) -> None:
        """Go to the next (1) or previous (-1) occurrence; `count` are in the message being read."""
        occurrence = self.occurrence + by
        if 0 <= occurrence < count:
            self.occurrence = occurrence
        elif self.hits:
            self.at = (self.at + by) % len(self.hits)
            self.occurrence = 0 if by > 0 else -1
