"""Which files of a repository a wish means: one by its name, one by its quantisation, all parts of a split model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qwenchat.errors import NotFound
from qwenchat.i18n import _
from qwenchat.models.faults import Fault, WireError, explain
from qwenchat.models.names import is_safe
from qwenchat.models.source import RemoteFile

_SPLIT = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which model: a repository and either a file of it or the quantisation to find there."""

    repo: str
    """`owner/repo`; empty where the source is one URL."""
    file: str = ""
    """The first part stands for all of a split model."""
    quant: str = ""
    """Such as `q4_k_m`."""
    revision: str = ""
    """Branch, tag or commit; empty for the source's default."""


def choose(files: Sequence[RemoteFile], wanted: Wanted, where: str) -> list[RemoteFile]:
    """Return the files of a model in order, all parts of a split one. Raises NotFound.

    Names that no disk could take were never there; asking for one by name raises NetworkError.
    """
    models = {file.name: file for file in files if is_safe(file.name) and file.name.lower().endswith(".gguf")}
    if wanted.file:
        if not is_safe(wanted.file):
            raise explain(WireError(Fault.UNSAFE_NAME, where), wanted.file)
        first = wanted.file if wanted.file in models else None
    else:
        first = next((name for name in sorted(models) if _has_quant(name, wanted.quant)), None)
    if first is None:
        raise NotFound(
            _("{repo} at {where} has no file {file}.").format(
                repo=wanted.repo, where=where, file=wanted.file or wanted.quant or "*.gguf"
            ),
            _("It has: {files}").format(files=", ".join(sorted(models)[:12]) or _("no .gguf file at all")),
        )
    return [_present(models, name, where) for name in split_names(first)]


def split_names(name: str) -> list[str]:
    """Return the names of all parts of a split model from that of any; of an unsplit one its own."""
    found = _SPLIT.fullmatch(name)
    if not found:
        return [name]
    suffix = name[-5:]
    return [f"{found['stem']}-{part:05}-of-{found['parts']}{suffix}" for part in range(1, int(found["parts"]) + 1)]


def _has_quant(name: str, quant: str) -> bool:
    stem = name.lower().rpartition("/")[2].removesuffix(".gguf")
    found = _SPLIT.fullmatch(f"{stem}.gguf")
    stem = found["stem"] if found else stem
    return not quant or bool(re.search(rf"(?:^|[-._]){re.escape(quant.lower())}$", stem))


def _present(models: dict[str, RemoteFile], name: str, where: str) -> RemoteFile:
    if name not in models:
        raise explain(WireError(Fault.FILE, where), name)
    return models[name]
