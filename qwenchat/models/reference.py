"""Parses model references: `7b:q4_k_m`, `coder-7b`, `owner/repo:quant`, `owner/repo/file.gguf`, a path, `@NAME/MODEL`.

It does not look for the model: the library knows whether it is on this machine, a source whether it can be downloaded.
"""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_to_bytes

from msgspec import Struct

from qwenchat.errors import NotFound, Recovery, RecoveryKind, WrongUse
from qwenchat.i18n import _, enumerated
from qwenchat.models.file_names import is_gguf, quant_label
from qwenchat.text.safe import clean_line

if TYPE_CHECKING:
    from qwenchat.models.catalogue import Catalogue, CatalogueModel, Quantisation

_ON_HUB = re.compile(r"(?:https?://)?(?:hf\.co|(?:www\.)?huggingface\.co)/(.+?)(?:\?.*)?", re.IGNORECASE)
_REVISION = re.compile(r"^([^/]+/[^/]+)/(?:resolve|blob|tree)/([^/]+)(/.+)?$")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_RAW_BYTES = frozenset(map(chr, range(0xDC80, 0xDD00)))
"""The characters with which `os.fsdecode` replaces bytes that are not UTF-8."""
_QUANT = re.compile(r"\w{2,16}", re.ASCII)
_REMOTE = re.compile(r"@([A-Za-z0-9-]+)(?:/(.*))?", re.DOTALL)
_ON_OTHER_HOST = re.compile(r"[\w-]+(?:\.[\w-]+)*(?:\.[\w-]+|:\d+)(?:/[\w.-]+){2}:[\w.-]+", re.ASCII)
"""The name of a model that Ollama has from another registry: `HOST/NAMESPACE/MODEL:TAG`."""


class CatalogueReference(Struct, frozen=True):
    """A model of the catalogue; without a quantisation the program chooses one."""

    model: "CatalogueModel"
    quant: "Quantisation | None"

    def __str__(self) -> str:
        return self.model.reference(self.quant) if self.quant else self.model.name


class HubReference(Struct, frozen=True):
    """Any other GGUF on a hub: a repository and, optionally, one of its files or a quantisation to look for."""

    repo: str
    file: str = ""
    quant: str = ""

    def __str__(self) -> str:
        return self.repo + (f"/{self.file}" if self.file else f":{self.quant}" if self.quant else "")


class FileReference(Struct, frozen=True):
    """A file on this machine; it may be missing."""

    path: Path

    def __str__(self) -> str:
        return path_reference(self.path)


class NameReference(Struct, frozen=True):
    """A name that only the library can resolve, such as another program's `qwen2:7b`."""

    name: str

    def __str__(self) -> str:
        return self.name


class GuideReference(Struct, frozen=True):
    """The small built-in model."""

    def __str__(self) -> str:
        return "guide"


class RemoteReference(Struct, frozen=True):
    """A model that an engine of the settings runs elsewhere; without a model, the only one that it offers."""

    engine: str
    model: str = ""
    """What the server calls it; slashes and colons are part of it."""

    def __str__(self) -> str:
        return f"@{self.engine}/{self.model}" if self.model else f"@{self.engine}"

    @property
    def name(self) -> str:
        """The model's name for users, in which the path of a file is its file name."""
        return clean_line(re.split(r"[\\/]", self.model)[-1] if is_gguf(self.model) else self.model)


Reference = CatalogueReference | HubReference | FileReference | NameReference | GuideReference | RemoteReference


def parse(text: str, catalogue: "Catalogue") -> Reference:
    """Parse a model reference. Raises WrongUse if it is invalid, NotFound if the catalogue lacks the quantisation."""
    text = text.strip()
    if found := file_in(text):
        return FileReference(found)
    if text.startswith("@"):
        return _remote(text)
    if text.lower() == "guide":
        return GuideReference()
    if not text or not all(char.isprintable() or char in _RAW_BYTES for char in text):
        raise WrongUse(_("The model's name is empty or has control characters."), _how())
    if file := path_in(text):
        return FileReference(file)
    if not is_utf8(text):
        raise _not_a_name(text)
    if match := _ON_HUB.fullmatch(text):
        text = _REVISION.sub(r"\1\3", match[1].rstrip("/"))
    elif "://" in text:
        raise WrongUse(
            _("{url} is a URL, not a model on this computer.").format(url=clean_line(text)),
            recoveries=(Recovery(RecoveryKind.DOWNLOAD, name=text),),
        )
    if _ON_OTHER_HOST.fullmatch(text):
        return NameReference(text)
    return _in_repo(text, catalogue) if "/" in text else _by_name(text, catalogue)


def remote_in(text: str) -> RemoteReference | None:
    """Return a reference to a model elsewhere; None for any other text."""
    match = _REMOTE.fullmatch(text.strip())
    is_valid = match and match[2] != "" and match[0].isprintable()
    return RemoteReference(match[1].lower(), match[2] or "") if match and is_valid else None


def _remote(text: str) -> RemoteReference:
    if found := remote_in(text):
        return found
    raise WrongUse(
        _("{model} is not a model of an engine elsewhere.").format(model=clean_line(text)),
        _("Write it as @NAME/MODEL, or as ./{file} if it is a file.").format(file=clean_line(text)),
    )


def revision_in(text: str) -> str:
    """Return the revision in the URL of a hub; empty for any other text."""
    address = _ON_HUB.fullmatch(text.strip())
    match = _REVISION.fullmatch(address[1].rstrip("/")) if address else None
    return unquote(match[2]) if match else ""


