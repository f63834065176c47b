"""Takes the text out of PDF files: pages, lines as they stand there, headings where the file has bookmarks.

Words that are hyphenated at the end of a line are joined where pdfium is sure of it, and full lines of Chinese where a
word may go on. Running heads stay: what repeats on every page may also be the head of a table.
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
from qwenchat.documents.extract.formats import MAX_PAGES, RefusalReason, Refused

_MAX_BOOKMARKS = 20_000
_HYPHEN = re.compile(r"[\x02\ufffe]\s?(?=([^\W\d_])?)")
"""What pdfium has for a hyphen at the end of a line, after which the rest of the word stood on the next one."""
_HAN = re.compile("[\u3400-\u9fff]")
_FULL, _SHORT = 0.9, 30
"""A line is full from this part of the longest line of its page, if that is not short, in columns."""
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
            raise Refused(RefusalReason.LOCKED) from error
        raise
    with document:
        if len(document) > MAX_PAGES:
            raise Refused(RefusalReason.TOO_MANY_PAGES)
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
                yield _joined(_with_headings(text.split("\n"), titles.get(number, {})))
        if not has_text:
            raise Refused(RefusalReason.BROKEN if broken else RefusalReason.SCAN)


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


def _with_headings(lines: list[str], titles: dict[str, int]) -> list[str]:
    """Make headings of the lines that are titles, each once."""
    left = dict(titles)
    for at, line in enumerate(lines if left else ()):
        level = left.pop(_squeezed(line), 0) or left.pop(_squeezed(_NUMBER.sub("", line)), 0)
        if level:
            lines[at] = f"{'#' * min(level, 6)} {line.strip()}"
    return lines


def _joined(lines: list[str]) -> str:
    """Join lines that a Chinese word may go across: full ones that end with a character, if one begins the next.

    Chinese has no space between words, so nothing else shows that the two lines are one sentence.
    """
    widths = [_width(line) for line in lines]
    full = max(_FULL * max(widths, default=0), _SHORT)
    pieces: list[str] = []
    for at, line in enumerate(lines):
        if at and not (widths[at - 1] >= full and _HAN.match(lines[at - 1][-1:]) and _HAN.match(line)):
            pieces.append("\n")
        pieces.append(line)
    return "".join(pieces)


def _width(line: str) -> int:
    return len(line) + sum(character > "\u2e7f" for character in line)


def _squeezed(text: str) -> str:
    return "".join(text.translate(_PLAIN).split())
