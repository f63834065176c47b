"""Lays Markdown out as lines of styled runs, of a given width. Knows no widget.

A newline in the source is a line break: models do not wrap their prose, and their verses and addresses count. A link
shows its target unless its text is the target; a click finds it in the meta data and opens nothing.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markdown_it.token import Token
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from qwenchat.i18n import _
from qwenchat.markdown import latex
from qwenchat.markdown.code import code_lines, language_of
from qwenchat.markdown.document import MarkdownBlock, MarkdownDocument
from qwenchat.markdown.lines import BLANK, Line, Run, chop, prefixed, wrap
from qwenchat.markdown.palette import Palette
from qwenchat.markdown.tables import table_lines
from qwenchat.text.wrap import drawable

_URL = re.compile(r"https?://[^\s<>\"'`，。；！？、（）《》「」]+[^\s<>\"'`，。；！？、（）《》「」.,;:!?)\]]")
_MARKS = {
    "strong": Style(bold=True),
    "em": Style(italic=True),
    "s": Style(strike=True),
}


Marker = Callable[[str], Iterable[tuple[int, int, Style]]]
"""Returns where a text refers to something: first and end character, in order, and the style laid over them."""


def runs_of(tokens: Sequence[Token], palette: Palette, base: Style, marker: Marker | None = None) -> list[list[Run]]:
    """Return the runs of an inline token's children, split where a line was meant to end.

    `marker` finds references in text that is neither code nor a link.
    """
    lines: list[list[Run]] = [[]]
    styles = [base]
    link: list[tuple[str, int, int]] = []
    for token in tokens:
        style = styles[-1]
        match token.type:
            case "text" | "text_special":
                text = drawable(token.content)
                lines[-1] += [(text, style)] if link else _text(text, style, palette, marker)
            case "softbreak" | "hardbreak":
                lines.append([])
            case "code_inline":
                lines[-1].append((drawable(token.content), style + palette.inline_code))
            case "formula":
                lines[-1].append((drawable(latex.inline(token.content)), style + palette.formula))
            case "link_open":
                target = str(token.attrs.get("href", ""))
                link.append((target, len(lines) - 1, len(lines[-1])))
                styles.append(style + palette.link + link_meta(target))
            case "link_close":
                styles.pop()
                target, line, run = link.pop()
                if not _names_target(lines, line, run, target):
                    lines[-1].append((f" ({drawable(target)})", styles[-1] + palette.muted + link_meta(target)))
            case "image":
                target = str(token.attrs.get("src", ""))
                text = _("[image: {what}]").format(what=drawable(token.content))
                lines[-1].append((f"{text} ({drawable(target)})", style + palette.muted + link_meta(target)))
            case opening if opening.endswith("_open"):
                styles.append(style + _MARKS.get(opening.removesuffix("_open"), Style.null()))
            case closing if closing.endswith("_close"):
                styles.pop()
            case _:
                lines[-1].append((drawable(token.content), style))
    return lines


def link_meta(target: str) -> Style:
    """Return the style that makes a click on text name its target."""
    return Style.from_meta({"link": target})


def _text(text: str, style: Style, palette: Palette, marker: Marker | None) -> Iterable[Run]:
    """Yield text as runs, of which URLs and references can be clicked."""
    at = 0
    for match in _URL.finditer(text) if "://" in text else ():
        yield from _marked(text[at : match.start()], style, marker)
        yield match.group(), style + palette.link + link_meta(match.group())
        at = match.end()
    yield from _marked(text[at:], style, marker)


def _marked(text: str, style: Style, marker: Marker | None) -> Iterable[Run]:
    at = 0
    for start, end, over in marker(text) if marker else ():
        yield text[at:start], style
        yield text[start:end], style + over
        at = end
    yield text[at:], style


def _names_target(lines: list[list[Run]], line: int, run: int, target: str) -> bool:
    """Return whether the link's text, from that run on, already is its target."""
    text = "".join(piece for piece, _ in [*lines[line][run:], *(r for later in lines[line + 1 :] for r in later)])
    return text.strip().rstrip("/") in (target.rstrip("/"), target.removeprefix("mailto:"))


