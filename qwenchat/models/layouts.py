"""How this and other programs lay out models on disk, and which files they have there. Nothing is ever changed.

Folders are read directly: no other program is asked, and no library imported. What lies there is a stranger's: names
from manifests are checked before they become paths.

Which files in a person's own folders this program put there: they lie among others that it must never delete.

One small note for each file, so that programs and threads that download side by side need not wait for each other.
Without its note a file counts as the person's.
"""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from msgspec import Struct, field

from qwenchat.i18n import _
from qwenchat.models.gguf import part_paths
from qwenchat.models.remembered import remember
from qwenchat.paths import expand_home, is_missing


class Brought:
    """The notes below our own folder of models."""

    def __init__(self, models: Path) -> None:
        self._folder = models / "brought"

    def add(self, file: Path) -> None:
        """Note a file that a download of ours finished."""
        remember(self._note(file), _address(file))

    def forget(self, file: Path) -> None:
        """Drop the note of a file that was deleted: the next one of its name may be another's."""
        with suppress(OSError):
            self._note(file).unlink()

    def has(self, model: Path) -> bool:
        """Say whether all there is of a model, which may be split, was brought by us."""
        return all(self._note(part).exists() for part in part_paths(model) if part == model or not is_missing(part))

    def _note(self, file: Path) -> Path:
        return self._folder / hashlib.sha256(_address(file)).hexdigest()[:32]


def _address(file: Path) -> bytes:
    return (file.parent.resolve() / file.name).as_uri().encode()


_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_DEPTH = 6
"""Folders below one that a person named."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that should be a model, not yet looked into."""

    path: Path
    origin: str
    """Whose folder it lies in: `qwenchat`, `hf`, `llama.cpp`, `ollama`, `lmstudio` or `folder`."""
    name: str
    """What its owner calls it."""
    repo: str = ""
    """`owner/repo` on the hub, where the layout tells."""
    sha256: str = ""
    """Where the layout tells."""
    problem: str = ""
    """What is wrong where the layout itself is damaged."""


@dataclass(frozen=True, slots=True)
class Places:
    """The folders to look in."""

    ours: tuple[Path, ...]
    """Where all is ours."""
    folders: tuple[Path, ...]
    hf: Path
    llama_cpp: tuple[Path, ...]
    ollama: tuple[Path, ...]
    lmstudio: tuple[Path, ...]
    chosen: Path | None = None
    """The person's folder that downloads go to in place of the Hugging Face cache."""
    brought: Brought | None = None
    """Which files there are ours."""

    @classmethod
    def find(
        cls,
        environ: Mapping[str, str],
        ours: tuple[Path, ...],
        folders: tuple[Path, ...],
        home: Path,
        chosen: Path | None = None,
    ) -> "Places":
        """Return where the programs' own documentation says they keep models, by environment and platform.

        The first of `ours` keeps what is known of the files in `chosen`.
        """
        cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
        local = Path(environ.get("LOCALAPPDATA") or home / "AppData/Local")
        older = {"darwin": home / "Library/Caches", "win32": local}.get(sys.platform, cache) / "llama.cpp"
        llama_cpp = environ.get("LLAMA_CACHE")
        ollama = environ.get("OLLAMA_MODELS")
        return cls(
            ours=ours,
            folders=folders,
            hf=_hf_cache(environ, cache),
            llama_cpp=(Path(llama_cpp), older) if llama_cpp else (older,),
            ollama=(Path(ollama),) if ollama else (home / ".ollama/models", Path("/usr/share/ollama/.ollama/models")),
            lmstudio=(home / ".lmstudio/models", home / ".cache/lm-studio/models"),
            chosen=chosen,
            brought=Brought(ours[0]),
        )

    @property
    def downloads(self) -> Path:
        """Where downloads go."""
        return self.chosen or self.hf

    def look(self) -> Iterator[Found]:
        """Yield what lies in all of them; a file in two of them comes twice."""
        for folder in self.ours:
            yield from below(folder, "qwenchat")
        if self.chosen:
            yield from self._in_chosen(self.chosen)
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

    def _in_chosen(self, folder: Path) -> Iterator[Found]:
        """Yield the models of `OWNER/REPO/file.gguf`, where downloads put them, and whatever else there is."""
        for found in below(folder, "folder"):
            ours = self.brought is not None and self.brought.has(found.path)
            owner, *inside = found.path.relative_to(folder).parts
            repo, name = (f"{owner}/{inside[0]}", "/".join(inside[1:])) if len(inside) > 1 else ("", found.name)
            yield replace(found, origin="qwenchat" if ours else "folder", name=name, repo=repo)


