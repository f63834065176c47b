"""Breaks text into lines by display width: the one place that decides where a line may end, in any script.

The transcript, `ask`, `sessions show`, help and `doctor` all break their lines here. Lines break at spaces and beside
Chinese, Japanese and wide characters. No line begins with closing punctuation or ends with an opening bracket, as
the rules for Chinese and Japanese text demand, unless a line has room for nothing else. A word wider than a line is
cut between characters as readers see them. Widths are display cells as Rich measures them. Text is not cleaned here.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

_WIDE = (
    "\u1100-\u115f\u2e80-\u2fff\u3000-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff60"
    "\U0001f300-\U0001faff\U00020000-\U0003fffd"
)
_JOINED = (
    "\u0300-\u036f\u0483-\u0489\u1160-\u11ff\u1ab0-\u1aff\u20d0-\u20ff\u3099\u309a\ufe00-\ufe0f\ufe20-\ufe2f"
    "\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
)
_OPENING_WIDE = "（《「『【〔〈〖〘〚“‘［｛｢"
_OPENING = _OPENING_WIDE + "([{"
_CLOSING_WIDE = "，。、；：？！）》」』】〕〉〗〙〛”’…—～·％％］｝．｡｣､・﹐﹑﹒﹔﹕﹖﹗︰‥\u3000"
_CLOSING = _CLOSING_WIDE + ",.!?;:)]}%"
_CLOSING_CLASS = re.escape(_CLOSING)
_OPENS, _CLOSES = frozenset(_OPENING), frozenset(_CLOSING)
_ONLY_CLOSING = re.compile(f"[{_CLOSING_CLASS}]+")
_FLAG_LETTERS = "".join(map(chr, range(0x1F1E6, 0x1F200)))
_SKIN_TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
# A joiner outside an emoji sequence is drawn as nothing by terminals and measured differently by each of them.
_STRAY_JOINER = re.compile(
    "(?<![\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d|\u200d(?![\u2190-\u2bff\U0001f000-\U0001faff])"
)
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u2060\ufeff\u00ad\u061c]")


@cache
def _unit() -> re.Pattern[str]:
    """Return what matches a run of text that no line ends inside; only what breaks lines has to compile it."""
    return re.compile(
        f"[ \t]+"
        f"|[{_WIDE}](?:[{_JOINED}]|\u200d.)*"
        f"|(?<=[{_WIDE}{_JOINED}])[{_CLOSING_CLASS}]+"
        f"|(?:(?![{_WIDE}])(?:[^ \t\u200d]|\u200d.?))+"
    )


class Cut(NamedTuple):
    """One line of a text, by its first character and the character after its last."""

    start: int
    end: int
    glue: str | None
    """What lies between this line and the next one; None at the end."""


def drawable(text: str, tab: int = 4) -> str:
    """Return clean text without what has no fixed width: tabs, stray joiners, direction marks, soft hyphens."""
    if text.isascii():
        return text.expandtabs(tab) if "\t" in text else text
    return _STRAY_JOINER.sub("", _INVISIBLE.sub("", text.expandtabs(tab)))


def cells(text: str) -> int:
    """Return the display width of text without control characters, in cells."""
    return _measure_of(text)(text)


def _measure_of(text: str) -> Callable[[str], int]:
    """Return what measures all parts of a text."""
    if text.isascii():
        return len
    from rich.cells import cell_len  # noqa: PLC0415 - help in English is light

    return cell_len


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of one paragraph, each at most `width` cells wide; one empty line for an empty text."""
    return [text[cut.start : cut.end] for cut in paragraph_cuts(text, width)]


def longest_part(text: str) -> int:
    """Return the cells of the longest part of a paragraph that no line break may cut, such as a word."""
    measure = _measure_of(text)
    return max((measure(text[first:last]) for first, last in _atoms(text)), default=0)