_BULLETS = "•◦▪"
_BOXES = {"[ ] ": "[ ] ", "[x] ": "[✓] ", "[X] ": "[✓] "}
_NARROWEST = 8
"""Cells that nested lists and quotes leave for words, however deep they are; nothing is drawn narrower."""
_LONGEST_FORMULA = 4000
"""Characters; what is longer is shown as its source."""


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """Code as a model wrote it, to copy or save."""

    language: str
    text: str


def render(text: str, width: int, palette: Palette) -> list[Line]:
    """Return the lines of a whole text that is printed: nothing can be clicked, and lines of code are not broken."""
    lines: list[Line] = []
    for block in MarkdownDocument(text).blocks:
        lines += [BLANK] * bool(lines) + render_block(block, width, palette, whole_code=True)
    return lines


def render_block(
    block: MarkdownBlock,
    width: int,
    palette: Palette,
    code: int | None = None,
    *,
    whole_code: bool = False,
    marker: Marker | None = None,
) -> list[Line]:
    """Return one block's lines; `code` code blocks came before it in the message, None where none can be clicked.

    With `whole_code`, lines of code are not broken where they can't be clicked. `marker` finds references in the text.
    """
    return _BlockRenderer(palette, code, whole_code=whole_code, marker=marker).blocks(
        block.tokens, max(width, _NARROWEST), palette.text
    )


def code_in(block: MarkdownBlock) -> list[CodeBlock]:
    """Return the code blocks of a block, nested ones too."""
    return [
        CodeBlock(language_of(token.info), token.content)
        for token in block.tokens
        if token.type in ("fence", "code_block")
    ]