def _hf_cache(environ: Mapping[str, str], cache: Path) -> Path:
    if named := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return expand_home(named)
    return expand_home(environ.get("HF_HOME") or cache / "huggingface") / "hub"


def hf_cache(cache: Path, origin: str) -> Iterator[Found]:
    """Yield the GGUF files of a Hugging Face cache: `models--owner--repo/snapshots/COMMIT/file`, a link to a blob.

    The revision that `main` stands for comes first.
    """
    for repo in _folders(cache):
        kind, _dashes, name = repo.name.partition("--")
        if kind != "models" or "--" not in name:
            continue
        main = _text(repo / "refs" / "main").strip()
        snapshots = sorted(_folders(repo / "snapshots"), key=lambda folder: (folder.name != main, folder.name))
        for snapshot in snapshots:
            for path in _ggufs(snapshot, _DEPTH):
                yield Found(
                    path, origin, path.relative_to(snapshot).as_posix(), name.replace("--", "/", 1), blob_sha256(path)
                )


def ollama(models: Path) -> Iterator[Found]:
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
            yield Found(path, "ollama", short, repo, problem=_("its manifest can't be read: {why}").format(why=error))
            continue
        for digest in digests:
            yield Found(models / "blobs" / f"sha256-{digest}", "ollama", short, repo, digest)


def lmstudio(models: Path) -> Iterator[Found]:
    """Yield the models of LM Studio: `PUBLISHER/MODEL/file.gguf`, as on the hub."""
    for publisher in _folders(models):
        for model in _folders(publisher):
            for path in _ggufs(model, 2):
                yield Found(path, "lmstudio", path.name, f"{publisher.name}/{model.name}")


def below(folder: Path, origin: str, depth: int = _DEPTH) -> Iterator[Found]:
    """Yield the GGUF files below a folder, however it is arranged."""
    for path in _ggufs(folder, depth):
        yield Found(path, origin, path.name)


class _Layer(Struct, frozen=True):
    digest: str
    media_type: str = field(name="mediaType", default="")


class _Manifest(Struct, frozen=True):
    layers: tuple[_Layer, ...] = ()


def _model_layers(manifest: Path) -> list[str]:
    with manifest.open("rb") as file:
        layers = msgspec.json.decode(file.read(1 << 20), type=_Manifest).layers
    wanted = [layer.digest for layer in layers if layer.media_type == "application/vnd.ollama.image.model"]
    return [match[1] for digest in wanted if (match := _DIGEST.fullmatch(digest))]


def blob_sha256(path: Path) -> str:
    """Return the sha256 that a link's target is named by, empty for anything else."""
    try:
        target = path.readlink().name
    except OSError:
        return ""
    return target if re.fullmatch(r"[0-9a-f]{64}", target) else ""


def free_bytes(folder: Path) -> int:
    """Return the bytes that can be written below a folder, which may not exist yet or be closed to us."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        if folder == folder.parent:
            raise
        return free_bytes(folder.parent)


def _ggufs(folder: Path, depth: int) -> Iterator[Path]:
    return (path for path in _files(folder, depth) if path.name.lower().endswith(".gguf"))


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """Yield all that is no folder, sorted; links to folders and hidden folders are not entered."""
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
    """Return what may be a folder: what is none turns out to be empty."""
    return [Path(entry.path) for entry in _entries(folder)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing where it is missing or closed to us, as with other users' caches."""
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
