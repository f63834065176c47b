"""One path of the server: reads a body within limits, serves it, and stops as soon as the client has left.

What a handler returns is sent whole; what it yields is sent as events, from the first one on or after a few seconds of
silence, so that what fails before has the status of its failure.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec
from starlette.types import Message, Receive, Scope, Send

from qwenchat.server.api_errors import ApiError, api_error
from qwenchat.server.requests import read

LARGEST_BODY = 16 << 20
"""Bytes of one request."""
MOST_HELD = 64 << 20
"""Bytes of all bodies that are read or served at the same time."""
BODY_S = 30.0
"""Seconds that a client has to send a body."""
KEEP_ALIVE = b": waiting\n\n"
"""A comment, which the readers of event streams skip."""
_DONE = b"data: [DONE]\n\n"
_JSON, _EVENTS = "application/json", "text/event-stream"

Shape = TypeVar("Shape")


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response."""

    body: bytes
    status: int = 200
    media_type: str = _JSON
    headers: dict[str, str] = field(default_factory=dict)


EventStream = AsyncGenerator[bytes, None]
"""A response that is sent piece by piece: what `event` returns, or KEEP_ALIVE."""
Handler = Callable[[Shape], Awaitable[Reply | EventStream]]


def as_json(value: object) -> Reply:
    """Return a value as a response."""
    return Reply(msgspec.json.encode(value))


def event(value: object) -> bytes:
    """Return a value as an event of a stream."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


class BodyReader:
    """Reads the bodies of all requests, within a limit for each and one for all together."""

    def __init__(self, *, largest: int = LARGEST_BODY, most_held: int = MOST_HELD, seconds: float = BODY_S) -> None:
        self._largest, self._most_held, self._seconds = largest, most_held, seconds
        self._held = 0

    @asynccontextmanager
    async def body(self, scope: Scope, receive: Receive) -> AsyncGenerator[bytes, None]:
        """Read a body, which counts as held as long as the context is open. Raises ApiError and ClientLeft."""
        self._check(_declared(scope))
        chunks = bytearray()
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    while await self._receive(receive, chunks):
                        pass
            except TimeoutError:
                raise _closing(ApiError(408, "request_timeout", "The body did not come in time.")) from None
            yield bytes(chunks)
        finally:
            self._held -= len(chunks)

    async def _receive(self, receive: Receive, chunks: bytearray) -> bool:
        """Add the next piece of a body; return whether more of it comes."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk = message.get("body", b"")
        chunks += chunk
        self._held += len(chunk)
        self._check(len(chunks))
        return bool(message.get("more_body", False))

    def _check(self, size: int) -> None:
        if size > self._largest:
            message = f"The body is larger than {self._largest} bytes."
            raise _closing(ApiError(413, "request_too_large", message))
        if self._held > self._most_held:
            raise _closing(ApiError(429, "queue_full", "Too many large requests wait.", headers={"retry-after": "2"}))


class ClientLeft(Exception):
    """The connection has ended: nobody reads an answer."""


class Endpoint(Generic[Shape]):
    """Serves the requests of one path, as an ASGI application."""

    def __init__(self, handle: Handler[Shape], shape: type[Shape], bodies: BodyReader) -> None:
        self._handle, self._shape, self._bodies = handle, shape, bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientLeft):
            try:
                async with self._bodies.body(scope, receive) as body:
                    request = read(body, self._shape)
                    del body
                    await self._until_left(self._respond(request, send), receive)
            except ApiError as error:
                await send_reply(send, error_reply(error))

    async def _until_left(self, work: Awaitable[None], receive: Receive) -> None:
        """Do work, but no longer than the client waits for it."""
        working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, leaving):
                task.cancel()
            await asyncio.wait({working, leaving})

    async def _respond(self, request: Shape, send: Send) -> None:
        try:
            reply = await self._handle(request)
        except Exception as error:
            reply = error_reply(api_error(error))
        if isinstance(reply, Reply):
            await send_reply(send, reply)
        else:
            await _stream(send, reply)


def error_reply(error: ApiError) -> Reply:
    """Return the response that says what is wrong."""
    return Reply(error.body, error.status, headers=error.headers)


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a whole response."""
    headers = {"content-type": reply.media_type, "content-length": str(len(reply.body)), **reply.headers}
    await send(_start(reply.status, headers))
    await send({"type": "http.response.body", "body": reply.body})


async def _stream(send: Send, pieces: EventStream) -> None:
    """Send events as they come; what fails once they have begun is an event, too."""
    has_begun = False
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                if not has_begun:
                    await send(_start(200, {"content-type": _EVENTS, "cache-control": "no-cache"}))
                    has_begun = True
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            last = _DONE
        except Exception as error:
            failure = api_error(error)
            if not has_begun:
                await send_reply(send, error_reply(failure))
                return
            last = b"data: " + failure.body + b"\n\n"
    await send({"type": "http.response.body", "body": last})


def _start(status: int, headers: dict[str, str]) -> Message:
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}


async def _left(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _declared(scope: Scope) -> int:
    """Return the size that a request says its body has; 0 where it says nothing that makes sense."""
    value = dict(scope["headers"]).get(b"content-length", b"")
    return int(value) if value.isdigit() and len(value) < 20 else 0


def _closing(error: ApiError) -> ApiError:
    """Return an error after which the connection ends: the rest of its body is not read."""
    error.headers["connection"] = "close"
    return error
