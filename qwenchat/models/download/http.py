"""Sends one HTTP request, with ranges, redirects, proxies and TLS, and returns a body to read. Nothing is retried here.

It uses the standard library, which takes a quarter of the processor time of the HTTP library that huggingface_hub uses
(2 GB from loopback: 1.2 s instead of 5 s). The caller's headers are sent only to the origin of the first URL.
Certificates are checked against the system's store, or SSL_CERT_FILE. `net.proxies` decides about proxies.
"""

import base64
import http.client
import json
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from qwenchat import __version__
from qwenchat.models.download.retry import SourceError, SourceFault
from qwenchat.net.addresses import is_address, origin
from qwenchat.net.certificates import trusted_certificates
from qwenchat.net.proxies import Proxy, connect_through_socks, proxy_for
from qwenchat.net.waits import retry_after


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a connection, and for the next byte of an open one."""

    connect_s: float = 10.0
    silence_s: float = 30.0


DEFAULT_TIMEOUTS = Timeouts()
MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_ANSWER = 64 << 20
"""Bytes."""
_NUMBER = re.compile("[0-9]{1,18}")
_CONTENT_RANGE = re.compile(rf"bytes ({_NUMBER.pattern})-({_NUMBER.pattern})/({_NUMBER.pattern}|\*)")
_UNQUOTED = "/%:@!$&'()*+,;=~?"
"""Characters that are not percent-encoded in a URL, which may be percent-encoded already."""


def _opened(url: str, proxy: Proxy | None, timeout_s: float) -> tuple[http.client.HTTPConnection, str]:
    """Return an open connection for a URL, direct or through the proxy, and the request target to use with it."""
    parts = urlsplit(url)
    scheme, host, port = origin(url)
    query = f"?{quote(parts.query, safe=_UNQUOTED)}" if parts.query else ""
    target = quote(parts.path or "/", safe=_UNQUOTED) + query
    relayed = proxy if proxy and not proxy.is_socks else None
    via = (relayed.host, relayed.port) if relayed else (host, port)
    if scheme == "http":
        connection = http.client.HTTPConnection(*via, timeout=timeout_s)
        target = f"http://{parts.netloc.rpartition('@')[2]}{target}" if relayed else target
    else:
        certificates = trusted_certificates()
        connection = http.client.HTTPSConnection(*via, timeout=timeout_s, context=certificates)
        if relayed:
            connection.set_tunnel(host, port, _proxy_login(relayed))
    if proxy and proxy.is_socks:
        sock = connect_through_socks(proxy, host, port, timeout_s)
        connection.sock = sock if scheme == "http" else certificates.wrap_socket(sock, server_hostname=host)
    else:
        connection.connect()
    return connection, target


def _proxy_login(proxy: Proxy) -> dict[str, str]:
    if proxy.login is None:
        return {}
    login = ":".join(proxy.login)
    return {"Proxy-Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


class Body:
    """The body of one response, read while it arrives."""

    def __init__(self, response: http.client.HTTPResponse, sock: socket.socket, host: str, start: int) -> None:
        self.host = host
        self.start = start
        """Offset of the first byte in the file."""
        self.total = _total(response, start)
        """Bytes of the complete file according to this response; None if it does not say."""
        self.html = response.headers.get_content_type() in ("text/html", "application/xhtml+xml")
        self.validator = _validator(response)
        """The value for `If-Range`; empty if the server sends no strong validator."""
        self._response, self._socket = response, sock

    def read(self, limit: int) -> bytes:
        """Return the next bytes, at most `limit`, as soon as any arrive; empty at the end. Raises SourceError."""
        try:
            return self._response.read1(limit)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError.from_exception(error, self.host) from error

    def abort(self) -> None:
        """Close the connection; callable from any thread. A waiting `read` returns or raises; discard its bytes."""
        with suppress(OSError):  # it may be closed already
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the response and its connection."""
        self._response.close()
        self._socket.close()


