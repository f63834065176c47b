"""What is seen as one character: an emoji family, a flag, a letter with its marks, an Indic or Thai syllable.

Positions are indices into a string. The boundaries are those of extended grapheme clusters (Unicode UAX #29), which
`wcwidth` knows; it is imported where text needs it, since most does not.
"""

import re

_SINGLE = (
    "[\0-\u02ff\u0370-\u0482\u048a-\u052f\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\u2190-\u2bff"
    "\u2e80-\u3029\u3030-\u3098\u309b-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff01-\uff9d\U00020000-\U0003fffd]*"
)
"""Text whose characters are all clusters by themselves: Latin, Greek, Cyrillic, Chinese, Japanese, Korean, symbols."""


def previous_boundary(text: str, at: int) -> int:
    """Return where the cluster before a position begins; 0 at the beginning."""
    if at <= 0 or _is_single(text[max(at - 2, 0) : at]):
        return max(at - 1, 0)
    from wcwidth import grapheme_boundary_before  # noqa: PLC0415 - most text needs no tables

    return grapheme_boundary_before(text, at)


def next_boundary(text: str, at: int) -> int:
    """Return where the cluster that begins at a position ends; the text's length at its end."""
    if _is_single(text[at : at + 2]):
        return min(at + 1, len(text))
    from wcwidth import iter_graphemes  # noqa: PLC0415

    return at + len(next(iter_graphemes(text, at)))


def boundary(text: str, at: int) -> int:
    """Return a position, or the beginning of the cluster that it is inside of."""
    is_between = not 0 < at < len(text) or _is_single(text[at - 1 : at + 1])
    return at if is_between else previous_boundary(text, at + 1)


def cut(text: str, limit: int) -> str:
    """Return at most `limit` code points from the beginning of a text, and whole clusters only."""
    return text if len(text) <= limit else text[: boundary(text, limit)]


def _is_single(text: str) -> bool:
    """Return whether each character is a cluster by itself, as in most text; what else there is, the tables know."""
    return text.isascii() or re.fullmatch(_SINGLE, text) is not None
