"""Code blocks: a line with the language, then the code, coloured once it is complete.

While a fence is open its code is drawn plain: colouring it again for every token would cost more than the model.
"""

from functools import cache

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from qwenchat.i18n import _
from qwenchat.text.safe import can_highlight, clean_line
from qwenchat.tui.markdown.colours import Palette
from qwenchat.tui.markdown.wrap import Line, Run, chop, drawable


def language_of(info: str) -> str:
    """Return the language that a fence's info string names, such as `python` of `python title="x"`."""
    word = next(iter(clean_line(info).split()), "")
    return word.strip("{}.").partition("{")[0][:30]


def code_lines(code: str, info: str, index: int, width: int, palette: Palette, *, highlighted: bool) -> list[Line]:
    """Return a code block `width` cells wide; a click on its first line names it by `index` in its message."""
    language = drawable(language_of(info))
    lines = [_frame(language, index, width, palette)]
    code = drawable(code.rstrip("\n"))
    coloured = _coloured(code, language, palette) if highlighted and can_highlight(code) else None
    for runs in coloured or ([(line, palette.code)] for line in code.split("\n")):
        for line in chop(runs, width - 2):
            fill = " " * (width - 1 - line.width)
            segments = (Segment(" ", palette.code), *line.segments, Segment(fill, palette.code))
            lines.append(Line(segments, width, 1, line.glue))
    return lines


def _frame(language: str, index: int, width: int, palette: Palette) -> Line:
    click = palette.code_frame + Style.from_meta({"code": index})
    label, copy = language or _("code"), _("copy")
    name, button = f" {label} ", f" {copy} "
    rule = width - cell_len(name) - cell_len(button) - 2
    if rule < 1:
        text = set_cell_size(name, width)
        return Line((Segment(text, click),), width, len(text))
    text = f"─{name}{'─' * rule}{button}─"
    return Line(
        (
            Segment("─", click),
            Segment(name, click + Style(bold=True)),
            Segment("─" * rule, click),
            Segment(button, click + Style(underline=False)),
            Segment("─", click),
        ),
        width,
        len(text),
    )


def _coloured(code: str, language: str, palette: Palette) -> list[list[Run]] | None:
    lexer = _lexer(language.lower())
    if lexer is None:
        return None
    lines: list[list[Run]] = [[]]
    for kind, text in lexer.get_tokens(code):
        style = palette.token(str(kind).removeprefix("Token."))
        first, *rest = text.split("\n")
        if first:
            lines[-1].append((first, style))
        for piece in rest:
            lines.append([(piece, style)] if piece else [])
    while len(lines) > 1 and not lines[-1]:
        lines.pop()
    wanted = code.count("\n") + 1
    return [*lines, *[[] for _ in range(wanted - len(lines))]]


@cache
def _lexer(language: str) -> Lexer | None:
    """Return Pygments' lexer for a language, None where it knows none."""
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False) if language else None
    except ClassNotFound:
        return None
