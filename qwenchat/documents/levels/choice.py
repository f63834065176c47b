"""Chooses the level of reading by what is asked and by how long it would take, and predicts that time.

The rule: level 2, if it takes less than QUICK_S, or less than PATIENT_S where the question asks for all of something,
such as each, every, or a list; else level 1. Level 3 is never chosen: the user asks for it.
"""

from dataclasses import dataclass
from enum import IntEnum

QUICK_S = 20.0
"""Seconds that every question may take to be read for."""
PATIENT_S = 180.0
"""Seconds that a question for all of something may take: what a search leaves out is missing from its answer."""


class Level(IntEnum):
    """How documents are read, as the user calls it."""

    SEARCH = 1
    READING = 2
    STEPS = 3


STEPS = 4
"""The most sub-questions of level 3."""

_KEYWORDS = (200, 50)
"""Tokens that are prefilled and decoded to find words for a search."""
JUDGED_BESIDE = 45
"""Tokens that are prefilled for each chunk beside it: the question's end and what begins the answer."""
_CHUNK = 420
"""Tokens of a chunk, on average."""
_ANSWERED = 0.1
"""How many of the chunks seem to have an answer, about; one is generated."""
_ANSWER = (45, 12)
"""Tokens that are prefilled and decoded for such an answer."""
_STEP = (1_500, 90)
"""Tokens that are prefilled and decoded for a sub-question and its answer, beside finding its passages."""
_REQUEST_S = 0.02
"""What a request takes beside its tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast a model is, in tokens a second."""

    prefill_tps: float
    decode_tps: float

    def seconds(self, prefilled: float, decoded: float) -> float:
        """Return how long it takes to prefill and to decode so many tokens."""
        return prefilled / self.prefill_tps + decoded / self.decode_tps


def predicted_seconds(level: int, tokens: float, speed: Speed, *, room: int = 0) -> float:
    """Return how long it takes, about, until the answer to a question about `tokens` tokens of documents begins.

    `room`: tokens of passages that are prefilled for the answer.
    """
    search = speed.seconds(*_KEYWORDS)
    before = speed.seconds(min(room, tokens), 0)
    if level == Level.SEARCH:
        return search + before
    if level == Level.READING:
        return search + reading_seconds(tokens, tokens / _CHUNK, speed) + before
    step = min(predicted_seconds(each, tokens, speed) for each in (Level.SEARCH, Level.READING)) + speed.seconds(*_STEP)
    return search + STEPS * step + before


def reading_seconds(tokens: float, chunks: float, speed: Speed) -> float:
    """Return how long it takes, about, to judge chunks of so many tokens together, and to quote from some."""
    judged = speed.seconds(tokens + chunks * JUDGED_BESIDE, 0) + chunks * _REQUEST_S
    return judged + _ANSWERED * chunks * speed.seconds(*_ANSWER)


def chosen_level(tokens: float, speed: Speed, *, for_all: bool) -> Level:
    """Return the level for a question where the user chose none; `for_all`: it asks for all of something."""
    is_quick = predicted_seconds(Level.READING, tokens, speed) <= (PATIENT_S if for_all else QUICK_S)
    return Level.READING if is_quick else Level.SEARCH
