"""The text that needles are hidden in, as long as it is needed: the chapters of one text, again and again.

Chapters are divided by headings and page breaks, as in any document. Each pass begins with another chapter, which the
seed chooses. Needles go to ends of sentences. Nothing here counts tokens: places are numbers of characters.
"""

import re
from collections.abc import Iterable, Iterator
from importlib import resources
from random import Random

from qwenchat.errors import FileError
from qwenchat.i18n import _
from qwenchat.text.safe import clean

_CHAPTER = re.compile(r"\f|^(?=#{1,6}[ \t])", re.MULTILINE)
_LONGEST_SENTENCE = 500
"""Characters after which a sentence is taken to end."""
_PIECE = 20_000
"""Characters by which the text grows."""
_SENTENCE = re.compile(
    rf"""(?: \#{{1,6}}[ \t][^\n]*
           | .{{1,{_LONGEST_SENTENCE}}}?
             (?: [.!?]["'”’)\]]* (?=\s) | [。！？…]{{1,3}} [”’」』）]* | (?=\n[ \t]*\n) | \Z )
           | .{{1,{_LONGEST_SENTENCE}}} (?<=\s)
           | .{{1,{_LONGEST_SENTENCE}}} )
         \n{{0,9}}""",
    re.DOTALL | re.VERBOSE,
)


def shipped_text(language: str) -> str:
    """Return the text in a language that comes with the program; the note about its source is left out."""
    whole = resources.files(__package__).joinpath("texts", f"{language}.txt").read_text("utf-8")
    return whole[whole.index("\n# ") + 1 :]


class Haystack:
    """A text without an end."""

    def __init__(self, source: str, seed: int) -> None:
        """Make a haystack of the text `source`. Raises FileError where there is nothing in it."""
        cleaned = [clean(chapter).strip("\n") for chapter in _CHAPTER.split(source)]
        self._chapters = [chapter + "\n\n" for chapter in cleaned if chapter.strip()]
        if not self._chapters:
            raise FileError(_("The text is empty."), _("Give a file with a text in it."))
        self._pieces = self._endless(Random(f"haystack {seed}"))
        self.text = ""
        """The text so far."""
        self.ends: list[int] = [0]
        """Where the first sentence begins, and where each one ends; the last of them may be cut off."""

    def grow(self, size: int) -> None:
        """Make the text longer than `size` characters."""
        pieces, length = [self.text], len(self.text)
        while length <= size:
            pieces.append(next(self._pieces))
            length += len(pieces[-1])
        if len(pieces) > 1:
            self.text = "".join(pieces)
            self.ends = self.ends[:-1] or [0]
            self.ends += (found.end() for found in _SENTENCE.finditer(self.text, self.ends[-1]))

    def contains(self, words: str) -> bool:
        """Return whether the text has these words anywhere."""
        return any(words in chapter for chapter in self._chapters)

    def with_needles(self, size: int, needles: Iterable[tuple[int, str]], *, between: str) -> str:
        """Return the first `size` characters with sentences inserted at places, which ascend.

        Inside a paragraph, `between` separates a sentence; between two, and at the end, it is a paragraph of its own.
        """
        pieces, before = [], 0
        for place, sentence in needles:
            pieces.append(self.text[before:place])
            if place == 0 or self.text[place - 1] == "\n":
                pieces.append(f"{sentence}\n\n")
            else:
                pieces.append(("\n\n" if place == size else between) + sentence)
            before = place
        return "".join([*pieces, self.text[before:size]])

    def _endless(self, rng: Random) -> Iterator[str]:
        """Yield the chapters in pieces, so that of a very long one only the beginning is used."""
        while True:
            first = rng.randrange(len(self._chapters))
            for chapter in (*self._chapters[first:], *self._chapters[:first]):
                yield from (chapter[start : start + _PIECE] for start in range(0, len(chapter), _PIECE))
