"""The models on this machine, this program's own and those of other programs, which are never moved or changed.

Headers are cached by path, size and modification time. An unusable file is listed with the reason. No connection is
opened here.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path

from qwenchat.errors import QwenchatError
from qwenchat.i18n import _
from qwenchat.models import fit
from qwenchat.models.catalogue import Catalogue, PublishedModel, Purpose, ToolCalls, tools_by_width
from qwenchat.models.context_sizes import ContextSizes, context_sizes
from qwenchat.models.file_names import ModelName, quant_in, split_paths, title_in
from qwenchat.models.folders import ModelFolders
from qwenchat.models.gguf import HeaderCache, ModelHeader, check
from qwenchat.models.layouts import FolderProblem, FoundFile
from qwenchat.models.reference import (
    CatalogueReference,
    FileReference,
    GuideReference,
    HubReference,
    NameReference,
    Reference,
    RemoteReference,
    is_repo,
    parse,
    path_in,
    path_reference,
    remote_in,
    unknown,
)
from qwenchat.paths import is_missing
from qwenchat.text.safe import clean_line

_CHATML = "<|im_start|>"
"""What begins a turn in ChatML; in other templates no tools are described."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """One model on this machine, usable or not."""

    file: FoundFile
    reference: str
    """The model reference with which a user selects it."""
    _: KW_ONLY
    header: ModelHeader | None
    """None if it can't be read."""
    context: ContextSizes | None
    """The same."""
    published: PublishedModel | None
    """The same model in the catalogue, if it is there."""
    problem: str
    """The reason why it can't be used; empty if it can."""
    copies: tuple[FoundFile, ...] = ()
    """Where else the same file was found, under the same name or another one."""

    @property
    def name(self) -> ModelName:
        """The name for users."""
        in_name = "" if self.file.origin == "ollama" else title_in(self.file.name)
        title = self.published.model.title if self.published else self.header.name if self.header else ""
        quantisation = self.header.quantisation if self.header else quant_in(self.file.name)
        return ModelName(title or in_name or clean_line(self.file.name), quantisation)

    @property
    def path(self) -> Path:
        """The file to load; the first part of a split model."""
        return self.file.path

    @property
    def tools(self) -> ToolCalls | None:
        """How well it calls tools; None where the file can't be read."""
        if self.header is None:
            return None
        if _CHATML not in self.header.chat_template or self.file.origin == "guide":
            return "no"
        return self.published.model.calls_tools if self.published else tools_by_width(self.header.width)

    @property
    def only_completes(self) -> bool:
        """Whether it continues text instead of answering."""
        if self.published and self.published.model.purpose is Purpose.COMPLETION:
            return True
        return self.header is not None and not self.header.has_chat_template


def tools_words(tools: ToolCalls | None) -> str:
    """Return how well a model calls tools in a word of the user's language; empty where that is not known."""
    return {"yes": _("good"), "weak": _("weak"), "no": _("none"), None: ""}[tools]


class Library:
    """Finds models in the known folders. A default model is chosen for `resources`."""

    def __init__(
        self, folders: ModelFolders, cache: Path, catalogue: Catalogue, resources: Callable[[], fit.Resources]
    ) -> None:
        self._folders, self._catalogue, self._resources = folders, catalogue, resources
        self._headers = HeaderCache(cache / "headers.json")

    def models(self) -> list[LocalModel]:
        """Return every model once, in the order of the folders. No two have the same reference."""
        return self.survey()[0]

    def survey(self, *, save: bool = True) -> tuple[list[LocalModel], list[FolderProblem]]:
        """Return the models, and the folders that can't be searched for more; without `save`, nothing is cached."""
        files, problems = self._folders.scan()
        found: dict[str, list[FoundFile]] = {}
        for number, file in enumerate(files):
            parts = split_paths(file.path)
            if file.path == parts[0] or is_missing(parts[0]):
                found.setdefault(_stamp(parts) or f"no file {number}", []).append(file)
        self._headers.read_ahead((same[0].path, stamp) for stamp, same in found.items() if not same[0].problem)
        models = [self._model(first, stamp, tuple(copies)) for stamp, (first, *copies) in found.items()]
        if save:
            self._headers.save()
        return _with_own_references(models), problems

    def parse(self, text: str) -> Reference:
        """Parse a model reference; the reference of every listed model is one, whatever its form.

        Raises WrongUse or NotFound.
        """
        parsed: Reference | None = None
        try:
            parsed = parse(text, self._catalogue)
            if isinstance(parsed, FileReference | GuideReference | RemoteReference):
                return parsed
        except QwenchatError:
            if not text.strip():
                raise
        named, models = NameReference(text.strip()), self.models()
        if any(model.reference == named.name for model in models):
            return named
        if parsed is None and any(_matches(model, named) for model in models):
            return named
        return parsed or parse(text, self._catalogue)

    def name_of(self, reference: str) -> ModelName:
        """Return the name for users of a model, given its reference; that of a file does not contain its folder.

        A file is not opened again until it changes; one that can't be read is named by its file name.
        """
        path = path_in(reference)
        if path is None:
            remote = remote_in(reference)
            return ModelName(remote.name if remote and remote.model else clean_line(reference))
        file = FoundFile(path, "file", re.split(r"[\\/]", str(path))[-1])
        return self._model(file, _stamp(split_paths(path))).name

    def find(self, reference: Reference) -> Path | None:
        """Return the file of a model if it is on this machine and usable.

        If the reference names no quantisation and there are several, `fit.choose` chooses one.
        """
        if isinstance(reference, FileReference):
            return None if is_missing(reference.path) else reference.path
        if isinstance(reference, GuideReference):
            return _guide()
        if isinstance(reference, RemoteReference):
            return None
        return self._best(_matching(self.usable(), reference))

    def locate(self, reference: Reference) -> Path:
        """Return the same as `find`, or else an unusable file. Raises what `model` does."""
        return self.find(reference) or self.model(reference).path

    def model(self, reference: Reference) -> LocalModel:
        """Return a model on this machine, usable or not.

        Raises NotFound, hinting at similar names, or WrongUse for a model that runs elsewhere.
        """
        models = self.models()
        path = self.find(reference)
        if path and (known := next((model for model in models if model.path == path), None)):
            return known
        if path:
            origin = "guide" if isinstance(reference, GuideReference) else "file"
            return self._model(FoundFile(path, origin, path.name), _stamp(split_paths(path)))
        if not isinstance(reference, FileReference | GuideReference | RemoteReference):
            for model in _matching(models, reference):
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
        """Return the model to use if none was named: the largest that fits comfortably; None if there are none.

        One that only completes text is returned only if there is no other.
        """
        usable = self.usable()
        models = [model for model in usable if not model.only_completes] or usable
        path = self._best(models)
        return next((model for model in models if model.header and model.header.path == path), None)

    def _best(self, models: Sequence[LocalModel]) -> Path | None:
        headers = [model.header for model in models if model.header]
        if len(headers) < 2:
            return headers[0].path if headers else None
        chosen = fit.choose(headers, self._resources()) or min(headers, key=lambda header: header.file_size)
        return chosen.path

    def _model(self, file: FoundFile, stamp: str, copies: tuple[FoundFile, ...] = ()) -> LocalModel:
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
        if reference != clean_line(reference, len(reference)):
            reference = path_reference(file.path)
        context = context_sizes(header, self._catalogue) if header else None
        return LocalModel(
            file, reference, header=header, context=context, published=published, problem=problem, copies=copies
        )


