"""The body of a response: limited in time and size, and taken apart into a document, events or lines of JSON.

It is hostile: nothing is decompressed, nothing is read without a limit, and what is not JSON is refused. Methods raise
AttemptFailed, and whatever the connection raises.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx2
import msgspec

from qwenchat.engines.remote.faults import AttemptFailed, Fault, FaultKind, looks_like_page

MAX_EVENT = 4 << 20
"""Bytes of one event or line. The last event of llama-server contains the whole prompt."""
MAX_DOCUMENT = 16 << 20
"""Bytes of an answer that is one document."""
MAX_STREAM = 1 << 30
"""Bytes of all events of an answer."""
MAX_ERROR = 64 << 10
"""Bytes that are read of the body of an error."""


class ReceivedBody(httpx2.AsyncByteStream):
    """The bytes of one response, as they come. It can be read once."""

    def __init__(self, response: httpx2.Response, *, silence_s: float, limit: int) -> None:
        self.silence_s = silence_s
        """Seconds to wait for the next bytes; it may be changed between them."""
        self.request = response.request
        self.head = b""
        """The beginning, as far as it was read."""
        self._response, self._limit = response, limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self._response.aiter_raw()
        size = 0
        while True:
            try:
                async with asyncio.timeout(self.silence_s):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            size += len(chunk)
            if size > self._limit:
                raise failed(FaultKind.TOO_LARGE)
            if len(self.head) < MAX_ERROR:
                self.head += chunk[:MAX_ERROR]
                if looks_like_page(self.head) and self._response.is_success:
                    raise failed(FaultKind.PAGE)
            yield chunk

    async def beginning(self) -> bytes:
        """Return at least the first MAX_ERROR bytes, as far as they come; a connection that breaks ends them."""
        try:
            async for _chunk in self:
                if len(self.head) >= MAX_ERROR:
                    break
        except (AttemptFailed, httpx2.TransportError, OSError):
            pass  # what there is says what is wrong
        return self.head


async def document(body: ReceivedBody) -> Any:
    """Return what the body is as JSON."""
    return decoded(b"".join([chunk async for chunk in body]))


async def events(body: ReceivedBody) -> AsyncGenerator[dict[str, Any] | None, None]:
    """Yield each server-sent event's JSON, whatever type the response claims to have; None for `[DONE]`."""
    response = httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, stream=body, request=body.request)
    async for event in httpx2.EventSource(response, MAX_EVENT):
        if event.data.strip() == "[DONE]":
            yield None
        elif event.data:
            yield _object(event.data)


async def lines(body: ReceivedBody) -> AsyncGenerator[dict[str, Any] | None, None]:
    """Yield the JSON of each line. Lines end with a newline only: JSON may contain other separators of lines."""
    begun: list[bytes] = []
    size = 0
    async for chunk in body:
        first, *others = chunk.split(b"\n")
        begun.append(first)
        size += len(first)
        for other in others:
            if line := b"".join(begun).strip():
                yield _object(line)
            begun, size = [other], len(other)
        if size > MAX_EVENT:
            raise failed(FaultKind.TOO_LARGE)
    if line := b"".join(begun).strip():
        yield _object(line)


def decoded(text: bytes | str) -> Any:
    """Return decoded JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise failed(FaultKind.NOT_JSON) from None


def failed(kind: FaultKind) -> AttemptFailed:
    """Return the exception for a fault without details."""
    return AttemptFailed(Fault(kind=kind))


def _object(text: bytes | str) -> dict[str, Any]:
    value = decoded(text)
    if not isinstance(value, dict):
        raise failed(FaultKind.NOT_JSON)
    return value
