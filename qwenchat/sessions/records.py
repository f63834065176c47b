"""Reads files of other programs as records, one chat each, with their positions in the file.

A file is JSON (one record or an array of them), JSON lines, or a zip of these. The importers interpret the records.
Nothing here trusts a file: not its size, not a zip's claims about its members, not its nesting.
"""

import itertools
import lzma
import re
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import msgspec

from qwenchat.errors import FileError
from qwenchat.i18n import _, reason_of
from qwenchat.sessions.archive import BadRecord
from qwenchat.text.safe import clean_line

MAX_BYTES = 512 * 2**20
"""The limit for one file, and for the unpacked contents of a zip."""
MAX_RECORDS = 1_000_000
"""The limit for one array or one file of lines: even an empty record takes memory."""
MAX_VALUES = 5_000_000
"""The limit for one record: an empty list takes three bytes in a file and a hundred in memory."""
_ALWAYS_ALLOWED, _MAX_RATIO = 16 * 2**20, 200
"""Any zip may unpack to this many bytes, or to this many times its size; chats usually shrink to a tenth."""
_CHATGPT = re.compile(r"(.*/)?conversations(-\d+)?\.json")
"""Matches the files with chats in ChatGPT's export, which contains other files, too."""
_LONE_ESCAPE = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u]|\\u(?![dD][89a-fA-F]))|\\u[0-9a-fA-F]{4}"
)


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON value of a file that may be a chat."""

    place: str
    """Its position in the file, as text."""
    data: bytes | msgspec.Raw
    modified: int
    """The time of its file, in Unix milliseconds, for messages without a date."""
    broken: str = ""
    """The reason why it can't be read, if that is already known."""

    def value(self) -> Any:
        """Return the value, decoded. Raises BadRecord."""
        if self.broken:
            raise BadRecord(self.broken)
        try:
            _check_values(bytes(self.data))
            return _decode(self.data, Any)
        except _UNREADABLE as error:
            raise BadRecord(_reason(error)) from error


class _Object(msgspec.Struct):
    """Any JSON object, its contents ignored."""


def records_of(path: Path) -> list[Record]:
    """Return the records of a file. Raises FileError when it can't be read, is too large, or is not JSON."""
    try:
        with path.open("rb") as file:
            status = path.stat()
            _check_size(status.st_size, MAX_BYTES)
            return records_in(file, int(status.st_mtime * 1000))
    except OSError as error:
        raise FileError(
            _("It can't be read: {reason}.").format(reason=reason_of(error)),
            _("Check its name and its permissions."),
        ) from error


def records_in(file: IO[bytes], modified: int) -> list[Record]:
    """Return the records of an open file or a pipe; `modified` is in Unix milliseconds. Raises FileError."""
    data = _read(file, MAX_BYTES)
    if not data.startswith(b"PK\x03\x04"):
        return _records(data, modified)
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            return _zip_records(archive, min(MAX_BYTES, max(_ALWAYS_ALLOWED, _MAX_RATIO * len(data))), modified)
    except _BAD_ZIP as error:
        raise FileError(
            _("The zip can't be read: {reason}.").format(reason=_reason(error)),
            _("Download it again. If it has a password, unpack it first."),
        ) from error