def unknown(reference: Reference, catalogue: "Catalogue", local: Iterable[str] = ()) -> NotFound | WrongUse:
    """Return the error for a reference to a model without a file here, which hints at similar names."""
    name = str(reference)
    if isinstance(reference, RemoteReference):
        return WrongUse(
            _("{model} runs elsewhere; this computer has no file of it.").format(model=clean_line(name)),
            recoveries=(Recovery(RecoveryKind.LIST_MODELS),),
        )
    if isinstance(reference, CatalogueReference | HubReference):
        return NotFound(
            _("{model} is not on this computer.").format(model=clean_line(name)),
            recoveries=(Recovery(RecoveryKind.DOWNLOAD, name=name),),
        )
    if isinstance(reference, GuideReference):
        return NotFound(_("The guide is not part of this installation."), _("Install qwenchat again from its wheel."))
    if isinstance(reference, FileReference):
        return NotFound(_("There is no file {path}.").format(path=clean_line(name)), _how())
    if family := catalogue.family(name):
        return NotFound(
            _("{name} is a family of models, not one model.").format(name=clean_line(name)),
            _("Choose one of them: {names}.").format(
                names=enumerated(model.name for model in catalogue.of(family.name))
            ),
        )
    quantised = [model.reference(quant) for model in catalogue.models for quant in model.quantisations]
    names = [*(model.name for model in catalogue.models), *quantised, "guide", *local]
    near = difflib.get_close_matches(name.lower(), names, 3, 0.5)
    return NotFound(
        _('No model named "{model}".').format(model=clean_line(name)),
        _("Did you mean {names}?").format(names=enumerated(map(clean_line, near))) if near else _how(),
    )


def _not_a_name(text: str) -> WrongUse:
    return WrongUse(_("{model} is not a model name.").format(model=clean_line(text)), _how())


def _how() -> str:
    return _("Give a name such as 7b, 7b:q4_k_m or coder-7b, owner/repo:q4_k_m, or the path of a .gguf file.")


def is_utf8(text: str) -> bool:
    """Return whether a name can be encoded as UTF-8; file names may contain other bytes."""
    return not any(char in _RAW_BYTES for char in text)


def is_repo(text: str) -> bool:
    """Return whether a text has the form `owner/repo` of a hub."""
    return _REPO.fullmatch(text) is not None


def path_reference(path: Path) -> str:
    """Return the model reference of a file: its path, or a `file:` URL if the path would not survive being shown."""
    text = str(path)
    return text if text == clean_line(text, len(text)) and text.isprintable() else path.absolute().as_uri()


def path_in(text: str) -> Path | None:
    """Return the path in a model reference that can only be a path or a `file:` URL; None for any other."""
    if text.startswith("@"):
        return None
    if text.startswith("file:///"):
        return Path(os.fsdecode(unquote_to_bytes(text.removeprefix("file:///" if os.name == "nt" else "file://"))))
    is_path = text.startswith(("/", "./", "../", "~", ".\\", "..\\")) or re.match(r"[A-Za-z]:[\\/]", text)
    is_file_in_folder = is_gguf(text) and text.count("/") == 1
    if not is_path and not is_file_in_folder:
        return None
    try:
        return Path(text).expanduser()
    except RuntimeError:  # the home of a user that does not exist
        return Path(text)


def file_in(text: str) -> Path | None:
    """Return the path of the file that a model reference names; None if it names none that exists."""
    text = text.strip()
    if not text or text.startswith("@") or text.lower() == "guide":
        return None
    path = path_in(text) or Path(text)
    try:
        return path if path.is_file() else None
    except (OSError, ValueError):  # the name is too long, or has a NUL
        return None


def _in_repo(text: str, catalogue: "Catalogue") -> Reference:
    owner, name, *inside = text.split("/")
    repo, _colon, quant = f"{owner}/{name}".partition(":")
    file = "/".join(inside)
    if (
        not is_repo(repo)
        or (file and (quant or not is_gguf(file) or ".." in inside or "" in inside))
        or (quant and not _QUANT.fullmatch(quant))
    ):
        raise _not_a_name(text)
    model = catalogue.by_repo(repo)
    if model and quant:
        return CatalogueReference(model, _quantisation(model, quant))
    if model and (known := next((q for q in model.quantisations if file in model.file_names(q)[:1]), None)):
        return CatalogueReference(model, known)
    return HubReference(repo, file, quant_label(quant))


def _by_name(text: str, catalogue: "Catalogue") -> Reference:
    """Return the model that a text names, as `coder-7b:q4_k_m` or `coder:7b:q4_k_m`, otherwise the text as a name.

    `qwen2:7b` remains a name: it is what Ollama calls its own file.
    """
    name, colon, quant = text.partition(":")
    if catalogue.family(name) in catalogue.relatives:
        size, second_colon, label = quant.partition(":")
        if catalogue.get(f"{name}-{size}"):
            name, colon, quant = f"{name}-{size}", second_colon, label
    model = catalogue.get(name)
    if not model:
        return NameReference(text)
    if colon and not quant:
        raise WrongUse(_("{model} has no quantisation after the colon.").format(model=clean_line(text)), _how())
    return CatalogueReference(model, _quantisation(model, quant) if quant else None)


def _quantisation(model: "CatalogueModel", label: str) -> "Quantisation":
    if quant := model.quantisation(label):
        return quant
    labels = enumerated(quant.label for quant in model.quantisations)
    raise NotFound(
        _("{size} is not published as {quant}.").format(size=model.name, quant=clean_line(label)),
        _("Published: {labels}.").format(labels=labels),
    )
