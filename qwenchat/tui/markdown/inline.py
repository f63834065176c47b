"""Inline Markdown as runs of styled text, one list a line that the author meant.

A newline in the source is a line break: models do not wrap their prose, and their verses and addresses count.
A link shows its target unless its text is the target; a click finds it in the meta data and opens nothing.
"""

import re
from collections.abc import Iterable, Sequence

from markdown_it.token import Token
from rich.style import Style

from qwenchat.i18n import _
from qwenchat.tui.markdown import latex
from qwenchat.tui.markdown.colours import Palette
from qwenchat.tui.markdown.wrap import Run, drawable

_URL = re.compile(r"https?://[^\s<>\"'`，。；！？、（）《》「」]+[^\s<>\"'`，。；！？、（）《》「」.,;:!?)\]]")
_MARKS = {
    "strong": Style(bold=True),
    "em": Style(italic=True),
    "s": Style(strike=True),
}


def runs_of(tokens: Sequence[Token], palette: Palette, base: Style) -> list[list[Run]]:
    """Return the runs of an inline token's children, split where a line was meant to end."""
    lines: list[list[Run]] = [[]]
    styles = [base]
    link: list[tuple[str, int, int]] = []
    for token in tokens:
        style = styles[-1]
        match token.type:
            case "text" | "text_special":
                lines[-1] += _text(token.content, style, palette, bare=bool(link))
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


def _text(text: str, style: Style, palette: Palette, *, bare: bool) -> Iterable[Run]:
    text = drawable(text)
    if bare or "://" not in text:
        return [(text, style)] if text else []
    runs: list[Run] = []
    at = 0
    for match in _URL.finditer(text):
        runs += [(text[at : match.start()], style), (match.group(), style + palette.link + link_meta(match.group()))]
        at = match.end()
    return [run for run in [*runs, (text[at:], style)] if run[0]]


def _names_target(lines: list[list[Run]], line: int, run: int, target: str) -> bool:
    """Return whether the link's text, from that run on, already is its target."""
    text = "".join(piece for piece, _ in [*lines[line][run:], *(r for later in lines[line + 1 :] for r in later)])
    return text.strip().rstrip("/") in (target.rstrip("/"), target.removeprefix("mailto:"))
