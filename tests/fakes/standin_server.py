"""A server on loopback for the tests of remote engines: it answers what a test tells it to, every fault included.

It speaks HTTP/1.1 in the test's own event loop and knows no dialect. A test gives the replies of each path:

    async with standin_server() as server:
        server.reply("/v1/chat/completions", json_reply({"error": "busy"}, 429), event_stream({"choices": []}))

Each request takes the next reply of its path; the last one stays. A reply can also be a function of the request.
"""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Literal

Piece = bytes | asyncio.Event
"""Bytes to send, or what to wait for before the next ones."""


class Then(Enum):
    """What happens after the last piece of a reply."""

    END = auto()
    """The body ends as its framing wants it."""
    CUT = auto()
    """The connection is closed, although more was declared."""
    RESET = auto()
    """The connection is reset."""
    STALL = auto()
    """Nothing more is sent; the connection stays open until the client closes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One response."""

    status: int = 200
    content_type: str = "application/json"
    """Empty for none."""
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Iterable[Piece] = ()
    framing: Literal["length", "chunked", "close"] = "chunked"
    """How the client learns where the body ends; `close`: by the end of the connection."""
    then: Then = Then.END
    without_head: bool = False
    """Nothing is sent but the pieces: no status line and no headers."""


def json_reply(value: object, status: int = 200, **headers: str) -> Reply:
    """Return a JSON document; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): each for name, each in headers.items()}
    return Reply(status=status, headers=named, pieces=(json.dumps(value).encode(),), framing="length")


def page_reply(text: str = "<!DOCTYPE html><title>Log in</title>", status: int = 200) -> Reply:
    """Return a web page."""
    return Reply(status=status, content_type="text/html; charset=utf-8", pieces=(text.encode(),), framing="length")


def event_stream(*values: object, done: bool = True, then: Then = Then.END) -> Reply:
    """Return server-sent events, one for each value, each sent alone; `done`: with `[DONE]` at the end."""
    return Reply(content_type="text/event-stream", pieces=(*map(event, values), *(DONE,) * done), then=then)


def json_lines(*values: object, then: Then = Then.END) -> Reply:
    """Return a line of JSON for each value, each sent alone, as Ollama does."""
    lines = tuple(json.dumps(value).encode() + b"\n" for value in values)
    return Reply(content_type="application/x-ndjson", pieces=lines, then=then)


def event(value: object) -> bytes:
    """Return a server-sent event with JSON."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
"""The event with which OpenAI's streams end."""
PING = b": ping\n\n"
"""A comment, as servers send to keep a connection open."""


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request that the server got."""

    method: str
    path: str
    """With the query."""
    headers: dict[str, str]
    """By their names in lower case."""
    body: bytes
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client closed the connection before it had the whole reply."""

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


Answer = Reply | Callable[[Asked], Reply]


class StandinServer:
    """The server; `standin_server` runs it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[Asked] = []
        """All requests, in the order in which they came."""
        self.connections = 0
        """How many were opened."""
        self._answers: dict[str, list[Answer]] = {}

    def reply(self, path: str, *answers: Answer) -> None:
        """Set the replies of a path, without its query."""
        self._answers[path] = list(answers)

    def asked_for(self, path: str) -> list[Asked]:
        """Return the requests for a path, without their query."""
        return [each for each in self.asked if each.path.partition("?")[0] == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            while asked := await _read(reader):
                self.asked.append(asked)
                if not await _send(asked, self._answer(asked), reader, writer):
                    break
        except ValueError:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # a client that goes away is what is tested
        finally:
            writer.close()

    def _answer(self, asked: Asked) -> Reply:
        answers = self._answers.get(asked.path.partition("?")[0])
        if not answers:
            error = {"code": 404, "message": "File Not Found", "type": "not_found_error"}
            return json_reply({"error": error}, 404)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer if isinstance(answer, Reply) else answer(asked)


@asynccontextmanager
async def standin_server(*, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[StandinServer]:
    """Run a server; `host` is what its URL says, and must lead to loopback."""
    connections: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(server.serve(reader, writer)))

    listener = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server = StandinServer(f"{'https' if tls else 'http'}://{host}:{port}")
    try:
        yield server
    finally:
        listener.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    """Return the next request of a connection; None where there is none. Raises ValueError for what is no HTTP."""
    try:
        start = await reader.readexactly(1)
        if not start.isupper():
            raise ValueError("no method of HTTP")
        head = (start + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _version = first.split(" ")
    headers = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method=method, path=path, headers=headers, body=body)


async def _send(asked: Asked, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Send a reply; return whether the connection can be used again."""
    over = asyncio.Event()
    watching = asyncio.create_task(_watch(reader, asked.gone))
    sending = asyncio.create_task(_write(asked, reply, writer, over))
    try:
        await asyncio.wait({watching, sending}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
        return over.is_set() and not asked.gone.is_set()
    finally:
        for task in (watching, sending):
            task.cancel()
        await asyncio.gather(watching, sending, return_exceptions=True)


async def _watch(reader: asyncio.StreamReader, gone: asyncio.Event) -> None:
    """Set `gone` when the client closes the connection, during which it sends nothing."""
    with suppress(ConnectionError):
        await reader.read(1)
    gone.set()


async def _write(asked: Asked, reply: Reply, writer: asyncio.StreamWriter, over: asyncio.Event) -> None:
    """Write a reply and do what comes then; set `over` where the connection can be used again."""
    pieces = reply.pieces
    if not reply.without_head:
        writer.write(_head(reply))
    for piece in pieces:
        if isinstance(piece, asyncio.Event):
            await piece.wait()
            continue
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if reply.framing == "chunked" else piece)
        await writer.drain()
    match reply.then:
        case Then.END:
            if reply.framing == "chunked" and not reply.without_head:
                writer.write(b"0\r\n\r\n")
            await writer.drain()
            if reply.framing != "close":
                over.set()
        case Then.RESET:
            await writer.drain()
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        case Then.STALL:
            await writer.drain()
            await asked.gone.wait()
        case Then.CUT:
            await writer.drain()


def _head(reply: Reply) -> bytes:
    headers = {"Content-Type": reply.content_type} if reply.content_type else {}
    if reply.framing == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    elif reply.framing == "close":
        headers["Connection"] = "close"
    else:
        size = sum(len(piece) for piece in reply.pieces if isinstance(piece, bytes))
        headers["Content-Length"] = str(size + (reply.then is Then.CUT))
    phrase = HTTPStatus(reply.status).phrase if reply.status in set(HTTPStatus) else "Unknown"
    lines = [
        f"HTTP/1.1 {reply.status} {phrase}",
        *(f"{name}: {value}" for name, value in (headers | dict(reply.headers)).items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
