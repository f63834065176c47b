"""What a GGUF file says of itself, read from its header alone: shape, quantisation, template, sizes.

Reading and judging are apart: `read_header` reads any well-formed header, `check` says whether one can chat. A
header is a stranger's: every length in it is checked before it is believed, nothing beyond HEADER_LIMIT bytes is
read, and the tensors' data is never touched. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from qwenchat.errors import CannotLoad, FileError, NotFound, QwenchatError
from qwenchat.i18n import _
from qwenchat.models.ggml import FILE_TYPES, TENSOR_TYPES
from qwenchat.text import clean_line

HEADER_LIMIT = 64 << 20
"""Bytes. The largest headers in use, those of 262,144-token vocabularies, take about 16 MiB."""
_TEXT_LIMIT = 1 << 20
"""Bytes of one text that is kept, such as a chat template."""
_STEP = 1 << 20
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9
_SPLIT_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
_NOT_FOR_CHAT = re.compile(r".*bert.*|clip|t5encoder|.*embed.*|wavtokenizer.*|.*mmproj.*|siglip.*|whisper")

Value = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Rope:
    """How positions are rotated; zeros and an empty word where the file is silent."""

    freq_base: float = 0.0
    scaling: str = ""
    """`yarn`, `linear` or empty."""
    factor: float = 0.0
    original_context: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The facts of one model, all its parts together. Numbers that the file does not give are 0, words empty."""

    path: Path
    architecture: str
    kind: str
    """`model`, or what else the file holds: `adapter`, `mmproj`, `imatrix`."""
    name: str
    quantisation: str
    """Such as `q4_k_m`; `f16` for half precision."""
    layers: int
    width: int
    heads: int
    kv_heads: int
    key_length: int
    """Elements of one head's key."""
    value_length: int
    ff: int
    experts: int
    experts_used: int
    expert_ff: int
    shared_ff: int
    context_length: int
    """Tokens that the model was trained on; more needs rope scaling."""
    vocab_size: int
    rope: Rope
    tokenizer: str
    chat_template: str = field(repr=False)
    """Jinja, uncleaned: a stranger's code, for a sandbox only."""
    split_no: int
    """Which part of a split model this file is, from 0."""
    split_count: int
    """1 for a model in one file."""
    tensor_count: int
    tensor_bytes: int
    active_bytes: int
    """What decoding one token reads: all tensors but the unused experts and, unless tied, the embedding."""
    file_size: int
    """Bytes of all parts that are here."""
    parts: tuple[Path, ...]
    """Every part in order, whether or not it is here; one for a model in one file."""
    missing: tuple[Path, ...]

    @property
    def has_chat_template(self) -> bool:
        """Whether the file brings a chat template."""
        return bool(self.chat_template)


def read_header(path: Path) -> Header:
    """Return what the file, and with it the other parts of a split model, says of itself.

    Raises NotFound when it is missing, FileError when it can't be read, CannotLoad when it is damaged, cut short or
    no GGUF of version 2 or 3.
    """
    first = _read_part(path)
    split_no, split_count = first.number("split.no"), max(1, first.number("split.count"))
    parts = part_paths(path) if split_count > 1 else (path,)
    others = [other for other in parts if other != path]
    missing = tuple(other for other in others if not other.exists())
    read = [first, *(_read_part(other) for other in others if other not in missing and split_no == 0)]
    return _header(path, read, parts, missing, (split_no, split_count))


def part_paths(path: Path) -> tuple[Path, ...]:
    """Return the paths of all parts of a split model, told from the name of any of them; else the path alone."""
    match = _SPLIT_NAME.fullmatch(path.name)
    if not match or not 1 <= int(match[2]) <= int(match[3]):
        return (path,)
    stem, count = match[1], int(match[3])
    return tuple(path.with_name(f"{stem}-{part:05}-of-{count:05}.gguf") for part in range(1, count + 1))


def identity(path: Path) -> str:
    """Return 32 hex characters that stand for a model's contents: sizes, first and last MiB of all its parts.

    Cheap enough for every load and the same wherever the file lies; no proof against forgery. Raises NotFound or
    FileError.
    """
    digest = blake2b(digest_size=16)
    for part in part_paths(path):
        with _opened(part) as (file, size):
            digest.update(size.to_bytes(8) + file.read(_STEP))
            file.seek(max(0, size - _STEP))
            digest.update(file.read(_STEP))
    return digest.hexdigest()


