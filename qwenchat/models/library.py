"""The models on this machine, this program's own and those of other programs, which are never moved or changed.

Headers are cached by path, size and modification time. An unusable file is listed with the reason. No connection is
opened here.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from importlib.resources import as_file, files
from pathlib import Path

from qwenchat.errors import QwenchatError
from qwenchat.i18n import _
from qwenchat.models import fit
from qwenchat.models.catalogue import Catalogue, PublishedModel
from qwenchat.models.file_names import quant_in, split_paths
from qwenchat.models.gguf import HeaderCache, ModelHeader, check
from qwenchat.models.layouts import FoundFile, ModelFolders
from qwenchat.models.reference import (
    CatalogueReference,
    FileReference,
    GuideReference,
    HubReference,
    NameReference,
    Reference,
    is_repo,
    is_utf8,
    path_reference,
    unknown,
)
from qwenchat.paths import is_missing


@dataclass(frozen=True, slots=True)
class LocalModel:
    """One model on this machine, usable or not."""

    file: FoundFile
    reference: str
    """The model reference with which a user selects it."""
    _: KW_ONLY
    header: ModelHeader | None
    """None if it can't be read."""
    published: PublishedModel | None
    """The same model in the catalogue, if it is there."""
    problem: str
    """The reason why it can't be used; empty if it can."""

    @property
    def path(self) -> Path:
        """The file to load; the first part of a split model."""
        return self.file.path


class Library:
    """Finds models in the known folders. A default model is chosen for `resources`."""

    def __init__(
        self, folders: ModelFolders, cache: Path, catalogue: Catalogue, resources: Callable[[], fit.Resources]
    ) -> None:
        self._folders, self._catalogue, self._resources = folders, catalogue, resources
        self._headers = HeaderCache(cache / "headers.json")

    def models(self) -> list[LocalModel]:
        """Return every model once, in the order of the folders."""
        files, seen = [], set()
        for file in self._folders.scan():
            parts = split_paths(file.path)
            if file.path != parts[0] and not is_missing(parts[0]):
                continue
            stamp = _stamp(parts)
            if stamp and stamp in seen:
                continue
            seen.add(stamp)
            files.append((file, stamp))
        self._headers.read_ahead((file.path, stamp) for file, stamp in files if not file.problem)
        models = [self._model(file, stamp) for file, stamp in files]
        self._headers.save()
        return models

    def find(self, reference: Reference) -> Path | None:
        """Return the file of a model if it is on this machine and usable.

        If the reference names no quantisation and there are several, `fit.choose` chooses one.
        """
        if isinstance(reference, FileReference):
            return None if is_missing(reference.path) else reference.path
        if isinstance(reference, GuideReference):
            return _guide()
        return self._best([model for model in self.usable() if _matches(model, reference)])

    def locate(self, reference: Reference) -> Path:
        """Return the same as `find`, or else an unusable file. Raises NotFound, hinting at similar names."""
        return self.find(reference) or self.model(reference).path

    def model(self, reference: Reference) -> LocalModel:
        """Return a model on this machine, usable or not. Raises NotFound."""
        models = self.models()
        path = self.find(reference)
        if path and (known := next((model for model in models if model.path == path), None)):
            return known
        if path:
            return self._model(FoundFile(path, "file", path.name), _stamp(split_paths(path)))
        if not isinstance(reference, FileReference | GuideReference):
            for model in models:
                if _matches(model, reference):
                    return model
        raise unknown(reference, self._catalogue, (model.reference for model in models if not model.problem))

    def find_copy(self, size: int | None, sha256: str, compute_sha256: Callable[[Path], str]) -> Path | None:
        """Return a usable model in a single file with this size in bytes and this sha256.

        `compute_sha256` is called for each file of that size whose sha256 is unknown; it may raise to stop.
        """
        same_size = [
            model.file
            for model in self.usable()
            if model.header and len(model.header.parts) == 1 and model.header.file_size == size
        ]
        for file in same_size:
            if file.sha256 == sha256:
                return file.path
        for file in same_size:
            with suppress(OSError):  # an unreadable file can't be used as a copy
                if not file.sha256 and compute_sha256(file.path) == sha256:
                    return file.path
        return None

    def usable(self) -> list[LocalModel]:
        """Return the models that can chat."""
        return [model for model in self.models() if not model.problem]

    def best(self) -> LocalModel | None:
        """Return the model to use if none was named: the largest that fits comfortably; None if there are none."""
        models = self.usable()
        path = self._best(models)
        return next((model for model in models if model.header and model.header.path == path), None)

    def _best(self, models: Sequence[LocalModel]) -> Path | None:
        headers = [model.header for model in models if model.header]
        if len(headers) < 2:
            return headers[0].path if headers else None
        chosen = fit.choose(headers, self._resources()) or min(headers, key=lambda header: header.file_size)
        return chosen.path

    def _model(self, file: FoundFile, stamp: str) -> LocalModel:
        header, problem = None, file.problem
        if not problem:
            try:
                header = self._headers.get(file.path, stamp)
                check(header)
            except QwenchatError as error:
                problem = error.message
        published = _published(file, header, self._catalogue)
        if file.origin == "ollama":
            reference = file.name
        elif published:
            reference = published.reference
        else:
            reference = f"{file.repo}/{file.name}" if is_repo(file.repo) else path_reference(file.path)
        if not is_utf8(reference):
            reference = path_reference(file.path)
        return LocalModel(file, reference, header=header, published=published, problem=problem)


