"""Reads the header of one GGUF file: its keys, and the sums of its tensor sizes. `gguf` interprets them.

A header is not trusted: every length in it is checked before it is used, nothing beyond HEADER_LIMIT bytes is read,
and tensor data is never read. Sources for the format and for the numbers of tensor types and file types:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and ggml's headers.
"""

import os
import shlex
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from qwenchat.errors import CannotLoad, FileError, NotFound, QwenchatError, Recovery, RecoveryKind
from qwenchat.i18n import _, reason_of
from qwenchat.models.file_names import joined_name, pieces_of
from qwenchat.text.safe import clean_line


class TensorType(Struct, frozen=True):
    """The storage of a tensor's elements: blocks of `elements`, each of `size` bytes."""

    name: str
    elements: int
    size: int

    def bytes_of(self, shape: Iterable[int]) -> int:
        """Return the bytes that a tensor of this shape takes."""
        return prod(shape) // self.elements * self.size


TENSOR_TYPES = {
    0: TensorType("f32", 1, 4),
    1: TensorType("f16", 1, 2),
    2: TensorType("q4_0", 32, 18),
    3: TensorType("q4_1", 32, 20),
    6: TensorType("q5_0", 32, 22),
    7: TensorType("q5_1", 32, 24),
    8: TensorType("q8_0", 32, 34),
    9: TensorType("q8_1", 32, 40),
    10: TensorType("q2_k", 256, 84),
    11: TensorType("q3_k", 256, 110),
    12: TensorType("q4_k", 256, 144),
    13: TensorType("q5_k", 256, 176),
    14: TensorType("q6_k", 256, 210),
    15: TensorType("q8_k", 256, 292),
    16: TensorType("iq2_xxs", 256, 66),
    17: TensorType("iq2_xs", 256, 74),
    18: TensorType("iq3_xxs", 256, 98),
    19: TensorType("iq1_s", 256, 50),
    20: TensorType("iq4_nl", 32, 18),
    21: TensorType("iq3_s", 256, 110),
    22: TensorType("iq2_s", 256, 82),
    23: TensorType("iq4_xs", 256, 136),
    24: TensorType("i8", 1, 1),
    25: TensorType("i16", 1, 2),
    26: TensorType("i32", 1, 4),
    27: TensorType("i64", 1, 8),
    28: TensorType("f64", 1, 8),
    29: TensorType("iq1_m", 256, 56),
    30: TensorType("bf16", 1, 2),
    34: TensorType("tq1_0", 256, 54),
    35: TensorType("tq2_0", 256, 66),
    39: TensorType("mxfp4", 32, 17),
    40: TensorType("nvfp4", 64, 36),
    41: TensorType("q1_0", 128, 18),
}
FILE_TYPES = {
    0: "f32",
    1: "f16",
    2: "q4_0",
    3: "q4_1",
    7: "q8_0",
    8: "q5_0",
    9: "q5_1",
    10: "q2_k",
    11: "q3_k_s",
    12: "q3_k_m",
    13: "q3_k_l",
    14: "q4_k_s",
    15: "q4_k_m",
    16: "q5_k_s",
    17: "q5_k_m",
    18: "q6_k",
    19: "iq2_xxs",
    20: "iq2_xs",
    21: "q2_k_s",
    22: "iq3_xs",
    23: "iq3_xxs",
    24: "iq1_s",
    25: "iq4_nl",
    26: "iq3_s",
    27: "iq3_m",
    28: "iq2_s",
    29: "iq2_m",
    30: "iq4_xs",
    31: "iq1_m",
    32: "bf16",
    36: "tq1_0",
    37: "tq2_0",
    38: "mxfp4_moe",
    39: "nvfp4",
    40: "q1_0",
}


HEADER_LIMIT = 64 << 20
"""Bytes. The largest known headers, with vocabularies of 262,144 tokens, take about 16 MiB."""
_TEXT_LIMIT = 1 << 20
"""Bytes of one returned text, such as a chat template."""
_READ_STEP = 1 << 18
MAGIC = b"GGUF"
U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
Value = int | float | bool | str


