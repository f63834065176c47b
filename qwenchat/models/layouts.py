"""Finds model files by the layouts of the folders in which this and other programs store them.

Folders are read directly: no other program is run and none of their libraries is imported. Model files are never
changed here. The content of folders is not trusted: names from manifests are checked before they become paths.
`folders` knows where those folders are.
"""

import os
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import msgspec
from msgspec import Struct, field

from qwenchat.i18n import _, reason_of
from qwenchat.models.file_names import is_gguf
from qwenchat.text import syntax
from qwenchat.text.safe import clean_line

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_DEPTH = 6
"""Levels of folders that are searched below one of the user's folders."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that should be a model; it was not opened yet."""

    path: Path
    origin: str
    """The program that owns its folder: `qwenchat`, `hf`, `llama.cpp`, `ollama`, `lmstudio`; `folder` for one of the
    user's folders, `file` for a file that the user named, `guide` for the built-in model."""
    name: str
    """The name that this program uses for it."""
    _: KW_ONLY
    repo: str = ""
    """`owner/repo` on the hub, if the layout contains it."""
    sha256: str = ""
    """The hash, if the layout contains it."""
    problem: str = ""
    """The reason why the file can't be used, if the layout itself is damaged."""


class FolderProblem(Struct, frozen=True):
    """A folder that should be searched, but can't be."""

    folder: Path
    origin: str
    """The same as `FoundFile.origin`."""
    reason: str

    @property
    def message(self) -> str:
        """A sentence that says what is wrong."""
        words = _("{folder} can't be searched for models: {reason}.")
        return words.format(folder=clean_line(str(self.folder)), reason=self.reason)

    @property
    def hint(self) -> str:
        """A sentence that says what to do."""
        if self.origin == "folder":
            return _("Connect its disk, make it readable, or change the setting hub.folders.")
        return _("Make it readable by your user account to use the models in it.")


