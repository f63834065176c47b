"""A client that speaks to an ASGI application in the same process, as a server would."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message


@dataclass
class Response:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """The events of a stream; comments are left out."""
        lines = [line.removeprefix("data: ") for line in self.body.decode().split("\n\n") if line.startswith("data: ")]
        return [json.loads(line) if line != "[DONE]" else line for line in lines]


class Client:
    """Sends requests to an application."""

    def __init__(self, app: ASGIApp, **headers: str) -> None:
        self._app, self._headers = app, {"host": "localhost:8080", **headers}

    async def get(self, path: str, **headers: str) -> Response:
        return await self.send("GET", path, b"", headers)

    async def post(self, path: str, body: object, **headers: str) -> Response:
        return await self.send("POST", path, json.dumps(body).encode(), headers)

    async def send(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        left: asyncio.Event | None = None,
        pieces: int = 1,
        reads: asyncio.Event | None = None,
    ) -> Response:
        """Send a request whose body comes in so many pieces.

        The client has `left` once that is set, and `reads` nothing before that is.
        """
        response, gone = Response(), left or asyncio.Event()
        size = max(1, -(-len(body) // pieces))
        to_send = [body[start : start + size] for start in range(0, len(body), size)] or [b""]

        async def receive() -> Message:
            if to_send:
                chunk = to_send.pop(0)
                return {"type": "http.request", "body": chunk, "more_body": bool(to_send)}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                response.status = message["status"]
                response.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                return
            response.pieces.append(message.get("body", b""))
            if reads:
                await reads.wait()

        named = {**self._headers, **(headers or {})}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "root_path": "",
            "query_string": b"",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()],
        }
        await self._app(scope, receive, send)
        return response
