"""Sources that are no hub: one file behind a URL, and a folder or USB stick with its manifest of hashes, if any."""

from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from qwenchat.models.download import http
from qwenchat.models.download.http import origin
from qwenchat.models.download.retry import Fault, WireError
from qwenchat.models.names import is_safe
from qwenchat.models.sources.source import Location, RemoteFile

MANIFEST = "bundle.json"
"""What `models export` writes beside the files: `{"files": [{"name", "size", "sha256"}]}`."""


class UrlSource:
    """Implements `source.Source` for one file; repository and revision play no part."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def name(self) -> str:
        return origin(self._url)[1]

    def files(self, repo: str, revision: str) -> list[RemoteFile]:
        name = unquote(urlsplit(self._url).path).rpartition("/")[2]
        try:
            told = http.head(self._url)
        except WireError as error:
            if error.fault not in (Fault.STATUS, Fault.FORBIDDEN) and error.status != HTTPStatus.NOT_IMPLEMENTED:
                raise  # the others are of servers that know GET alone
            return [RemoteFile(name, None, None)]
        return [RemoteFile(name, told.size, told.sha256)]

    def locate(self, repo: str, revision: str, name: str) -> Location:
        return Location(self._url)


class _Manifest(msgspec.Struct, frozen=True):
    files: list[RemoteFile]


class FolderSource:
    """Implements `source.Source` for a folder; repository and revision play no part."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    @property
    def name(self) -> str:
        return "file"

    def files(self, repo: str, revision: str) -> list[RemoteFile]:
        try:
            manifest = (self._folder / MANIFEST).read_bytes()
        except FileNotFoundError:
            return self._found()
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            return msgspec.json.decode(manifest, type=_Manifest).files
        except (ValueError, RecursionError) as error:
            raise WireError(Fault.SOURCE_READ, str(self._folder), detail=f"{MANIFEST}: {error}") from error

    def locate(self, repo: str, revision: str, name: str) -> Location:
        if not is_safe(name):
            raise WireError(Fault.UNSAFE_NAME, str(self._folder))
        return Location("", path=self._folder / name)

    def _found(self) -> list[RemoteFile]:
        try:
            files = sorted(path for path in self._folder.iterdir() if path.suffix.lower() == ".gguf")
            return [RemoteFile(path.name, path.stat().st_size, None) for path in files]
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> WireError:
        return WireError(Fault.SOURCE_READ, str(self._folder), detail=error.strerror or "")


class FileBody:
    """A local file in the shape of `wire.Body`."""

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
            fault = Fault.FILE if isinstance(error, FileNotFoundError) else Fault.SOURCE_READ
            raise WireError(fault, self.host, detail=error.strerror or "") from error

    def read(self, limit: int) -> bytes:
        """Return the next bytes. Raises WireError."""
        try:
            return self._file.read(limit)
        except OSError as error:
            raise WireError(Fault.SOURCE_READ, self.host, detail=error.strerror or "") from error

    def abort(self) -> None:
        """Do nothing: a disk answers soon."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()
