"""What is seen as one character: an emoji family, a flag, a letter with its marks, an Indic or Thai syllable.

Positions are indices into a string. The boundaries are those of extended grapheme clusters (Unicode UAX #29), which
`wcwidth` knows; it is imported where text needs it, since most does not.
"""


def previous_boundary(text: str, at: int) -> int:
    """Return where the cluster before a position begins; 0 at the beginning."""
    if at <= 0 or text[max(at - 2, 0) : at].isascii():
        return max(at - 1, 0)
    from wcwidth import grapheme_boundary_before  # noqa: PLC0415 - most text needs no tables

    return grapheme_boundary_before(text, at)


def next_boundary(text: str, at: int) -> int:
    """Return where the cluster that begins at a position ends; the text's length at its end."""
    if text[at : at + 2].isascii():
        return min(at + 1, len(text))
    from wcwidth import iter_graphemes  # noqa: PLC0415

    return at + len(next(iter_graphemes(text, at)))


def boundary(text: str, at: int) -> int:
    """Return a position, or the beginning of the cluster that it is inside of."""
    is_between = not 0 < at < len(text) or text[at - 1 : at + 1].isascii()
    return at if is_between else previous_boundary(text, at + 1)


def cut(text: str, limit: int) -> str:
    """Return at most `limit` code points from the beginning of a text, and whole clusters only."""
    return text if len(text) <= limit else text[: boundary(text, limit)]
