"""Which code is coloured: pygments' time may grow with the square of the text, and anyone may have written that."""

import re

_LONGEST, _LONGEST_LINE = 20_000, 2_000
"""Characters."""
_LONG_SPACE = re.compile(r"\s{400}")


def worth_colouring(code: str) -> bool:
    """Say whether pygments surely colours this code in a moment."""
    short = len(code) <= _LONGEST and all(len(line) <= _LONGEST_LINE for line in code.split("\n"))
    return short and not _LONG_SPACE.search(code)
