"""What a person means by `7b:q4_k_m`, `owner/repo:quant`, `owner/repo/file.gguf`, a path, or `guide`.

Parsing only: whether the model is on this machine is asked of the library, whether a hub has it of the hub.
"""

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

from qwenchat.errors import NotFound, WrongUse
from qwenchat.i18n import _
from qwenchat.models.catalogue import Catalog, Model, Quantisation, quant_label
from qwenchat.text.safe import clean_line

_ON_HUB = re.compile(r"(?:https?://)?(?:hf\.co|(?:www\.)?huggingface\.co)/(.+?)(?:\?.*)?", re.IGNORECASE)
_REVISION = re.compile(r"^([^/]+/[^/]+)/(?:resolve|blob|tree)/([^/]+)(/.+)?$")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_RAW_BYTES = frozenset(map(chr, range(0xDC80, 0xDD00)))
"""What stands in a path for bytes that are not UTF-8 (`os.fsdecode`)."""
_QUANT = re.compile(r"\w{2,16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Published:
    """A model of the catalogue; without a quantisation the program chooses one."""

    model: Model
    quant: Quantisation | None

    def __str__(self) -> str:
        return f"{self.model.size}:{self.quant.label}" if self.quant else self.model.size


@dataclass(frozen=True, slots=True)
class OnHub:
    """Any other GGUF on a hub: a repository and, if given, one of its files or a quantisation to look for."""

    repo: str
    file: str = ""
    quant: str = ""

    def __str__(self) -> str:
        return self.repo + (f"/{self.file}" if self.file else f":{self.quant}" if self.quant else "")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine, there or not."""

    path: Path

    def __str__(self) -> str:
        return path_reference(self.path)


@dataclass(frozen=True, slots=True)
class Named:
    """A name that only the library can know, such as another program's `qwen2:7b`."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Guide:
    """The small built-in model."""

    def __str__(self) -> str:
        return "guide"


Reference = Published | OnHub | LocalFile | Named | Guide


def parse(text: str, catalog: Catalog) -> Reference:
    """Return what a reference means.

    Raises WrongUse when it can mean nothing, NotFound when the catalogue lacks the quantisation.
    """
    text = text.strip()
    if not text or not all(char.isprintable() or char in _RAW_BYTES for char in text):
        raise WrongUse(_("The model's name is empty or has control characters."), _how())
    if text.lower() == "guide":
        return Guide()
    if file := _local(text):
        return LocalFile(file)
    if not is_text(text):
        raise WrongUse(_("{model} is not a model's name.").format(model=clean_line(text)), _how())
    if match := _ON_HUB.fullmatch(text):
        text = _REVISION.sub(r"\1\3", match[1].rstrip("/"))
    elif "://" in text:
        raise WrongUse(
            _("{url} is an address, not a model on this machine.").format(url=clean_line(text)),
            _("Download it first: qwenchat models pull {url}").format(url=clean_line(text)),
        )
    return _in_repo(text, catalog) if "/" in text else _by_name(text, catalog)


def revision_in(text: str) -> str:
    """Return the revision that a hub's address names, empty for any other text."""
    address = _ON_HUB.fullmatch(text.strip())
    match = _REVISION.fullmatch(address[1].rstrip("/")) if address else None
    return unquote(match[2]) if match else ""


def unknown(reference: Reference, catalog: Catalog, local: Iterable[str] = ()) -> NotFound:
    """Return the error for a name that nothing answers to, with the names that come near it."""
    name = str(reference)
    if isinstance(reference, Published | OnHub):
        return NotFound(
            _("{model} is not on this machine.").format(model=clean_line(name)),
            _("Download it: qwenchat models pull {model}").format(model=clean_line(name)),
        )
    if isinstance(reference, Guide):
        return NotFound(_("The guide is not part of this installation."), _("Install qwenchat again from its wheel."))
    if isinstance(reference, LocalFile):
        return NotFound(_("There is no file {path}.").format(path=clean_line(name)), _how())
    sizes = [f"{model.size}:{quant.label}" for model in catalog.models for quant in model.quantisations]
    names = [*(model.size for model in catalog.models), *sizes, "guide", *local]
    near = difflib.get_close_matches(name.lower(), names, 3, 0.5)
    return NotFound(
        _("There is no model {model}.").format(model=clean_line(name)),
        _("Did you mean {names}?").format(names=", ".join(map(clean_line, near))) if near else _how(),
    )


def _how() -> str:
    return _("Give a size such as 7b or 7b:q4_k_m, owner/repo:q4_k_m, or the path of a .gguf file.")


def is_text(text: str) -> bool:
    """Say whether a name can be written as UTF-8: that of a file need not."""
    return not any(char in _RAW_BYTES for char in text)


def is_repo(text: str) -> bool:
    """Say whether this can be `owner/repo` on a hub: two folders on a disk need not."""
    return _REPO.fullmatch(text) is not None


def path_reference(path: Path) -> str:
    """Return what to type, to show and to keep for a file: its path, as an address where that is no text."""
    return str(path) if is_text(str(path)) else path.absolute().as_uri()


def _local(text: str) -> Path | None:
    """Return the path if this names a file: one that is there, or one spelt as only paths are."""
    if text.startswith("file:///"):
        return Path(os.fsdecode(unquote_to_bytes(text.removeprefix("file:///" if os.name == "nt" else "file://"))))
    path = Path(text)
    try:
        path = path.expanduser()
    except RuntimeError:  # ~someone who is not on this machine
        return path
    spelt = text.startswith(("/", "./", "../", "~", ".\\", "..\\")) or re.match(r"[A-Za-z]:[\\/]", text)
    two_steps = text.lower().endswith(".gguf") and text.count("/") == 1
    try:
        there = path.is_file()
    except OSError:  # longer than any name may be
        there = False
    return path if spelt or two_steps or there else None


def _in_repo(text: str, catalog: Catalog) -> Reference:
    owner, name, *inside = text.split("/")
    repo, _colon, quant = f"{owner}/{name}".partition(":")
    file = "/".join(inside)
    if (
        not is_repo(repo)
        or (file and (quant or not file.lower().endswith(".gguf") or ".." in inside or "" in inside))
        or (quant and not _QUANT.fullmatch(quant))
    ):
        raise WrongUse(_("{model} is not a model's name.").format(model=clean_line(text)), _how())
    model = catalog.by_repo(repo)
    if model and quant:
        return Published(model, _quantisation(model, quant))
    if model and (known := next((q for q in model.quantisations if file in model.file_names(q)[:1]), None)):
        return Published(model, known)
    return OnHub(repo, file, quant_label(quant))


def _by_name(text: str, catalog: Catalog) -> Reference:
    size, _colon, quant = text.partition(":")
    size = re.sub(r"^qwen2[-_ ]?|[-_ ]?instruct$", "", size.lower())
    model = catalog.get(size) or catalog.get(size.replace("_", "."))
    if not model:
        return Named(text)
    if _colon and not quant:
        raise WrongUse(_("{model} names no quantisation after its colon.").format(model=clean_line(text)), _how())
    return Published(model, _quantisation(model, quant) if quant else None)


def _quantisation(model: Model, label: str) -> Quantisation:
    if quant := model.quantisation(label):
        return quant
    labels = ", ".join(quant.label for quant in model.quantisations)
    raise NotFound(
        _("{size} is not published as {quant}.").format(size=model.size, quant=clean_line(label)),
        _("There are {labels}.").format(labels=labels),
    )
