"""Decides through which proxy a URL is reached, as curl does, and opens connections through SOCKS proxies.

The variables are `https_proxy` or `http_proxy`, then `all_proxy`; `no_proxy` names hosts to reach without a proxy.
A name in lower case comes before the same name in upper case. Where none is set, the system's own setting counts on
Windows and macOS. Errors name the variable, never its value, which may contain a password.
"""

import ipaddress
import os
import re
import socket
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from qwenchat.errors import WrongUse
from qwenchat.i18n import _

if TYPE_CHECKING:
    from anyio.abc import ByteStream

_SOCKS = frozenset({"socks", "socks5", "socks5h"})
_DEFAULT_PORTS = {"http": 80} | dict.fromkeys(_SOCKS, 1080)


class ProxyRefused(OSError):
    """A proxy does not open the connection that it was asked for."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that can be used."""

    variable: str
    """The environment variable that sets it, or words for the system's setting."""
    is_socks: bool
    host: str
    port: int
    login: tuple[str, str] | None = field(default=None, repr=False)
    """User name and password."""


def proxy_for(url: str, environ: Mapping[str, str] | None = None) -> Proxy | None:
    """Return the proxy for an http or https URL, None for a direct connection.

    Raises WrongUse for a setting that is not a proxy that we can use.
    """
    environ = os.environ if environ is None else environ
    parts = urlsplit(url)
    if _is_excepted(parts, _first_set(environ, "no_proxy")[1]):
        return None
    variable, value = _first_set(environ, f"{parts.scheme}_proxy", "all_proxy")
    if not value and sys.platform in ("win32", "darwin"):
        variable, value = _("the system's settings"), _of_system(parts)
    return _proxy(variable, value) if value else None


def _first_set(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """Return the first variable that is set, in lower or upper case, and its value."""
    for variable in (cased for name in names for cased in (name, name.upper())):
        is_header = variable == "HTTP_PROXY" and "REQUEST_METHOD" in environ  # which a client of a CGI script can set
        if (value := environ.get(variable, "").strip()) and not is_header:
            return variable, value
    return "", ""


def _of_system(parts: SplitResult) -> str:
    proxies = urllib.request.getproxies()
    bypassed = urllib.request.proxy_bypass(parts.hostname or "")
    return "" if bypassed else proxies.get(parts.scheme) or proxies.get("all", "")


def _proxy(variable: str, value: str) -> Proxy:
    reason = _("it is not an address (in a password, write # as %23 and @ as %40)")
    with suppress(ValueError):
        parts = urlsplit(value if "://" in value else f"http://{value}")
        kind, port = parts.scheme, parts.port
        if kind not in _DEFAULT_PORTS:
            reason = _("proxies of the kind {kind} are not supported").format(
                kind=re.sub("[^a-z0-9+.-]", "?", kind)[:20]
            )
        elif parts.hostname and port != 0:
            login = (unquote(parts.username), unquote(parts.password or "")) if parts.username is not None else None
            return Proxy(variable, kind in _SOCKS, parts.hostname, port or _DEFAULT_PORTS[kind], login)
    raise WrongUse(
        _("The proxy in {variable} can't be used: {detail}.").format(variable=variable, detail=reason),
        _("Set it to an address such as http://127.0.0.1:7890 or socks5://127.0.0.1:7891, or unset it."),
    )


def _is_excepted(target: SplitResult, no_proxy: str) -> bool:
    """Return whether `no_proxy` names the host of a URL: itself, a domain that it is in, or a network."""
    host = (target.hostname or "").rstrip(".")
    port = target.port or (443 if target.scheme == "https" else 80)
    return any(_matches(entry, host, port) for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        with suppress(ValueError):
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:]*)(?::(\d+))?", entry)
    if found is None or (found[2] and int(found[2]) != port):
        return False
    name = found[1].strip("[]").removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def connect_through_socks(proxy: Proxy, host: str, port: int, timeout_s: float) -> socket.socket:
    """Return a connection to a server through a SOCKS5 proxy, which also resolves the server's name.

    curl resolves the name itself for `socks5`, and lets the proxy do it for `socks5h`. Where a proxy is needed to reach
    a hub, the local answer for its name is often false, so here the proxy does it for both. Raises OSError.
    """
    from python_socks import ProxyError, ProxyTimeoutError, ProxyType  # noqa: PLC0415 - few need it
    from python_socks.sync import Proxy as SocksProxy  # noqa: PLC0415

    user, password = proxy.login or (None, None)
    try:
        through = SocksProxy(ProxyType.SOCKS5, proxy.host, proxy.port, user, password, rdns=True)
        return through.connect(host, port, timeout_s)
    except (ProxyError, ProxyTimeoutError, UnicodeError) as error:
        raise ProxyRefused(str(error)) from error


async def open_through_socks(proxy: Proxy, host: str, port: int, timeout_s: float | None) -> "ByteStream":
    """Do the same without blocking, and return the connection as anyio's stream. Raises OSError."""
    from python_socks import ProxyError, ProxyTimeoutError, ProxyType  # noqa: PLC0415 - few need it
    from python_socks.async_.anyio.v2 import Proxy as SocksProxy  # noqa: PLC0415

    user, password = proxy.login or (None, None)
    try:
        through = SocksProxy(ProxyType.SOCKS5, proxy.host, proxy.port, user, password, rdns=True)
        return (await through.connect(host, port, timeout=timeout_s)).anyio_stream
    except (ProxyError, ProxyTimeoutError, UnicodeError) as error:
        raise ProxyRefused(str(error)) from error
