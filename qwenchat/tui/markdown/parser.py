"""The one Markdown parser: CommonMark with tables, strikethrough and formulas, without HTML.

HTML is text (`List<String>`, `<think>`). Link reference definitions are text too: they could change what was
drawn long before them, and they hide a link's target.
"""

from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

from qwenchat.text import clean
from qwenchat.tui.markdown.emphasis import CJKInline
from qwenchat.tui.markdown.formulas import formulas


class _Parser(MarkdownIt):
    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False, "maxNesting": 20})
        self.inline = CJKInline()
        self.configure("commonmark", {"html": False, "maxNesting": 20})
        self.enable(["table", "strikethrough"])
        self.disable(["reference", "html_block", "html_inline"])
        self.use(formulas)


@cache
def _parser() -> MarkdownIt:
    return _Parser()


def parse(text: str) -> list[Token]:
    """Return the block tokens of clean Markdown; those of type `inline` have children."""
    tokens = _parser().parse(text)
    for token in tokens:
        for child in token.children or ():
            child.content = clean(child.content).replace("\n", " ")  # `&#x202e;` and `%1b` were clean until now
    return tokens
