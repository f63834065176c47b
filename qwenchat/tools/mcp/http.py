"""A server that is reached by its URL through streamable HTTP, by the official SDK, which is an extra.

This module is imported when the first such server is connected to, in a thread, because the SDK takes a second. What
the SDK lacks is added here: a limit for the size of a response, no compression, and the proxy and the certificates that
all of qwenchat uses. Nothing logs in by OAuth: a server's token stands in its headers.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import msgspec
from mcp import MCPError
from mcp.client import Client, ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    REQUEST_TIMEOUT,
    CallToolRequest,
    CallToolRequestParams,
    Implementation,
    PaginatedRequestParams,
)
from pydantic import RootModel

from qwenchat.errors import QwenchatError
from qwenchat.i18n import _
from qwenchat.net.transport import transport_to
from qwenchat.text.safe import clean_line
from qwenchat.tools.mcp.protocol import (
    MESSAGE_LIMIT,
    CallResult,
    RequestRefused,
    ServerFault,
    ServerLimits,
    ToolPage,
    client_info,
    converted,
)
from qwenchat.tools.mcp.settings import ServerAddress

_CONNECT_S, _SILENCE_S = 30.0, 300.0
_LOST = (CONNECTION_CLOSED, INVALID_REQUEST, REQUEST_TIMEOUT)
"""Errors after which a new connection is made; a server answers INVALID_REQUEST when it has forgotten the session."""


class HttpConnection:
    """One session with a server, and a `Connection` to it.

    The SDK's client has to be left by the task that entered it, so a task of its own holds it.
    """

    def __init__(self, address: ServerAddress, environ: Mapping[str, str], limits: ServerLimits) -> None:
        """`environ` says which proxy to use."""
        self._address, self._environ, self._limits = address, environ, limits
        self._session: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._leave = asyncio.Event()
        self._statuses: list[int] = []
        self._fault: ServerFault | None = None
        self._holder: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._holder = asyncio.create_task(self._hold())
        await asyncio.wait((self._session,), timeout=self._limits.start)
        if not self._session.done():
            raise _silent()
        self._session.result()

    @property
    def ended(self) -> bool:
        return self._fault is not None

    async def list_tools(self, cursor: str | None) -> ToolPage:
        async with self._faults("tools/list"):
            session = await self._session
            async with asyncio.timeout(self._limits.list):
                page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        listed = page.model_dump(mode="json", by_alias=True, exclude_none=True)
        tools = [msgspec.Raw(msgspec.json.encode(tool)) for tool in listed["tools"]]
        return ToolPage(tools=tools, next_cursor=page.next_cursor)

    async def call(self, name: str, arguments: Mapping[str, object]) -> CallResult:
        request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=dict(arguments)))
        async with self._faults("tools/call"):
            session = await self._session
            # The SDK's own method checks results against a schema of the server, whose patterns can take for ever.
            result = await session.send_request(request, RootModel[dict[str, Any]])
        return converted(result.root, CallResult)

    async def close(self) -> None:
        self._fault = self._fault or ServerFault(lambda: _("it was ended"))
        self._leave.set()
        self._give_up(self._fault)
        if self._holder:
            await asyncio.wait((self._holder,), timeout=self._limits.end)
            self._holder.cancel()
            await asyncio.gather(self._holder, return_exceptions=True)

    async def _hold(self) -> None:
        """Hold the session until it is left or lost."""
        logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)  # where nothing handles logs, they go to the terminal
        try:
            transport = await asyncio.to_thread(_Bounded, self._address.url, self._environ, self._statuses)
            async with (
                httpx2.AsyncClient(
                    transport=transport,
                    headers={**self._address.headers, "Accept-Encoding": "identity"},
                    timeout=httpx2.Timeout(_CONNECT_S, read=_SILENCE_S),
                    trust_env=False,
                ) as http,
                Client(
                    streamable_http_client(self._address.url, http_client=http, max_sse_event_size=MESSAGE_LIMIT),
                    client_info=Implementation.model_validate(client_info()),
                    cache=None,
                ) as client,
            ):
                if not self._session.done():
                    self._session.set_result(client.session)
                await self._leave.wait()
        except Exception as error:
            self._fault = self._fault or self._fault_of(error)
            self._give_up(self._fault)

    def _give_up(self, fault: ServerFault) -> None:
        if not self._session.done():
            self._session.set_exception(ServerFault(fault.words))
            self._session.exception()  # nobody may be waiting for it any more

    @contextlib.asynccontextmanager
    async def _faults(self, method: str) -> AsyncIterator[None]:
        """Turn what the SDK raises into ServerFault, and note where the connection is lost."""
        self._statuses.clear()
        try:
            yield
        except MCPError as error:
            if error.code not in _LOST:
                raise self._refused(method, error) from error
            self._fault = await self._lost() or self._refused(method, error)
            raise ServerFault(self._fault.words) from error
        except Exception as error:
            self._fault = self._fault_of(error)
            raise ServerFault(self._fault.words) from error

    async def _lost(self) -> ServerFault | None:
        """Return why the session was lost, where the task that holds it knows that."""
        if self._holder:
            await asyncio.wait((self._holder,), timeout=0.5)
        return self._fault

    def _refused(self, method: str, error: MCPError) -> ServerFault:
        """Return the words for an error of the server; the SDK makes one of an HTTP status, but does not name it."""
        if self._statuses and self._statuses[-1] >= 400:
            status = self._statuses[-1]
            return ServerFault(lambda: _("it answered with the HTTP status {status}").format(status=status))
        return RequestRefused(method, self._address.without_secrets(error.message), error.code)

    def _fault_of(self, error: BaseException) -> ServerFault:
        """Return the words for anything that a connection raises."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, ServerFault):
            return error
        if isinstance(error, MCPError):
            return self._refused("initialize", error)
        if isinstance(error, TimeoutError | httpx2.TimeoutException):
            return _silent()
        if isinstance(error, QwenchatError):
            words = error.message.rstrip(".")
            return ServerFault(lambda: words)
        detail = clean_line(self._address.without_secrets(str(error)) or type(error).__name__).rstrip(".")
        if isinstance(error, OSError | httpx2.TransportError):
            return ServerFault(lambda: _("it can't be reached: {detail}").format(detail=detail))
        return ServerFault(lambda: _("it broke the protocol: {detail}").format(detail=detail))


def _silent() -> ServerFault:
    return ServerFault(lambda: _("it does not answer"))


class _Bounded(httpx2.AsyncBaseTransport):
    """A transport whose responses are limited in size, and which notes their statuses."""

    def __init__(self, url: str, environ: Mapping[str, str], statuses: list[int]) -> None:
        """Raises WrongUse and OSError."""
        self._inner, _variable = transport_to(url, environ)
        self._statuses = statuses

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if request.method == "POST":
            self._statuses.append(response.status_code)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.DecodingError("compressed", request=request)
        if not response.headers.get("content-type", "").startswith("text/event-stream"):  # its events are limited
            response.stream = _BoundedStream(response, request)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    """The body of a response, up to the limit of a message."""

    def __init__(self, response: httpx2.Response, request: httpx2.Request) -> None:
        self._stream, self._request = response.stream, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if not isinstance(self._stream, httpx2.AsyncByteStream):
            return
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > MESSAGE_LIMIT:
                raise httpx2.ReadError("the response is too large", request=self._request)
            yield chunk

    async def aclose(self) -> None:
        if isinstance(self._stream, httpx2.AsyncByteStream):
            await self._stream.aclose()
