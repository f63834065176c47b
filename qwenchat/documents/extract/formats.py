"""Which format a file has, by its content first and by its name second, and why a file does not become text.

What the parent and the child both know, and nothing that takes time to import.
"""

import re
from enum import StrEnum
from pathlib import PurePath

HEAD_SIZE = 4096
"""Bytes at the beginning of a file that show its format."""
FILE_LIMIT = 512 << 20
"""Bytes of a file that holds more than text."""
MAX_PAGES = 20_000


class Format(StrEnum):
    """How a file is read."""

    TEXT = "text"
    """It is text already."""
    PDF = "pdf"
    ZIP = "zip"
    """A document of Word, LibreOffice or an e-book, or another archive: its contents show which."""
    HTML = "html"
    NOTEBOOK = "notebook"
    RTF = "rtf"
    SUBTITLES = "subtitles"
    OLD_OFFICE = "old_office"
    """Word, Excel or PowerPoint before 2007, or a newer document with a password."""
    PICTURE = "picture"


class RefusalReason(StrEnum):
    """Why a file does not become text."""

    LOCKED = "locked"
    """It has a password."""
    SCAN = "scan"
    """Pages without text."""
    PICTURE = "picture"
    EMPTY = "empty"
    BROKEN = "broken"
    CRASHED = "crashed"
    """The child died of it."""
    HOSTILE = "hostile"
    TOO_LARGE = "too_large"
    TOO_MANY_PAGES = "too_many_pages"
    TOO_SLOW = "too_slow"
    CHANGED = "changed"
    NOT_TEXT = "not_text"
    OLD_OFFICE = "old_office"
    SPREADSHEET = "spreadsheet"
    PRESENTATION = "presentation"
    ARCHIVE = "archive"


class Refused(Exception):
    """A file does not become text."""

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(reason)
        self.reason = reason


_PICTURES = re.compile(
    rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP|....ftyp(hei[cfs]|mif1|avif)|\0\0\0\x0cjP  ",
    re.DOTALL,
)
_BEGINNINGS = (
    (re.compile(rb"PK(\x03\x04|\x05\x06)"), Format.ZIP),
    (re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), Format.OLD_OFFICE),
    (_PICTURES, Format.PICTURE),
    (re.compile(rb"(\xef\xbb\xbf)?\s*%PDF-"), Format.PDF),
    (re.compile(rb"(\xef\xbb\xbf)?\s*\{\\rtf"), Format.RTF),
)
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*(<!doctype\s+html|<html|<\?xml.{0,200}?<html)", re.DOTALL | re.IGNORECASE)
_NAMED = {
    ".htm": Format.HTML,
    ".html": Format.HTML,
    ".xhtml": Format.HTML,
    ".ipynb": Format.NOTEBOOK,
    ".srt": Format.SUBTITLES,
    ".vtt": Format.SUBTITLES,
}
_NO_TEXT = ("", ".doc", ".docx", ".epub", ".mht", ".odt", ".pdf", ".rtf", ".xls")
"""Endings of names under which a page of HTML is not meant to be read as its source."""


def format_of(head: bytes, name: str) -> Format:
    """Return the format of a file that begins with `head` and has this name."""
    suffix = PurePath(name).suffix.lower()
    for beginning, file_format in _BEGINNINGS:
        if beginning.match(head):
            return file_format
    if suffix == ".pdf" and b"%PDF-" in head[:1024]:
        return Format.PDF
    if suffix in _NO_TEXT and _HTML.match(head):
        return Format.HTML
    return _NAMED.get(suffix, Format.TEXT)
