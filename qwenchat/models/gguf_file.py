"""One GGUF file's keys, and its tensors added up: the careful reading below `gguf`, which says what they mean.

A header is a stranger's: every length in it is checked before it is believed, nothing beyond HEADER_LIMIT bytes is
read, and the tensors' data is never touched. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from qwenchat.errors import CannotLoad, FileError, NotFound, QwenchatError
from qwenchat.i18n import _
from qwenchat.models.ggml import TENSOR_TYPES
from qwenchat.models.gguf_cursor import HEADER_LIMIT, U32, Broken, Cursor, Value
from qwenchat.text import clean_line

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


@dataclass(frozen=True, slots=True)
class Part:
    """One file's keys, and its tensors added up."""

    values: Mapping[str, Value]
    counts: Mapping[str, int]
    """Lengths of arrays."""
    file_size: int
    tensor_count: int
    bytes_by_type: Mapping[int, int]
    embedding_bytes: int
    output_bytes: int
    expert_bytes: int

    def number(self, key: str) -> int:
        """Return a whole number; 0 where there is none or an absurd one."""
        value = self.values.get(key, 0)
        return value if isinstance(value, int) and 0 <= value < 1 << 40 else 0

    def real(self, key: str) -> float:
        """Return a number; 0 where there is none."""
        value = self.values.get(key, 0.0)
        return float(value) if isinstance(value, int | float) else 0.0

    def word(self, key: str) -> str:
        """Return a text as one clean line; empty where there is none."""
        value = self.values.get(key, "")
        return clean_line(value) if isinstance(value, str) else ""


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file and yield it with its size. Raises NotFound or FileError, while it is read too."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise FileError(
                _("{path} is not a file.").format(path=clean_line(str(path))), _("Give the path of a .gguf file.")
            )
        with path.open("rb", buffering=0) as file:
            yield file, facts.st_size
    except FileNotFoundError:
        raise NotFound(
            _("There is no file {path}.").format(path=clean_line(str(path))),
            _("`qwenchat models list` shows the models on this machine."),
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> FileError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return FileError(
        _("{path} can't be read: {reason}.").format(path=clean_line(str(path)), reason=reason),
        _("Make it readable, or choose another model."),
    )


def _damaged(path: Path, reason: str) -> QwenchatError:
    return CannotLoad(
        _("{name} can't be used: {reason}.").format(name=clean_line(path.name), reason=reason),
        _("Download it again; `qwenchat models verify MODEL` compares a file with what its makers published."),
    )


def read_part(path: Path) -> Part:
    """Return what one file says. Raises NotFound, FileError, or CannotLoad when it is damaged or no GGUF."""
    with opened(path) as (file, size):
        try:
            try:
                return _parse(Cursor(file, size, leap=True))
            except Broken:
                file.seek(0)
                return _parse(Cursor(file, size, leap=False))
        except Broken as broken:
            raise _damaged(path, str(broken)) from None


def _parse(cursor: Cursor) -> Part:
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
            raise Broken(_("its header has a value of an unknown kind"))
    return _tensors(cursor, tensor_count, values, counts)


def _preamble(cursor: Cursor) -> tuple[int, int]:
    """Read magic and version; return the counts of tensors and keys."""
    start = bytes(cursor.data[:512]).lstrip().lower()
    if not cursor.size:
        raise Broken(_("it is empty"))
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise Broken(_("it is a web page, not a model"))
    if start.startswith(b"version https://git-lfs"):
        raise Broken(_("it is a Git LFS pointer, not the model itself"))
    if not start.startswith(b"gguf") or cursor.data[:4] != b"GGUF":
        raise Broken(_("it is no GGUF file"))
    cursor.need(4)
    version = cursor.count(U32)
    if version not in (2, 3):
        raise Broken(_("it is a GGUF of a version that is not supported"))
    tensor_count, key_count = cursor.count(), cursor.count()
    if 24 * tensor_count + 12 * key_count > min(cursor.size, HEADER_LIMIT):
        raise Broken(_("it declares more tensors or keys than it has room for"))
    return tensor_count, key_count


def _array(cursor: Cursor, key: str, values: dict[str, Value]) -> int:
    """Move past an array and return its length; of numbers a layer, such as head counts, keep the largest."""
    kind, count = cursor.count(U32), cursor.count()
    if kind == _TEXT:
        if 8 * count > min(cursor.size, HEADER_LIMIT):
            raise Broken(_("it declares more tensors or keys than it has room for"))
        cursor.skip_texts(count)
        return count
    if kind not in _SCALARS:
        raise Broken(_("its header has a value of an unknown kind"))
    form = _SCALARS[kind]
    if 0 < count <= 1024 and not key.startswith("tokenizer."):
        start = cursor.need(count * form.size)
        values[key] = max(struct.unpack_from(f"<{count}{form.format[1:]}", cursor.data, start))
    else:
        cursor.skip(count * form.size)
    return count


_DIMENSIONS = [struct.Struct(f"<{count}QIQ") for count in range(5)]


def _tensors(cursor: Cursor, tensor_count: int, values: dict[str, Value], counts: dict[str, int]) -> Part:
    """Add up the tensors and make sure that the file is long enough for all of them."""
    sizes: dict[int, int] = {}
    embedding = output = experts = end = 0
    for _index in range(tensor_count):
        name = cursor.text()
        dimensions = cursor.count(U32)
        if dimensions >= len(_DIMENSIONS):
            raise Broken(_("a tensor has too many dimensions"))
        form = _DIMENSIONS[dimensions]
        *shape, kind, offset = form.unpack_from(cursor.data, cursor.need(form.size))
        if kind not in TENSOR_TYPES:
            raise Broken(_("a tensor has a type that is not known here"))
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
    if tensor_count and -(-cursor.place // alignment) * alignment + end > cursor.size:
        raise Broken(_("it ends before its last tensor: the download was cut short"))
    return Part(values, counts, cursor.size, tensor_count, sizes, embedding, output, experts)
