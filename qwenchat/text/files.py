"""Reads files and pipes as text in any encoding. Refuses data that is too large or not text."""

import codecs
import os
import stat
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from qwenchat.errors import FileError, NotText
from qwenchat.i18n import _, reason_of
from qwenchat.text.safe import clean_line

SIZE_LIMIT = 64 << 20
"""Bytes."""
_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)


_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "iso-8859-1": "cp1252", "ascii": "cp1252", "us-ascii": "cp1252"}
"""Encodings that are named where a wider one is meant, as browsers have it."""


class TextFile(Struct, frozen=True):
    """A file's name and its text, in which all line endings are newlines."""

    name: str
    text: str


def read(path: Path) -> TextFile:
    """Read a text file. Raises FileError when it can't be read, is too large, or is not text."""
    shown = clean_line(str(path))
    try:
        if path.is_dir():
            raise _is_a_folder(shown)
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise unreadable(shown, error) from error
    return TextFile(clean_line(path.name), decode(data, shown))


def open_regular(path: Path) -> BinaryIO:
    """Open a file, and nothing that only looks like one: a pipe or a device may never end. Raises FileError."""
    shown = clean_line(str(path))
    try:
        _check_kind(path.stat(), shown)  # a device may do something when it is opened
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "rb")
    except OSError as error:
        raise unreadable(shown, error) from error
    try:
        _check_kind(os.fstat(file.fileno()), shown)
    except FileError:
        file.close()
        raise
    return file


def stamp(file: BinaryIO) -> tuple[int, int]:
    """Return the size and the time of the last change of an open file: both stay the same while nobody writes to it."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def unreadable(shown: str, error: OSError) -> FileError:
    """Return what a user reads about a file that can't be read."""
    return FileError(
        _("{file} can't be read: {reason}.").format(file=shown, reason=reason_of(error)),
        _("Check its name and its permissions."),
    )


def _is_a_folder(shown: str) -> FileError:
    return FileError(_("{file} is a folder.").format(file=shown), _("Give a file; a folder is read as documents."))


def _check_kind(status: os.stat_result, shown: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise _is_a_folder(shown)
    if not stat.S_ISREG(status.st_mode):
        raise FileError(
            _("{file} is not a file, but a device or a pipe.").format(file=shown),
            _("Save what it holds in a file first."),
        )


def decode(data: bytes, name: str) -> str:
    """Return bytes as text. Raises FileError, which names `name`, for data that is too large or not text."""
    if len(data) > SIZE_LIMIT:
        raise FileError(
            _("{file} is larger than {limit} MiB.").format(file=name, limit=SIZE_LIMIT >> 20),
            _("Use only the part that matters."),
        )
    encoding = encoding_of(data)
    text = data.decode(encoding).removeprefix("\ufeff") if encoding else "\0"
    if "\0" in text:
        raise NotText(
            _("{file} is not a text file.").format(file=name),
            _("Convert it to text first, or copy the text out of it."),
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode_as(data: bytes, *encodings: str) -> str:
    """Return bytes as text by the first of several encodings that is one, else by what they look like.

    A byte order mark wins over all. What can't be decoded becomes U+FFFD, and line endings stay.
    """
    marked = any(data.startswith(mark) for mark, _encoding in _BYTE_ORDER_MARKS)
    for name in ("", "utf-8") if marked else (*encodings, "", "utf-8"):
        encoding = _WIDER.get(name.lower(), name) or encoding_of(data, is_whole=False) or "utf-8"
        try:
            return data.decode(encoding, "replace").removeprefix("\ufeff")
        except (LookupError, UnicodeError):  # no encoding, or none of text
            continue
    return ""


def encoding_of(data: bytes, *, is_whole: bool = True) -> str | None:
    """Return the encoding of a text, or of its beginning, which may end inside a character; None if it is not text.

    Where the text has a byte order mark, it is the first character of what the encoding decodes.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return encoding if _strict(data, encoding, is_whole) is not None else None
    if _strict(data, "utf-8", is_whole) is not None:
        return "utf-8"
    if b"\0" in data:
        return None
    chinese = _strict(data, "gb18030", is_whole)
    if chinese is not None and _looks_chinese(chinese):
        return "gb18030"
    from charset_normalizer import from_bytes  # noqa: PLC0415 - 20 ms that few files need

    guesses = from_bytes(data[: 1 << 20])
    best = guesses.best()
    if best is None:
        return None
    western = any(guess.encoding == "cp1252" and guess.chaos <= best.chaos for guess in guesses)
    encoding = "cp1252" if western else best.encoding
    return encoding if _strict(data, encoding, is_whole) is not None else None


def _strict(data: bytes, encoding: str, is_whole: bool) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(data, is_whole)
    except (UnicodeDecodeError, LookupError):
        return None


def _looks_chinese(text: str) -> bool:
    """Return whether most non-ASCII characters are common Chinese characters or punctuation."""
    foreign = [character for character in text[:20_000] if character > "\x7f"]
    common = sum("\u4e00" <= c <= "\u9fff" or c in "，。！？；：“”‘’（）《》、—…" for c in foreign)
    return common > 0.9 * len(foreign)
