"""The passages that an answer was made of: the marks in it that refer to them, and a line below it that lists them.

The line unfolds into the passages. They come from documents and are text: no markup in them is read. A click on a mark
or on the name of a source selects the answer and carries out `show_source`.
"""

import re
from collections.abc import Collection, Iterator

from rich.style import Style

from qwenchat.chat.message import Citation, Message
from qwenchat.chat.passages import MARK, cited
from qwenchat.i18n import _
from qwenchat.markdown.lines import BLANK, Line, Run, prefixed, wrap
from qwenchat.markdown.palette import Palette
from qwenchat.markdown.render import Marker
from qwenchat.sessions.reading_order import place_of
from qwenchat.text.safe import clean, clean_line
from qwenchat.text.wrap import drawable
from qwenchat.tui.transcript.drawing import Look

SOURCES = -1
"""What stands for the sources where the groups of calls have their numbers."""
_LONGEST_NAME = 30


def marker(numbers: Collection[int], palette: Palette) -> Marker:
    """Return what finds the marks that refer to passages with these numbers: `[1]`, and each number in `[1, 2]`."""

    def marks(text: str) -> Iterator[tuple[int, int, Style]]:
        for mark in MARK.finditer(text) if numbers else ():
            found = [each for each in re.finditer(r"\d+", mark[0]) if int(each[0]) in numbers]
            is_single = mark[1].isdecimal()
            for each in found:
                start, end = mark.span() if is_single else (mark.start() + each.start(), mark.start() + each.end())
                yield start, end, palette.link + _opens(int(each[0]))

    return marks


def source_lines(answer: Message, look: Look, *, is_unfolded: bool) -> list[Line]:
    """Return one line that names the sources that an answer refers to, or each passage below its place."""
    if not answer.citations:
        return []
    fold = look.palette.muted + Style.from_meta({"fold": SOURCES})
    if is_unfolded:
        lines = [_label([("▾ " + _("Sources"), fold)], look)]
        for citation in answer.citations:
            lines += [*_passage(citation, look), BLANK]
        return lines[:-1]
    runs: list[Run] = [("▸ " + _("Sources:") + " ", fold)]
    for at, citation in enumerate(cited(answer)):
        runs += [(" · ", fold)] * bool(at)
        runs.append((_short(citation), look.palette.muted + _opens(citation.number)))
    line = _label(runs, look)
    is_cut = sum(len(text) for text, _style in runs) > len(line.text) + line.margin
    return [_label([*_until(runs, line.margin - 2), (" …", fold)], look)] if is_cut else [line]


def _passage(citation: Citation, look: Look) -> list[Line]:
    """Return where a passage stands, which can be clicked, and the passage behind a bar."""
    bar = ("  │ ", look.palette.muted)
    place = f"[{citation.number}] {place_of(citation)}"
    lines = wrap([(drawable(place), look.palette.link + _opens(citation.number))], look.measure)
    for written in clean(citation.text).strip("\n").split("\n"):
        text = wrap([(drawable(written), look.palette.muted)], max(look.measure - len(bar[0]), 8))
        lines += prefixed(text, bar, bar)
    return lines


def _short(citation: Citation) -> str:
    """Return `1 book.pdf p. 12`."""
    name = drawable(clean_line(citation.document, _LONGEST_NAME))
    if citation.page is None:
        return f"{citation.number} {name}"
    return _("{number} {document} p. {page}").format(number=citation.number, document=name, page=citation.page)


def _opens(number: int) -> Style:
    """Return the style that makes a click show a source."""
    return Style.from_meta({"action": f"show_source({number})"})


def _label(runs: list[Run], look: Look) -> Line:
    """Return the first line of words about an answer, which are never found or copied."""
    line = wrap(runs, look.measure)[0]
    return Line(line.segments, line.width, len(line.text))


def _until(runs: list[Run], length: int) -> Iterator[Run]:
    """Yield the first characters of runs."""
    for text, style in runs:
        yield text[: max(length, 0)], style
        length -= len(text)