class FolderReader:
    """Reads the folders of one program (`origin`). Folders that it may not read are added to `problems`."""

    def __init__(self, origin: str, problems: list[FolderProblem]) -> None:
        self._origin, self._problems = origin, problems

    def hf_cache(self, cache: Path) -> Iterator[FoundFile]:
        """Yield the GGUF files of a Hugging Face cache: `models--owner--repo/snapshots/COMMIT/file`, a link to a blob.

        The revision of the branch `main` comes first.
        """
        for repo in self._folders(cache):
            kind, _dashes, name = repo.name.partition("--")
            if kind != "models" or "--" not in name:
                continue
            main = _text(repo / "refs" / "main").strip()
            snapshots = self._folders(repo / "snapshots")
            for snapshot in sorted(snapshots, key=lambda folder: (folder.name != main, folder.name)):
                for path in self._ggufs(snapshot, _DEPTH):
                    yield FoundFile(
                        path,
                        self._origin,
                        path.relative_to(snapshot).as_posix(),
                        repo=name.replace("--", "/", 1),
                        sha256=blob_sha256(path),
                    )

    def ollama(self, models: Path) -> Iterator[FoundFile]:
        """Yield the models of Ollama's manifests: `manifests/HOST/NAMESPACE/MODEL/TAG` names a blob by its sha256.

        Models have the names under which Ollama lists them: the usual host and namespace are left out.
        """
        manifests = models / "manifests"
        for path in self._files(manifests, 4):
            host, *rest = path.relative_to(manifests).parts
            if len(rest) != 3:
                continue
            namespace, model, tag = rest
            name = f"{model}:{tag}"
            if (host, namespace) != (_OLLAMA_HOST, "library"):
                name = f"{namespace}/{name}" if host == _OLLAMA_HOST else f"{host}/{namespace}/{name}"
            repo = f"{namespace}/{model}" if host in ("hf.co", "huggingface.co") else ""
            content = b""
            try:
                with path.open("rb") as file:
                    content = file.read(1 << 20)
                digests = _model_layers(content)
            except (OSError, ValueError, RecursionError) as error:
                reason = reason_of(error) if isinstance(error, OSError) else syntax.fault(error, content)
                problem = _("its manifest can't be read: {reason}").format(reason=clean_line(reason or "", 200))
                yield FoundFile(path, self._origin, name, repo=repo, problem=problem)
                continue
            for digest in digests:
                yield FoundFile(models / "blobs" / f"sha256-{digest}", self._origin, name, repo=repo, sha256=digest)

    def lmstudio(self, models: Path) -> Iterator[FoundFile]:
        """Yield the models of LM Studio: `PUBLISHER/MODEL/file.gguf`, as on the hub."""
        for publisher in self._folders(models):
            for model in self._folders(publisher):
                for path in self._ggufs(model, 2, follow=True):
                    yield FoundFile(path, self._origin, path.name, repo=f"{publisher.name}/{model.name}")

    def below(self, folder: Path, depth: int = _DEPTH, *, follow: bool = False) -> Iterator[FoundFile]:
        """Yield all GGUF files below a folder; `follow` enters linked folders too."""
        for path in self._ggufs(folder, depth, follow=follow):
            yield FoundFile(path, self._origin, path.name)

    def _ggufs(self, folder: Path, depth: int, *, follow: bool = False) -> Iterator[Path]:
        return (path for path in self._files(folder, depth, follow=follow) if is_gguf(path.name))

    def _files(self, folder: Path, depth: int, *, follow: bool = False) -> Iterator[Path]:
        """Yield all entries except folders, sorted; hidden folders are not entered.

        With `follow`, linked folders are entered after all others, so that files keep the paths without links. Each
        folder is entered once, which ends loops.
        """
        entered = set[tuple[int, int]]()
        links = deque([(folder, depth)])
        while links:
            yield from self._walk(*links.popleft(), links=links if follow else None, entered=entered)

    def _walk(
        self, folder: Path, depth: int, *, links: deque[tuple[Path, int]] | None, entered: set[tuple[int, int]]
    ) -> Iterator[Path]:
        if links is not None and not _is_first(folder, entered):
            return
        folders, linked = [], []
        for entry in self._entries(folder):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry)
            elif links is not None and _is_folder(entry):
                linked.append(entry)
            else:
                yield Path(entry.path)
        if depth == 1:
            return
        for entry in folders:
            if not entry.name.startswith("."):
                yield from self._walk(Path(entry.path), depth - 1, links=links, entered=entered)
        if links is not None:
            links += [(Path(entry.path), depth - 1) for entry in linked if not entry.name.startswith(".")]

    def _folders(self, folder: Path) -> list[Path]:
        """Return all entries as possible folders; a file among them has no entries itself."""
        return [Path(entry.path) for entry in self._entries(folder)]

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """Return the entries of a folder; none if it does not exist or can't be read."""
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._problems.append(FolderProblem(folder, self._origin, reason_of(error)))
            return []


_OLLAMA_HOST = "registry.ollama.ai"


class _OllamaLayer(Struct, frozen=True):
    digest: str
    media_type: str = field(name="mediaType", default="")


class _OllamaManifest(Struct, frozen=True):
    layers: tuple[_OllamaLayer, ...] = ()


def _model_layers(manifest: bytes) -> list[str]:
    layers = msgspec.json.decode(manifest, type=_OllamaManifest).layers
    wanted = [layer.digest for layer in layers if layer.media_type == "application/vnd.ollama.image.model"]
    return [match[1] for digest in wanted if (match := _DIGEST.fullmatch(digest))]


def blob_sha256(path: Path) -> str:
    """Return the sha256 that a link's target has as its name; empty for anything else."""
    try:
        target = path.readlink().name
    except OSError:
        return ""
    return target if re.fullmatch(r"[0-9a-f]{64}", target) else ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; False for a link that can't be followed."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_first(folder: Path, entered: set[tuple[int, int]]) -> bool:
    """Add a folder to those that were entered, and return whether it is new there."""
    try:
        state = folder.stat()
    except OSError:  # entering it gives the reason
        return True
    key = (state.st_dev, state.st_ino)
    is_first = key not in entered
    entered.add(key)
    return is_first


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
