"""Finds words in messages as they are read on the screen, across wrapped lines, ignoring case, and goes through them.

No widget here.
"""

import re
from collections.abc import Callable, Sequence

from qwenchat.markdown.lines import Line
from qwenchat.tui.transcript.column import Column
from qwenchat.tui.transcript.drawing import Highlight
from qwenchat.tui.transcript.viewport import Viewport

Span = tuple[int, int]
"""First and end character in a line, decoration counted."""

_MARKUP = re.compile(r"[*_`~\\]")


def mentions(text: str, words: str) -> bool:
    """Return whether a message's source has the words, with or without its markup. Fast, and wrong in rare cases."""
    folded, wanted = text.casefold(), words.casefold()
    return wanted in folded or wanted in _MARKUP.sub("", folded)


def occurrences(lines: Sequence[Line], phrases: Sequence[str]) -> list[list[tuple[int, Span]]]:
    """Return where any of the phrases occurs: for each occurrence its pieces, as a line's number and a span in it."""
    wanted = sorted(filter(None, map(str.casefold, phrases)), key=len, reverse=True)
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
    for match in re.finditer("|".join(map(re.escape, wanted)), text):
        while starts[number + 1] <= match.start():
            number += 1
        found.append(_pieces(lines, starts, line=number, at=match.start(), end=match.end()))
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


class Finder:
    """Marks words in a column and shows one occurrence after another in its viewport.

    `on_found` is called with the words, the number of the message being read, counted from 1, and how many have them;
    0 and 0 where none has.
    """

    def __init__(self, column: Column, viewport: Viewport, on_found: Callable[[str, int, int], object]) -> None:
        self._column, self._viewport, self._on_found = column, viewport, on_found
        self.words = ""
        """What is marked, empty for nothing."""
        self._phrases: Sequence[str] = ()
        """The same, each by itself."""
        self._hits: list[int] = []
        """The messages that have the words, in order."""
        self._at = 0
        """The hit being read."""
        self._occurrence = 0
        """The occurrence being read within it; -1 for the last one."""

    def forget(self) -> None:
        """Mark nothing any more."""
        self.words, self._phrases, self._hits, self._at, self._occurrence = "", (), [], 0, 0

    def find(self, words: str, at: str | None = None) -> None:
        """Mark words and show the last message that has them, or the one with the id `at`; empty words mark nothing."""
        self.find_any((words,), at)

    def find_any(self, phrases: Sequence[str], at: str | None = None) -> None:
        """Do the same with several phrases: each is marked wherever it occurs."""
        self.forget()
        self.words, self._phrases = " ".join(phrases), [phrase for phrase in phrases if phrase.strip()]
        texts = (layout.message.text for layout in self._column.layouts)
        self._hits = [
            index for index, text in enumerate(texts) if any(mentions(text, phrase) for phrase in self._phrases)
        ]
        self._viewport.redraw_all()
        if self.words:
            index = self._column.position(at) if at else None
            if index in self._hits:
                self._at = self._hits.index(index)
            else:
                self._at, self._occurrence = max(len(self._hits) - 1, 0), -1
            self._show()

    def step(self, by: int) -> None:
        """Show the next (1) or previous (-1) occurrence."""
        if (index := self._message) is None:
            return
        occurrence = self._occurrence + by
        if 0 <= occurrence < len(self._occurrences(index)):
            self._occurrence = occurrence
        else:
            self._at = (self._at + by) % len(self._hits)
            self._occurrence = 0 if by > 0 else -1
        self._viewport.redraw(index)
        self._show()

    def highlights(self, index: int, line: int) -> list[Highlight]:
        """Return what to highlight in one line of a message."""
        if not self.words:
            return []
        palette = self._column.look.palette
        current = self._occurrence if index == self._message else None
        return [
            (*span, palette.found_current if number == current else palette.found)
            for number, pieces in enumerate(self._occurrences(index))
            for at, span in pieces
            if at == line
        ]

    @property
    def _message(self) -> int | None:
        """The message being read."""
        return self._hits[self._at] if self._hits else None

    def _occurrences(self, index: int) -> list[list[tuple[int, Span]]]:
        return occurrences(self._column.lines(index), self._phrases)

    def _show(self) -> None:
        """Report where the search stands and bring the occurrence being read into view."""
        column, viewport = self._column, self._viewport
        self._on_found(self.words, self._at + 1 if self._hits else 0, len(self._hits))
        if (index := self._message) is None:
            return
        column.layouts[index].unfold_summary()
        column.measure(index)
        found = self._occurrences(index)
        self._occurrence %= max(len(found), 1)
        line = column.start(index) + (found[self._occurrence][0][0] if found else 0)
        viewport.redraw(index)
        if not viewport.top <= line < viewport.top + viewport.height - 1:
            viewport.go_to(line - viewport.height // 3)
