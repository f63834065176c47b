"""Fetches a web page as text. It is offered only where the settings switch it on, and each call is confirmed.

A page may not be a way into the user's own network: the host's addresses are looked up, all of them must be public, and
the connection goes to the very address that was checked. Each redirect is checked in the same way. Where a proxy is
set, the proxy would look up the address itself, so nothing is fetched.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from qwenchat import __version__
from qwenchat.chat.tools import ToolSpec
from qwenchat.errors import WrongUse
from qwenchat.net.proxies import proxy_for
from qwenchat.text.clusters import cut
from qwenchat.text.files import decode_as
from qwenchat.text.html import encoding_named, text_of
from qwenchat.text.safe import clean, clean_line
from qwenchat.tools.arguments import Arguments, given, schema_of
from qwenchat.tools.tool import ToolError

if TYPE_CHECKING:
    import httpx2

Address = IPv4Address | IPv6Address
_TIME_LIMIT_S = 10.0
_SIZE_LIMIT = 1 << 20
"""Bytes that are received of a page."""
_SHOWN = 20_000
"""Characters of a result."""
_MAX_REDIRECTS = 5
_NAT64 = ip_network("64:ff9b::/96")
_NEVER = tuple(map(ip_network, ("64:ff9b:1::/48", "2001::/23", "fec0::/10", "::/8", "192.88.99.0/24")))
"""Networks that lead elsewhere than they say, or nowhere: local NAT64, Teredo, site-local, relays."""
_PAGES = ("text/html", "application/xhtml+xml")
_TEXTS = re.compile(r"text/.*|application/(.*\+)?(json|xml)")


async def look_up(host: str, port: int) -> list[Address]:
    """Return the addresses of a host. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the public internet, whatever it is written inside of."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if inner := address.ipv4_mapped or address.sixtofour:
            return is_public(inner)
    if any(address in network for network in _NEVER):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


class _FetchArguments(Arguments, frozen=True):
    url: Annotated[str, Meta(description="The address of the page, with https://")]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPage:
    """The tool `fetch_page`."""

    look_up: Callable[[str, int], Awaitable[list[Address]]] = look_up
    is_allowed: Callable[[Address], bool] = is_public
    writes = True
    """A URL may say anything to its server."""

    @property
    def spec(self) -> ToolSpec:
        """Its description for the model."""
        return ToolSpec(
            name="fetch_page", description="Read a web page by its URL.", parameters=schema_of(_FetchArguments)
        )

    async def run(self, arguments: Mapping[str, object]) -> str:
        """Return the text of a page. Raises ToolError."""
        import httpx2  # noqa: PLC0415 - a tenth of a second that few chats need

        url = _parsed(given(arguments, _FetchArguments).url)
        try:
            async with (
                asyncio.timeout(_TIME_LIMIT_S),
                httpx2.AsyncClient(
                    verify=httpx2.create_ssl_context(), trust_env=False, timeout=_TIME_LIMIT_S
                ) as client,
            ):
                return await self._fetched(client, url)
        except TimeoutError as error:
            raise ToolError(f"{_host(url)} did not answer within {_TIME_LIMIT_S:g} seconds.") from error
        except (httpx2.HTTPError, OSError) as error:
            raise ToolError(f"{_host(url)} can't be read: {clean_line(str(error)) or type(error).__name__}.") from error

    async def _fetched(self, client: "httpx2.AsyncClient", url: "httpx2.URL") -> str:
        for _hop in range(_MAX_REDIRECTS + 1):
            address = await self._checked(url)
            request = client.build_request(
                "GET",
                url.copy_with(host=str(address), fragment=None),
                headers={
                    "Host": url.netloc.decode("ascii"),
                    "User-Agent": f"qwenchat/{__version__}",
                    "Accept": "text/html, text/*;q=0.9, application/json;q=0.8",
                    "Accept-Encoding": "identity",
                },
                extensions={"sni_hostname": _host(url)},
            )
            response = await client.send(request, stream=True)
            try:
                if not (response.is_redirect and "location" in response.headers):
                    return await _text(response, url)
                target = _parsed(response.headers["location"], url)
                if url.scheme == "https" != target.scheme:
                    raise ToolError(f"{_host(url)} leads to a page that is not encrypted.")
                url = target
            finally:
                await response.aclose()
        raise ToolError(f"The page redirects more than {_MAX_REDIRECTS} times.")

    async def _checked(self, url: "httpx2.URL") -> Address:
        """Return the address to connect to. Raises ToolError where that is no public one."""
        try:
            proxy = proxy_for(str(url))
        except WrongUse as error:
            raise ToolError(error.message) from error
        if proxy:
            raise ToolError(f"Pages are not fetched through a proxy, and {proxy.variable} sets one.")
        try:
            addresses = await self.look_up(_host(url), url.port or (443 if url.scheme == "https" else 80))
        except (OSError, UnicodeError) as error:
            raise ToolError(f'There is no host named "{_host(url)}", or no network.') from error
        if not addresses or not all(map(self.is_allowed, addresses)):
            raise ToolError(f"{_host(url)} is not on the public internet, so it is not read.")
        return addresses[0]


def _host(url: "httpx2.URL") -> str:
    return url.raw_host.decode("ascii")


def _parsed(text: str, base: "httpx2.URL | None" = None) -> "httpx2.URL":
    """Return an http or https URL, relative to `base`. Raises ToolError."""
    import httpx2  # noqa: PLC0415

    try:
        url = base.join(text) if base else httpx2.URL(text.strip())
    except (httpx2.InvalidURL, ValueError) as error:
        raise ToolError(f'"{clean_line(text)}" is not the URL of a page.') from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ToolError(f'"{clean_line(text)}" is not the URL of a page: it must begin with https:// or http://.')
    if url.userinfo:
        raise ToolError("A URL with a user name or a password is not fetched.")
    return url


async def _text(response: "httpx2.Response", url: "httpx2.URL") -> str:
    """Receive a page and return its text. Raises ToolError."""
    if response.status_code != 200:
        raise ToolError(f"{_host(url)} answers with the status {response.status_code}.")
    media_type, _semicolon, parameters = response.headers.get("content-type", "text/plain").lower().partition(";")
    media_type = media_type.strip()
    if not _TEXTS.fullmatch(media_type) and media_type not in _PAGES:
        raise ToolError(f"The page is not text, but {clean_line(media_type, 60)}.")
    if response.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise ToolError(f"{_host(url)} sends a compressed page, although it was asked not to.")
    data = bytearray()
    async for piece in response.aiter_raw():
        data += piece
        if len(data) > _SIZE_LIMIT:
            break
    text = await asyncio.to_thread(_read, bytes(data[:_SIZE_LIMIT]), parameters, is_page=media_type in _PAGES)
    if len(text) > _SHOWN or len(data) > _SIZE_LIMIT:
        text = f"{cut(text, _SHOWN)}\n[The rest of the page is left out.]"
    return text or "[The page has no text.]"


def _read(data: bytes, parameters: str, *, is_page: bool) -> str:
    """Decode by what the server says, then by what the page says, then by what the bytes look like."""
    said = re.search(r"charset=[\"']?([a-z0-9_-]+)", parameters)
    names = (said[1] if said else "", encoding_named(data) if is_page else "")
    text = decode_as(data, *filter(None, names))
    return clean(text_of(text) if is_page else text)
