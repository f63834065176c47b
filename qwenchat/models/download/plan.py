"""What is downloaded from where to where, out of what a person typed and set. Nothing is asked of anyone yet.

Which files of a repository a wish means: by name, by quantisation, or the best that this machine has room for.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from qwenchat.config import HubSettings
from qwenchat.errors import NotFound, WrongUse
from qwenchat.i18n import _
from qwenchat.models import fit
from qwenchat.models.catalogue import Catalog, Model, Quantisation, quant_label
from qwenchat.models.catalogue import Published as PublishedFile
from qwenchat.models.download.destination import Folder, HubCache, Place
from qwenchat.models.download.http import origin
from qwenchat.models.download.retry import Fault, WireError, explain
from qwenchat.models.layouts import Brought
from qwenchat.models.names import is_safe
from qwenchat.models.reference import Guide, LocalFile, Named, OnHub, Published, Reference, parse, revision_in, unknown
from qwenchat.models.sources.named import is_file_address, is_folder, is_hub_page, is_offline, source_named
from qwenchat.models.sources.source import RemoteFile, Source
from qwenchat.paths import expand_home, is_missing
from qwenchat.text.safe import clean_line, safe_name

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


_WEIGHTS = 0.85
"""The share of the memory for a model that its file may take; the rest is for the KV cache and computing."""


@dataclass(frozen=True, slots=True)
class Order:
    """A download that `pull` can carry out."""

    reference: Reference | None
    """None for an address."""
    wanted: Wanted
    source: Source | None
    """None: offline."""
    place: Place
    model: Model | None
    """Of the catalogue, whose licence a person may have to accept."""
    anywhere: bool
    """Whether a copy that another program has will do."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Takes orders; what it knows stays the same from one to the next."""

    catalog: Catalog
    settings: HubSettings
    environ: Mapping[str, str]
    hub_cache: Path
    own: Path
    """Our folder for what belongs to no repository."""
    machine: Callable[[], fit.Resources]
    """What there is to choose a quantisation with, where none is named."""

    def order(self, text: str, *, source: str = "", revision: str = "", folder: Path | None = None) -> Order:
        """Return what `text` orders: a reference, the address of one file, or the name of one in the folder `source`.

        Raises WrongUse or NotFound for what can't be downloaded.
        """
        source = source or self.settings.source
        if text.startswith(("http://", "https://")) and not is_hub_page(text):
            if not is_file_address(text):
                raise WrongUse(
                    _("{address} is not the address of a model file.").format(address=clean_line(text)),
                    _("Its path has to end in .gguf; for a mirror of a hub, give a model and --from ADDRESS."),
                )
            place = self._folder(folder) if folder else Folder(self.own / _folder_of(text))
            return Order(None, Wanted(""), self._source(text), place, None, anywhere=True)
        if is_folder(source) and is_safe(text) and text.lower().endswith(".gguf") and "/" not in text:
            return Order(Named(text), Wanted("", text), self._source(source), self._folder(folder), None, anywhere=True)
        reference = parse(text, self.catalog)
        wanted, model = self._wanted(reference, revision or revision_in(text))
        chosen = self._source(source)
        return Order(reference, wanted, chosen, self._place(wanted.repo, chosen, folder), model, anywhere=not folder)

    def _wanted(self, reference: Reference, revision: str) -> tuple[Wanted, Model | None]:
        match reference:
            case Published(model, quant):
                quant = quant or self._fitting(model)
                return Wanted(model.repo, model.file_names(quant)[0], quant.label, revision), model
            case OnHub(repo, file, quant):
                room = 0 if file or quant else round(self.machine().comfortable * _WEIGHTS)
                return Wanted(repo, file, quant, revision, room), self.catalog.by_repo(repo)
            case LocalFile(path):
                if not is_missing(path):
                    raise WrongUse(_("{path} is on this machine already.").format(path=path), _("Use it as it is."))
                raise NotFound(_("There is no file {path}.").format(path=path), _("Name a model, not a path."))
            case Guide():
                raise WrongUse(_("The guide comes with the program."), _("Use it: qwenchat --model guide"))
        raise unknown(reference, self.catalog)

    def _fitting(self, model: Model) -> Quantisation:
        """Return the quantisation to take where none is named; the smallest where none fits."""
        offered = [PublishedFile(model, quant) for quant in model.offered]
        return (fit.choose(offered, self.machine()) or offered[0]).quant

    def _source(self, text: str) -> Source | None:
        offline = is_offline(self.environ, self.settings.offline) and not is_folder(text)
        return None if offline else source_named(text, self.environ)

    def _place(self, repo: str, source: Source | None, folder: Path | None) -> Place:
        if not folder and self.settings.folder:
            folder = Path(self.settings.folder) / repo
        if folder:
            return self._folder(folder)
        return HubCache(self.hub_cache, repo, source.name if source else "hf")

    def _folder(self, folder: Path | None) -> Folder:
        return Folder(expand_home(folder), Brought(self.own)) if folder else Folder(self.own)


def _folder_of(address: str) -> str:
    """Return a name for the folder that a file lies in on its server, which has one file of each name."""
    _scheme, host, port = origin(address)
    where = f"{host}:{port}{urlsplit(address).path.rpartition('/')[0]}"
    return f"{safe_name(host)}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"
