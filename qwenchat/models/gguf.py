"""Reads the facts about a model from its GGUF header: shape, quantisation, chat template, sizes. Never reads a tensor.

`read_header` reads any well-formed header, and `check` raises an error if its model can't chat. `HeaderCache` saves
headers, so that listing 200 models takes milliseconds.
"""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec import Struct

from qwenchat.chat.sampling import Sampling
from qwenchat.errors import CannotLoad, QwenchatError, Recovery, RecoveryKind, WrongUse
from qwenchat.files import save_if_possible
from qwenchat.i18n import _
from qwenchat.models.file_names import split_paths, title_in
from qwenchat.models.gguf_reader import FILE_TYPES, TENSOR_TYPES, FileHeader, opened, read_file_header
from qwenchat.text.safe import clean_line

_EDGE = 1 << 20
"""Bytes at either end of a file that distinguish it from others."""
_READERS = 4
"""Headers that are read in parallel."""
_NOT_FOR_CHAT = re.compile(r".*bert.*|clip|t5encoder|.*embed.*|wavtokenizer.*|.*mmproj.*|siglip.*|whisper")


class Rope(Struct, frozen=True):
    """The parameters of rotary position embedding; 0 or empty if the file does not give them."""

    freq_base: float = 0.0
    scaling: str = ""
    """`yarn`, `linear` or empty."""
    factor: float = 0.0
    original_context: int = 0


class ModelHeader(Struct, frozen=True, kw_only=True):
    """The facts of one model with all its parts; 0 or empty if the file does not give them."""

    path: Path
    architecture: str
    kind: str
    """`model`, or another content of the file: `adapter`, `mmproj`, `imatrix`."""
    name: str
    """The title for users; empty if neither the header nor the file's name has one."""
    quantisation: str
    """The label, such as `q4_k_m`; `f16` for half precision."""
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
    """The context window of the training, in tokens; a larger one needs rope scaling."""
    vocab_size: int
    rope: Rope
    tokenizer: str
    advised: Sampling
    """Sampling parameters that the model's makers advise in the file; unset if there are none or they are invalid."""
    chat_template: str
    """The Jinja source from the file: untrusted code, to be run only in a sandbox."""
    split_no: int
    """The number of this part of a split model, from 0."""
    split_count: int
    """1 for a model in one file."""
    tensor_count: int
    tensor_bytes: int
    active_bytes: int
    """Bytes that decoding one token reads: all tensors except unused experts and, unless tied, the embedding."""
    file_size: int
    """Bytes of all existing parts."""
    is_joined: bool
    """Whether the parts of a split model were joined to one file."""
    parts: tuple[Path, ...]
    """All parts in order, existing or not; one for a model in one file."""
    missing: tuple[Path, ...]
    """The parts that do not exist."""

    @property
    def has_chat_template(self) -> bool:
        """Whether the file has a chat template."""
        return bool(self.chat_template)


def read_header(path: Path) -> ModelHeader:
    """Return the header of a model, given its file or any part of a split model.

    Raises NotFound if the file is missing, FileError if it can't be read, CannotLoad if it is damaged, incomplete or
    not a GGUF file of version 2 or 3.
    """
    first = read_file_header(path)
    split_no, split_count = first.number("split.no"), max(1, first.number("split.count"))
    parts = split_paths(path) if split_count > 1 else (path,)
    others = [other for other in parts if other != path]
    missing = tuple(other for other in others if not other.exists())
    read = [first, *(read_file_header(other) for other in others if other not in missing and split_no == 0)]
    return _header(path, read, parts=parts, missing=missing, split=(split_no, split_count))


def identity(path: Path) -> str:
    """Return 32 hex characters that identify a model by its content: the size and the first and last MiB of each part.

    It is cheap enough for every load and independent of the file's path; it does not detect forgery. Raises NotFound
    or FileError.
    """
    digest = blake2b(digest_size=16)
    for part in split_paths(path):
        with opened(part) as (file, size):
            digest.update(size.to_bytes(8) + file.read(_EDGE))
            file.seek(max(0, size - _EDGE))
            digest.update(file.read(_EDGE))
    return digest.hexdigest()


def check(header: ModelHeader) -> ModelHeader:
    """Return the header if its model can chat, otherwise raise CannotLoad with the reason."""
    name = clean_line(header.path.name)
    if header.kind not in ("", "model") or _NOT_FOR_CHAT.fullmatch(header.architecture):
        raise CannotLoad(
            _("{name} is not a model that generates text: it contains {what}.").format(
                name=name, what=header.kind if header.kind not in ("", "model") else header.architecture
            ),
            _("Choose a chat model."),
            recoveries=(Recovery(RecoveryKind.LIST_CATALOGUE),),
        )
    if header.is_joined:
        raise CannotLoad(
            _("{name} consists of the parts of a split model, which can't be used joined.").format(name=name),
            _("Download the parts again, leave them as they are in one folder, and give the first one."),
        )
    if header.split_no > 0:
        raise CannotLoad(
            _("{name} is part {part} of {count} of a split model.").format(
                name=name, part=header.split_no + 1, count=header.split_count
            ),
            _("Give the first part, {name}; the other parts must be in the same folder.").format(
                name=header.parts[0].name
            ),
        )
    if len(header.parts) != header.split_count:
        raise CannotLoad(
            _("{name} is the first of {count} parts, but its name does not say so.").format(
                name=name, count=header.split_count
            ),
            _("Rename the parts to NAME-00001-of-{count:05}.gguf and so on.").format(count=header.split_count),
        )
    if header.missing:
        raise CannotLoad(
            _("{name} needs {part}, which is not in the same folder.").format(
                name=name, part=clean_line(header.missing[0].name)
            ),
            _("Download the missing part into the same folder."),
        )
    if not header.tensor_count:
        raise CannotLoad(
            _("{name} contains a vocabulary and no weights.").format(name=name),
            _("Choose a file that contains the model itself."),
        )
    if not (header.architecture and header.layers and header.vocab_size):
        raise CannotLoad(
            _("{name} does not say which model it contains.").format(name=name),
            _("Download it again, or choose another model."),
        )
    return header


