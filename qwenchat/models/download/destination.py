"""Where a download stores its files: in the Hugging Face cache, which other programs share, or in a folder.

It decides the paths of a part file, its lock and the finished file. A part file is named after the sha256 of the
complete file, so that any source with the same file can complete it. No model data is read or written here.
"""

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from qwenchat.files import write_atomically
from qwenchat.models.file_names import is_safe, relative_path
from qwenchat.models.folders import DownloadRecords
from qwenchat.models.sources.source import RemoteFile
from qwenchat.paths import make_private

DEFAULT_REVISION = "main"


@dataclass(frozen=True, slots=True)
class PartFilePaths:
    """The paths of one unfinished file."""

    part_file: Path
    lock: Path
    lock_stays: bool
    """Whether the lock file must never be deleted, because older programs that hold the lock would not notice."""


class Destination(Protocol):
    """Stores the files of one repository. All methods may raise OSError."""

    @property
    def root(self) -> Path:
        """The folder above all files, on the disk whose free space counts; it may not exist yet."""
        ...

    @property
    def holds_verified_files(self) -> bool:
        """Whether all files here were verified before they were named, so that checking the size is enough."""
        ...

    def part_file_paths(self, file: RemoteFile) -> PartFilePaths:
        """Return the paths of an unfinished file, and create their folders."""
        ...

    def stored(self, file: RemoteFile) -> Path | None:
        """Return the existing file of this name, whether or not its content is right; None if there is none."""
        ...

    def store(self, file: RemoteFile, part_file: Path, sha256: str) -> None:
        """Rename a complete and verified part file to its final name."""
        ...

    def publish(self, file: RemoteFile, sha256: str, commit: str, revision: str) -> Path:
        """Make a stored file available under its name in the repository, and return that path."""
        ...


class CacheDestination:
    """The Hugging Face cache: blobs named by their sha256, and a folder of links to them for each commit.

    Part file and lock have the same names as in huggingface_hub, so that programs that use it and this one wait for
    each other.
    """

    def __init__(self, cache: Path, repo: str, source: str) -> None:
        folder = "models--" + repo.replace("/", "--")
        self._cache, self._repo, self._source = cache, cache / folder, source
        self._locks = cache / ".locks" / folder

    @property
    def root(self) -> Path:
        return self._cache

    @property
    def holds_verified_files(self) -> bool:
        return True

    def part_file_paths(self, file: RemoteFile) -> PartFilePaths:
        name = file.sha256 or f"unhashed-{hashlib.sha256(file.name.encode()).hexdigest()}"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._locks.mkdir(parents=True, exist_ok=True)
        return PartFilePaths(self._blobs / f"{name}.incomplete", self._locks / f"{name}.lock", lock_stays=True)

    def stored(self, file: RemoteFile) -> Path | None:
        return self._blob(file.sha256) if file.sha256 else self._same_name_and_size(file)

    def store(self, file: RemoteFile, part_file: Path, sha256: str) -> None:
        _rename(part_file, self._blobs / sha256)

    def publish(self, file: RemoteFile, sha256: str, commit: str, revision: str) -> Path:
        snapshot = commit if re.fullmatch("[0-9a-f]{40}", commit) else self._source
        link = self._repo / "snapshots" / snapshot / relative_path(file.name)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = self._blob(sha256) if sha256 else self.stored(file)
        was_moved = _link(link, blob or self._blobs / sha256)
        if was_moved and sha256:
            _write(self._moved(sha256), link.relative_to(self._repo).as_posix())
        revision = revision or DEFAULT_REVISION
        if snapshot == commit and revision != commit and is_safe(revision):
            _write(self._repo / "refs" / relative_path(revision), commit)
        return link

    @property
    def _blobs(self) -> Path:
        return self._repo / "blobs"

    def _blob(self, sha256: str) -> Path | None:
        """Return the blob, or the file to which it was moved on a disk without links."""
        candidates = [self._blobs / sha256]
        with suppress(OSError):
            candidates.append(self._repo / self._moved(sha256).read_text("utf-8"))
        return next((path for path in candidates if path.is_file()), None)

    def _same_name_and_size(self, file: RemoteFile) -> Path | None:
        """Return the blob that any revision has under the same name and with the same size."""
        links = (snapshot / relative_path(file.name) for snapshot in sorted(self._repo.glob("snapshots/*")))
        same = (link for link in links if link.is_file() and link.stat().st_size == file.size)
        return next((link.resolve() for link in same), None)

    def _moved(self, sha256: str) -> Path:
        """Return the file that stores the path to which a blob was moved."""
        return self._locks / f"{sha256}.moved"


class FolderDestination:
    """A folder that contains the files under their own names and the part files beside them.

    `records` records each downloaded file; it is None for this program's own folder, where every file was downloaded.
    """

    def __init__(self, folder: Path, records: DownloadRecords | None = None) -> None:
        self._folder, self._records = folder, records

    @property
    def root(self) -> Path:
        return self._folder

    @property
    def holds_verified_files(self) -> bool:
        return False

    def part_file_paths(self, file: RemoteFile) -> PartFilePaths:
        path = self._path(file.name)
        if self._records:
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            make_private(path.parent)
        tag = f".{file.sha256[:16]}" if file.sha256 else ""
        part_file = path.with_name(f"{path.name}{tag}.part")
        return PartFilePaths(part_file, part_file.with_name(f"{part_file.name}.lock"), lock_stays=False)

    def stored(self, file: RemoteFile) -> Path | None:
        path = self._path(file.name)
        return path if path.exists() else None

    def store(self, file: RemoteFile, part_file: Path, sha256: str) -> None:
        _rename(part_file, self._path(file.name))
        if self._records:
            self._records.add(self._path(file.name))

    def publish(self, file: RemoteFile, sha256: str, commit: str, revision: str) -> Path:
        return self._path(file.name)

    def _path(self, name: str) -> Path:
        return self._folder / relative_path(name)


def _rename(part_file: Path, target: Path) -> None:
    part_file.replace(target)
    with suppress(OSError):  # Windows and some network disks sync no folders
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _link(link: Path, blob: Path) -> bool:
    """Link `link` to `blob` by a relative or a hard link; if neither is possible, move the blob and return True."""
    if link.exists() and link.samefile(blob):
        return False
    link.unlink(missing_ok=True)
    with suppress(OSError):
        link.symlink_to(os.path.relpath(blob, link.parent))
        return False
    with suppress(OSError):
        os.link(blob, link)
        return False
    blob.replace(link)
    return True


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text.encode())
