"""The page with the terminal, and who may open it.

The terminal is textual-serve's, and so are the messages between page and program. Its page and its server are not used:
they fetch fonts from elsewhere, let any web page connect, start the program through a shell, and may end it before
everything is saved.

Whoever opens the page can do what the user can do in the screen. So every address begins with a secret, which other
users of this machine and the pages of strangers do not know, and what a browser says about where a request comes from
has to agree with it. Nothing is logged.
"""

import asyncio
import html
import json
import logging
import re
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from aiohttp import WSCloseCode, WSMsgType, web

from qwenchat.i18n import _, language, reason_of
from qwenchat.net.addresses import is_loopback, origin
from qwenchat.web.tab import END_S, Size, Tab

MOST_TABS = 16
"""Tabs at the same time. Each is a program of its own, which may load a model."""
_LONGEST_MESSAGE = 64 << 20
"""Bytes of a message from the page; a paste is one."""
_HEARTBEAT_S = 15.0
"""Seconds after which a silent browser is asked whether it is still there; it has half as long to answer."""
_SLOW_S = 10.0
"""Seconds in which a browser takes a piece of what was drawn. One that does not is asleep or gone."""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; img-src data:;"
        " connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the page is; both contain a secret."""

    page: str
    once: str
    """Leads to the page, once. It is for the command line of a browser, which other users of the machine can see."""


class WebServer:
    """Serves the page, and starts a program for each tab that shows it."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """`command` is the program, without a shell. Raises ModuleNotFoundError without textual-serve."""
        self._command, self._environ = command, environ
        self._terminal = Path(str(files("textual_serve"))) / "static"
        self._secret, self._ticket = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._is_private = True
        """Whether it listens at this machine alone."""
        self._websockets: set[web.WebSocketResponse] = set()

    @asynccontextmanager
    async def serving(self, listening: socket.socket, url: str) -> AsyncIterator[Addresses]:
        """Serve at a socket as long as the context is open, and then until all programs have ended.

        `url` is that of the socket.
        """
        self._is_private = is_loopback(origin(url)[1])
        silent = logging.getLogger("qwenchat.web")
        silent.setLevel(logging.CRITICAL + 1)  # what it would say of a bad request contains the secret
        runner = web.AppRunner(self._application(), access_log=None, logger=silent, shutdown_timeout=END_S)
        await runner.setup()
        try:
            await web.SockSite(runner, listening).start()
            yield Addresses(page=f"{url}/{self._secret}/", once=f"{url}/once/{self._ticket}")
        finally:
            await runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._refuse_strangers])
        app.router.add_get("/once/{ticket}", self._lead_to_page)
        app.router.add_get(f"/{self._secret}/", _page)
        app.router.add_get(f"/{self._secret}/ws", self._show)
        app.router.add_static(f"/{self._secret}/page/", _PAGE)
        app.router.add_static(f"/{self._secret}/terminal/", self._terminal)
        app.router.add_get("/{other:.*}", _explain_address)
        app.on_response_prepare.append(_add_headers)
        app.on_shutdown.append(self._end_all)
        return app

    @web.middleware
    async def _refuse_strangers(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Refuse what another page sends, and a name that a stranger may have given to this machine."""
        is_stranger = self._is_private and not is_loopback(origin(f"http://{request.host}")[1])
        sender = request.headers.get("Origin")
        if is_stranger or (sender is not None and sender.partition("://")[2] != request.host):
            raise web.HTTPForbidden
        return await handler(request)

    async def _lead_to_page(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["ticket"] != self._ticket:
            return await _explain_address(request)
        self._ticket = secrets.token_urlsafe(24)
        raise web.HTTPFound(f"/{self._secret}/")

    async def _show(self, request: web.Request) -> web.StreamResponse:
        """Start a program and pass on what it and the page say until one of them ends."""
        websocket = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=_LONGEST_MESSAGE, compress=False)
        await websocket.prepare(request)
        self._websockets.add(websocket)
        try:
            if len(self._websockets) > MOST_TABS:
                await websocket.send_bytes(
                    _("{count} tabs are open, which is the limit.").format(count=MOST_TABS).encode()
                )
            else:
                await self._connect(websocket, _size(request.query))
        finally:
            self._websockets.discard(websocket)
            await websocket.close()
        return websocket

    async def _connect(self, websocket: web.WebSocketResponse, size: Size) -> None:
        try:
            tab = await Tab.open(self._command, self._environ, size)
        except OSError as error:
            await websocket.send_bytes(
                _("The screen can't be started: {reason}.").format(reason=reason_of(error)).encode()
            )
            return
        both = [asyncio.create_task(_draw(tab, websocket)), asyncio.create_task(_type(tab, websocket))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await tab.close()
        for ended in await asyncio.gather(*both, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _end_all(self, _app: web.Application) -> None:
        """Close every tab, so that its program saves everything and ends."""
        await asyncio.gather(*(websocket.close(code=WSCloseCode.GOING_AWAY) for websocket in self._websockets))


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


async def _explain_address(_request: web.Request) -> web.StreamResponse:
    words = _("This address is incomplete or no longer valid. Open the whole address that `qwenchat web` has printed.")
    return web.Response(status=404, text=words)


async def _page(_request: web.Request) -> web.StreamResponse:
    """Return the page, in the user's language."""
    words = {
        "language": language().replace("_", "-"),
        "ended": _("This screen has ended. Everything is saved."),
        "again": _("Open it again"),
        "unusable": _("This browser can't draw the screen: it has no WebGL, or no scripts."),
    }
    page = Template((_PAGE / "page.html").read_text("utf-8"))
    text = page.substitute({name: html.escape(word) for name, word in words.items()})
    return web.Response(text=text, content_type="text/html")


async def _draw(tab: Tab, websocket: web.WebSocketResponse) -> None:
    """Send what the program draws, until it ends or the browser does not take it."""
    with suppress(ConnectionError, TimeoutError):
        while written := await tab.read():
            async with asyncio.timeout(_SLOW_S):
                await websocket.send_bytes(written)


async def _type(tab: Tab, websocket: web.WebSocketResponse) -> None:
    """Do what the page says, until it is gone. What it does not know is ignored."""
    async for message in websocket:
        if message.type is not WSMsgType.TEXT:
            continue
        try:
            said = json.loads(message.data)
        except (ValueError, RecursionError):
            continue
        match said:
            case ["stdin", str(keys)]:
                await tab.write(keys.encode("utf-8", "replace"))
            case ["resize", {"width": int(columns), "height": int(rows)}]:
                tab.resize(Size.of(columns, rows))
            case ["ping", str(sent)]:
                await websocket.send_json(["pong", sent])


def _size(query: Mapping[str, str]) -> Size:
    """Return the size that the page's address gives."""
    columns, rows = query.get("width", ""), query.get("height", "")
    is_number = re.compile("[0-9]{1,9}").fullmatch
    return Size.of(int(columns) if is_number(columns) else 80, int(rows) if is_number(rows) else 24)
