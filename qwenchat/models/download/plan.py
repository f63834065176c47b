"""Plans a download: which model, which of its files, from which source, to which folder. No connection is opened here.

`DownloadPlanner` makes a `DownloadPlan` from the user's input and settings. `select_files` selects the files once the
source has listed them: by name, by quantisation, or the largest model that fits into memory.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from qwenchat.config import HubSettings
from qwenchat.errors import NotFound, Recovery, RecoveryKind, WrongUse
from qwenchat.i18n import _, enumerated
from qwenchat.models import fit
from qwenchat.models.catalogue import Catalogue, CatalogueModel, PublishedModel, Quantisation
from qwenchat.models.download.destination import CacheDestination, Destination, FolderDestination
from qwenchat.models.download.retry import SourceError, SourceFault, explain
from qwenchat.models.file_names import is_gguf, is_safe, names_quant, split_names
from qwenchat.models.folders import DownloadRecords
from qwenchat.models.reference import (
    CatalogueReference,
    FileReference,
    GuideReference,
    HubReference,
    NameReference,
    Reference,
    parse,
    revision_in,
    unknown,
)
from qwenchat.models.sources.folder import FolderSource
from qwenchat.models.sources.registry import find_source, is_folder, is_hub_address, is_offline
from qwenchat.models.sources.source import RemoteFile, Source
from qwenchat.models.sources.url import is_file_url
from qwenchat.net.addresses import origin
from qwenchat.paths import expand_home, is_missing
from qwenchat.text.safe import clean_line, safe_name

_NOT_A_CHAT_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
"""Matches names of GGUF files that are stored beside models and can't chat."""
_SHA256 = re.compile("[0-9a-f]{64}")
_WEIGHTS_SHARE = 0.85
"""The share of a model's memory that its file may take; the rest is for the KV cache and compute buffers."""


@dataclass(frozen=True, slots=True)
class FileSelection:
    """Selects a model of a repository: by file name, otherwise by quantisation, otherwise by memory."""

    repo: str
    """`owner/repo`; empty if the source is a single URL."""
    file: str = ""
    """A file name; the first part represents a split model."""
    quant: str = ""
    """A label such as `q4_k_m`, in any spelling."""
    revision: str = ""
    """Branch, tag or commit; empty for the source's default."""
    memory: int = 0
    """The limit in bytes if neither file nor quantisation is given: the largest model within it is selected, or the
    smallest of all if none is."""
    instead: tuple[str, ...] = ()
    """The file names to look for, in this order, where the source does not have `file`."""


def select_files(listed: Sequence[RemoteFile], selection: FileSelection, source: str) -> list[RemoteFile]:
    """Return the files of a model in order, including all parts of a split model, with each sha256 in lower case.

    Files with unsafe names are ignored. Raises NotFound if there is no such model, NetworkError if a selected file has
    an unsafe name or an invalid sha256, because both would become paths.
    """
    if selection.file and not is_safe(selection.file):
        raise explain(SourceError(SourceFault.UNSAFE_NAME, source), clean_line(selection.file))
    by_name = {file.name: file for file in listed if is_safe(file.name) and is_gguf(file.name)}
    first_parts = sorted(name for name in by_name if split_names(name)[0] == name)
    name = _selected(first_parts, by_name, selection)
    if name is None:
        wanted = clean_line(selection.file or selection.quant or "*.gguf")
        raise NotFound(
            _("{repo} at {where} has no file {file}.").format(repo=selection.repo, where=source, file=wanted),
            _("Its files: {files}").format(files=enumerated(first_parts[:12]) or _("no .gguf files")),
        )
    return [_checked(by_name, part, source) for part in split_names(name)]


def _selected(first_parts: list[str], by_name: dict[str, RemoteFile], selection: FileSelection) -> str | None:
    """Return the name of the selected file, or of the first part of a split model; None if there is none."""
    if named := next((name for name in (selection.file, *selection.instead) if name in by_name), None):
        return named
    models = [name for name in first_parts if not _NOT_A_CHAT_MODEL.search(name)]
    if selection.quant:
        return next((name for name in models if names_quant(name, selection.quant)), None)
    if selection.file or not models:
        return None

    sizes = {name: sum(by_name[part].size or 0 for part in split_names(name) if part in by_name) for name in models}
    fitting = [name for name in models if sizes[name] <= selection.memory]
    return max(fitting, key=sizes.__getitem__) if fitting else min(models, key=sizes.__getitem__)