class _BlockRenderer:
    """Lays out the blocks of one message; counts the code blocks on its way."""

    def __init__(self, palette: Palette, code: int | None, *, whole_code: bool, marker: Marker | None) -> None:
        self._palette, self._marker = palette, marker
        self._code, self._whole_code = code, whole_code

    def blocks(self, tokens: Sequence[Token], width: int, base: Style, *, tight: bool = False) -> list[Line]:
        """Return the lines of sibling blocks."""
        lines: list[Line] = []
        at = 0
        while at < len(tokens):
            end = _end(tokens, at)
            block = self._block(tokens[at:end], width, base)
            if lines and block and not tight:
                lines.append(BLANK)
            lines += block
            at = end
        return lines

    def _block(self, tokens: Sequence[Token], width: int, base: Style) -> list[Line]:
        token, palette = tokens[0], self._palette
        match token.type:
            case "paragraph_open":
                lines = self._inline(tokens[1], width, base)
            case "heading_open":
                lines = self._heading(tokens[1], int(token.tag[1:]), width)
            case "bullet_list_open" | "ordered_list_open":
                lines = self._list(tokens, width, base)
            case "blockquote_open":
                bar = ("▎ ", palette.muted)
                lines = self._behind(bar, bar, tokens=tokens[1:-1], width=width, base=base + palette.quote)
            case "fence" | "code_block":
                closed = token.type == "code_block" or _closed(token)
                lines = code_lines(
                    token.content,
                    token.info,
                    index=self._code,
                    width=width,
                    palette=self._palette,
                    is_closed=closed,
                    is_whole=self._whole_code,
                )
                if self._code is not None:
                    self._code += 1
            case "hr":
                lines = [Line((Segment("─" * width, palette.muted),), width, width)]
            case "table_open":
                lines = self._table(tokens, width, base)
            case "formula_block":
                source = token.content.split("\n")
                drawn = latex.display(token.content) if len(token.content) <= _LONGEST_FORMULA else source
                rows = [[("  " + drawable(row), base + palette.formula)] for row in drawn]
                lines = [line for row in rows for line in chop(row, width)]
            case _:
                lines = wrap([(drawable(token.content), base)], width) if token.content else []
        return lines

    def _inline(self, token: Token, width: int, base: Style) -> list[Line]:
        rows = runs_of(token.children or [], self._palette, base, self._marker)
        return [line for row in rows for line in wrap(row, width)]

    def _heading(self, token: Token, level: int, width: int) -> list[Line]:
        lines = self._inline(token, width, self._palette.heading + Style(underline=level == 2 or None))
        if level == 1:
            rule = max(line.width for line in lines)
            lines.append(Line((Segment("━" * rule, self._palette.heading),), rule, rule))
        return lines

    def _list(self, tokens: Sequence[Token], width: int, base: Style) -> list[Line]:
        ordered = tokens[0].type == "ordered_list_open"
        number = int(tokens[0].attrs.get("start", 1)) if ordered else 0
        items = _children(tokens)
        loose = any(
            not t.hidden for item in items for t in item if t.type == "paragraph_open" and t.level == item[0].level + 1
        )
        numbers = cell_len(f"{number + len(items) - 1}. ")
        lines: list[Line] = []
        for index, (box, item) in enumerate(map(_task, items)):
            bullet = f"{number + index}. ".rjust(numbers) if ordered else f"{_BULLETS[min(item[0].level // 2, 2)]} "
            mark = (box or bullet, self._palette.muted)
            if lines and loose:
                lines.append(BLANK)
            rest = (" " * cell_len(mark[0]), base)
            lines += self._behind(mark, rest, tokens=item[1:-1], width=width, base=base, tight=not loose)
        return lines

    def _behind(
        self, first: Run, rest: Run, tokens: Sequence[Token], width: int, base: Style, *, tight: bool = False
    ) -> list[Line]:
        """Return blocks behind a bullet or bar; below it where no words fit beside it."""
        room = width - cell_len(first[0])
        if room >= _NARROWEST:
            return prefixed(self.blocks(tokens, room, base, tight=tight) or [BLANK], first, rest)
        return [*wrap([first], width), *self.blocks(tokens, width, base, tight=tight)]

    def _table(self, tokens: Sequence[Token], width: int, base: Style) -> list[Line]:
        rows: list[list[list[Run]]] = []
        aligns: list[str] = []
        for index, token in enumerate(tokens):
            if token.type == "tr_open":
                rows.append([])
            elif token.type in ("th_open", "td_open"):
                heading = token.type == "th_open"
                style = base + (self._palette.heading if heading else Style.null())
                cell = runs_of(tokens[index + 1].children or [], self._palette, style, self._marker)
                rows[-1].append([run for line in cell for run in line])
                if heading:
                    aligns.append(str(token.attrs.get("style", "")).removeprefix("text-align:"))
        return table_lines(rows, aligns, width, self._palette)


def _end(tokens: Sequence[Token], start: int) -> int:
    """Return the index after the block that begins at `start`."""
    depth = 0
    for index in range(start, len(tokens)):
        depth += tokens[index].nesting
        if depth <= 0:
            return index + 1
    return len(tokens)


def _children(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """Return the blocks directly inside a container, each with its opening and closing token."""
    out: list[Sequence[Token]] = []
    at = 1
    while at < len(tokens) - 1:
        end = _end(tokens, at)
        out.append(tokens[at:end])
        at = end
    return out


def _task(item: Sequence[Token]) -> tuple[str, Sequence[Token]]:
    """Return the box of a task list's item and the item without it; no box for any other item."""
    inline = item[2] if len(item) > 2 and item[2].type == "inline" else None
    box = _BOXES.get(inline.content[:4]) if inline else None
    if not inline or not inline.children or not box or not inline.children[0].content.startswith(inline.content[:4]):
        return "", item
    first, *others = inline.children
    words = inline.copy(children=[first.copy(content=first.content[4:]), *others])
    return box, [*item[:2], words, *item[3:]]


def _closed(fence: Token) -> bool:
    """Return whether a fence's end was written."""
    first, end = fence.map or (0, 0)
    lines = fence.content.count("\n") + (not fence.content.endswith("\n") and fence.content != "")
    return end - first > lines + 1
