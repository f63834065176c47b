"""A folder or USB stick as a source, with or without the manifest that `models export` writes beside the files.

The manifest `bundle.json` lists each file with its size and sha256: `{"files": [{"name", "size", "sha256"}]}`.
"""

from pathlib import Path

import msgspec

from qwenchat.i18n import reason_of
from qwenchat.models.download.retry import SourceError, SourceFault
from qwenchat.models.file_names import is_safe
from qwenchat.models.sources.source import Location, RemoteFile
from qwenchat.text import syntax

MANIFEST_NAME = "bundle.json"


class ManifestFile(msgspec.Struct, frozen=True):
    """One file of an exported model."""

    name: str
    size: int | None
    """Bytes."""
    sha256: str | None
    model: str = ""
    """The reference of the file's model."""


class Manifest(msgspec.Struct, frozen=True):
    """The content of `bundle.json`."""

    files: tuple[ManifestFile, ...]


class FolderSource:
    """Implements `source.Source` for a folder; repository and revision are ignored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    @property
    def name(self) -> str:
        return f"file:{self._folder}"

    def files(self, repo: str, revision: str) -> list[RemoteFile]:
        try:
            content = (self._folder / MANIFEST_NAME).read_bytes()
        except FileNotFoundError:
            return self._without_manifest()
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            manifest = msgspec.json.decode(content, type=Manifest)
        except (ValueError, RecursionError) as error:
            detail = f"{MANIFEST_NAME}: {syntax.fault(error, content)}"
            raise SourceError(SourceFault.SOURCE_READ, str(self._folder), detail=detail) from error
        return [RemoteFile(file.name, file.size, file.sha256) for file in manifest.files]

    def locate(self, repo: str, revision: str, name: str) -> Location:
        if not is_safe(name):
            raise SourceError(SourceFault.UNSAFE_NAME, str(self._folder))
        return Location("", path=self._folder / name)

    def _without_manifest(self) -> list[RemoteFile]:
        try:
            files = sorted(path for path in self._folder.iterdir() if path.suffix.lower() == ".gguf")
            return [RemoteFile(path.name, path.stat().st_size, None) for path in files]
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> SourceError:
        return SourceError(SourceFault.SOURCE_READ, str(self._folder), detail=reason_of(error))


class FileBody:
    """The bytes of a local file, with the interface of `http.Body`."""

    html = False

    def __init__(self, path: Path, offset: int, if_range: str = "") -> None:
        self.host = str(path.parent)
        try:
            self._file = path.open("rb", buffering=0)
            state = path.stat()
            self.total: int | None = state.st_size
            self.validator = f"{state.st_size}-{state.st_mtime_ns}"
            self.start = 0 if if_range and if_range != self.validator else offset
            self._file.seek(self.start)
        except OSError as error:
            fault = SourceFault.FILE if isinstance(error, FileNotFoundError) else SourceFault.SOURCE_READ
            raise SourceError(fault, self.host, detail=reason_of(error)) from error

    def read(self, limit: int) -> bytes:
        """Return the next bytes. Raises SourceError."""
        try:
            return self._file.read(limit)
        except OSError as error:
            raise SourceError(SourceFault.SOURCE_READ, self.host, detail=reason_of(error)) from error

    def abort(self) -> None:
        """Do nothing: reads from a disk end soon."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()
