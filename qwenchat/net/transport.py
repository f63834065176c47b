"""How a server is connected to: directly or through a proxy, with TLS where its URL says so.

It is the HTTP library's transport alone, without its client: nothing is read from the environment but the proxy and
SSL_CERT_FILE, no cookie is stored, nothing is logged, and no redirect is followed.
"""

import socket
import ssl
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import httpcore2
import httpx2
from httpcore2._backends.anyio import AnyIOStream  # it has no public name

from qwenchat.net.addresses import is_loopback
from qwenchat.net.certificates import trusted_certificates
from qwenchat.net.proxies import Proxy, open_through_socks, proxy_for

_KEEP_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPALIVE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)
]
"""A connection that is silent for long, as while a prompt is prefilled, stays known to routers; one whose other end is
gone ends after a minute and a half."""


def transport_to(url: str, environ: Mapping[str, str] | None = None) -> tuple[httpx2.AsyncHTTPTransport, str]:
    """Return a transport to the server of a URL, and the variable of the proxy that it goes through.

    A server on this machine is reached directly. Raises WrongUse for a proxy that can't be used, and
    ssl.SSLError for certificates that can't be read.
    """
    parts = urlsplit(url)
    proxy = None if is_loopback(parts.hostname or "") else proxy_for(url, environ)
    verify: ssl.SSLContext | bool = False if parts.scheme == "http" else trusted_certificates()
    if proxy is None:
        return httpx2.AsyncHTTPTransport(verify=verify, socket_options=_KEEP_ALIVE), ""
    if proxy.is_socks:
        return _SocksTransport(proxy, verify), proxy.variable
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    via = httpx2.Proxy(f"http://{host}:{proxy.port}", auth=proxy.login)
    return httpx2.AsyncHTTPTransport(verify=verify, proxy=via, socket_options=_KEEP_ALIVE), proxy.variable


class _SocksTransport(httpx2.AsyncHTTPTransport):
    """Goes through a SOCKS proxy, by the same library as downloads do."""

    def __init__(self, proxy: Proxy, verify: ssl.SSLContext | bool) -> None:
        super().__init__(verify=verify)
        context = verify if isinstance(verify, ssl.SSLContext) else None
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context, keepalive_expiry=5.0, network_backend=_SocksBackend(proxy)
        )


class _SocksBackend(httpcore2.AnyIOBackend):
    """Opens connections through a SOCKS proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return AnyIOStream(await open_through_socks(self._proxy, host, port, timeout))
