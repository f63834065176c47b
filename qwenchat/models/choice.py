"""Which files of a repository a wish means: by name, by quantisation, or the best that this machine has room for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qwenchat.errors import NotFound
from qwenchat.i18n import _
from qwenchat.models.catalog import quant_label
from qwenchat.models.faults import Fault, WireError, explain
from qwenchat.models.names import is_safe
from qwenchat.models.source import RemoteFile
from qwenchat.text import clean_line

_SPLIT = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf", re.IGNORECASE)
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
"""GGUF files that lie beside models and can't chat."""
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which model. The file counts if the source has it, else the quantisation, else the room."""

    repo: str
    """`owner/repo`; empty where the source is one address."""
    file: str = ""
    """The first part stands for all of a split model."""
    quant: str = ""
    """A label such as `q4_k_m`, in any spelling."""
    revision: str = ""
    """Branch, tag or commit; empty for the source's default."""
    room: int = 0
    """Bytes that a model may have where nothing says which: the largest below is taken, else the smallest."""


def choose(files: Sequence[RemoteFile], wanted: Wanted, where: str) -> list[RemoteFile]:
    """Return the files of a model in order, all parts of a split one, each sha256 in lower case. Raises NotFound.

    Names that no disk could take were never there; asking for one by name raises NetworkError, and so does a file
    whose sha256 is none: it would become a path.
    """
    if wanted.file and not is_safe(wanted.file):
        raise explain(WireError(Fault.UNSAFE_NAME, where), clean_line(wanted.file))
    listed = {file.name: file for file in files if is_safe(file.name) and file.name.lower().endswith(".gguf")}
    firsts = sorted(name for name in listed if split_names(name)[0] == name)
    for name in _candidates(firsts, listed, wanted):
        return [_present(listed, part, where) for part in split_names(name)]
    raise NotFound(
        _("{repo} at {where} has no file {file}.").format(
            repo=wanted.repo, where=where, file=clean_line(wanted.file or wanted.quant or "*.gguf")
        ),
        _("It has: {files}").format(files=", ".join(firsts[:12]) or _("no .gguf file at all")),
    )


def split_names(name: str) -> list[str]:
    """Return the names of all parts of a split model from that of any; of an unsplit one its own."""
    found = _SPLIT.fullmatch(name)
    if not found:
        return [name]
    suffix = name[-5:]
    return [f"{found['stem']}-{part:05}-of-{found['parts']}{suffix}" for part in range(1, int(found["parts"]) + 1)]


def _candidates(firsts: list[str], listed: dict[str, RemoteFile], wanted: Wanted) -> list[str]:
    """Return the names that fit, the best one first."""
    if wanted.file in listed:
        return [wanted.file]
    models = [name for name in firsts if not _NO_MODEL.search(name)]
    if wanted.quant:
        return [name for name in models if _has_quant(name, wanted.quant)]
    if wanted.file:
        return []

    sizes = {name: sum(listed[part].size or 0 for part in split_names(name) if part in listed) for name in models}
    fitting = [name for name in models if sizes[name] <= wanted.room]
    return [max(fitting, key=sizes.__getitem__)] if fitting else sorted(models, key=sizes.__getitem__)


def _has_quant(name: str, quant: str) -> bool:
    found = _SPLIT.fullmatch(name)
    stem = found["stem"] if found else name[: -len(".gguf")]
    tails = (stem.rpartition(mark)[2] for mark in "-./")
    return any(quant_label(tail) == quant_label(quant) for tail in tails)


def _present(listed: dict[str, RemoteFile], name: str, where: str) -> RemoteFile:
    if name not in listed:
        raise explain(WireError(Fault.FILE, where), name)
    file = listed[name]
    if file.sha256 is None:
        return file
    if not _SHA256.fullmatch(file.sha256.lower()):
        raise explain(WireError(Fault.BAD_HASH, where), name)
    return replace(file, sha256=file.sha256.lower())
