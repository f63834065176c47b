"""Reads a file's header step by step: every length is checked before it is believed. What it means is `gguf_file`'s."""

import struct
from typing import BinaryIO

from qwenchat.i18n import _

HEADER_LIMIT = 64 << 20
"""Bytes. The largest headers in use, those of 262,144-token vocabularies, take about 16 MiB."""
_TEXT_LIMIT = 1 << 20
"""Bytes of one text that is kept, such as a chat template."""
_STEP = 1 << 18
U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
Value = int | float | bool | str


class Broken(Exception):
    """The header breaks off or contradicts itself; the argument says how."""


class Cursor:
    """Reads a file's beginning step by step, never more than HEADER_LIMIT, and never past what is there.

    Not a memory map: a file that another program cuts short while it is mapped kills the process.
    """

    def __init__(self, file: BinaryIO, size: int, *, leap: bool) -> None:
        self.size, self.leap, self.at = size, leap, 0
        self._file = file
        self._before = 0
        """Bytes of the file before `data`, which were passed over."""
        self.data = bytearray(file.read(1 << 16))

    @property
    def place(self) -> int:
        """Where in the file this is."""
        return self._before + self.at

    def need(self, count: int) -> int:
        """Make sure that `count` bytes from here are in `data`; return where they begin and move past them."""
        start, end = self.at, self.at + count
        self._check(count)
        while end > len(self.data):
            if not self.grow():
                raise Broken(_("it ends in the middle of its header"))
        self.at = end
        return start

    def skip(self, count: int) -> None:
        """Move past bytes that nobody looks at; those that were not read yet are not."""
        self._check(count)
        beyond = self.at + count - len(self.data)
        if beyond <= 0:
            self.at += count
            return
        self._before = self._file.seek(self._before + len(self.data) + beyond)
        self.data, self.at = bytearray(), 0

    def _check(self, count: int) -> None:
        if self.place + count > self.size:
            raise Broken(_("it ends in the middle of its header"))
        if self.place + count > HEADER_LIMIT:
            raise Broken(_("its header is unreasonably long"))

    def grow(self) -> bool:
        """Read one step more; False at the end."""
        more = self._file.read(_STEP) if self._before + len(self.data) < HEADER_LIMIT else b""
        self.data += more
        return bool(more)

    def unpack(self, form: struct.Struct) -> Value:
        """Return one number or truth value."""
        value: Value = form.unpack_from(self.data, self.need(form.size))[0]
        return value

    def count(self, form: struct.Struct = U64) -> int:
        """Return an unsigned number that counts or measures something."""
        value: int = form.unpack_from(self.data, self.need(form.size))[0]
        return value

    def text(self) -> str:
        """Return a length-prefixed text; one longer than _TEXT_LIMIT is passed over and comes out empty."""
        size = self.count()
        start = self.need(size)
        return self.data[start : self.at].decode("utf-8", "replace") if size <= _TEXT_LIMIT else ""

    def skip_texts(self, count: int) -> None:
        """Move past an array of texts: by a leap to the next key of the tokenizer, else one by one.

        The 300,000 texts of a vocabulary take 50 ms to walk through and 1 ms to leap over. A leap that was wrong leaves
        a header that does not add up, and it is then read again without.
        """
        if self.leap and count > 1000 and self._leap(count):
            return
        data, size = self.data, U64
        for _index in range(count):
            at = self.at
            if at + 8 > len(data):
                self.need(8)
            self.at = at + 8 + size.unpack_from(data, at)[0]
            if self.at > len(data):
                self.at, ahead = at, self.at - at
                self.need(ahead)

    def _leap(self, count: int) -> bool:
        """Look for the key behind `count` texts, beginning where they can't have ended yet; stay where it is not."""
        here, before, data = self.at, self._before, self.data
        farthest = self.place + 48 * count
        if self.place + 9 * count < min(self.size, HEADER_LIMIT):
            self.skip(9 * count)
            searched = self.at
            while self._before + searched < farthest:
                found = self.data.find(b"\0\0\0\0\0\0\0tokenizer.", searched)
                if found > 0:
                    self.at = found - 1
                    return True
                searched = max(searched, len(self.data) - 32)
                if not self.grow():
                    break
        self.at, self._before, self.data = here, before, data
        self._file.seek(before + len(data))
        return False
