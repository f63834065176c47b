"""How tall each message is, known or estimated, and so where it lies."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate


class Heights:
    """Heights in lines, with sums kept as far as they are valid: changing the last one costs nothing."""

    def __init__(self, heights: Iterable[int] = ()) -> None:
        self._heights = list(heights)
        self._ends: list[int] = []

    def __len__(self) -> int:
        return len(self._heights)

    def __getitem__(self, index: int) -> int:
        return self._heights[index]

    def __setitem__(self, index: int, height: int) -> None:
        if self._heights[index] != height:
            self._heights[index] = height
            del self._ends[index:]

    def append(self, height: int) -> None:
        """Add one at the end."""
        self._heights.append(height)

    @property
    def total(self) -> int:
        """The sum of all."""
        return self.start(len(self._heights))

    def start(self, index: int) -> int:
        """Return the first line of a message."""
        if index == 0:
            return 0
        if len(self._ends) < index:
            known = len(self._ends)
            self._ends += accumulate(self._heights[known:], initial=self._ends[-1] if known else 0)
            del self._ends[known]
        return self._ends[index - 1]

    def at(self, line: int) -> int:
        """Return the message in which a line lies; the last one for lines past the end."""
        total = self.total
        return min(bisect_right(self._ends, min(line, total)), len(self._heights) - 1)