def _header(
    path: Path,
    read: list[FileHeader],
    *,
    parts: tuple[Path, ...],
    missing: tuple[Path, ...],
    split: tuple[int, int],
) -> ModelHeader:
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
    return ModelHeader(
        path=path,
        architecture=arch,
        kind=first.word("general.type"),
        name=_title(first, path),
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
        advised=_advised(first),
        chat_template=template if isinstance(template, str) else "",
        split_no=split[0],
        split_count=split[1],
        tensor_count=sum(part.tensor_count for part in read),
        tensor_bytes=tensor_bytes,
        active_bytes=tensor_bytes - idle - (sum(part.embedding_bytes for part in read) if untied else 0),
        file_size=sum(part.file_size for part in read),
        is_joined=any(part.is_joined for part in read),
        parts=parts,
        missing=missing,
    )


def _title(first: FileHeader, path: Path) -> str:
    parts = [first.word(f"general.{key}") for key in ("basename", "size_label", "finetune")]
    names = (first.word("general.name"), "-".join(filter(None, parts)) if parts[0] else "", clean_line(path.name))
    return next(filter(None, map(title_in, names)), "")


def _advised(first: FileHeader) -> Sampling:
    """Return the sampling parameters in the keys `general.sampling.*`."""
    names = {"temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}
    names["penalty_repeat"] = "repeat_penalty"
    values = {name: first.values.get(f"general.sampling.{key}") for key, name in names.items()}
    try:
        return msgspec.convert(values, Sampling).check()
    except (msgspec.ValidationError, WrongUse):
        return Sampling()


def _quantisation(read: list[FileHeader]) -> str:
    """Return the label of `general.file_type`, otherwise that of the tensor type with the most bytes."""
    named = FILE_TYPES.get(read[0].number("general.file_type") & ~1024, "")
    if named and "general.file_type" in read[0].values:
        return named
    sums: dict[int, int] = {}
    for part in read:
        for kind, size in part.bytes_by_type.items():
            sums[kind] = sums.get(kind, 0) + size
    return TENSOR_TYPES[max(sums, key=lambda kind: sums[kind])].name if sums else ""


class _CachedHeader(Struct, frozen=True):
    stamp: str
    """A text that changes when the file changes."""
    header: ModelHeader


class HeaderCache:
    """A cache of headers, saved in one file. If that is missing or damaged, the headers are read again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._used: dict[str, _CachedHeader] = {}
        self._fresh: dict[str, _CachedHeader] = {}

    def get(self, path: Path, stamp: str) -> ModelHeader:
        """Return the header of a file, read again if its stamp has changed. Raises the errors of `read_header`."""
        if not self._is_cached(path, stamp):
            self._fresh[str(path)] = _CachedHeader(stamp, read_header(path))
        known = self._fresh.get(str(path)) or self._saved[str(path)]
        self._used[str(path)] = known
        return known.header

    def _is_cached(self, path: Path, stamp: str) -> bool:
        known = self._fresh.get(str(path)) or self._saved.get(str(path))
        return known is not None and known.stamp == stamp

    def read_ahead(self, files: Iterable[tuple[Path, str]]) -> None:
        """Read the headers that are not cached in parallel, because disks are slow. `get` raises their errors."""
        unknown = [(path, stamp) for path, stamp in files if not self._is_cached(path, stamp)]
        if len(unknown) < 2:
            return

        def read(file: tuple[Path, str]) -> None:
            with suppress(QwenchatError):
                self.get(*file)

        with ThreadPoolExecutor(_READERS) as pool:
            list(pool.map(read, unknown))

    def save(self) -> None:
        """Save the headers that were requested since the cache was created."""
        if self._used == self._saved:
            return
        encodable = {path: known for path, known in self._used.items() if path.isprintable()}
        save_if_possible(self._file, msgspec.json.encode(encodable, enc_hook=str))

    @cached_property
    def _saved(self) -> dict[str, _CachedHeader]:
        try:
            content = self._file.read_bytes()
            return msgspec.json.decode(content, type=dict[str, _CachedHeader], dec_hook=_path)
        except (OSError, ValueError):
            return {}


def _path(kind: type, value: str) -> Path:
    return Path(value)
