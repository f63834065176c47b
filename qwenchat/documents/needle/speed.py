"""How long the cells that are left will take, from what earlier ones took on the same machine.

A token is read the slower the more tokens stand before it. So reading takes `each` seconds a token, and `growth`
seconds more for each token before it. Both are fitted to what was measured, by least squares, and are never negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from qwenchat.documents.needle.plan import Cell


@dataclass(frozen=True, slots=True)
class _Reading:
    tokens: float
    pairs: float
    """Of a token that was read and one before it."""
    seconds: float


@dataclass(slots=True)
class CellSpeed:
    """What was measured."""

    _readings: list[_Reading] = field(default_factory=list)
    _answers: list[float] = field(default_factory=list)

    def note_reading(self, start: int, end: int, seconds: float) -> None:
        """Note that the tokens from `start` to `end` were read."""
        if end > start:
            self._readings.append(_Reading(end - start, _pairs(start, end), seconds))

    def note_answer(self, seconds: float) -> None:
        """Note what a cell took beside reading: making the prompt, and the answer."""
        self._answers.append(seconds)

    def seconds(self, cells: Sequence[Cell], *, after: Cell | None = None) -> float:
        """Return how long cells take that are tested in this order, `after` another one."""
        each, growth = self._fitted()
        answer = sum(self._answers) / len(self._answers) if self._answers else 0.0
        total, before = answer * len(cells), after
        for cell in cells:
            start = cell.length * cell.depth / 100 if before and before.length == cell.length else 0.0
            total += each * (cell.length - start) + growth * _pairs(start, cell.length)
            before = cell
        return total

    def _fitted(self) -> tuple[float, float]:
        tokens = sum(one.tokens**2 for one in self._readings)
        pairs = sum(one.pairs**2 for one in self._readings)
        both = sum(one.tokens * one.pairs for one in self._readings)
        by_tokens = sum(one.tokens * one.seconds for one in self._readings)
        by_pairs = sum(one.pairs * one.seconds for one in self._readings)
        if not tokens:
            return 0.0, 0.0
        if determinant := tokens * pairs - both**2:
            each = (by_tokens * pairs - by_pairs * both) / determinant
            growth = (by_pairs * tokens - by_tokens * both) / determinant
            if each >= 0 and growth >= 0:
                return each, growth
        return by_tokens / tokens, 0.0


def _pairs(start: float, end: float) -> float:
    return (end**2 - start**2) / 2
