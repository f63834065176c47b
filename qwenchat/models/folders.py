"""Where models are on this machine: the folders of this and other programs, and the files that the user named.

Other programs' folders are found where they document them. What this program records about model files is here as
well: which ones it downloaded and which ones were used. No folder is created before something is recorded.
"""

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
from msgspec import Struct, field

from qwenchat.files import save_if_possible
from qwenchat.models.file_names import split_paths
from qwenchat.models.layouts import FolderProblem, FolderReader, FoundFile
from qwenchat.models.reference import path_in
from qwenchat.paths import expand_home, folder_problem, is_missing

SYSTEM_OLLAMA = tuple(
    map(Path, ("/usr/share/ollama/.ollama/models", "/var/lib/ollama", "/var/lib/ollama/.ollama/models"))
)
"""The folders of an Ollama that runs as a service: that of its installer, then those of Linux distributions."""
_USED = 30
"""Models that are remembered as used."""


class DownloadRecords:
    """Records which files in the user's folders this program downloaded; it must never delete any other.

    There is one small record per file, so that parallel downloads need not wait for each other. A file without a
    record belongs to the user.
    """

    def __init__(self, own_folder: Path) -> None:
        self._folder = own_folder / "brought"  # the name that earlier versions used

    def add(self, file: Path) -> None:
        """Record a downloaded file."""
        save_if_possible(self._record(file), _file_url(file))

    def remove(self, file: Path) -> None:
        """Delete the record of a deleted file: the next file of that name may belong to the user."""
        with suppress(OSError):
            self._record(file).unlink()

    def contains(self, model: Path) -> bool:
        """Return whether this program downloaded all existing files of a model."""
        return all(self._record(part).exists() for part in split_paths(model) if part == model or not is_missing(part))

    def _record(self, file: Path) -> Path:
        return self._folder / hashlib.sha256(_file_url(file)).hexdigest()[:32]


def _file_url(file: Path) -> bytes:
    return (file.parent.resolve() / file.name).as_uri().encode()