def _checked(by_name: dict[str, RemoteFile], name: str, source: str) -> RemoteFile:
    if name not in by_name:
        raise explain(SourceError(SourceFault.FILE, source), name)
    file = by_name[name]
    if file.sha256 is None:
        return file
    if not _SHA256.fullmatch(file.sha256.lower()):
        raise explain(SourceError(SourceFault.BAD_HASH, source), name)
    return replace(file, sha256=file.sha256.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadPlan:
    """A download, ready for `pull`."""

    reference: Reference | None = None
    """None for a URL."""
    selection: FileSelection
    source: Source | None
    """None if no connection may be opened."""
    destination: Destination
    model: CatalogueModel | None = None
    """The model of the catalogue, whose licence the user may have to accept."""
    may_use_copy: bool = False
    """Whether an existing copy of another program can be used instead of a download."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadPlanner:
    """Makes download plans with the same settings and folders."""

    catalogue: Catalogue
    settings: HubSettings
    environ: Mapping[str, str]
    hub_cache: Path
    """The Hugging Face cache."""
    own_folder: Path
    """This program's folder, for files that belong to no repository."""
    resources: Callable[[], fit.Resources]
    """The resources for which a quantisation is chosen if none is named."""

    def plan(self, text: str, *, source: str = "", revision: str = "", folder: Path | None = None) -> DownloadPlan:
        """Plan the download of a model reference, of the URL of one file, or of a file in the folder `source`.

        Raises WrongUse or NotFound if it can't be downloaded.
        """
        source = source or self.settings.source
        if text.startswith(("http://", "https://")) and not is_hub_address(text):
            return self._plan_url(text, folder)
        if is_folder(source) and is_safe(text) and is_gguf(text) and "/" not in text:
            return DownloadPlan(
                reference=NameReference(text),
                selection=FileSelection("", text),
                source=self._source(source),
                destination=self._folder(folder) if folder else FolderDestination(self.own_folder),
                may_use_copy=True,
            )
        reference = parse(text, self.catalogue)
        selection, model = self._selection(reference, revision or revision_in(text), source)
        found = self._source(source)
        return DownloadPlan(
            reference=reference,
            selection=selection,
            source=found,
            destination=self._destination(selection.repo, found, folder),
            model=model,
            may_use_copy=not folder,
        )

    def _plan_url(self, url: str, folder: Path | None) -> DownloadPlan:
        if not is_file_url(url):
            raise WrongUse(
                _("{address} is not the URL of a model file.").format(address=clean_line(url)),
                _("Its path must end in .gguf. For a mirror of a hub, give a model, and the URL as its source."),
            )
        own = FolderDestination(self.own_folder / _folder_name(url))
        return DownloadPlan(
            selection=FileSelection(""),
            source=self._source(url),
            destination=self._folder(folder) if folder else own,
            may_use_copy=True,
        )

    def _selection(
        self, reference: Reference, revision: str, source: str
    ) -> tuple[FileSelection, CatalogueModel | None]:
        match reference:
            case CatalogueReference(model, quant):
                wanted = quant or self._fitting(model)
                # What is in a folder was chosen on another machine.
                others = () if quant or not is_folder(source) else model.quantisations
                instead = tuple(model.file_names(each)[0] for each in others)
                file = model.file_names(wanted)[0]
                return FileSelection(model.repo, file, wanted.label, revision, instead=instead), model
            case HubReference(repo, file, quant):
                memory = 0 if file or quant else round(self.resources().comfortable * _WEIGHTS_SHARE)
                selection = FileSelection(repo, file, quant=quant, revision=revision, memory=memory)
                return selection, self.catalogue.by_repo(repo)
            case FileReference(path):
                if not is_missing(path):
                    raise WrongUse(
                        _("{path} is already on this computer.").format(path=path), _("Use it without downloading it.")
                    )
                raise NotFound(
                    _("There is no file {path}.").format(path=path), _("Give the name of a model, not a path.")
                )
            case GuideReference():
                raise WrongUse(
                    _("The guide comes with the program."),
                    _("It needs no download."),
                    recoveries=(Recovery(RecoveryKind.USE_MODEL, name="guide"),),
                )
        raise unknown(reference, self.catalogue)

    def _fitting(self, model: CatalogueModel) -> Quantisation:
        """Return the quantisation to download if none is named, of at least four bits; the smallest if none fits."""
        offered = [PublishedModel(model, quant) for quant in model.offered if not quant.rough]
        return (fit.choose(offered, self.resources()) or offered[0]).quant

    def _source(self, text: str) -> Source | None:
        offline = is_offline(self.environ, self.settings.offline) and not is_folder(text)
        return None if offline else find_source(text, self.environ)

    def _destination(self, repo: str, source: Source | None, folder: Path | None) -> Destination:
        if folder:
            return self._folder(folder)
        if self.settings.folder:
            return self._folder(Path(self.settings.folder) / repo)
        name = "file" if isinstance(source, FolderSource) else source.name if source else "hf"
        return CacheDestination(self.hub_cache, repo, name)

    def _folder(self, folder: Path) -> FolderDestination:
        """Return one of the user's folders as the destination, in which there may be other files."""
        return FolderDestination(expand_home(folder), DownloadRecords(self.own_folder))


def _folder_name(url: str) -> str:
    """Return a folder name for the folder of a URL, in which file names are unique."""
    _scheme, host, port = origin(url)
    where = f"{host}:{port}{urlsplit(url).path.rpartition('/')[0]}"
    return f"{safe_name(host)}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"
