"""Interprets names of models and their files: safe or not, which part of a split model, quantisation, title for users.

Names come from hubs, manifests, URLs and other programs' folders. An unsafe name could lead out of its folder. Only
names are examined here; no file is opened.
"""

import glob
import re
from pathlib import Path, PurePosixPath

from msgspec import Struct

from qwenchat.text.safe import clean_line

_COMPONENT = re.compile(r'[^<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]{1,255}')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?")
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf)", re.DOTALL | re.IGNORECASE)
_QUANT_AT_END = re.compile(
    r"[-._:]((?:i?q\d|f16|f32|bf16|fp16|tq\d|mxfp4)\w*?)(?:-\d{5}-of-\d{5})?(?:\.gguf)?$", re.IGNORECASE
)

_PIECE = re.compile(
    r"(?P<whole>.+)(?:[.-]part(?P<number>\d{1,2})of(?P<count>\d{1,2})|-split-(?P<letter>[a-z]))", re.DOTALL
)
_STORAGE = {"gguf", "ggml", "safetensors", "awq", "gptq", "exl2", "mlx", "bnb", "quantized", "imatrix", "i1"}
_STORAGE |= {"int4", "int8", "4bit", "8bit", "fp8", "f16", "fp16", "bf16", "f32", "fp32"}
"""Words that say how weights are stored; the quantisation is shown instead."""
_SAYS_NOTHING = {"model", "models", "output", "merged", "checkpoint", "snapshots", "hf"}


class ModelName(Struct, frozen=True):
    """The name of a model for users; as a text, title and quantisation: `Qwen2.5 Coder 0.5B Instruct · q4_k_m`."""

    title: str
    """The short name."""
    quantisation: str = ""

    def __str__(self) -> str:
        return f"{self.title} · {self.quantisation}" if self.quantisation else self.title


def title_in(name: str) -> str:
    """Return the title in a model's or a file's name: words, without folders, quantisation and storage format.

    It is empty for a name that says nothing, such as a hash.
    """
    name = re.split(r"[\\/]", clean_line(name, 1000).rstrip("\\/"))[-1]
    stem = name[: -len(".gguf")] if is_gguf(name) else name
    if match := _SPLIT.fullmatch(f"{stem}.gguf"):
        stem = match["stem"]
    stem = re.sub(r"(?<=\d)_(?=\d)", ".", _QUANT_AT_END.sub("", stem))
    words = [word for word in re.split(r"[\s_-]+", stem) if word and word.lower() not in _STORAGE]
    says = "".join(words).lower()
    if re.fullmatch(r"(sha256)?(?=.*\d)[0-9a-f]{7,}|[\W\d_]*", says) or says in _SAYS_NOTHING:
        return ""
    return " ".join(words) if " " in stem else " ".join(map(_title_word, words))


def _title_word(word: str) -> str:
    """Return a word of a name in lower case as in a title: `0.5b` as `0.5B`, `instruct` as `Instruct`."""
    if word != word.lower() or re.match(r"v\d", word):
        return word
    return word.upper() if re.fullmatch(r"a?\d+(\.\d+)?[bmk]", word) else word[:1].upper() + word[1:]


def is_safe(name: str) -> bool:
    """Return whether every supported system accepts `name` as a relative path that stays below its folder.

    Unsafe are absolute names, `..`, `.`, empty components, backslashes, colons and other characters that Windows
    forbids, control and bidirectional characters, device names, and components that end in a dot or a space.
    """
    parts = name.split("/")
    return len(name.encode(errors="replace")) <= 1024 and all(
        _COMPONENT.fullmatch(part)
        and len(part.encode()) <= 255
        and part not in (".", "..")
        and part[-1] not in ". "
        and not _RESERVED.fullmatch(part)
        for part in parts
    )


def relative_path(name: str) -> PurePosixPath:
    """Return a safe name as a relative path. Raises ValueError for an unsafe one: callers check `is_safe` first."""
    if not is_safe(name):
        raise ValueError(f"unsafe name: {name!r}")
    return PurePosixPath(name)


def is_gguf(name: str) -> bool:
    """Return whether a name has the suffix of a GGUF file."""
    return name.lower().endswith(".gguf")


def split_name(stem: str, part: int, count: int, suffix: str = ".gguf") -> str:
    """Return the name of one part of a split model; `part` counts from 1."""
    return f"{stem}-{part:05}-of-{count:05}{suffix}"


def whole_name(name: str) -> str:
    """Return the name that a split model would have in one file, given its first part; any other name as it is."""
    match = _SPLIT.fullmatch(name)
    return f"{match['stem']}{match['suffix']}" if match and int(match["part"]) == 1 else name


def split_names(name: str) -> list[str]:
    """Return the names of all parts of a split model, given any of them; any other name is returned alone."""
    match = _SPLIT.fullmatch(name)
    if not match or not 1 <= int(match["part"]) <= int(match["count"]):
        return [name]
    count = int(match["count"])
    return [split_name(match["stem"], part, count, match["suffix"]) for part in range(1, count + 1)]


def split_paths(path: Path) -> tuple[Path, ...]:
    """Return the paths of all parts of a split model, given any of them; any other path is returned alone."""
    names = split_names(path.name)
    return tuple(path.with_name(name) for name in names) if len(names) > 1 else (path,)


def pieces_of(path: Path) -> list[Path]:
    """Return all pieces of a file that was cut for its upload, given any of them; empty for any other path.

    They are named `….part1of2`, or `…-split-a` without their number; of those, the ones that exist are returned.
    """
    match = _PIECE.fullmatch(path.name)
    if not match:
        return []
    if match["letter"]:
        pieces = path.parent.glob(glob.escape(match["whole"]) + "-split-[a-z]")
        return sorted({path, *pieces})
    count = int(match["count"])
    if not 1 <= int(match["number"]) <= count:
        return []
    start, end = match.span("number")
    return [path.with_name(f"{path.name[:start]}{number}{path.name[end:]}") for number in range(1, count + 1)]


def joined_name(name: str) -> str:
    """Return the name of the file that a piece (see `pieces_of`) belongs to."""
    match = _PIECE.fullmatch(name)
    return match["whole"] if match else name


def quant_label(word: str) -> str:
    """Return a quantisation's label in this program's spelling, given any spelling, such as `Q4_K_M` or `fp16`."""
    label = word.lower().replace("-", "_")
    return {"fp16": "f16", "fp32": "f32"}.get(label, label)


def quant_in(name: str) -> str:
    """Return the label of the quantisation that a name ends with; empty if it names none."""
    match = _QUANT_AT_END.search(name)
    return quant_label(match[1]) if match else ""


def names_quant(name: str, quant: str) -> bool:
    """Return whether the name of a GGUF file ends with a quantisation, in any spelling; `quant` may be any word."""
    match = _SPLIT.fullmatch(name)
    stem = match["stem"] if match else name[: -len(".gguf")]
    endings = (stem.rpartition(separator)[2] for separator in "-./")
    return any(quant_label(ending) == quant_label(quant) for ending in endings)