class _BrokenHeader(Exception):
    """The header ends early or contradicts itself; the argument is the reason."""


class HeaderCursor:
    """Reads the beginning of a file step by step, at most HEADER_LIMIT bytes.

    It does not map the file: if another program truncated a mapped file, this process would be killed.
    """

    def __init__(self, file: BinaryIO, size: int, *, leap: bool) -> None:
        self.size, self.leap, self.at = size, leap, 0
        self._file = file
        self._before = 0
        """Bytes of the file before `data`."""
        self.data = bytearray(file.read(1 << 16))

    @property
    def offset(self) -> int:
        """The position in the file."""
        return self._before + self.at

    def need(self, count: int) -> int:
        """Make sure that the next `count` bytes are in `data`; return their position and move past them."""
        start, end = self.at, self.at + count
        self._check(count)
        while end > len(self.data):
            if not self.grow():
                raise _BrokenHeader(_("it ends in the middle of its header"))
        self.at = end
        return start

    def skip(self, count: int) -> None:
        """Move past `count` bytes, without reading those that are not in memory yet."""
        self._check(count)
        beyond = self.at + count - len(self.data)
        if beyond <= 0:
            self.at += count
            return
        self._before = self._file.seek(self._before + len(self.data) + beyond)
        self.data, self.at = bytearray(), 0

    def has_magic_at(self, offset: int) -> bool:
        """Return whether a GGUF file begins at an offset; nothing can be read from the cursor after that."""
        self._file.seek(offset)
        return self._file.read(len(MAGIC)) == MAGIC

    def _check(self, count: int) -> None:
        if self.offset + count > self.size:
            raise _BrokenHeader(_("it ends in the middle of its header"))
        if self.offset + count > HEADER_LIMIT:
            raise _BrokenHeader(_("its header is unreasonably long"))

    def grow(self) -> bool:
        """Read one more step; return False at the end."""
        more = self._file.read(_READ_STEP) if self._before + len(self.data) < HEADER_LIMIT else b""
        self.data += more
        return bool(more)

    def unpack(self, form: struct.Struct) -> Value:
        """Return one number or boolean."""
        value: Value = form.unpack_from(self.data, self.need(form.size))[0]
        return value

    def count(self, form: struct.Struct = U64) -> int:
        """Return an unsigned integer, such as a count or a length."""
        value: int = form.unpack_from(self.data, self.need(form.size))[0]
        return value

    def text(self) -> str:
        """Return a length-prefixed text; a text longer than _TEXT_LIMIT is skipped and returned as empty."""
        size = self.count()
        start = self.need(size)
        return self.data[start : self.at].decode("utf-8", "replace") if size <= _TEXT_LIMIT else ""

    def skip_texts(self, count: int) -> None:
        """Move past an array of texts: by a leap to the next key of the tokenizer, otherwise one by one.

        The 300,000 texts of a vocabulary take 50 ms one by one and 1 ms by a leap. A leap to the wrong position results
        in a header that contradicts itself, which is then read again without leaps.
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
        """Search for the key after `count` texts and move there; return False without moving if none is found."""
        here, before, data = self.at, self._before, self.data
        farthest = self.offset + 48 * count
        if self.offset + 9 * count < min(self.size, HEADER_LIMIT):
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


_SCALARS = {
    kind: struct.Struct(f"<{letter}")
    for kind, letter in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_TEXT, _ARRAY = 8, 9


class FileHeader(Struct, frozen=True, kw_only=True):
    """The keys of one file, the shapes of its tensors, and the sums of their sizes in bytes."""

    values: Mapping[str, Value]
    counts: Mapping[str, int]
    """The lengths of arrays."""
    file_size: int
    shapes: Mapping[str, Sequence[int]]
    """The elements of each tensor by dimension, those of a row first."""
    is_joined: bool
    """Whether another GGUF file follows this one: the parts of a split model were joined."""
    bytes_by_type: Mapping[int, int]
    embedding_bytes: int
    output_bytes: int
    expert_bytes: int

    @property
    def tensor_count(self) -> int:
        """The number of tensors."""
        return len(self.shapes)

    def number(self, key: str) -> int:
        """Return an integer; 0 if there is none or it is implausible."""
        value = self.values.get(key, 0)
        return value if isinstance(value, int) and 0 <= value < 1 << 40 else 0

    def real(self, key: str) -> float:
        """Return a number; 0 if there is none."""
        value = self.values.get(key, 0.0)
        return float(value) if isinstance(value, int | float) else 0.0

    def word(self, key: str) -> str:
        """Return a text as one clean line; empty if there is none."""
        value = self.values.get(key, "")
        return clean_line(value) if isinstance(value, str) else ""


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file and yield it with its size. OSErrors in the block become NotFound or FileError."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise FileError(
                _("{path} is not a file.").format(path=clean_line(str(path))), _("Give the path of a .gguf file.")
            )
        with path.open("rb", buffering=0) as file:
            yield file, state.st_size
    except FileNotFoundError:
        raise NotFound(
            _("There is no file {path}.").format(path=clean_line(str(path))),
            _("It may have been moved or deleted."),
            recoveries=(Recovery(RecoveryKind.LIST_MODELS),),
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> FileError:
    reason = reason_of(error)
    return FileError(
        _("{path} can't be read: {reason}.").format(path=clean_line(str(path)), reason=reason),
        _("Make it readable, or choose another model."),
    )


def _damaged(path: Path, reason: str) -> QwenchatError:
    if pieces := pieces_of(path):
        return _cut(path, pieces)
    return CannotLoad(
        _("{name} can't be used: {reason}.").format(name=clean_line(path.name), reason=reason),
        _("Download it again."),
        recoveries=(Recovery(RecoveryKind.VERIFY, name=str(path)),),
    )


def _cut(path: Path, pieces: Sequence[Path]) -> QwenchatError:
    """Return the error for a piece of a file that was cut for its upload; `pieces` are all of them, in order."""
    message = _("{name} is piece {number} of {count} of a file that was cut.").format(
        name=clean_line(path.name), number=pieces.index(path) + 1, count=len(pieces)
    )
    if missing := [piece for piece in pieces if not piece.exists()]:
        return CannotLoad(message, _("Download {name} into the same folder.").format(name=clean_line(missing[0].name)))
    whole = path.with_name(joined_name(path.name))
    if os.name == "nt":
        command = "copy /b " + "+".join(f'"{piece}"' for piece in pieces) + f' "{whole}"'
    else:
        command = f"cat {shlex.join(map(str, pieces))} > {shlex.quote(str(whole))}"
    return CannotLoad(message, _("Join the pieces: {command}").format(command=clean_line(command, 2000)))


def read_file_header(path: Path) -> FileHeader:
    """Return the header of one file. Raises NotFound, FileError, or CannotLoad if it is damaged or not a GGUF file."""
    with opened(path) as (file, size):
        try:
            try:
                return _parse(HeaderCursor(file, size, leap=True))
            except _BrokenHeader:
                file.seek(0)
                return _parse(HeaderCursor(file, size, leap=False))
        except _BrokenHeader as broken:
            raise _damaged(path, str(broken)) from None


def _parse(cursor: HeaderCursor) -> FileHeader:
    tensor_count, key_count = _preamble(cursor)
    values: dict[str, Value] = {}
    counts: dict[str, int] = {}
    for _index in range(key_count):
        key = cursor.text()
        kind = cursor.count(U32)
        if kind == _ARRAY:
            counts[key] = _array(cursor, key, values)
        elif kind == _TEXT:
            values[key] = cursor.text()
        elif kind in _SCALARS:
            values[key] = cursor.unpack(_SCALARS[kind])
        else:
            raise _BrokenHeader(_("its header has a value of an unknown kind"))
    return _tensors(cursor, tensor_count, values, counts)


def _preamble(cursor: HeaderCursor) -> tuple[int, int]:
    """Read the magic number and the version; return the counts of tensors and keys."""
    start = bytes(cursor.data[:512]).lstrip().lower()
    if not cursor.size:
        raise _BrokenHeader(_("it is empty"))
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise _BrokenHeader(_("it is a web page, not a model"))
    if start.startswith(b"version https://git-lfs"):
        raise _BrokenHeader(_("it is a Git LFS pointer, not the model itself"))
    if not start.startswith(b"gguf") or cursor.data[:4] != MAGIC:
        raise _BrokenHeader(_("it is not a GGUF file"))
    cursor.need(4)
    version = cursor.count(U32)
    if version not in (2, 3):
        raise _BrokenHeader(_("it is a GGUF of a version that is not supported"))
    tensor_count, key_count = cursor.count(), cursor.count()
    if 24 * tensor_count + 12 * key_count > min(cursor.size, HEADER_LIMIT):
        raise _BrokenHeader(_("it declares more tensors or keys than it has room for"))
    return tensor_count, key_count


def _array(cursor: HeaderCursor, key: str, values: dict[str, Value]) -> int:
    """Move past an array and return its length. The largest of a few numbers, such as heads per layer, is saved."""
    kind, count = cursor.count(U32), cursor.count()
    if kind == _TEXT:
        if 8 * count > min(cursor.size, HEADER_LIMIT):
            raise _BrokenHeader(_("it declares more tensors or keys than it has room for"))
        cursor.skip_texts(count)
        return count
    if kind not in _SCALARS:
        raise _BrokenHeader(_("its header has a value of an unknown kind"))
    form = _SCALARS[kind]
    if 0 < count <= 1024 and not key.startswith("tokenizer."):
        start = cursor.need(count * form.size)
        values[key] = max(struct.unpack_from(f"<{count}{form.format[1:]}", cursor.data, start))
    else:
        cursor.skip(count * form.size)
    return count


_DIMENSIONS = [struct.Struct(f"<{count}QIQ") for count in range(5)]


def _tensors(cursor: HeaderCursor, tensor_count: int, values: dict[str, Value], counts: dict[str, int]) -> FileHeader:
    """Add up the sizes of the tensors and check that the file is long enough for all of them."""
    sizes: dict[int, int] = {}
    shapes: dict[str, Sequence[int]] = {}
    embedding = output = experts = end = 0
    for _index in range(tensor_count):
        name = cursor.text()
        dimensions = cursor.count(U32)
        if dimensions >= len(_DIMENSIONS):
            raise _BrokenHeader(_("a tensor has too many dimensions"))
        form = _DIMENSIONS[dimensions]
        *shape, kind, offset = form.unpack_from(cursor.data, cursor.need(form.size))
        if kind not in TENSOR_TYPES:
            raise _BrokenHeader(_("a tensor has an unknown type"))
        shapes[name] = shape
        size = TENSOR_TYPES[kind].bytes_of(shape)
        sizes[kind] = sizes.get(kind, 0) + size
        end = max(end, offset + size)
        if name == "token_embd.weight":
            embedding = size
        elif name == "output.weight":
            output = size
        elif "_exps." in name:
            experts += size
    alignment = values.get("general.alignment", 32)
    alignment = alignment if isinstance(alignment, int) and 0 < alignment <= 1 << 20 else 32
    end += -(-cursor.offset // alignment) * alignment
    if tensor_count and end > cursor.size:
        raise _BrokenHeader(_("it ends before its last tensor: the download is incomplete"))
    return FileHeader(
        values=values,
        counts=counts,
        file_size=cursor.size,
        shapes=shapes,
        is_joined=cursor.has_magic_at(-(-end // alignment) * alignment),
        bytes_by_type=sizes,
        embedding_bytes=embedding,
        output_bytes=output,
        expert_bytes=experts,
    )
