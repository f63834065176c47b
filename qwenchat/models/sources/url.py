"""One model file at a URL, on any server, as a source."""

from http import HTTPStatus
from urllib.parse import unquote, urlsplit

from qwenchat.models.download import http
from qwenchat.models.download.retry import SourceError, SourceFault
from qwenchat.models.file_names import is_gguf
from qwenchat.models.sources.source import Location, RemoteFile
from qwenchat.net.addresses import is_address, origin


class UrlSource:
    """Implements `source.Source` for one file; repository and revision are ignored."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def name(self) -> str:
        return origin(self._url)[1]

    def files(self, repo: str, revision: str) -> list[RemoteFile]:
        name = unquote(urlsplit(self._url).path).rpartition("/")[2]
        try:
            answer = http.head(self._url)
        except SourceError as error:
            if not _refuses_head(error):
                raise
            return [RemoteFile(name, None, None)]
        return [RemoteFile(name, answer.size, answer.sha256)]

    def locate(self, repo: str, revision: str, name: str) -> Location:
        return Location(self._url)


def is_file_url(text: str) -> bool:
    """Return whether a text is the URL of one model file."""
    return is_address(text) and is_gguf(urlsplit(text).path)


def _refuses_head(error: SourceError) -> bool:
    """Return whether a server may still answer GET: many servers support no other method."""
    return error.fault in (SourceFault.STATUS, SourceFault.FORBIDDEN) or error.status == HTTPStatus.NOT_IMPLEMENTED
