"""Where a download lies on disk: the Hugging Face cache, where other programs find it, or a folder of the person's own.

Only paths and names here: what to call a part, its lock and the finished file. A part is named for its sha256, so
that it can be carried on from any source that has the same file.
"""

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from qwenchat.models.layouts import Brought
from qwenchat.models.names import is_safe, relative
from qwenchat.models.sources.source import RemoteFile
from qwenchat.paths import atomic_write, make_private

DEFAULT_REVISION = "main"


@dataclass(frozen=True, slots=True)
class Slot:
    """One file's paths while it comes."""

    part: Path
    lock: Path
    lock_stays: bool
    """Whether older programs hold this lock too, which don't notice when its file goes."""


class Place(Protocol):
    """Where the files of one repository go. Methods raise OSError as the disk does."""

    @property
    def root(self) -> Path:
        """The folder that everything lies below, on the disk whose room counts; it may not exist yet."""
        ...

    @property
    def vouches(self) -> bool:
        """Whether a file that is there was checked before it got its name, so that a look at its size is enough."""
        ...

    def slot(self, file: RemoteFile) -> Slot:
        """Return the paths of a file under way, whose folders exist from then on."""
        ...

    def stored(self, file: RemoteFile) -> Path | None:
        """Return where a file's bytes lie, complete by its name, whether or not they are right; None if nowhere."""
        ...

    def finish(self, file: RemoteFile, part: Path, sha256: str) -> None:
        """Give a part that is complete and right its place."""
        ...

    def publish(self, file: RemoteFile, sha256: str, commit: str, revision: str) -> Path:
        """Make a stored file found by its name, and return the path with that name."""
        ...


class HubCache:
    """The Hugging Face cache: blobs named by sha256, and a folder of links to them for each commit.

    Part and lock have the names that huggingface_hub gives them, so that its programs and this one wait for each other.
    """

    def __init__(self, cache: Path, repo: str, source: str) -> None:
        folder = "models--" + repo.replace("/", "--")
        self._cache, self._repo, self._source = cache, cache / folder, source
        self._locks = cache / ".locks" / folder

    @property
    def root(self) -> Path:
        return self._cache

    @property
    def vouches(self) -> bool:
        return True

    def slot(self, file: RemoteFile) -> Slot:
        name = file.sha256 or f"unhashed-{hashlib.sha256(file.name.encode()).hexdigest()}"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._locks.mkdir(parents=True, exist_ok=True)
        return Slot(self._blobs / f"{name}.incomplete", self._locks / f"{name}.lock", lock_stays=True)

    def stored(self, file: RemoteFile) -> Path | None:
        return self._bytes_of(file.sha256) if file.sha256 else self._named(file)

    def finish(self, file: RemoteFile, part: Path, sha256: str) -> None:
        _rename(part, self._blobs / sha256)

    def publish(self, file: RemoteFile, sha256: str, commit: str, revision: str) -> Path:
        snapshot = commit if re.fullmatch("[0-9a-f]{40}", commit) else self._source
        pointer = self._repo / "snapshots" / snapshot / relative(file.name)
        pointer.parent.mkdir(parents=True, exist_ok=True)
        blob = self._bytes_of(sha256) if sha256 else self.stored(file)
        if _lead(pointer, blob or self._blobs / sha256) and sha256:
            _write(self._moved(sha256), pointer.relative_to(self._repo).as_posix())
        revision = revision or DEFAULT_REVISION
        if snapshot == commit and revision != commit and is_safe(revision):
            _write(self._repo / "refs" / relative(revision), commit)
        return pointer

    @property
    def _blobs(self) -> Path:
        return self._repo / "blobs"

    def _bytes_of(self, sha256: str) -> Path | None:
        """Return the blob, or where it went on a disk without links."""
        places = [self._blobs / sha256]
        with suppress(OSError):
            places.append(self._repo / self._moved(sha256).read_text("utf-8"))
        return next((place for place in places if place.is_file()), None)

    def _named(self, file: RemoteFile) -> Path | None:
        """Return the bytes that any revision has under a file's name, of the same size."""
        pointers = (snapshot / relative(file.name) for snapshot in sorted(self._repo.glob("snapshots/*")))
        same = (pointer for pointer in pointers if pointer.is_file() and pointer.stat().st_size == file.size)
        return next((pointer.resolve() for pointer in same), None)

    def _moved(self, sha256: str) -> Path:
        return self._locks / f"{sha256}.moved"


class Folder:
    """A folder of the person's own, or ours: files by their names, parts beside them.

    `brought` is told of each file that a download finishes among the person's own.
    """

    def __init__(self, folder: Path, brought: Brought | None = None) -> None:
        self._folder, self._brought = folder, brought

    @property
    def root(self) -> Path:
        return self._folder

    @property
    def vouches(self) -> bool:
        return False

    def slot(self, file: RemoteFile) -> Slot:
        path = self._path(file.name)
        if self._brought:
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            make_private(path.parent)
        tag = f".{file.sha256[:16]}" if file.sha256 else ""
        part = path.with_name(f"{path.name}{tag}.part")
        return Slot(part, part.with_name(f"{part.name}.lock"), lock_stays=False)

    def stored(self, file: RemoteFile) -> Path | None:
        path = self._path(file.name)
        return path if path.exists() else None

    def finish(self, file: RemoteFile, part: Path, sha256: str) -> None:
        _rename(part, self._path(file.name))
        if self._brought:
            self._brought.add(self._path(file.name))

    def publish(self, file: RemoteFile, sha256: str, commit: str, revision: str) -> Path:
        return self._path(file.name)

    def _path(self, name: str) -> Path:
        return self._folder / relative(name)


def _rename(part: Path, target: Path) -> None:
    part.replace(target)
    with suppress(OSError):  # Windows and some network disks sync no folders
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lead(pointer: Path, blob: Path) -> bool:
    """Make `pointer` lead to `blob`, by a relative link, a hard link, or moving it there; say whether it moved."""
    if pointer.exists() and pointer.samefile(blob):
        return False
    pointer.unlink(missing_ok=True)
    for link in (_link_softly, os.link):
        with suppress(OSError):
            link(blob, pointer)
            return False
    blob.replace(pointer)
    return True


def _link_softly(blob: Path, pointer: Path) -> None:
    pointer.symlink_to(os.path.relpath(blob, pointer.parent))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, text.encode())
