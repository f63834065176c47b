"""One self-contained HTML page, to read in any browser, print or send.

It has no script and loads nothing, and its content security policy makes the browser enforce both. Colours follow the
reader's light or dark setting. Answers are CommonMark with tables, strikethrough and highlighted code. Raw HTML is
shown as text, and only links to websites and mail addresses are links. Two things that models write and CommonMark
breaks are handled: emphasis next to Chinese characters works, and TeX formulas are shown as they were written.
Reasoning and tools are folded.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.rules_inline import StateInline, emphasis
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from qwenchat.chat.message import Attachment, Part, Reasoning, Role, Text, ToolCall
from qwenchat.i18n import _
from qwenchat.sessions.archive import Archive
from qwenchat.sessions.exporters import ExportFormat
from qwenchat.sessions.reading_order import (
    OrderedMessage,
    attached,
    model_of,
    notes,
    ordered,
    part_label,
    speaker,
    title_of,
    to_read,
    when,
)
from qwenchat.text.safe import can_highlight, clean

LIGHT, DARK = "default", "github-dark"
"""The names of pygments' styles."""
LONGEST = 200_000
"""Characters. A longer message is shown as plain text, because a parser's time may grow faster than its text."""

_LIVE_LINK = re.compile(r"(https?|mailto):", re.IGNORECASE)
_FORMULA = re.compile(
    r"\\\(.{1,2000}?\\\)|\\\[.{1,4000}?\\\]|\$\$.{1,4000}?\$\$|\$(?!\s)[^$\n]{1,500}(?<!\s)\$(?!\d)", re.DOTALL
)
"""`(…)` and `[…]` with a backslash before each bracket, `$$…$$`, and `$…$` unless it is an amount of money."""
_CJK = re.compile(
    "[\u1100-\u11ff\u2e80-\u2fdf\u3040-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)


class _SafeMarkdown(MarkdownIt):
    """A parser that makes links only of web and mail addresses."""

    def validateLink(self, url: str) -> bool:  # noqa: N802 - markdown-it's name
        return bool(_LIVE_LINK.match(url))


def answer_parser() -> MarkdownIt:
    """Return the parser and renderer for answers."""
    options = {"html": False, "xhtmlOut": False, "highlight": highlighted}
    markdown = _SafeMarkdown("commonmark", options).enable(["table", "strikethrough"])
    markdown.inline.ruler.at("emphasis", _emphasis)
    markdown.inline.ruler.before("escape", "formula", _formula)
    markdown.add_render_rule("formula", _shown_formula)
    markdown.add_render_rule("image", _shown_image)
    return markdown


def question_parser() -> MarkdownIt:
    """Return the parser and renderer for questions, in which only fenced code is mark-up."""
    return _SafeMarkdown("zero", {"html": False, "highlight": highlighted}).enable("fence")


def answer_html(text: str, markdown: MarkdownIt) -> str:
    """Return an answer as HTML; `markdown` is from `answer_parser`."""
    text = clean(text)
    return _as_typed(text) if len(text) > LONGEST else _rendered(markdown.parse(text), markdown)


def question_html(text: str, markdown: MarkdownIt) -> str:
    """Return a question as HTML: fences as code, the rest as typed; `markdown` is from `question_parser`."""
    text = clean(text)
    if len(text) > LONGEST:
        return _as_typed(text)
    lines, done, parts = text.split("\n"), 0, []
    for token in markdown.parse(text):
        if token.type == "fence" and token.map:
            parts += [_as_typed("\n".join(lines[done : token.map[0]])), _rendered([token], markdown)]
            done = token.map[1]
    return "".join([*parts, _as_typed("\n".join(lines[done:]))])


def _rendered(tokens: Sequence[Token], markdown: MarkdownIt) -> str:
    """Return tokens as HTML, cleaned again because the parser decodes entities and addresses."""
    return clean(str(markdown.renderer.render(tokens, markdown.options, {})))


def _as_typed(text: str) -> str:
    text = text.strip("\n")
    return f'<p class="typed">{escape(text)}</p>\n' if text.strip() else ""


def highlighted(code: str, language: str, _attributes: str = "") -> str:
    """Return code as HTML, its tokens in pygments' short classes.

    It is only escaped where the language is unknown or colouring it could take long.
    """
    if not can_highlight(code):
        return escape(code)
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return escape(code)
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True)))


def highlighting_css() -> str:
    """Return the rules that colour `highlighted` code, on light ground and in print, and on dark ground."""
    light, dark = ("\n".join(_rules(style)) for style in (LIGHT, DARK))
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"