def check(header: Header) -> Header:
    """Return the header if its model can chat, else raise CannotLoad with the reason."""
    name = clean_line(header.path.name)
    if header.kind not in ("", "model") or _NOT_FOR_CHAT.fullmatch(header.architecture):
        raise CannotLoad(
            _("{name} is not a model that generates text: it holds {what}.").format(
                name=name, what=header.kind if header.kind not in ("", "model") else header.architecture
            ),
            _("Choose a chat model, such as one of `qwenchat models catalog`."),
        )
    if header.split_no > 0:
        raise CannotLoad(
            _("{name} is part {part} of {count} of a split model.").format(
                name=name, part=header.split_no + 1, count=header.split_count
            ),
            _("Give the first part, {name}; the others must lie beside it.").format(name=header.parts[0].name),
        )
    if len(header.parts) != header.split_count:
        raise CannotLoad(
            _("{name} is the first of {count} parts, but its name does not say so.").format(
                name=name, count=header.split_count
            ),
            _("Give the parts back their names, such as NAME-00001-of-{count:05}.gguf.").format(
                count=header.split_count
            ),
        )
    if header.missing:
        raise CannotLoad(
            _("{name} needs {part}, which is not beside it.").format(
                name=name, part=clean_line(header.missing[0].name)
            ),
            _("Download the missing part into the same folder."),
        )
    if not header.tensor_count:
        raise CannotLoad(
            _("{name} holds a vocabulary and no weights.").format(name=name), _("Choose a file with the model itself.")
        )
    if not (header.architecture and header.layers and header.vocab_size):
        raise CannotLoad(
            _("{name} does not say what model it is.").format(name=name), _("Download it again, or choose another.")
        )
    return header


@dataclass(frozen=True, slots=True)
class _Part:
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
        value = self.values.get(key, 0)
        return value if isinstance(value, int) and 0 <= value < 1 << 40 else 0

    def real(self, key: str) -> float:
        value = self.values.get(key, 0.0)
        return float(value) if isinstance(value, int | float) else 0.0

    def word(self, key: str) -> str:
        value = self.values.get(key, "")
        return clean_line(value) if isinstance(value, str) else ""


def _header(
    path: Path, read: list[_Part], parts: tuple[Path, ...], missing: tuple[Path, ...], split: tuple[int, int]
) -> Header:
    first = read[0]
    arch = first.word("general.architecture")

    def number(key: str) -> int:
        return first.number(f"{arch}.{key}")

    width, heads = number("embedding_length"), number("attention.head_count")
    head = width // heads if heads else 0
    experts, used = number("expert_count"), number("expert_used_count")
    tensor_bytes = sum(sum(part.bytes_by_type.values()) for part in read)
    idle = sum(part.expert_bytes for part in read) * max(0, experts - used) // max(1, experts)
    untied = any(part.output_bytes for part in read)
    template = first.values.get("tokenizer.chat_template", "")
    return Header(
        path=path,
        architecture=arch,
        kind=first.word("general.type"),
        name=first.word("general.name") or path.stem,
        quantisation=_quantisation(read),
        layers=number("block_count"),
        width=width,
        heads=heads,
        kv_heads=number("attention.head_count_kv") or heads,
        key_length=number("attention.key_length") or head,
        value_length=number("attention.value_length") or head,
        ff=number("feed_forward_length"),
        experts=experts,
        experts_used=used,
        expert_ff=number("expert_feed_forward_length"),
        shared_ff=number("expert_shared_feed_forward_length"),
        context_length=number("context_length"),
        vocab_size=first.counts.get("tokenizer.ggml.tokens", 0) or number("vocab_size"),
        rope=Rope(
            first.real(f"{arch}.rope.freq_base"),
            first.word(f"{arch}.rope.scaling.type").replace("none", ""),
            first.real(f"{arch}.rope.scaling.factor"),
            number("rope.scaling.original_context_length"),
        ),
        tokenizer=first.word("tokenizer.ggml.model"),
        chat_template=template if isinstance(template, str) else "",
        split_no=split[0],
        split_count=split[1],
        tensor_count=sum(part.tensor_count for part in read),
        tensor_bytes=tensor_bytes,
        active_bytes=tensor_bytes - idle - (sum(part.embedding_bytes for part in read) if untied else 0),
        file_size=sum(part.file_size for part in read),
        parts=parts,
        missing=missing,
    )