def _names(model: LocalModel) -> set[str]:
    """Return the names that a `NameReference` may use for a model, in lower case."""
    name = model.file.name.lower()
    return {model.reference.lower(), name, name.removesuffix(":latest"), name.removesuffix(".gguf")}


def _matches(local: LocalModel, reference: CatalogueReference | HubReference | NameReference) -> bool:
    match reference:
        case CatalogueReference(model, quant):
            published = local.published
            return published is not None and published.model is model and quant in (None, published.quant)
        case HubReference(repo, file, label):
            quants = ("", local.header.quantisation if local.header else "", quant_in(local.file.name))
            is_file = file.lower() in ("", local.file.name.lower())
            return local.file.repo.lower() == repo.lower() and is_file and label in quants
        case NameReference(name):
            return name.lower() in _names(local)


def _published(file: FoundFile, header: ModelHeader | None, catalogue: Catalogue) -> PublishedModel | None:
    """Return the catalogue's entry for a model file, recognised by its sha256, its name, or its header."""
    named = re.sub(r"[\s_]+", "-", header.name.lower()) if header else ""
    for model in catalogue.models:
        for quant in model.quantisations:
            by_hash = file.sha256 and file.sha256 == quant.parts[0].sha256
            by_name = file.name.rpartition("/")[2].lower() == model.file_names(quant)[0]
            by_header = (
                header is not None
                and header.quantisation == quant.label
                and (header.layers, header.width) == (model.shape.layers, model.shape.width)
                and named in (f"qwen2-{model.size}-instruct", model.stem)
            )
            if by_hash or by_name or by_header:
                return PublishedModel(model, quant)
    return None


def _guide() -> Path | None:
    folder = files(__package__).joinpath("guide")
    with as_file(folder) as path:
        return next(iter(sorted(path.glob("*.gguf"))), None)


def _stamp(parts: Sequence[Path]) -> str:
    """Return a text that changes with any part: device, inode, size and modification time; empty without files."""
    stamps = []
    for part in parts:
        with suppress(OSError):
            state = part.stat()
            stamps.append(f"{state.st_dev}.{state.st_ino}.{state.st_size}.{state.st_mtime_ns}")
    return " ".join(stamps)


def owner(model: LocalModel) -> str:
    """Return the display name of the program that owns a model's folder."""
    return {
        "qwenchat": "qwenchat",
        "hf": _("Hugging Face cache"),
        "llama.cpp": "llama.cpp",
        "ollama": "Ollama",
        "lmstudio": "LM Studio",
    }.get(model.file.origin, _("folder"))


def as_rows(models: Sequence[LocalModel]) -> Iterator[dict[str, object]]:
    """Yield each model as an object of `models list --json`."""
    for model in models:
        header = model.header
        yield {
            "model": model.reference,
            "name": header.name if header else model.file.name,
            "path": str(model.path),
            "from": model.file.origin,
            "repo": model.file.repo,
            "sha256": model.file.sha256,
            "architecture": header.architecture if header else "",
            "quantisation": header.quantisation if header else "",
            "bytes": header.file_size if header else 0,
            "context": header.context_length if header else 0,
            "parts": [str(part) for part in header.parts] if header else [],
            "problem": model.problem,
        }
