"""Takes the text out of PDF files: pages, lines as they stand there, headings where the file has bookmarks.

Words that are hyphenated at the end of a line are joined where pdfium is sure of it. Running heads stay: what repeats
on every page may also be the head of a table.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

import pypdfium2
from pypdfium2 import raw

from qwenchat.documents.document import PAGE_BREAK
from qwenchat.documents.extract.formats import MAX_PAGES, Reason, Refused

_MAX_BOOKMARKS = 20_000
_HYPHEN = re.compile(r"[\x02\ufffe]\s?(?=([^\W\d_])?)")
"""What pdfium has for a hyphen at the end of a line, after which the rest of the word stood on the next one."""
_NUMBER = re.compile(r"^\s*(第\w{1,5}[章节回部篇]|[0-9A-Z]{1,3}(\.[0-9]{1,3}){0,5}\.?)\s+")
"""The number of a heading, which many bookmarks lack."""
_PLAIN = str.maketrans(
    {chr(code): unicodedata.normalize("NFKC", chr(code)) for code in (*range(0x2F00, 0x2FD6), *range(0xFB00, 0xFB07))}
)
"""Ligatures and radicals, under which some fonts have ordinary letters and Chinese characters."""


def pieces(file: BinaryIO) -> Iterator[str]:
    """Yield the text of each page, with a page break between two. Raises Refused and PdfiumError."""
    try:
        document = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
            raise Refused(Reason.LOCKED) from error
        raise
    with document:
        if len(document) > MAX_PAGES:
            raise Refused(Reason.TOO_MANY_PAGES)
        titles = _titles(document)
        broken = has_text = 0
        for number in range(len(document)):
            if number:
                yield from ("\n", PAGE_BREAK, "\n")  # a heading stands at the beginning of a line
            try:
                text = _page(document, number)
            except pypdfium2.PdfiumError:
                broken += 1
                continue
            if text.strip():
                has_text += 1
                yield _with_headings(text, titles[number]) if number in titles else text
        if not has_text:
            raise Refused(Reason.BROKEN if broken else Reason.SCAN)


def _page(document: pypdfium2.PdfDocument, number: int) -> str:
    page = document[number]
    try:
        text_page = page.get_textpage()
        try:
            text: str = text_page.get_text_bounded()
        finally:
            text_page.close()
    finally:
        page.close()
    text = text.replace("\r\n", "\n").replace(PAGE_BREAK, "\n").translate(_PLAIN)
    return _HYPHEN.sub(lambda found: "" if found[1] and found[1].islower() else "-", text)


def _titles(document: pypdfium2.PdfDocument) -> dict[int, dict[str, int]]:
    """Return the titles in the bookmarks of each page, without white space, with their levels from 1."""
    found: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for bookmark in islice(document.get_toc(), _MAX_BOOKMARKS):
        target = bookmark.get_dest()
        number = target.get_index() if target else None
        title = _squeezed(bookmark.get_title())
        if number is not None and title:
            found[number].setdefault(title, bookmark.level + 1)
    return found


def _with_headings(text: str, titles: dict[str, int]) -> str:
    """Make headings of the lines that are titles, each once."""
    left = dict(titles)
    lines = text.split("\n")
    for at, line in enumerate(lines):
        level = left.pop(_squeezed(line), 0) or left.pop(_squeezed(_NUMBER.sub("", line)), 0)
        if level:
            lines[at] = f"{'#' * min(level, 6)} {line.strip()}"
    return "\n".join(lines)


def _squeezed(text: str) -> str:
    return "".join(text.translate(_PLAIN).split())
