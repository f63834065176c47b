"""Listens on an address and serves an application with uvicorn until the caller ends it. It logs nothing."""

import asyncio
import ipaddress
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from qwenchat.errors import NetworkError, WrongUse
from qwenchat.i18n import _, reason_of
from qwenchat.text.safe import clean_line

HEADERS_S = 10.0
"""Seconds that a client has to send the head of its first request."""
MOST_CONNECTIONS = 512
_ENDING_S = 3
"""Seconds for which responses may go on once the server stops."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises WrongUse for a host that is no address here, NetworkError otherwise."""
    shown = clean_line(host)
    try:
        family, _kind, _protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise WrongUse(
            _("{host} is not an address of this computer.").format(host=shown), _("Use 127.0.0.1, or leave it out.")
        ) from None
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(MOST_CONNECTIONS)
    except OSError as error:
        listening.close()
        raise NetworkError(
            _("Nothing can be served at {host}, port {port}: {reason}.").format(
                host=shown, port=port, reason=reason_of(error)
            ),
            _("Choose another port with --port, or end what uses it."),
        ) from None
    return listening


def url_of(listening: socket.socket) -> str:
    """Return the URL of what is served at a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_only_loopback(listening: socket.socket) -> bool:
    """Return whether nobody on another machine reaches a socket."""
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


@asynccontextmanager
async def serving(app: ASGIApp, listening: socket.socket) -> AsyncIterator[None]:
    """Serve an application at a socket as long as the context is open; then responses have a short time to end."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.CRITICAL + 1,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=_ENDING_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    """uvicorn's server without its handlers of signals: the command ends it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """uvicorn's protocol with a limit of time for the head of the first request."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.loop.call_later(HEADERS_S, self._close_silent)

    def _close_silent(self) -> None:
        if not self.headers and not self.transport.is_closing():
            self.transport.close()
