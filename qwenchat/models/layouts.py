"""Finds the model files of this and other programs by the layout of their folders.

Folders are read directly: no other program is run and none of their libraries is imported. Model files are never
changed here. The content of folders is not trusted: names from manifests are checked before they become paths.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path

import msgspec
from msgspec import Struct, field

from qwenchat.files import save_if_possible
from qwenchat.i18n import _
from qwenchat.models.file_names import is_gguf, split_paths
from qwenchat.paths import expand_home, is_missing

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_DEPTH = 6
"""Levels of folders that are searched below one of the user's folders."""


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


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that should be a model; it was not opened yet."""

    path: Path
    origin: str
    """The program that owns its folder: `qwenchat`, `hf`, `llama.cpp`, `ollama`, `lmstudio`, or just `folder`."""
    name: str
    """The name that this program uses for it."""
    _: KW_ONLY
    repo: str = ""
    """`owner/repo` on the hub, if the layout contains it."""
    sha256: str = ""
    """The hash, if the layout contains it."""
    problem: str = ""
    """The reason why the file can't be used, if the layout itself is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolders:
    """The folders to search for models."""

    own: tuple[Path, ...]
    """Folders in which this program downloaded every file."""
    folders: tuple[Path, ...]
    """Folders that the user added."""
    hf: Path
    llama_cpp: tuple[Path, ...]
    ollama: tuple[Path, ...]
    lmstudio: tuple[Path, ...]
    download_folder: Path | None = None
    """The user's folder for downloads, if they do not go to the Hugging Face cache."""
    records: DownloadRecords | None = None
    """Which files in the user's folders this program downloaded."""

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
        """Return the folders that the programs document, depending on environment and platform.

        The first of `own` also contains the records of files that were downloaded to the user's folders.
        """
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
            ollama=(Path(ollama),) if ollama else (home / ".ollama/models", Path("/usr/share/ollama/.ollama/models")),
            lmstudio=(home / ".lmstudio/models", home / ".cache/lm-studio/models"),
            download_folder=download_folder,
            records=DownloadRecords(own[0]),
        )

    @property
    def downloads(self) -> Path:
        """The folder for downloads."""
        return self.download_folder or self.hf

    def scan(self) -> Iterator[FoundFile]:
        """Yield the files in all folders; a file that is in two of them is yielded twice."""
        for folder in self.own:
            yield from below(folder, "qwenchat")
        if self.download_folder:
            yield from self._in_download_folder(self.download_folder)
        yield from hf_cache(self.hf, "hf")
        for folder in self.llama_cpp:
            yield from hf_cache(folder, "llama.cpp")
            yield from below(folder, "llama.cpp", depth=1)
        for folder in self.ollama:
            yield from ollama(folder)
        for folder in self.lmstudio:
            yield from lmstudio(folder)
        for folder in self.folders:
            yield from below(folder, "folder")

    def is_downloaded(self, path: Path) -> bool:
        """Return whether this program downloaded a model to one of the user's folders."""
        return self.records is not None and self.records.contains(path)

    def _in_download_folder(self, folder: Path) -> Iterator[FoundFile]:
        """Yield downloaded models, which are at `OWNER/REPO/file.gguf`, and all other GGUF files."""
        for found in below(folder, "folder"):
            owner, *inside = found.path.relative_to(folder).parts
            repo, name = (f"{owner}/{inside[0]}", "/".join(inside[1:])) if len(inside) > 1 else ("", found.name)
            origin = "qwenchat" if self.is_downloaded(found.path) else "folder"
            yield replace(found, origin=origin, name=name, repo=repo)


def _hf_cache(environ: Mapping[str, str], cache: Path) -> Path:
    if named := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return expand_home(named)
    return expand_home(environ.get("HF_HOME") or cache / "huggingface") / "hub"


