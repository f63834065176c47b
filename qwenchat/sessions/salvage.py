"""Reads rows from the pages of a damaged SQLite file, without SQLite.

Every page that looks like a table leaf is read independently: the file's header, the schema and the pages above the
leaves are not needed. Source: https://www.sqlite.org/fileformat2.html (1.5 records, 1.6 B-tree pages, 2.1 overflow,
4.1 the WAL). It repairs nothing and does not know to which table a row belongs.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Value = int | float | str | bytes | None

_LEAF = 0x0D
_USUAL_PAGE = 8192
_WAL_HEADER, _FRAME_HEADER = 32, 24
_INTEGERS = (0, 1, 2, 3, 4, 6, 8)
"""The bytes of an integer, by serial type."""


@dataclass(frozen=True, slots=True)
class SavedRow:
    """A row of an unknown table."""

    n: int
    """The rowid; the column that is its alias is None in `values`."""
    values: tuple[Value, ...]
    complete: bool
    """Whether the row is complete; if not, the last values are truncated."""


def salvage(file: Path) -> Iterator[SavedRow]:
    """Yield the rows of all tables in a database and the WAL beside it. Raises OSError when it can't be read."""
    pages = _Pages(file)
    try:
        for number in pages.numbers():
            yield from _leaf_rows(pages, number)
    finally:
        pages.close()


class _Pages:
    """The pages of a database, in the newest committed version from the WAL if it has one."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("rb")
        self._wal_file = file.with_name(file.name + "-wal")
        header = self._file.read(100)
        wal = self._wal_file.read_bytes() if self._wal_file.exists() else b""
        self.size = _page_size(header, wal)
        self._in_wal = _committed(wal, self.size)
        self._count = -(-file.stat().st_size // self.size)

    def numbers(self) -> Iterator[int]:
        yield from sorted({*range(1, self._count + 1), *self._in_wal})

    def page(self, number: int) -> bytes:
        """Return a page; it is shorter or empty where the file ends."""
        if number in self._in_wal:
            return self._in_wal[number]
        if number > self._count:
            return b""
        self._file.seek((number - 1) * self.size)
        return self._file.read(self.size)

    def close(self) -> None:
        self._file.close()


def _page_size(header: bytes, wal: bytes) -> int:
    wanted = [int.from_bytes(header[16:18]), int.from_bytes(wal[8:12])]
    if not header.startswith(b"SQLite format 3\0"):
        wanted = wanted[1:]
    sizes = [65536 if size == 1 else size for size in wanted]
    return next((size for size in sizes if 512 <= size <= 65536 and size & size - 1 == 0), _USUAL_PAGE)


def _committed(wal: bytes, size: int) -> dict[int, bytes]:
    """Return the pages of all transactions that were committed since the WAL was last reset."""
    salts = wal[16:24]
    committed: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    for at in range(_WAL_HEADER, len(wal) - _FRAME_HEADER - size + 1, _FRAME_HEADER + size):
        number, pages_after = struct.unpack_from(">II", wal, at)
        if wal[at + 8 : at + 16] != salts:
            break
        pending[number] = wal[at + _FRAME_HEADER : at + _FRAME_HEADER + size]
        if pages_after:
            committed |= pending
            pending = {}
    return committed


def _leaf_rows(pages: _Pages, number: int) -> Iterator[SavedRow]:
    page = pages.page(number)
    start = 100 if number == 1 else 0
    if len(page) < start + 8 or page[start] != _LEAF:
        return
    cells = int.from_bytes(page[start + 3 : start + 5])
    for cell in range(min(cells, pages.size // 4)):
        pointer = start + 8 + 2 * cell
        at = int.from_bytes(page[pointer : pointer + 2])
        try:
            yield _row(pages, page, at)
        except (IndexError, ValueError, OverflowError, struct.error):
            continue  # this cell is damaged; the next one may not be


def _row(pages: _Pages, page: bytes, at: int) -> SavedRow:
    size, at = _varint(page, at)
    n, at = _varint(page, at)
    payload = _payload(pages, page, at, size)
    header_size, header_at = _varint(payload, 0)
    if not 1 < header_size <= len(payload) or n <= 0:
        raise ValueError(header_size)
    at, values = header_size, []
    while header_at < header_size:
        kind, header_at = _varint(payload, header_at)
        value, at = _value(payload, kind, at)
        values.append(value)
    return SavedRow(n, tuple(values), at == size == len(payload))


def _payload(pages: _Pages, page: bytes, at: int, size: int) -> bytes:
    """Return a cell's record: the bytes on its page, then those on the overflow pages that still exist."""
    usable = pages.size
    local = size
    if size > usable - 35:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= usable - 35 else least
    found = bytearray(page[at : at + local])
    more = int.from_bytes(page[at + local : at + local + 4]) if local < size else 0
    seen: set[int] = set()
    while more and len(found) < size and more not in seen:
        seen.add(more)
        overflow = pages.page(more)
        found += overflow[4 : 4 + min(usable - 4, size - len(found))]
        more = int.from_bytes(overflow[:4])
    return bytes(found)


def _value(payload: bytes, kind: int, at: int) -> tuple[Value, int]:
    """Return the value of a serial type at position `at`, and the position of the next value."""
    if kind == 0:
        return None, at
    if kind < len(_INTEGERS):
        end = at + _INTEGERS[kind]
        return int.from_bytes(payload[at:end], signed=True), end
    if kind == 7:
        value: float = struct.unpack_from(">d", payload, at)[0]
        return value, at + 8
    if kind in (8, 9):
        return kind - 8, at
    if kind < 12:
        raise ValueError(kind)
    end = at + (kind - 12) // 2
    data = payload[at:end]
    return (data.decode("utf-8", "replace") if kind % 2 else data), end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a big-endian number of 7 bits per byte (8 in the ninth byte), and the position after it."""
    value = 0
    for end in range(at, at + 8):
        value = value << 7 | data[end] & 0x7F
        if data[end] < 0x80:
            return value, end + 1
    return value << 8 | data[at + 8], at + 9
