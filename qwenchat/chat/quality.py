"""Whether an answer says something: tells a loop and noise from text. A guess for a notice, never a judgement.

Only the end of the answer is read, so that it costs the same however long the answer is.
"""

import itertools
import re
import unicodedata
from enum import Enum

_TAIL = 2000
"""Characters that are looked at."""
_REPEATS = 4
_SHORTEST_LOOP = 60
"""Characters that the repetitions take together at least: a row of dashes or a table is no loop."""


class QualityFault(Enum):
    """What is wrong with an answer."""

    LOOP = "loop"
    NOISE = "noise"


def fault_of(text: str) -> QualityFault | None:
    """Return what is wrong with an answer, None where nothing is."""
    tail = text[-_TAIL:]
    if _loops(tail):
        return QualityFault.LOOP
    return QualityFault.NOISE if _is_noise(tail) else None


def _loops(tail: str) -> bool:
    """Whether the text ends with the same stretch, `_REPEATS` times or more; a stretch says something."""
    end = tail.rstrip()
    for length in range(2, len(end) // _REPEATS + 1):
        stretch = end[-length:]
        times = max(_REPEATS, -(-_SHORTEST_LOOP // length))
        if len(end) >= length * times and end.endswith(stretch * times) and re.search(r"\w", stretch):
            return True
    return False


def _is_noise(tail: str) -> bool:
    """Whether most characters are replaced, unassigned, or in scripts that change from letter to letter."""
    if len(tail) < 40:
        return False
    odd = sum(unicodedata.category(character) in ("Cn", "Co", "Cc") or character == "\ufffd" for character in tail)
    odd -= tail.count("\n") + tail.count("\t")
    if odd > len(tail) // 5:
        return True
    scripts = [_script(character) for character in tail if character.isalpha()]
    changes = sum(before != after for before, after in itertools.pairwise(scripts))
    return len(set(scripts)) > 3 and changes > len(scripts) // 4


def _script(letter: str) -> str:
    return unicodedata.name(letter, "?").split(" ", 1)[0]
