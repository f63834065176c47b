"""The models on this machine: ours and other programs', used where they lie, never moved and never changed.

Headers are cached by path, size and time of change. A file that can't be used is an entry with its reason.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from qwenchat.errors import QwenchatError
from qwenchat.i18n import _
from qwenchat.models import fit
from qwenchat.models.catalogue import Catalog, quant_label
from qwenchat.models.catalogue import Published as PublishedFile
from qwenchat.models.gguf import Header, HeaderCache, check, part_paths
from qwenchat.models.layouts import Found, Places
from qwenchat.models.reference import (
    Guide,
    LocalFile,
    Named,
    OnHub,
    Published,
    Reference,
    is_repo,
    is_text,
    path_reference,
    unknown,
)
from qwenchat.paths import is_missing


@dataclass(frozen=True, slots=True)
class Entry:
    """One model on this machine."""

    found: Found
    reference: str
    """What to type to use it."""
    header: Header | None
    """None where it can't be read."""
    published: PublishedFile | None
    """The model of the catalogue that it is, if any."""
    problem: str
    """Why it can't be used; empty for a usable one."""

    @property
    def path(self) -> Path:
        """The file to load: of a split model the first part."""
        return self.found.path


class Library:
    """Finds models in known places. `machine` says what there is to choose a default with."""

    def __init__(self, places: Places, cache: Path, catalog: Catalog, machine: Callable[[], fit.Resources]) -> None:
        self._places, self._catalog, self._machine = places, catalog, machine
        self._headers = HeaderCache(cache / "headers.json")

    def entries(self) -> list[Entry]:
        """Return every model once, in the order of the places."""
        models, seen = [], set()
        for found in self._places.look():
            parts = part_paths(found.path)
            if found.path != parts[0] and not is_missing(parts[0]):
                continue
            stamp = _stamp(parts)
            if stamp and stamp in seen:
                continue
            seen.add(stamp)
            models.append((found, stamp))
        self._headers.read_ahead((found.path, stamp) for found, stamp in models if not found.problem)
        entries = [self._entry(found, stamp) for found, stamp in models]
        self._headers.save()
        return entries

    def find(self, reference: Reference) -> Path | None:
        """Return the model's file if it is on this machine and usable; no connection is opened.

        Of several quantisations, where none was asked for, the one that `fit.choose` takes.
        """
        if isinstance(reference, LocalFile):
            return None if is_missing(reference.path) else reference.path
        if isinstance(reference, Guide):
            return _guide()
        return self._best([entry for entry in self.usable() if _is_it(entry, reference)])

    def locate(self, reference: Reference) -> Path:
        """Return what `find` does, else a damaged file of that name, or raise NotFound with names that come near."""
        return self.find(reference) or self.entry(reference).path

    def entry(self, reference: Reference) -> Entry:
        """Return all that is known of a model here, usable or not. Raises NotFound."""
        entries = self.entries()
        path = self.find(reference)
        if path and (known := next((entry for entry in entries if entry.path == path), None)):
            return known
        if path:
            return self._entry(Found(path, "file", path.name), _stamp(part_paths(path)))
        if not isinstance(reference, LocalFile | Guide):
            for entry in entries:
                if _is_it(entry, reference):
                    return entry
        raise unknown(reference, self._catalog, (entry.reference for entry in entries if not entry.problem))

    def usable(self) -> list[Entry]:
        """Return the models that can chat."""
        return [entry for entry in self.entries() if not entry.problem]

    def best(self) -> Entry | None:
        """Return the model to take where none was named: the largest that is comfortable here; None without any."""
        entries = self.usable()
        path = self._best(entries)
        return next((entry for entry in entries if entry.header and entry.header.path == path), None)

    def _best(self, entries: Sequence[Entry]) -> Path | None:
        headers = [entry.header for entry in entries if entry.header]
        if len(headers) < 2:
            return headers[0].path if headers else None
        chosen = fit.choose(headers, self._machine()) or min(headers, key=lambda header: header.file_size)
        return chosen.path

    def _entry(self, found: Found, stamp: str) -> Entry:
        header, problem = None, found.problem
        if not problem:
            try:
                header = self._headers.get(found.path, stamp)
                check(header)
            except QwenchatError as error:
                problem = error.message
        published = _published(found, header, self._catalog)
        if found.origin == "ollama":
            reference = found.name
        elif published:
            reference = published.reference
        else:
            reference = f"{found.repo}/{found.name}" if is_repo(found.repo) else path_reference(found.path)
        if not is_text(reference):
            reference = path_reference(found.path)
        return Entry(found, reference, header, published, problem)


