"""Takes the text out of a page of HTML, in a time that grows no faster than the page, however broken that is.

The standard library's parser takes minutes for a megabyte of `<!--`, and fails on some pages. Nothing here knows more
of HTML than which elements are never shown, which begin a line, and which are headings, list items and cells; the
result is text for reading, with Markdown for these.
"""

import re
from html import unescape

from qwenchat.text.blocks import Blocks

_MARKUP = re.compile(r"<(?:(!--)|[!?]|(/?)([a-zA-Z][a-zA-Z0-9]*))")
_ENCODING = re.compile(
    rb"<meta[^<>]{0,200}?charset=[\"']?([A-Za-z0-9_-]{1,30})|<\?xml[^<>]{0,200}?encoding=[\"']([A-Za-z0-9_-]{1,30})",
    re.IGNORECASE,
)
_UNSEEN = {
    name: re.compile(f"</(?:{name}{other})(?![a-z0-9])", re.IGNORECASE)
    for name, other in {
        **dict.fromkeys(
            ("script", "style", "template", "svg", "noscript", "iframe", "object", "select", "textarea"), ""
        ),
        "rt": "|ruby",  # how a character is pronounced; it may be left open
    }.items()
}
"""Elements that are never read, with what ends them."""
_LINES = frozenset((
    "address", "article", "aside", "blockquote", "caption", "dd", "details", "div", "dl", "dt", "fieldset",
    "figcaption", "figure", "footer", "form", "header", "hr", "main", "nav", "option", "p", "pre", "section",
    "summary", "title",
))  # fmt: skip
"""Elements that begin and end a line and mean nothing else here."""
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = _LINES | _HEADINGS.keys() | {"li", "ol", "table", "td", "th", "tr", "ul"}
_SPACE = re.compile(r"\s+")
_TITLE = re.compile("</title(?![a-z0-9])", re.IGNORECASE)
_HUGE_REFERENCE = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")
_DEEPEST_LIST = 8
"""Lists inside lists that are indented."""


def text_of(page: str, *, is_chapter: bool = False) -> str:
    """Return the text of a page, its title first. It still has to be cleaned.

    A chapter of an e-book is XML, where an element may end in its own tag; its title is that of the book.
    """
    reader = _PageReader()
    at = 0
    while found := _MARKUP.search(page, at):
        comment, closes, name = found[1], found[2], (found[3] or "").lower()
        reader.text(page[at : found.start()])
        ending = "-->" if comment else ">"
        end_at = page.find(ending, found.end())
        is_empty = is_chapter and page[end_at - 1 : end_at] == "/"
        unseen = _UNSEEN.get(name)
        if is_chapter and name == "title":
            unseen = _TITLE
        if unseen and not closes and not is_empty:
            end = unseen.search(page, found.end())
            at = end.start() if end else len(page)
            continue
        at = end_at + len(ending) if end_at >= 0 else len(page)
        if closes:
            reader.close(name)
        elif name:
            reader.open(name)
            if is_empty:
                reader.close(name)
    reader.text(page[at:])
    return reader.rest()


def encoding_named(page: bytes) -> str:
    """Return the encoding that a page says it has, empty if it says none."""
    found = _ENCODING.search(page[:2048])
    return (found[1] or found[2]).decode("ascii") if found else ""


class _PageReader:
    """Collects the text between the tags, and makes blocks of it."""

    def __init__(self) -> None:
        self._blocks = Blocks()
        self._pieces: list[str] = []
        self._heading = 0
        """Level of the heading that is read; 0 for other blocks."""
        self._prefix = ""
        self._is_tight = False
        self._is_preformatted = False
        self._lists: list[int | None] = []
        """For each list that is open, the number of the next item; None where items have no number."""

    def text(self, text: str) -> None:
        """Read text between two tags."""
        if not self._is_preformatted:
            text = _SPACE.sub(" ", text)
            if not self._pieces or self._pieces[-1][-1] in " \n":
                text = text.removeprefix(" ")
        if text:
            if "&" in text:
                text = unescape(_HUGE_REFERENCE.sub("\ufffd", text)) or " "
            self._pieces.append(text)

    def open(self, name: str) -> None:
        """Read the tag that opens an element."""
        if name == "br":
            self._pieces.append("\n")
            return
        if name not in _BLOCKS:
            return
        has_text = self._end_block()
        if name in _LINES:
            if has_text:  # else it is what a heading or an item begins with
                self._heading, self._prefix, self._is_tight = 0, "", False
            self._is_tight |= name in ("dt", "dd")
            self._is_preformatted |= name == "pre"
            return
        self._heading, self._prefix, self._is_tight = _HEADINGS.get(name, 0), "", False
        if name == "li":
            self._prefix, self._is_tight = self._item_mark(), True
        elif name in ("ul", "ol"):
            self._lists.append(1 if name == "ol" else None)
        elif name == "table":
            self._blocks.begin_table()
        elif name == "tr":
            self._blocks.begin_row()
        elif name in ("td", "th"):
            self._blocks.begin_cell()

    def close(self, name: str) -> None:
        """Read the tag that closes an element."""
        if name not in _BLOCKS:
            return
        self._end_block()
        self._heading, self._prefix, self._is_tight = 0, "", False
        if name in ("ul", "ol"):
            del self._lists[-1:]
        elif name == "table":
            self._blocks.end_table()
        elif name == "pre":
            self._is_preformatted = False

    def rest(self) -> str:
        """Return the text of the page."""
        self._end_block()
        return self._blocks.take_rest()

    def _item_mark(self) -> str:
        number = self._lists[-1] if self._lists else None
        if number is not None:
            self._lists[-1] = number + 1
        indent = "  " * (min(len(self._lists), _DEEPEST_LIST) - 1)
        return indent + ("- " if number is None else f"{number}. ")

    def _end_block(self) -> bool:
        """End the block that is read; return whether it has text."""
        text = "".join(self._pieces)
        self._pieces.clear()
        if not text or text.isspace():
            return False
        if self._heading:
            self._blocks.add_heading(text, self._heading)
        elif self._is_preformatted:
            self._blocks.add(text, self._prefix, is_tight=self._is_tight)
        else:
            text = text.strip()
            if "\n" in text:
                text = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in text.split("\n")))
            self._blocks.add(text, self._prefix, is_tight=self._is_tight)
        return True