def _zip_records(archive: zipfile.ZipFile, limit: int, modified: int) -> list[Record]:
    members = [member for member in archive.infolist() if member.filename.lower().endswith((".json", ".jsonl"))]
    members = [member for member in members if _CHATGPT.fullmatch(member.filename)] or members
    left = limit
    found: list[Record] = []
    for member in members:
        name = clean_line(member.filename)
        try:
            with archive.open(member) as inside:
                data = inside.read(left + 1)
            left -= len(data)
            if left < 0:
                raise FileError(
                    _("Unpacked, the zip is larger than {limit} MiB.").format(limit=limit // 2**20),
                    _("Unpack it and import the .json file, or export fewer chats."),
                )
            found += _records(data, modified, name + ", ")
        except (BadRecord, *_BAD_ZIP) as error:
            found.append(Record(name, b"", modified, _reason(error)))
    return found


def _records(data: bytes, modified: int, within: str = "") -> list[Record]:
    data = _utf8(data)
    if not data.strip():
        raise _not_chats(_("The file is empty."))
    array = data.lstrip()[:1] == b"["
    if array and data.count(b",") >= MAX_RECORDS:
        _check_count(data)
    try:
        decoded = _decode(data, list[msgspec.Raw] if array else msgspec.Raw)
    except _UNREADABLE as error:
        lines = [] if array else _lines(data)
        if len(lines) > 1 and any(_is_object(line) for line in lines):
            numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
            return [Record(within + _("line {number}").format(number=n), line, modified) for n, line in numbered]
        if not data.lstrip().startswith((b"[", b"{")):
            raise _not_chats(_("This is not JSON.")) from error
        raise _not_chats(_("This is not JSON: {reason}.").format(reason=_reason(error))) from error
    values = enumerate(decoded if isinstance(decoded, list) else [decoded], 1)
    return [Record(within + _("record {number}").format(number=n), value, modified) for n, value in values]


def _decode(data: bytes | msgspec.Raw, kind: Any) -> Any:
    """Decode JSON; lone surrogates, which some programs write, become U+FFFD."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError:
        repaired = _LONE_ESCAPE.sub(lambda found: found[1] or rb"\ufffd", bytes(data)) if b"\\u" in bytes(data) else b""
        if repaired == bytes(data) or not repaired:
            raise
        return msgspec.json.decode(repaired, type=kind)


def _is_object(line: bytes) -> bool:
    try:
        _decode(line, _Object)
    except _UNREADABLE:
        return False
    return True


def _lines(data: bytes) -> list[bytes]:
    if data.count(b"\n") + data.count(b"\r") > 2 * MAX_RECORDS:
        raise _too_many()
    return data.splitlines()


def _check_count(data: bytes) -> None:
    """Raise BadRecord if an array has too many elements, or one that is not an object; none stays in memory."""
    count = itertools.count(1)

    class _CountedObject(_Object):
        def __post_init__(self) -> None:
            if next(count) > MAX_RECORDS:
                raise ValueError

    try:
        _decode(data, list[_CountedObject])
    except msgspec.ValidationError as error:
        raise _too_many() from error
    except _UNREADABLE:
        return  # not JSON: reading its records, which are few enough, will report the reason


def _check_values(data: bytes) -> None:
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise BadRecord(_("it has too many parts for one chat"))


def _not_chats(message: str) -> BadRecord:
    return BadRecord(message, _("Give a file that a chat program exported as .json, .jsonl or .zip."))


def _too_many() -> BadRecord:
    return BadRecord(
        _("It contains more than {count:,} records, or some that can't be chats.").format(count=MAX_RECORDS),
        _("Export fewer chats into each file."),
    )


def _utf8(data: bytes) -> bytes:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace").encode("utf-8", "replace")
    return data.removeprefix(b"\xef\xbb\xbf")


def _read(file: IO[bytes], limit: int) -> bytes:
    data = file.read(limit + 1)
    _check_size(len(data), limit)
    return data


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise FileError(
            _("The file is larger than {limit} MiB.").format(limit=MAX_BYTES // 2**20),
            _("Export fewer chats into each file."),
        )


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)


def _reason(error: Exception) -> str:
    """Return the reason why something can't be read, for users, without a full stop."""
    byte = re.search(r"\(byte (\d+)\)", str(error)) if isinstance(error, msgspec.DecodeError) else None
    match error:
        case RecursionError():
            reason = _("it is nested too deeply")
        case FileError():
            reason = error.message.rstrip(".")
        case UnicodeDecodeError():
            reason = _("it is not text")
        case NotImplementedError():
            reason = _("it is compressed in an unknown way")
        case RuntimeError():
            reason = _("it has a password")
        case msgspec.DecodeError() if "truncated" in str(error):
            reason = _("it is incomplete: it ends too early")
        case _ if byte:
            reason = _("byte {number:,} is invalid").format(number=int(byte[1]) + 1)
        case _:
            reason = _("it is damaged")
    return reason