def paragraph_cuts(text: str, width: int) -> list[Cut]:
    """Return where the lines of one paragraph begin and end; `text` has no newlines, `width` is at least 2 cells.

    Spaces at the end belong to no line, nor do those at the beginning that leave no room for words.
    """
    width, measure = max(width, 2), _measure_of(text)
    cuts: list[Cut] = []
    start = end = used = 0
    for first, last in _atoms(text):
        gap, size = first - end, measure(text[first:last])
        if end > start and used + gap + size > width:
            cuts.append(Cut(start, end, text[end:first]))
            start, used = first, 0
        elif end == start and not cuts:
            used = min(gap, width - 1)
            start = first - used
        else:
            used += gap
        if used + size > width:
            *full, (rest, _end) = _pieces(text[first:last], width - used, width, _may_part)
            for _start, stop in full:
                cuts.append(Cut(start, first + stop, ""))
                start = first + stop
            if full:
                used, size = 0, measure(text[first + rest : last])
        used, end = used + size, last
    cuts.append(Cut(start, max(end, start), None))
    return cuts


def exact_cuts(text: str, width: int) -> list[Cut]:
    """Return where lines of at least 2 cells begin and end that are as full as can be, as those of code are.

    Only wide punctuation may move a break, by a character or two.
    """
    width = max(width, 2)
    if text.isascii():
        pieces = [(start, min(start + width, len(text))) for start in range(0, len(text), width)]
    else:
        pieces = _pieces(text, width, width, _may_part_code)
    return [Cut(start, end, "" if end < len(text) else None) for start, end in pieces]


def _atoms(text: str) -> Iterator[tuple[int, int]]:
    """Yield the first and end character of each part of a text that no line break may cut."""
    first = last = 0
    for match in _unit().finditer(text):
        start, end = match.span()
        character = text[start]
        if character in " \t":
            continue
        if not last:
            first = start
        elif not (text[last - 1] in _OPENS or (character in _CLOSES and _clings(text, last, start, end))):
            yield first, last
            first = start
        last = end
    if last:
        yield first, last


def _clings(text: str, before: int, start: int, end: int) -> bool:
    """Return whether a unit of closing punctuation must not begin a line; the unit before it ends at `before`.

    Halfwidth punctuation may begin a word after a space: `.gitignore`, `:param`.
    """
    return text[start] in _CLOSING_WIDE or start == before or _ONLY_CLOSING.fullmatch(text, start, end) is not None


def _pieces(text: str, room: int, width: int, may_part: Callable[[str, int], bool]) -> list[tuple[int, int]]:
    """Cut text into a first piece of at most `room` cells, then pieces of `width`, where `may_part` allows it."""
    from rich.cells import split_graphemes  # noqa: PLC0415 - as in `cells`

    pieces: list[tuple[int, int]] = []
    start = used = 0
    best, after = 0, 0
    for at, _end, size in split_graphemes(text)[0]:
        if at > start and may_part(text, at):
            best, after = at, 0
        while used + size > room and at > start:
            if best <= start:
                best, after = at, 0
            pieces.append((start, best))
            start, used, room = best, after, width
        used, after = used + size, after + size
    pieces.append((start, len(text)))
    return pieces


def _may_part(text: str, at: int) -> bool:
    return text[at] not in _CLOSES and text[at - 1] not in _OPENS and _is_boundary(text, at)


def _may_part_code(text: str, at: int) -> bool:
    return text[at] not in _CLOSING_WIDE and text[at - 1] not in _OPENING_WIDE and _is_boundary(text, at)


def _is_boundary(text: str, at: int) -> bool:
    """Return whether a reader sees two characters here: not inside a flag, nor before the tone of a skin."""
    if text[at] in _FLAG_LETTERS and text[at - 1] in _FLAG_LETTERS:
        letters = at - len(text[:at].rstrip(_FLAG_LETTERS))
        return letters % 2 == 0
    return text[at] not in _SKIN_TONES
