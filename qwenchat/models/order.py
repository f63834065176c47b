"""What is downloaded from where to where, out of what a person typed and set. Nothing is asked of anyone yet."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from qwenchat.config import HubSettings
from qwenchat.errors import NotFound, WrongUse
from qwenchat.i18n import _
from qwenchat.models import fit
from qwenchat.models.brought import Brought
from qwenchat.models.catalog import Catalog, Model, Quantisation
from qwenchat.models.catalog import Published as PublishedFile
from qwenchat.models.choice import Wanted
from qwenchat.models.connection import origin
from qwenchat.models.names import is_safe
from qwenchat.models.place import Folder, HubCache, Place
from qwenchat.models.reference import Guide, LocalFile, Named, OnHub, Published, Reference, parse, revision_in, unknown
from qwenchat.models.source import Source
from qwenchat.models.sources import is_file_address, is_folder, is_hub_page, is_offline, source_named
from qwenchat.paths import at_home, is_missing
from qwenchat.text import clean_line, safe_name

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
        return Folder(at_home(folder), Brought(self.own)) if folder else Folder(self.own)


def _folder_of(address: str) -> str:
    """Return a name for the folder that a file lies in on its server, which has one file of each name."""
    _scheme, host, port = origin(address)
    where = f"{host}:{port}{urlsplit(address).path.rpartition('/')[0]}"
    return f"{safe_name(host)}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"
