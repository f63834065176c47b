"""The Hugging Face hub and every mirror with the same API, through huggingface_hub, which downloads no files here.

Its requests go through `download.http`, so that proxies, certificates and errors are the same for lists and for files.
The stored token belongs to https://huggingface.co. Every other endpoint gets `token=False`: with `None`,
huggingface_hub would send the stored token to it.
"""

from collections.abc import Mapping

import httpx2
from huggingface_hub import HfApi, constants, get_hf_file_metadata, get_token, hf_hub_url, set_client_factory
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo

from qwenchat.errors import WrongUse
from qwenchat.i18n import _
from qwenchat.models.download import http
from qwenchat.models.download.http import Timeouts
from qwenchat.models.download.retry import SourceError, SourceFault
from qwenchat.models.sources.source import Location, RemoteFile
from qwenchat.net.addresses import origin
from qwenchat.net.waits import retry_after

PUBLIC_HUB = "https://huggingface.co"
MIRROR = "https://hf-mirror.com"
_TIMEOUTS = Timeouts(silence_s=15.0)


class _Transport(httpx2.BaseTransport):
    """Sends the requests of huggingface_hub. Raises SourceError."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = str(request.url)
        response, sock = http.send(request.method, url, dict(request.headers), _TIMEOUTS)
        try:
            body = http.read_answer(response, origin(url)[1])
        finally:
            sock.close()
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.getheaders()]
        return httpx2.Response(response.status, headers=headers, content=body, request=request)


def _client() -> httpx2.Client:
    return httpx2.Client(transport=_Transport(), follow_redirects=True)


class HubSource:
    """Implements `source.Source` over huggingface_hub."""

    def __init__(self, name: str, endpoint: str, token: str | None = None) -> None:
        self._name, self._endpoint = name, endpoint.rstrip("/")
        self._token: str | bool = token or False
        constants.HF_HUB_DISABLE_TELEMETRY = True  # otherwise it also contacts the public hub
        set_client_factory(_client)

    @classmethod
    def at(cls, name: str, endpoint: str) -> "HubSource":
        """Return the hub at an endpoint, with the stored token if it belongs there.

        Raises WrongUse for a token that can't be sent.
        """
        token = get_token() if origin(endpoint) == origin(PUBLIC_HUB) else None
        if token and not (token.isascii() and token.isprintable()):
            raise WrongUse(
                _("The token for {host} contains characters that can't be sent.").format(host=origin(endpoint)[1]),
                _("Correct HF_TOKEN, or log in again with `hf auth login`."),
            )
        return cls(name, endpoint, token)

    @classmethod
    def public(cls, environ: Mapping[str, str]) -> "HubSource":
        """Return the hub that HF_ENDPOINT names, the public hub if it is not set."""
        return cls.at("hf", environ.get("HF_ENDPOINT", "").strip() or PUBLIC_HUB)

    @property
    def name(self) -> str:
        return self._name

    def files(self, repo: str, revision: str) -> list[RemoteFile]:
        api = HfApi(endpoint=self._endpoint, token=self._token)
        try:
            return _files(api.model_info(repo, revision=revision or None, files_metadata=True, token=self._token))
        except Exception as error:
            raise self._source_error(error) from error

    def locate(self, repo: str, revision: str, name: str) -> Location:
        try:
            url = hf_hub_url(repo, name, revision=revision or None, endpoint=self._endpoint)
            found = get_hf_file_metadata(url, token=self._token, endpoint=self._endpoint)
        except Exception as error:
            raise self._source_error(error) from error
        etag = (found.etag or "").lower()
        same_hub = origin(found.location) == origin(self._endpoint)
        return Location(
            found.location,
            headers=(("Authorization", f"Bearer {self._token}"),) if same_hub and self._token else (),
            size=found.size,
            sha256=etag if len(etag) == 64 else None,
            commit=found.commit_hash or "",
        )

    def _source_error(self, error: Exception) -> SourceError:
        """Convert an exception of huggingface_hub. An exception that is a bug is raised unchanged."""
        if isinstance(error, SourceError):
            return error
        host = origin(self._endpoint)[1]
        kinds: tuple[tuple[type[Exception], SourceFault], ...] = (
            (GatedRepoError, SourceFault.GATED_FOR_TOKEN if self._token else SourceFault.GATED),
            (RepositoryNotFoundError, SourceFault.REPO),
            (RevisionNotFoundError, SourceFault.REVISION),
            (EntryNotFoundError, SourceFault.FILE),
            (OfflineModeIsEnabled, SourceFault.OFFLINE),
            (HFValidationError, SourceFault.REPO),
            (httpx2.TooManyRedirects, SourceFault.REDIRECTS),
            (httpx2.DecodingError, SourceFault.LISTING),
            (httpx2.InvalidURL, SourceFault.LISTING),
            (httpx2.UnsupportedProtocol, SourceFault.REDIRECTS),
        )
        for kind, fault in kinds:
            if isinstance(error, kind):
                return SourceError(fault, host)
        if isinstance(error, HfHubHTTPError):
            wait = retry_after(error.response.headers.get("Retry-After", ""))
            return SourceError.from_status(error.response.status_code, host, wait)
        if isinstance(error, (ValueError, TypeError, KeyError, AttributeError, RecursionError)):
            return SourceError(SourceFault.LISTING, host)
        raise error


def _files(info: ModelInfo) -> list[RemoteFile]:
    return [
        RemoteFile(entry.rfilename, entry.size, entry.lfs.sha256 if entry.lfs else None)
        for entry in info.siblings or ()
    ]