def get(
    url: str,
    headers: tuple[tuple[str, str], ...] = (),
    *,
    offset: int = 0,
    if_range: str = "",
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> Body:
    """Request a file from byte `offset` on and return the body, which may still start at 0. Raises SourceError."""
    range_headers = {"Range": f"bytes={offset}-"} if offset else {}
    if offset and if_range:
        range_headers["If-Range"] = if_range
    response, sock, host = _follow("GET", url, headers, range_headers, timeouts=timeouts)
    try:
        start = _start(response, offset, host)
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
            raise SourceError(SourceFault.ENCODED, host)
        return Body(response, sock, host, start)
    except SourceError:
        sock.close()
        raise


@dataclass(frozen=True, slots=True)
class Head:
    """A server's information about a file, without its content."""

    size: int | None
    sha256: str | None
    """The sha256, if the ETag of this or of a redirecting server is one, as on hubs."""


def head(url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Head:
    """Send a HEAD request for a file. Raises SourceError."""
    seen: list[http.client.HTTPMessage] = []
    response, sock, _host = _follow("HEAD", url, timeouts=timeouts, seen=seen)
    sock.close()
    etags = (message.get(name, "") for message in seen for name in ("X-Linked-Etag", "ETag"))
    digests = (etag.strip('"').lower() for etag in etags)
    size = response.headers.get("Content-Length", "")
    return Head(
        int(size) if _NUMBER.fullmatch(size) else None,
        next((digest for digest in digests if re.fullmatch("[0-9a-f]{64}", digest)), None),
    )


def read_answer(response: http.client.HTTPResponse, host: str) -> bytes:
    """Return the whole body of an answer that is not a model file. Raises SourceError, also if it is far too large."""
    try:
        body = response.read(_MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException) as error:
        raise SourceError.from_exception(error, host) from error
    if len(body) > _MAX_ANSWER:
        raise SourceError(SourceFault.LISTING, host)
    return body


def get_json(url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Any:
    """Request a JSON document. Raises SourceError, also if it is invalid or far too large."""
    response, sock, host = _follow("GET", url, timeouts=timeouts)
    try:
        return json.loads(read_answer(response, host))
    except (ValueError, RecursionError) as error:
        raise SourceError(SourceFault.LISTING, host) from error
    finally:
        sock.close()


def _follow(
    method: str,
    url: str,
    private_headers: tuple[tuple[str, str], ...] = (),
    range_headers: dict[str, str] | None = None,
    *,
    timeouts: Timeouts,
    seen: list[http.client.HTTPMessage] | None = None,
) -> tuple[http.client.HTTPResponse, socket.socket, str]:
    """Send a request, follow redirects, and return the response with its socket and the host that sent it.

    `seen` collects the headers of all responses, including redirects.
    """
    first = origin(url)
    for _hop in range(MAX_REDIRECTS):
        host = origin(url)[1]
        headers = {"Accept-Encoding": "identity", "User-Agent": f"qwenchat/{__version__}", **(range_headers or {})}
        if origin(url) == first:
            headers |= dict(private_headers)
        response, sock = send(method, url, headers, timeouts)
        if seen is not None:
            seen.append(response.headers)
        if response.status in _REDIRECTS and (target := response.headers.get("Location")):
            sock.close()
            url = _joined(url, target, host)
            continue
        if response.status >= 300:
            sock.close()
            raise SourceError.from_status(response.status, host, retry_after(response.headers.get("Retry-After", "")))
        return response, sock, host
    raise SourceError(SourceFault.REDIRECTS, origin(url)[1])


def _joined(url: str, target: str, host: str) -> str:
    """Return the target URL of a redirect. Raises SourceError unless it is an http or https URL."""
    with suppress(ValueError):
        joined = urljoin(url, target)
        if is_address(joined):
            return joined
    raise SourceError(SourceFault.REDIRECTS, host)


def send(
    method: str, url: str, headers: dict[str, str], timeouts: Timeouts
) -> tuple[http.client.HTTPResponse, socket.socket]:
    """Send one request and return the response, whatever its status, with its socket. Raises SourceError."""
    scheme, host, _port = origin(url)
    if not is_address(url):
        raise SourceError(SourceFault.REDIRECTS, host)
    proxy = proxy_for(url)
    if proxy and not proxy.is_socks and scheme == "http":
        headers = headers | _proxy_login(proxy)
    try:
        connection, target = _opened(url, proxy, timeouts.connect_s)
        sock: socket.socket = connection.sock
        sock.settimeout(timeouts.silence_s)
        try:
            connection.request(method, target, headers=headers)
            return connection.getresponse(), sock
        except BaseException:
            sock.close()
            raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SourceError.from_exception(error, host, proxy=proxy.variable if proxy else "") from error


def _start(response: http.client.HTTPResponse, offset: int, host: str) -> int:
    if response.status == 200:
        return 0
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status != 206 or not found:
        raise SourceError.from_status(response.status, host)
    if int(found[1]) != offset:
        raise SourceError(SourceFault.LENGTH, host)
    return offset


def _total(response: http.client.HTTPResponse, start: int) -> int | None:
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status == 206 and found and found[3] != "*":
        return int(found[3])
    return None if response.length is None else start + response.length


def _validator(response: http.client.HTTPResponse) -> str:
    etag = response.headers.get("ETag", "")
    return "" if etag.startswith("W/") else etag or response.headers.get("Last-Modified", "")
