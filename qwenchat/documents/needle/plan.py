"""Which cells a needle test has, and in which order they are tested.

A cell is a length and a depth. Within a length the deepest cell comes first: what stands before the needle of the next
one is then in the KV cache already. Nothing is computed or read here.
"""

import re
from dataclasses import dataclass

from qwenchat.errors import WrongUse
from qwenchat.i18n import _

LONGEST = 10_000_000
"""Tokens; no window is as large."""
MOST_DEPTHS, MOST_NEEDLES = 101, 20
LANGUAGES = ("en", "zh")
_LENGTH = re.compile(r"([0-9]{1,8})([kK]?)")


@dataclass(frozen=True, slots=True)
class Cell:
    """One square of the map."""

    length: int
    """Tokens that the prompt and the answer may take together."""
    depth: float
    """How far into the text the first needle is, in percent of its tokens: 0 is the beginning, 100 the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedlePlan:
    """What is tested. The same values make the same prompts."""

    lengths: tuple[int, ...]
    """Ascending."""
    depths: tuple[float, ...]
    """Ascending."""
    needles: int = 1
    """In each text. The first one is at the cell's depth, the others are spread evenly over the rest of the text."""
    seed: int = 0
    language: str = "en"
    """Of needles and questions, one of LANGUAGES."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells in the order in which they are tested."""
        return tuple(Cell(length, depth) for length in self.lengths for depth in reversed(self.depths))

    def depths_of(self, cell: Cell) -> list[float]:
        """Return the depths of all needles of a cell, in percent, ascending."""
        return [cell.depth + (100 - cell.depth) * number / self.needles for number in range(self.needles)]

    def seed_of(self, cell: Cell) -> str:
        """Return what the needles of a cell are drawn with; it does not depend on which other cells there are."""
        return f"{self.seed} {self.language} {cell.length} {cell.depth:g}"


def lengths_of(text: str) -> tuple[int, ...]:
    """Return the lengths that a text such as `1k..32k` (doubling), `1k,2k,6000` or `8k` stands for, ascending.

    A `k` is 1,024 tokens. Raises WrongUse.
    """
    first, dots, last = text.partition("..")
    if dots:
        length, limit = _length(first, text), _length(last, text)
        lengths = {limit}
        while length < limit:
            lengths.add(length)
            length *= 2
        if length == limit or len(lengths) > 1:
            return tuple(sorted(lengths))
        raise _bad_lengths(text)
    return tuple(sorted({_length(word, text) for word in text.split(",")}))


def depths_of(text: str) -> tuple[float, ...]:
    """Return the depths in percent that a number of depths such as `11`, or percents such as `0,50%,99.5` stand for.

    One percent alone needs its sign. Ascending. Raises WrongUse.
    """
    if re.fullmatch("[0-9]{1,3}", text) and 1 <= int(text) <= MOST_DEPTHS:
        count = int(text)
        return tuple(round(100 * number / (count - 1), 1) for number in range(count)) if count > 1 else (50.0,)
    words = [word.strip().removesuffix("%") for word in text.split(",")]
    is_list = "," in text or text.endswith("%")
    if not is_list or not all(re.fullmatch(r"[0-9]{1,3}(\.[0-9])?", word) and float(word) <= 100 for word in words):
        raise WrongUse(
            _("{value} are no depths.").format(value=text),
            _("Give their number, from 1 to {most}, such as 11, or percents such as 0,25,50,75,100.").format(
                most=MOST_DEPTHS
            ),
        )
    return tuple(sorted({float(word) for word in words}))


def _length(word: str, text: str) -> int:
    found = _LENGTH.fullmatch(word.strip())
    length = int(found[1]) * (1024 if found[2] else 1) if found else 0
    if not 0 < length <= LONGEST:
        raise _bad_lengths(text)
    return length


def _bad_lengths(text: str) -> WrongUse:
    return WrongUse(
        _("{value} are no lengths.").format(value=text),
        _("Give tokens such as 8k, a list such as 1k,4k,6000, or a range that doubles, such as 1k..32k."),
    )