def hf_cache(cache: Path, origin: str) -> Iterator[FoundFile]:
    """Yield the GGUF files of a Hugging Face cache: `models--owner--repo/snapshots/COMMIT/file`, a link to a blob.

    The revision of the branch `main` comes first.
    """
    for repo in _folders(cache):
        kind, _dashes, name = repo.name.partition("--")
        if kind != "models" or "--" not in name:
            continue
        main = _text(repo / "refs" / "main").strip()
        snapshots = sorted(_folders(repo / "snapshots"), key=lambda folder: (folder.name != main, folder.name))
        for snapshot in snapshots:
            for path in _ggufs(snapshot, _DEPTH):
                yield FoundFile(
                    path,
                    origin,
                    path.relative_to(snapshot).as_posix(),
                    repo=name.replace("--", "/", 1),
                    sha256=blob_sha256(path),
                )


def ollama(models: Path) -> Iterator[FoundFile]:
    """Yield the models of Ollama's manifests: `manifests/HOST/NAMESPACE/MODEL/TAG` names a blob by its sha256."""
    manifests = models / "manifests"
    for path in _files(manifests, 4):
        host, *rest = path.relative_to(manifests).parts
        if len(rest) != 3:
            continue
        namespace, model, tag = rest
        official = host == "registry.ollama.ai"
        short = f"{model}:{tag}" if official and namespace == "library" else f"{namespace}/{model}:{tag}"
        repo = f"{namespace}/{model}" if host in ("hf.co", "huggingface.co") else ""
        try:
            digests = _model_layers(path)
        except (OSError, ValueError, RecursionError) as error:
            problem = _("its manifest can't be read: {reason}").format(reason=error)
            yield FoundFile(path, "ollama", short, repo=repo, problem=problem)
            continue
        for digest in digests:
            yield FoundFile(models / "blobs" / f"sha256-{digest}", "ollama", short, repo=repo, sha256=digest)


def lmstudio(models: Path) -> Iterator[FoundFile]:
    """Yield the models of LM Studio: `PUBLISHER/MODEL/file.gguf`, as on the hub."""
    for publisher in _folders(models):
        for model in _folders(publisher):
            for path in _ggufs(model, 2):
                yield FoundFile(path, "lmstudio", path.name, repo=f"{publisher.name}/{model.name}")


def below(folder: Path, origin: str, depth: int = _DEPTH) -> Iterator[FoundFile]:
    """Yield all GGUF files below a folder."""
    for path in _ggufs(folder, depth):
        yield FoundFile(path, origin, path.name)


class _OllamaLayer(Struct, frozen=True):
    digest: str
    media_type: str = field(name="mediaType", default="")


class _OllamaManifest(Struct, frozen=True):
    layers: tuple[_OllamaLayer, ...] = ()


def _model_layers(manifest: Path) -> list[str]:
    with manifest.open("rb") as file:
        layers = msgspec.json.decode(file.read(1 << 20), type=_OllamaManifest).layers
    wanted = [layer.digest for layer in layers if layer.media_type == "application/vnd.ollama.image.model"]
    return [match[1] for digest in wanted if (match := _DIGEST.fullmatch(digest))]


def blob_sha256(path: Path) -> str:
    """Return the sha256 that a link's target has as its name; empty for anything else."""
    try:
        target = path.readlink().name
    except OSError:
        return ""
    return target if re.fullmatch(r"[0-9a-f]{64}", target) else ""


def _ggufs(folder: Path, depth: int) -> Iterator[Path]:
    return (path for path in _files(folder, depth) if is_gguf(path.name))


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """Yield all entries except folders, sorted; links to folders and hidden folders are not followed."""
    folders = []
    for entry in _entries(folder):
        if not entry.is_dir(follow_symlinks=False):
            yield Path(entry.path)
        elif not entry.name.startswith("."):
            folders.append(Path(entry.path))
    if depth > 1:
        for inner in folders:
            yield from _files(inner, depth - 1)


def _folders(folder: Path) -> list[Path]:
    """Return all entries as possible folders; an entry that is none has no entries itself."""
    return [Path(entry.path) for entry in _entries(folder)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder; none if it is missing or unreadable, such as another user's cache."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
