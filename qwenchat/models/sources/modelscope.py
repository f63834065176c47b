"""ModelScope, through its own HTTP API, which differs from the Hugging Face API. No login is needed."""

from urllib.parse import quote, urlencode

import msgspec

from qwenchat.models.download import http
from qwenchat.models.download.retry import SourceError, SourceFault
from qwenchat.models.sources.source import Location, RemoteFile
from qwenchat.net.addresses import origin

HOST_URL = "https://www.modelscope.cn"


class _File(msgspec.Struct, frozen=True, rename="pascal"):
    path: str
    size: int | None = None
    sha256: str | None = None
    type: str = "blob"


class _Files(msgspec.Struct, frozen=True, rename="pascal"):
    files: list[_File]


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    data: _Files


class ModelScopeSource:
    """Implements `source.Source`. The default revision is `master`; `main` is an alias for it."""

    def __init__(self, endpoint: str = HOST_URL) -> None:
        self._endpoint = endpoint.rstrip("/")

    @property
    def name(self) -> str:
        return "modelscope"

    def files(self, repo: str, revision: str) -> list[RemoteFile]:
        host = origin(self._endpoint)[1]
        try:
            answer = http.get_json(self._url(repo, "repo/files", Revision=_branch(revision), Recursive="True"))
            listed = msgspec.convert(answer, _Answer).data.files
        except msgspec.ValidationError as error:
            raise SourceError(SourceFault.LISTING, host) from error
        except SourceError as error:
            if error.fault is SourceFault.NOT_FOUND:
                raise SourceError(SourceFault.REVISION if revision else SourceFault.REPO, host, status=404) from error
            raise
        return [RemoteFile(file.path, file.size, file.sha256 or None) for file in listed if file.type != "tree"]

    def locate(self, repo: str, revision: str, name: str) -> Location:
        return Location(self._url(repo, "repo", Revision=_branch(revision), FilePath=name))

    def _url(self, repo: str, path: str, **query: str) -> str:
        return f"{self._endpoint}/api/v1/models/{quote(repo)}/{path}?{urlencode(query)}"


def _branch(revision: str) -> str:
    return "master" if revision in ("", "main") else revision
