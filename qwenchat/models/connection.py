"""The way to a server: directly or through a proxy, in the clear or over TLS. Nothing is sent here.

Certificates are checked against the same store as huggingface_hub does: the system's, or SSL_CERT_FILE.
"""

import base64
import http.client
import ssl
import urllib.request
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a connection, and for the next byte of one that stands."""

    connect_s: float = 10.0
    silence_s: float = 30.0


PATIENT = Timeouts()
_ENCODED = "/%:@!$&'()*+,;=~?"
"""What stays as it is in an address that is encoded already."""


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port; nothing of an address that makes no sense."""
    try:
        parts = urlsplit(url)
        return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", "", 0


def proxy_of(url: str) -> SplitResult | None:
    """Return the proxy that the environment or the system names for a URL."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all", "")
    if not proxy or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def connection_to(
    parts: SplitResult, proxy: SplitResult | None, headers: dict[str, str], timeouts: Timeouts
) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection to open and the request's target on it."""
    host = parts.hostname or ""
    query = f"?{quote(parts.query, safe=_ENCODED)}" if parts.query else ""
    target = quote(parts.path or "/", safe=_ENCODED) + query
    via, port = (proxy.hostname or "", proxy.port or 80) if proxy else (host, parts.port)
    if proxy and proxy.scheme != "http":
        raise OSError(f"tunnel through a proxy of the kind {proxy.scheme} is not supported")
    if parts.scheme == "http":
        if proxy:
            headers |= _proxy_login(proxy)
            target = f"http://{parts.netloc.rpartition('@')[2]}{target}"
        return http.client.HTTPConnection(via, port, timeout=timeouts.connect_s), target
    connection = http.client.HTTPSConnection(via, port, timeout=timeouts.connect_s, context=_certificates())
    if proxy:
        connection.set_tunnel(host, parts.port or 443, _proxy_login(proxy))
    return connection, target


def _certificates() -> ssl.SSLContext:
    """Return a context that trusts what the system trusts, or the file in SSL_CERT_FILE."""
    import httpx2  # noqa: PLC0415 - no other part of it is used, and it takes a tenth of a second

    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        raise no_certificates(error) from error


def no_certificates(error: OSError) -> ssl.SSLError:
    """Return the error of an encrypted connection for certificates that can't be read: no server was asked yet."""
    return ssl.SSLError(error.errno or 0, f"SSL_CERT_FILE: {error.strerror or error}")


def _proxy_login(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
