"""Pinyin initials of Chinese words, so that typing `xjdh` finds 新建对话.

GB2312 lists its 3,755 common characters in pinyin order, so a character's position gives its initial without a
dictionary. The 3,008 rarer characters (its second level), traditional forms and alternative readings are not covered.
"""

from functools import cache
from itertools import pairwise

_FIRST = (
    (0xB0A1, "a"), (0xB0C5, "b"), (0xB2C1, "c"), (0xB4EE, "d"), (0xB6EA, "e"), (0xB7A2, "f"), (0xB8C1, "g"),
    (0xB9FE, "h"), (0xBBF7, "j"), (0xBFA6, "k"), (0xC0AC, "l"), (0xC2E8, "m"), (0xC4C3, "n"), (0xC5B6, "o"),
    (0xC5BE, "p"), (0xC6DA, "q"), (0xC8BB, "r"), (0xC8F6, "s"), (0xCBFA, "t"), (0xCDDA, "w"), (0xCEF4, "x"),
    (0xD1B9, "y"), (0xD4D1, "z"),
)  # fmt: skip
"""The code of the first character with each initial."""
_END = 0xD7FA
"""The code after the last of the common characters."""


def initials(text: str) -> str:
    """Return the text with each common Chinese character replaced by its initial; the length does not change."""
    return text if text.isascii() else text.translate(_letters())


@cache
def _letters() -> dict[int, str]:
    """Return the initials of the common characters by code point."""
    found = {}
    for (first, letter), (after, _letter) in pairwise((*_FIRST, (_END, ""))):
        for code in range(first, after):
            if code & 0xFF in range(0xA1, 0xFF):
                found[ord(code.to_bytes(2).decode("gb2312"))] = letter
    return found