def _names(entry: Entry) -> set[str]:
    name = entry.found.name.lower()
    return {entry.reference.lower(), name, name.removesuffix(":latest"), name.removesuffix(".gguf")}


def _is_it(entry: Entry, wanted: Published | OnHub | Named) -> bool:
    found = entry.found
    match wanted:
        case Published(model, quant):
            is_it = entry.published
            return is_it is not None and is_it.model is model and quant in (None, is_it.quant)
        case OnHub(repo, file, label):
            quants = ("", entry.header.quantisation if entry.header else "", _quant_in(found.name))
            name = file.lower() in ("", found.name.lower())
            return found.repo.lower() == repo.lower() and name and label in quants
        case Named(name):
            return name.lower() in _names(entry)


def _quant_in(name: str) -> str:
    """Return the quantisation that a file's name ends with."""
    match = re.search(
        r"[-._:]((?:i?q\d|f16|f32|bf16|fp16|tq\d|mxfp4)\w*?)(?:-\d{5}-of-\d{5})?(?:\.gguf)?$", name.lower()
    )
    return quant_label(match[1]) if match else ""


def _published(found: Found, header: Header | None, catalog: Catalog) -> PublishedFile | None:
    """Return the catalogue's model that a file is: by its sha256, by its name, by what its header says."""
    named = re.sub(r"[\s_]+", "-", header.name.lower()) if header else ""
    for model in catalog.models:
        for quant in model.quantisations:
            by_hash = found.sha256 and found.sha256 == quant.parts[0].sha256
            by_name = found.name.rpartition("/")[2].lower() == model.file_names(quant)[0]
            by_header = (
                header is not None
                and header.quantisation == quant.label
                and (header.layers, header.width) == (model.shape.layers, model.shape.width)
                and named in (f"qwen2-{model.size}-instruct", model.stem)
            )
            if by_hash or by_name or by_header:
                return PublishedFile(model, quant)
    return None


def _guide() -> Path | None:
    folder = files(__package__).joinpath("guide")
    with as_file(folder) as path:
        return next(iter(sorted(path.glob("*.gguf"))), None)


def _stamp(parts: Sequence[Path]) -> str:
    """Return what changes when any part does: device, inode, size and time of change; empty where none is there."""
    stamps = []
    for part in parts:
        with suppress(OSError):
            facts = part.stat()
            stamps.append(f"{facts.st_dev}.{facts.st_ino}.{facts.st_size}.{facts.st_mtime_ns}")
    return " ".join(stamps)


def owner(entry: Entry) -> str:
    """Return whose folder a model lies in, in words."""
    return {
        "qwenchat": "qwenchat",
        "hf": _("Hugging Face cache"),
        "llama.cpp": "llama.cpp",
        "ollama": "Ollama",
        "lmstudio": "LM Studio",
    }.get(entry.found.origin, _("folder"))


def as_rows(entries: Sequence[Entry]) -> Iterator[dict[str, object]]:
    """Yield what `models list --json` says of each model."""
    for entry in entries:
        header = entry.header
        yield {
            "model": entry.reference,
            "name": header.name if header else entry.found.name,
            "path": str(entry.path),
            "from": entry.found.origin,
            "repo": entry.found.repo,
            "sha256": entry.found.sha256,
            "architecture": header.architecture if header else "",
            "quantisation": header.quantisation if header else "",
            "bytes": header.file_size if header else 0,
            "context": header.context_length if header else 0,
            "parts": [str(part) for part in header.parts] if header else [],
            "problem": entry.problem,
        }
