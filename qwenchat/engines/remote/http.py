"""HTTP to one server: JSON requests and streams of events, with its key, its faults and retries.

All that comes back is hostile: it is limited in size and time, must be what was asked for, and is never decompressed.
Nothing is sent to any other origin: redirects are not followed, and no cookie is stored.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import httpx2
import msgspec
from msgspec import Struct, structs

from qwenchat import __version__
from qwenchat.chat.events import WaitingToRetry
from qwenchat.engines.remote.explanations import explain
from qwenchat.engines.remote.faults import (
    Attempt,
    AttemptFailed,
    Fault,
    FaultKind,
    from_event,
    from_exception,
    from_status,
)
from qwenchat.engines.remote.keys import KeyLookup
from qwenchat.engines.remote.received import (
    MAX_DOCUMENT,
    MAX_STREAM,
    ReceivedBody,
    decoded,
    document,
    events,
    failed,
    lines,
)
from qwenchat.engines.remote.retry import USUAL_RETRIES, ServerAttempts, ServerRetryPolicy
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import QwenchatError
from qwenchat.net.addresses import origin
from qwenchat.net.transport import transport_to

_DRAIN_S = 0.2
"""Seconds that a stream has to end after its last event, so that its connection can be used again."""

EventTest = Callable[[Any], bool]
_Split = Callable[[ReceivedBody], AsyncGenerator[dict[str, Any] | None, None]]


class TimeLimits(Struct, frozen=True, kw_only=True):
    """How long a server may be silent. Times are in seconds."""

    connect_s: float = 5.0
    document_s: float = 60.0
    """Before and within an answer that is one document."""
    first_token_s: float = 600.0
    """Before the first token: a server without progress reports is silent while it prefills."""
    next_token_s: float = 120.0
    """After it. Servers that are busy send comments at least twice a minute."""


USUAL_LIMITS = TimeLimits()


def _any(event: Any) -> bool:
    return True


def _none(event: Any) -> bool:
    return False


class RemoteHttp:
    """The connections to one server. It belongs to one loop. Methods raise RemoteError, and PromptTooLong.

    `report` is called before each wait for another attempt; whoever wants to know sets it.
    """

    def __init__(
        self,
        server: RemoteServer,
        *,
        offline: bool = False,
        policy: ServerRetryPolicy = USUAL_RETRIES,
        limits: TimeLimits = USUAL_LIMITS,
        environ: Mapping[str, str] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Open nothing yet. `offline` refuses servers on other machines; `environ` has the key and the proxy."""
        self.server = server
        self.report: Callable[[WaitingToRetry], object] = _none
        self._offline, self._policy, self._limits, self._sleep = offline, policy, limits, sleep
        self._environ = environ
        self._keys = KeyLookup(server, environ)
        self._connecting = asyncio.Lock()
        self._transport: tuple[httpx2.AsyncBaseTransport, str] | None = None

    async def get(self, url: str) -> Any:
        """Return the decoded JSON of an answer."""
        return await self._document("GET", url)

    async def post(self, url: str, body: object, *, silence_s: float | None = None) -> Any:
        """Send a JSON body and return the decoded JSON of the answer.

        `silence_s`: how long the server may take, for what is more than a look-up, such as loading a model.
        """
        return await self._document("POST", url, body, silence_s=silence_s)

    @asynccontextmanager
    async def events(
        self, url: str, body: object, *, is_token: EventTest = _any, is_last: EventTest = _none
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Send a JSON body and read server-sent events: the decoded JSON of each, without `[DONE]`.

        The request is repeated until an event `is_token`, so that events before it may come again. A stream must end
        with `[DONE]`, or after an event that `is_last`; a document that `is_last` counts as the only event.
        """
        stream = self._stream(url, body, events, is_token=is_token, is_last=is_last)
        async with aclosing(stream):
            yield stream

    @asynccontextmanager
    async def lines(
        self, url: str, body: object, *, is_token: EventTest = _any, is_last: EventTest = _none
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Send a JSON body and read lines of JSON: the decoded JSON of each. See `events`."""
        stream = self._stream(url, body, lines, is_token=is_token, is_last=is_last)
        async with aclosing(stream):
            yield stream

    async def close(self) -> None:
        """Close all connections."""
        if self._transport:
            await self._transport[0].aclose()

    async def _document(self, method: str, url: str, body: object = None, *, silence_s: float | None = None) -> Any:
        attempts = self._attempts()
        while True:
            try:
                silence = silence_s or self._limits.document_s
                async with self._response(method, url, body, silence_s=silence, limit=MAX_DOCUMENT) as response:
                    value = await document(response.body)
                    if fault := from_event(response.attempt, value):
                        raise AttemptFailed(fault)
                    return value
            except AttemptFailed as failure:
                await self._go_on(attempts, failure.fault)

    async def _stream(
        self, url: str, body: object, split: _Split, *, is_token: EventTest, is_last: EventTest
    ) -> AsyncGenerator[dict[str, Any], None]:
        attempts, silence_s = self._attempts(), self._limits.first_token_s
        has_begun = is_complete = False
        while True:
            is_empty = True
            try:
                async with self._response("POST", url, body, silence_s=silence_s, limit=MAX_STREAM) as response:
                    async with aclosing(split(response.body)) as values:
                        async for value in values:
                            if value is None:
                                await _drain(values)
                                return
                            if fault := from_event(response.attempt, value):
                                raise AttemptFailed(fault)
                            is_empty, is_complete = False, is_complete or is_last(value)
                            if not has_begun and is_token(value):
                                has_begun = True
                                response.body.silence_s = self._limits.next_token_s
                            yield value
                    if is_empty:
                        yield _whole_answer(response, is_last)
                    elif not is_complete:
                        raise failed(FaultKind.CUT)
                    return
            except AttemptFailed as failure:
                if is_complete and failure.fault.kind in (FaultKind.CUT, FaultKind.SILENT):
                    return  # only what follows the answer is lost
                await self._go_on(attempts, failure.fault, has_begun=has_begun)

    def _attempts(self) -> ServerAttempts:
        return ServerAttempts(self._policy, self.server, report=self.report, sleep=self._sleep)

    async def _go_on(self, attempts: ServerAttempts, fault: Fault, *, has_begun: bool = False) -> None:
        """Wait until the next attempt; raise the error that the user reads where there is none."""
        if fault.kind is FaultKind.WRONG_KEY:
            self._keys.forget()
        if has_begun or not await attempts.wait_after(fault):
            raise explain(fault, self.server, has_begun=has_begun) from None

    @asynccontextmanager
    async def _response(
        self, method: str, url: str, body: object, *, silence_s: float, limit: int
    ) -> AsyncIterator["_Response"]:
        """Send a request once; the connection is closed in the end unless the whole response was read."""
        if origin(url) != origin(self.server.url):  # where neither words nor the key may go
            raise ValueError(url)
        if self._offline and not self.server.is_here:
            raise failed(FaultKind.OFFLINE)
        attempt = Attempt(url=url, key=await self._keys.get())
        response: httpx2.Response | None = None
        try:
            transport, proxy = await self._connection()
            attempt = structs.replace(attempt, proxy=proxy)
            async with asyncio.timeout(silence_s):
                request = self._request(method, attempt, body)
                response = await transport.handle_async_request(request)
                response.request = request
            received = ReceivedBody(response, silence_s=silence_s, limit=limit)
            if not response.is_success:
                received.silence_s = min(silence_s, self._limits.document_s)
                content = await received.beginning()
                raise AttemptFailed(from_status(attempt, response.status_code, response.headers, content))
            if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
                raise failed(FaultKind.ENCODED)
            yield _Response(attempt=attempt, body=received)
        except (QwenchatError, AttemptFailed):
            raise
        except Exception as error:
            raise AttemptFailed(from_exception(attempt, error)) from error
        finally:
            if response is not None:
                await response.aclose()

    async def _connection(self) -> tuple[httpx2.AsyncBaseTransport, str]:
        """Return the transport to the server, and the variable of the proxy that it goes through."""
        async with self._connecting:
            if self._transport is None:  # reading all certificates takes a tenth of a second
                self._transport = await asyncio.to_thread(transport_to, self.server.url, self._environ)
            return self._transport

    def _request(self, method: str, attempt: Attempt, body: object) -> httpx2.Request:
        content = None if body is None else msgspec.json.encode(body)
        headers = httpx2.Headers(
            {"User-Agent": f"qwenchat/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
        )
        if content is not None:
            headers["Content-Type"] = "application/json"
        if attempt.key:
            headers.update([(b"Authorization", attempt.key.header())])
        timeouts = httpx2.Timeout(None, connect=self._limits.connect_s).as_dict()
        return httpx2.Request(method, attempt.url, headers=headers, content=content, extensions={"timeout": timeouts})


class _Response(Struct, frozen=True, kw_only=True):
    """A success, whose body is not read yet."""

    attempt: Attempt
    body: ReceivedBody


def _whole_answer(response: _Response, is_last: EventTest) -> dict[str, Any]:
    """Return the answer of a server that sends a document, of at most MAX_ERROR bytes, in place of a stream.

    Raises AttemptFailed where it sent none: a stream that ends without saying so may have been something else.
    """
    try:
        value = decoded(response.body.head)
    except AttemptFailed:
        raise failed(FaultKind.CUT) from None
    if fault := from_event(response.attempt, value):
        raise AttemptFailed(fault)
    if isinstance(value, dict) and is_last(value):
        return value
    raise failed(FaultKind.NOT_A_STREAM)


async def _drain(values: AsyncIterator[object]) -> None:
    """Read what follows the last event, which is nothing, so that the connection can be used again."""
    with suppress(TimeoutError, AttemptFailed, httpx2.TransportError, OSError):
        async with asyncio.timeout(_DRAIN_S):
            async for _value in values:
                return
