"""Takes the text out of a page of HTML, in a time that grows no faster than the page, however broken that is.

The standard library's parser takes minutes for a megabyte of `<!--`, and fails on some pages. Nothing here knows more
of HTML than which elements are never shown and which begin a line; the result is text for reading, not a document.
"""

import re
from html import unescape

_MARKUP = re.compile(r"<(?:(!--)|[!?]|(/?)([a-zA-Z][a-zA-Z0-9]*))")
_UNSEEN = {
    name: re.compile(f"</{name}(?![a-z0-9])", re.IGNORECASE)
    for name in ("script", "style", "template", "svg", "noscript", "iframe", "object", "select", "textarea")
}
"""Elements that are never read, with what ends them."""
_LINES = re.compile(
    "address|article|aside|blockquote|br|caption|dd|details|div|dl|dt|fieldset|figcaption|figure|footer|form|h[1-6]|header"
    "|hr|li|main|nav|ol|option|p|pre|section|summary|table|title|tr|ul"
)
"""Elements that begin and end a line."""
_SPACE = re.compile(r"\s+")
_HUGE_REFERENCE = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")


def text_of(page: str) -> str:
    """Return the text of a page, its title first. It still has to be cleaned."""
    pieces: list[str] = []
    at, is_preformatted = 0, False
    while found := _MARKUP.search(page, at):
        comment, closes, name = found[1], found[2], (found[3] or "").lower()
        text = page[at : found.start()]
        pieces.append(text if is_preformatted else _SPACE.sub(" ", text))
        if name in _UNSEEN and not closes:
            end = _UNSEEN[name].search(page, found.end())
            at = end.start() if end else len(page)
            continue
        ending = "-->" if comment else ">"
        end_at = page.find(ending, found.end())
        at = end_at + len(ending) if end_at >= 0 else len(page)
        if name == "pre":
            is_preformatted = not closes
        if _LINES.fullmatch(name):
            pieces.append("\n- " if name == "li" and not closes else "\n")
        elif name in ("td", "th") and not closes:
            pieces.append(" | ")
    pieces.append(page[at:])
    whole = unescape(_HUGE_REFERENCE.sub("\ufffd", "".join(pieces)))
    lines = (line.rstrip().removeprefix(" | ") for line in whole.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join("" if line.strip() in ("-", "|") else line for line in lines)).strip()
