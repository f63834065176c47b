"""Code blocks: a line with the language, then the code in colours, while it is written and after.

A finished block is coloured as a whole. One that still grows is coloured in parts of a few dozen lines, each as if it
were a file of its own: a part that is full never changes, so only the last one is coloured again. Parts begin where a
statement seems to begin; where that guess is wrong, the colours are right once the fence closes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, String
from pygments.util import ClassNotFound
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from qwenchat.i18n import _
from qwenchat.markdown.lines import Line, Run, chop
from qwenchat.markdown.palette import Palette
from qwenchat.text.safe import can_highlight, clean_line
from qwenchat.text.wrap import drawable

_PART = 2_000
"""Characters of a part, at most, unless one line is longer."""
_UNBROKEN = 1 << 30
"""Cells that no line has."""
_COLOURED = 20_000
"""Characters of a growing block that are coloured; what follows is plain."""


@dataclass(frozen=True, slots=True)
class _CodeLook:
    language: str
    width: int
    """Of the block, in cells."""
    palette: Palette
    is_boxed: bool
    """Whether a margin and a background stand around the code."""
    is_whole: bool
    """Whether lines are not broken: the terminal breaks them, and copies each as one."""


def language_of(info: str) -> str:
    """Return the language that a fence's info string names, such as `python` of `python title="x"`."""
    word = next(iter(clean_line(info).split()), "")
    return word.strip("{}.").partition("{")[0][:30]


def code_lines(
    code: str,
    info: str,
    *,
    index: int | None,
    width: int,
    palette: Palette,
    is_closed: bool,
    is_whole: bool = False,
) -> list[Line]:
    """Return a code block `width` cells wide; a click on its first line names it by `index` in its message.

    Without an index nothing is there to click, and nothing stands beside the code, which the terminal itself copies;
    its lines are not broken then where they should stay `is_whole`.
    """
    look = _CodeLook(drawable(language_of(info)), width, palette, index is not None, is_whole)
    code = drawable(code.rstrip("\n"))
    body = _laid(_coloured(code, look), look) if is_closed and can_highlight(code) else _growing(code, look)
    return [_frame(look, index), *body]


def _growing(code: str, look: _CodeLook) -> list[Line]:
    lines: list[Line] = []
    at = 0
    while len(code) - at > _PART and (end := _end_of_lines(code, at)):
        part, length = _full_part(code[at:end], look, is_coloured=end <= _COLOURED)
        lines += part
        at += length
    return lines + _laid(_coloured(code[at:], look) if len(code) <= _COLOURED else _plain(code[at:], look), look)


def _end_of_lines(code: str, at: int) -> int:
    """Return where the last line that ends within a part ends, or else the first one; 0 where none ends."""
    return code.rfind("\n", at, at + _PART) + 1 or code.find("\n", at) + 1


@lru_cache(maxsize=64)
def _full_part(code: str, look: _CodeLook, *, is_coloured: bool) -> tuple[Sequence[Line], int]:
    """Return the lines of a part of some code, which ends with a newline, and how many of its characters they show."""
    tokens = _tokens(code, look) if is_coloured else []
    length = _seam(tokens) or len(code)
    rows = _rows(tokens, look) if tokens else _plain(code, look)
    return _laid(rows[: code.count("\n", 0, length)], look), length


def _seam(tokens: Iterable[tuple[object, str]]) -> int:
    """Return the length of the part up to its last line that seems to begin a statement; 0 where no token says."""
    best = any_line = at = 0
    is_line_start = False
    for kind, text in tokens:
        if is_line_start:
            any_line = at
            if at > _PART // 4 and not text[0].isspace() and text[0] not in ")]}":
                best = at
        at += len(text)
        is_line_start = text.endswith("\n") and kind not in String and kind not in Comment
    return best or any_line


def _laid(rows: Iterable[Sequence[Run]], look: _CodeLook) -> list[Line]:
    if not look.is_boxed:
        width = _UNBROKEN if look.is_whole else look.width
        return [line for runs in rows for line in chop(runs, width)]
    style = look.palette.code
    lines: list[Line] = []
    for runs in rows:
        for line in chop(runs, look.width - 2):
            fill = " " * (look.width - 1 - line.width)
            segments = (Segment(" ", style), *line.segments, Segment(fill, style))
            lines.append(Line(segments, look.width, 1, line.glue))
    return lines


def _frame(look: _CodeLook, index: int | None) -> Line:
    click = look.palette.code_frame + (Style.null() if index is None else Style.from_meta({"code": index}))
    language = look.language or _("code")
    copying = _("copy")
    name = f" {language} "
    button = "" if index is None else f" {copying} "
    rule = look.width - cell_len(name) - cell_len(button) - 2
    if rule < 1:
        text = set_cell_size(name, look.width)
        return Line((Segment(text, click),), look.width, len(text))
    text = f"─{name}{'─' * rule}{button}─"
    return Line(
        (
            Segment("─", click),
            Segment(name, click + Style(bold=True)),
            Segment("─" * rule, click),
            Segment(button, click + Style(underline=False)),
            Segment("─", click),
        ),
        look.width,
        len(text),
    )


def _coloured(code: str, look: _CodeLook) -> Sequence[Sequence[Run]]:
    tokens = _tokens(code, look)
    return _rows(tokens, look) if tokens else _plain(code, look)


def _plain(code: str, look: _CodeLook) -> Sequence[Sequence[Run]]:
    return [[(line, look.palette.code)] for line in code.split("\n")]


def _tokens(code: str, look: _CodeLook) -> list[tuple[object, str]]:
    """Return the code's tokens; none where its language is unknown, or finding them could take long or lose text."""
    lexer = _lexer(look.language.lower())
    if lexer is None or not can_highlight(code):
        return []
    tokens = list(lexer.get_tokens(code))
    return tokens if "".join(text for _, text in tokens) == code else []


def _rows(tokens: Iterable[tuple[object, str]], look: _CodeLook) -> list[list[Run]]:
    rows: list[list[Run]] = [[]]
    for kind, text in tokens:
        style = look.palette.token(str(kind).removeprefix("Token."))
        first, *rest = text.split("\n")
        if first:
            rows[-1].append((first, style))
        rows += ([(piece, style)] if piece else [] for piece in rest)
    return rows


@cache
def _lexer(language: str) -> Lexer | None:
    """Return Pygments' lexer for a language, None where it knows none."""
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False) if language else None
    except ClassNotFound:
        return None
