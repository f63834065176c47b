"""HTTP to one server: JSON requests and streams of events, with its key, its faults and retries.

The key is sent to the server's own origin only, and redirects are not followed.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec

from qwenchat.engines.remote.server import RemoteServer

CONNECT_S = 5.0
SILENCE_S = 600.0
"""Seconds that a stream may be silent: servers without progress reports are silent while they prefill."""


class RemoteHttp:
    """The connections to one server. Methods raise RemoteError."""

    def __init__(self, server: RemoteServer) -> None:
        """Open nothing yet."""
        self.server = server
        self._client = httpx2.AsyncClient(timeout=httpx2.Timeout(CONNECT_S, read=SILENCE_S), follow_redirects=False)

    async def get(self, url: str) -> Any:
        """Return the decoded JSON of an answer."""
        return await self._json("GET", url)

    async def post(self, url: str, body: object) -> Any:
        """Send a JSON body and return the decoded JSON of the answer."""
        return await self._json("POST", url, body)

    async def _json(self, method: str, url: str, body: object = None) -> Any:
        response = await self._client.request(method, url, json=body)
        response.raise_for_status()
        return msgspec.json.decode(response.content)

    @asynccontextmanager
    async def events(self, url: str, body: object) -> AsyncIterator[AsyncIterator[Any]]:
        """Send a JSON body and read server-sent events: the decoded JSON of each, up to `[DONE]` or the end."""
        async with self._client.stream("POST", url, json=body) as response:
            response.raise_for_status()
            yield _events(response)

    @asynccontextmanager
    async def lines(self, url: str, body: object) -> AsyncIterator[AsyncIterator[Any]]:
        """Send a JSON body and read lines of JSON: the decoded JSON of each."""
        async with self._client.stream("POST", url, json=body) as response:
            response.raise_for_status()
            yield _lines(response)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


async def _events(response: httpx2.Response) -> AsyncIterator[Any]:
    async for event in httpx2.EventSource(response):
        if event.data == "[DONE]":
            return
        yield msgspec.json.decode(event.data)


async def _lines(response: httpx2.Response) -> AsyncIterator[Any]:
    async for line in response.aiter_lines():
        if line.strip():
            yield msgspec.json.decode(line)