def _with_own_references(models: Sequence[LocalModel]) -> list[LocalModel]:
    """Return the models; one whose reference belongs to another, which comes first or is usable, has its path."""
    owners: dict[str, LocalModel] = {}
    for model in sorted(models, key=lambda model: bool(model.problem)):
        owners.setdefault(model.reference, model)
    return [
        model if owners[model.reference] is model else replace(model, reference=path_reference(model.path))
        for model in models
    ]


def _names(model: LocalModel) -> set[str]:
    """Return the names that a `NameReference` may use for a model, in lower case."""
    names = {model.reference, model.name.title, str(model.name)}
    for file in (model.file, *model.copies):
        names |= {file.name, file.name.removesuffix(":latest")}
        if file.repo and file.origin == "ollama":  # a model of the hub, without the hub's address
            names |= {f"{file.repo}:{file.name.rpartition(':')[2]}", file.repo}
    return {name.lower().removesuffix(".gguf") for name in names} | {name.lower() for name in names}


def _matching(
    models: Sequence[LocalModel], reference: CatalogueReference | HubReference | NameReference
) -> list[LocalModel]:
    """Return the model with exactly this reference, otherwise all that it may stand for."""
    exact = [model for model in models if model.reference == str(reference)]
    return exact or [model for model in models if _matches(model, reference)]


def _matches(local: LocalModel, reference: CatalogueReference | HubReference | NameReference) -> bool:
    match reference:
        case CatalogueReference(model, quant):
            published = local.published
            return published is not None and published.model is model and quant in (None, published.quant)
        case HubReference(repo, file, label):
            quantisation = local.header.quantisation if local.header else ""
            return any(
                found.repo.lower() == repo.lower()
                and file.lower() in ("", found.name.lower())
                and label in ("", quantisation, quant_in(found.name))
                for found in (local.file, *local.copies)
            ) or str(reference).lower() in _names(local)
        case NameReference(name):
            return name.lower() in _names(local)


def _published(file: FoundFile, header: ModelHeader | None, catalogue: Catalogue) -> PublishedModel | None:
    """Return the catalogue's entry for a model file, recognised by its sha256, its name, or its header."""
    if known := catalogue.by_sha256(file.sha256) or catalogue.by_file_name(file.name.rpartition("/")[2]):
        return known
    model = catalogue.by_title(header.name, header.layers, header.width) if header else None
    quant = model.quantisation(header.quantisation) if model and header else None
    return PublishedModel(model, quant) if model and quant else None


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
        "file": _("File"),
        "guide": _("Built in"),
    }.get(model.file.origin, _("Folder"))


def as_rows(models: Sequence[LocalModel], problems: Sequence[FolderProblem] = ()) -> Iterator[dict[str, object]]:
    """Yield each model as an object of `models list --json`, then the folders that can't be searched, without names."""
    for model in models:
        header = model.header
        yield {
            "model": model.reference,
            "name": model.name.title,
            "path": str(model.path),
            "from": model.file.origin,
            "repo": model.file.repo,
            "sha256": model.file.sha256,
            "architecture": header.architecture if header else "",
            "quantisation": header.quantisation if header else "",
            "bytes": header.file_size if header else 0,
            "context": model.context.native if model.context else 0,
            "context_max": model.context.limit if model.context else 0,
            "parts": [str(part) for part in header.parts] if header else [],
            "tools": model.tools,
            "problem": model.problem,
        }
    for problem in problems:
        empty: dict[str, object] = dict.fromkeys(
            ("model", "name", "repo", "sha256", "architecture", "quantisation"), ""
        )
        numbers = {"bytes": 0, "context": 0, "context_max": 0, "parts": [], "tools": None}
        yield empty | numbers | {"path": str(problem.folder), "from": problem.origin, "problem": problem.message}