class UsedModels:
    """Records the references of the models that were used, so that a file is listed wherever it is on the disk."""

    def __init__(self, own_folder: Path) -> None:
        self._file = own_folder / "used.json"

    def add(self, reference: str) -> None:
        """Record that a model is used now."""
        known = self.references()
        if known[:1] != [reference]:
            others = [other for other in known if other != reference]
            save_if_possible(self._file, msgspec.json.encode([reference, *others][:_USED]))

    def references(self) -> list[str]:
        """Return the references of the models, the last one used first."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=list[str])
        except (OSError, ValueError):
            return []

    def files(self) -> Iterator[Path]:
        """Yield those models that were named by their files, if they still exist."""
        for reference in self.references():
            path = path_in(reference)
            if path and path.is_absolute() and not is_missing(path):
                yield path


class ModelFolders(Struct, frozen=True, kw_only=True):
    """The folders to search for models."""

    own: tuple[Path, ...]
    """Folders in which this program downloaded every file. The first also contains the records."""
    folders: tuple[Path, ...]
    """Folders that the user added."""
    hf: Path
    llama_cpp: tuple[Path, ...]
    ollama: tuple[Path, ...]
    lmstudio: tuple[Path, ...]
    download_folder: Path | None = None
    """The user's folder for downloads, if they do not go to the Hugging Face cache."""

    @classmethod
    def find(
        cls,
        environ: Mapping[str, str],
        *,
        own: tuple[Path, ...],
        folders: tuple[Path, ...],
        home: Path,
        download_folder: Path | None = None,
    ) -> "ModelFolders":
        """Return the folders that the programs document, depending on environment and platform."""
        cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
        local = Path(environ.get("LOCALAPPDATA") or home / "AppData/Local")
        older = {"darwin": home / "Library/Caches", "win32": local}.get(sys.platform, cache) / "llama.cpp"
        llama_cpp = environ.get("LLAMA_CACHE")
        ollama = environ.get("OLLAMA_MODELS")
        return cls(
            own=own,
            folders=folders,
            hf=_hf_cache(environ, cache),
            llama_cpp=(Path(llama_cpp), older) if llama_cpp else (older,),
            ollama=(*([Path(ollama)] if ollama else []), home / ".ollama/models", *SYSTEM_OLLAMA),
            lmstudio=tuple(_lmstudio_folders(home)),
            download_folder=download_folder,
        )

    @property
    def downloads(self) -> Path:
        """The folder for downloads."""
        return self.download_folder or self.hf

    @property
    def records(self) -> DownloadRecords:
        """Which files in the user's folders this program downloaded."""
        return DownloadRecords(self.own[0])

    @property
    def used(self) -> UsedModels:
        """Which models were used."""
        return UsedModels(self.own[0])

    def scan(self) -> tuple[list[FoundFile], list[FolderProblem]]:
        """Return the files in all folders, and the folders that can't be searched.

        A file that is in two folders is returned twice. Other programs need not be installed: of missing folders, only
        those that the user added are problems.
        """
        problems: list[FolderProblem] = []
        files = list(self._files(problems))
        return files, problems

    def _files(self, problems: list[FolderProblem]) -> Iterator[FoundFile]:
        for folder in self.own:
            yield from FolderReader("qwenchat", problems).below(folder)
        if self.download_folder:
            yield from self._in_download_folder(self.download_folder, problems)
        yield from FolderReader("hf", problems).hf_cache(self.hf)
        for folder in self.llama_cpp:
            yield from FolderReader("llama.cpp", problems).hf_cache(folder)
            yield from FolderReader("llama.cpp", problems).below(folder, depth=1)
        for folder in self.ollama:
            yield from FolderReader("ollama", problems).ollama(folder)
        for folder in self.lmstudio:
            yield from FolderReader("lmstudio", problems).lmstudio(folder)
        for folder in self.folders:
            if reason := folder_problem(folder):
                problems.append(FolderProblem(folder, "folder", reason))
                continue
            yield from FolderReader("folder", problems).below(folder, follow=True)
        for path in self.used.files():
            yield FoundFile(path, "file", path.name)

    def is_downloaded(self, path: Path) -> bool:
        """Return whether this program downloaded a model to one of the user's folders."""
        return self.records.contains(path)

    def _in_download_folder(self, folder: Path, problems: list[FolderProblem]) -> Iterator[FoundFile]:
        """Yield downloaded models, which are at `OWNER/REPO/file.gguf`, and all other GGUF files."""
        for found in FolderReader("folder", problems).below(folder, follow=True):
            owner, *inside = found.path.relative_to(folder).parts
            repo, name = (f"{owner}/{inside[0]}", "/".join(inside[1:])) if len(inside) > 1 else ("", found.name)
            origin = "qwenchat" if self.is_downloaded(found.path) else "folder"
            yield replace(found, origin=origin, name=name, repo=repo)


def _hf_cache(environ: Mapping[str, str], cache: Path) -> Path:
    if named := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return expand_home(named)
    return expand_home(environ.get("HF_HOME") or cache / "huggingface") / "hub"


class _LMStudioSettings(Struct, frozen=True):
    downloads: str = field(name="downloadsFolder", default="")


def _lmstudio_folders(home: Path) -> Iterator[Path]:
    """Yield LM Studio's folders: that of its settings, if the user moved it, and `models` in each of its homes.

    The file `~/.lmstudio-home-pointer` contains the path of a home elsewhere.
    """
    pointer = _beginning(home / ".lmstudio-home-pointer").decode("utf-8", "replace").strip()
    homes = [Path(pointer)] if pointer.isprintable() and Path(pointer).is_absolute() else []
    for place in dict.fromkeys((*homes, home / ".lmstudio", home / ".cache/lm-studio")):
        with suppress(ValueError):
            settings = msgspec.json.decode(_beginning(place / "settings.json"), type=_LMStudioSettings)
            if Path(settings.downloads).is_absolute():
                yield Path(settings.downloads)
        yield place / "models"


def _beginning(file: Path) -> bytes:
    """Return the first MiB of a file; empty if it can't be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(1 << 20)
    except OSError:
        return b""