def _quantisation(read: list[_Part]) -> str:
    """Return the label of `general.file_type`, else of the tensor type that takes most bytes."""
    named = FILE_TYPES.get(read[0].number("general.file_type") & ~1024, "")
    if named and "general.file_type" in read[0].values:
        return named
    sums: dict[int, int] = {}
    for part in read:
        for kind, size in part.bytes_by_type.items():
            sums[kind] = sums.get(kind, 0) + size
    return TENSOR_TYPES[max(sums, key=lambda kind: sums[kind])].name if sums else ""


class _opened:  # noqa: N801 - reads as a verb where it is used
    """A regular file for reading and its size; failures become this program's errors."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> tuple[BinaryIO, int]:
        path = self._path
        try:
            facts = path.stat()
            if not stat.S_ISREG(facts.st_mode):
                raise FileError(
                    _("{path} is not a file.").format(path=clean_line(str(path))),
                    _("Give the path of a .gguf file."),
                )
            self._file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise NotFound(
                _("There is no file {path}.").format(path=clean_line(str(path))),
                _("`qwenchat models list` shows the models on this machine."),
            ) from None
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        return self._file, facts.st_size

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._file.close()
        if isinstance(error, OSError):
            raise _unreadable(self._path, error) from error


def _unreadable(path: Path, error: Exception) -> FileError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return FileError(
        _("{path} can't be read: {reason}.").format(path=clean_line(str(path)), reason=reason),
        _("Make it readable, or choose another model."),
    )


def _damaged(path: Path, reason: str) -> QwenchatError:
    return CannotLoad(
        _("{name} can't be used: {reason}.").format(name=clean_line(path.name), reason=reason),
        _("Download it again; `qwenchat models verify` compares a file with what its makers published."),
    )


class _Broken(Exception):
    """The header breaks off or contradicts itself; the argument says how."""


def _read_part(path: Path) -> _Part:
    with _opened(path) as (file, size):
        try:
            try:
                return _parse(_Cursor(file, size, leap=True))
            except _Broken:
                file.seek(0)
                return _parse(_Cursor(file, size, leap=False))
        except _Broken as broken:
            raise _damaged(path, str(broken)) from None


class _Cursor:
    """Reads a file's beginning step by step, never more than HEADER_LIMIT, and never past what is there.

    Not a memory map: a file that another program cuts short while it is mapped kills the process.
    """

    def __init__(self, file: BinaryIO, size: int, *, leap: bool) -> None:
        self.size, self.leap, self.at = size, leap, 0
        self._file = file
        self.data = bytearray(file.read(1 << 16))

    def need(self, count: int) -> int:
        """Make sure that `count` bytes from here are in `data`; return where they begin and move past them."""
        start, end = self.at, self.at + count
        if end > self.size:
            raise _Broken(_("it ends in the middle of its header"))
        if end > HEADER_LIMIT:
            raise _Broken(_("its header is unreasonably long"))
        while end > len(self.data):
            if not self.grow():
                raise _Broken(_("it ends in the middle of its header"))
        self.at = end
        return start

    def grow(self) -> bool:
        """Read one step more; False at the end."""
        more = self._file.read(_STEP) if len(self.data) < HEADER_LIMIT else b""
        self.data += more
        return bool(more)

    def unpack(self, kind: str) -> Value:
        """Return one number or truth value."""
        value: Value = struct.unpack_from(kind, self.data, self.need(struct.calcsize(kind)))[0]
        return value

    def count(self, kind: str = "<Q") -> int:
        """Return an unsigned number that counts or measures something."""
        return int(self.unpack(kind))

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
        data, size = self.data, struct.Struct("<Q")
        for _index in range(count):
            at = self.at
            if at + 8 > len(data):
                self.need(8)
            self.at = at + 8 + size.unpack_from(data, at)[0]
            if self.at > len(data):
                self.at, ahead = at, self.at - at
                self.need(ahead)

    def _leap(self, count: int) -> bool:
        searched, farthest = self.at + 8 * count, self.at + 48 * count
        while searched < farthest:
            found = self.data.find(b"\0\0\0\0\0\0\0tokenizer.", searched)
            if found > 0:
                self.at = found - 1
                return True
            searched = max(searched, len(self.data) - 32)
            if not self.grow():
                break
        return False


def _parse(cursor: _Cursor) -> _Part:
    tensor_count, key_count = _preamble(cursor)
    values: dict[str, Value] = {}
    counts: dict[str, int] = {}
    for _index in range(key_count):
        key = cursor.text()
        kind = cursor.count("<I")
        if kind == _ARRAY:
            counts[key] = _array(cursor, key, values)
        elif kind == _TEXT:
            values[key] = cursor.text()
        elif kind in _SCALARS:
            values[key] = cursor.unpack(_SCALARS[kind])
        else:
            raise _Broken(_("its header has a value of an unknown kind"))
    return _tensors(cursor, tensor_count, values, counts)


def _preamble(cursor: _Cursor) -> tuple[int, int]:
    """Read magic and version; return the counts of tensors and keys."""
    start = bytes(cursor.data[:512]).lstrip().lower()
    if not cursor.size:
        raise _Broken(_("it is empty"))
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise _Broken(_("it is a web page, not a model"))
    if start.startswith(b"version https://git-lfs"):
        raise _Broken(_("it is a Git LFS pointer, not the model itself"))
    if not start.startswith(b"gguf") or cursor.data[:4] != b"GGUF":
        raise _Broken(_("it is no GGUF file"))
    cursor.need(4)
    version = cursor.count("<I")
    if version not in (2, 3):
        raise _Broken(_("it is a GGUF of a version that is not supported"))
    tensor_count, key_count = cursor.count(), cursor.count()
    if 24 * tensor_count + 12 * key_count > min(cursor.size, HEADER_LIMIT):
        raise _Broken(_("it declares more tensors or keys than it has room for"))
    return tensor_count, key_count


def _array(cursor: _Cursor, key: str, values: dict[str, Value]) -> int:
    """Move past an array and return its length; of numbers a layer, such as head counts, keep the largest."""
    kind, count = cursor.count("<I"), cursor.count()
    if kind == _TEXT:
        if 8 * count > min(cursor.size, HEADER_LIMIT):
            raise _Broken(_("it declares more tensors or keys than it has room for"))
        cursor.skip_texts(count)
        return count
    if kind not in _SCALARS:
        raise _Broken(_("its header has a value of an unknown kind"))
    form = _SCALARS[kind]
    start = cursor.need(count * struct.calcsize(form))
    if 0 < count <= 1024 and not key.startswith("tokenizer."):
        values[key] = max(struct.unpack_from(f"<{count}{form[1]}", cursor.data, start))
    return count


_DIMENSIONS = [struct.Struct(f"<{count}QIQ") for count in range(5)]


def _tensors(cursor: _Cursor, tensor_count: int, values: dict[str, Value], counts: dict[str, int]) -> _Part:
    """Add up the tensors and make sure that the file is long enough for all of them."""
    sizes: dict[int, int] = {}
    embedding = output = experts = end = 0
    for _index in range(tensor_count):
        name = cursor.text()
        dimensions = cursor.count("<I")
        if dimensions >= len(_DIMENSIONS):
            raise _Broken(_("a tensor has too many dimensions"))
        form = _DIMENSIONS[dimensions]
        *shape, kind, offset = form.unpack_from(cursor.data, cursor.need(form.size))
        if kind not in TENSOR_TYPES:
            raise _Broken(_("a tensor has a type that is not known here"))
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
    if tensor_count and -(-cursor.at // alignment) * alignment + end > cursor.size:
        raise _Broken(_("it ends before its last tensor: the download was cut short"))
    return _Part(values, counts, cursor.size, tensor_count, sizes, embedding, output, experts)
