"""The colours of a map: from dark blue for nothing found, through grey, to yellow for everything.

They get lighter all the way, so they differ on grey paper too, and for eyes that can't tell red from green.
"""

from itertools import pairwise

_STOPS = ((0x00, 0x20, 0x4C), (0x41, 0x4D, 0x6B), (0x7C, 0x7B, 0x78), (0xBC, 0xAE, 0x6C), (0xFF, 0xE9, 0x45))


def colour(score: float) -> str:
    """Return the colour of a score from 0 to 1 as `#rrggbb`."""
    place = min(max(score, 0.0), 1.0) * (len(_STOPS) - 1)
    number = min(int(place), len(_STOPS) - 2)
    low, high = list(pairwise(_STOPS))[number]
    part = place - number
    return "#" + "".join(f"{round(one + (other - one) * part):02x}" for one, other in zip(low, high, strict=True))


def ink(score: float) -> str:
    """Return a colour that can be read on that of a score."""
    return "#ffffff" if score < 0.5 else "#000000"


def percent(score: float) -> str:
    """Return a score as a whole number of percent; 100 only where everything was found, 0 only where nothing was."""
    return "100" if score == 1 else "0" if score == 0 else str(min(max(round(100 * score), 1), 99))


def short_length(length: int) -> str:
    """Return a length as the user writes it, such as `32k`."""
    return f"{length // 1024}k" if length % 1024 == 0 else str(length)