def _rules(style: str) -> list[str]:
    rules = HtmlFormatter(style=style, classprefix="").get_token_style_defs("code")
    return [rule.split("/*")[0].strip() for rule in rules]


def _emphasis(state: StateInline, silent: bool) -> bool:
    """Parse `*` and `_`, and let `*` next to a CJK character always open and close emphasis.

    CommonMark requires a space between a letter and emphasis that begins or ends with punctuation, but Chinese has no
    spaces: in `**注意：**请看`, CommonMark would not close the emphasis.
    """
    start, before = state.pos, len(state.delimiters)
    if not emphasis.tokenize(state, silent):
        return False
    left, right = state.src[max(start - 1, 0) : start], state.src[state.pos : state.pos + 1]
    for delimiter in state.delimiters[before:] if state.src[start] == "*" else ():
        delimiter.open |= bool(_CJK.match(left) and right.strip())
        delimiter.close |= bool(_CJK.match(right) and left.strip())
    return True


def _formula(state: StateInline, silent: bool) -> bool:
    found = _FORMULA.match(state.src, state.pos, state.posMax)
    if not found:
        return False
    if not silent:
        state.push("formula", "", 0).content = found[0]
    state.pos = found.end()
    return True


def _shown_formula(
    _renderer: RendererProtocol, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: EnvType
) -> str:
    return f'<span class="formula">{escape(tokens[index].content)}</span>'


def _shown_image(
    _renderer: RendererProtocol, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: EnvType
) -> str:
    """Return the description and the address of an image, because the page must not load it."""
    token = tokens[index]
    return f'<span class="image">{escape(token.content)} ‹{escape(str(token.attrGet("src")))}›</span>'


_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write(archives: Iterable[Archive], all_branches: bool) -> Iterator[str]:
    """Yield each session as a page, a message at a time."""
    asked, answered = question_parser(), answer_parser()
    for archive in archives:
        yield _head(archive)
        if archive.session.system:
            words = question_html(archive.session.system, asked)
            yield _article("system", "system", escape(_("System prompt")), words)
        for position, entry in enumerate(ordered(archive, all_branches), 1):
            if entry.message.role is Role.USER:
                words = question_html(entry.message.text, asked)
            else:
                words = "".join(_part(part, answered) for part in to_read(entry.message.parts))
            yield _message(position, entry, words)
        yield "</main>\n</body>\n</html>\n"


def _part(part: Part, answered: MarkdownIt) -> str:
    if isinstance(part, Text):
        return answer_html(part.text, answered)
    if isinstance(part, Reasoning):
        body = answer_html(part.text, answered)
    else:
        words = part.arguments if isinstance(part, ToolCall) else part.text
        body = f"<pre>{escape(clean(words))}</pre>\n"
    return f"<details>\n<summary>{escape(part_label(part))}</summary>\n{body}</details>\n"


def _head(archive: Archive) -> str:
    session, title = archive.session, escape(title_of(archive))
    style = files(__package__).joinpath("html.css").read_text("utf-8") + highlighting_css()
    facts = (f"{when(session.created)} – {when(session.updated)}", model_of(archive), ", ".join(session.tags))
    return (
        "<!DOCTYPE html>\n<html>\n<head>\n"
        '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="generator" content="qwenchat">\n'
        f"<title>{title}</title>\n<style>\n{style}\n</style>\n</head>\n<body>\n<main>\n"
        f'<header>\n<h1 dir="auto">{title}</h1>\n<p>{escape(" · ".join(filter(None, facts)))}</p>\n</header>\n'
    )


def _message(position: int, entry: OrderedMessage, words: str) -> str:
    heading = f'{escape(speaker(entry))}<span class="notes">{escape(notes(entry))}</span>'
    if entry.follows:
        heading = f'<a href="#m{entry.follows}">↑</a> {heading}'
    files_above = "".join(_attachment(attachment) for attachment in entry.message.attachments)
    return _article(f"m{position}", entry.message.role, heading=heading, words=words, above=files_above)


def _article(anchor: str, kind: str, heading: str, words: str, above: str = "") -> str:
    body = f'<div class="words" dir="auto">\n{words}</div>\n' if words else ""
    return f'<article class="{kind}" id="{anchor}">\n<h2>{heading}</h2>\n{above}{body}</article>\n'


def _attachment(attachment: Attachment) -> str:
    name, text = attached(attachment)
    if not text:
        return f'<p class="notes">{escape(name)}</p>\n'
    return f"<details open>\n<summary>{escape(name)}</summary>\n<pre>{escape(text)}</pre>\n</details>\n"


FORMAT = ExportFormat("html", ".html", many=False, write=write)
