"""The MCP servers: each starts when its tools are first needed, and again with the next call after it has ended.

A server that fails several times in a row, without an answered call in between, is left alone for a while. No server
can end the program or a turn: its tools are missing, with a reason, or a call fails and the model reads why.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qwenchat.chat.tools import ToolSpec
from qwenchat.errors import ToolServerError
from qwenchat.i18n import _
from qwenchat.text.safe import clean_line
from qwenchat.tools.mcp.protocol import (
    CallResult,
    Connection,
    Offer,
    RequestRefused,
    ServerFault,
    ServerLimits,
    ToolDescription,
    offer_of,
    text_of,
)
from qwenchat.tools.mcp.settings import ServerAddress, ToolServerSettings
from qwenchat.tools.mcp.stdio import ServerLog, StdioConnection
from qwenchat.tools.tool import Tool, ToolError

if TYPE_CHECKING:
    from qwenchat.tools.mcp.http import HttpConnection

INSTALL = "pip install 'qwenchat[mcp]'"
MOST_STARTS = 3
"""How often a server is started without answering a call; then there is a pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What servers run in."""

    environ: Mapping[str, str] = field(repr=False)
    log_folder: Path | None = None
    """None: nothing is logged, as for a private chat."""
    offline: bool = False
    """Whether nothing may be sent to another machine."""
    limits: ServerLimits = field(default_factory=ServerLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTools:
    """What all servers offer, by their names; reasons are in the user's language, without a full stop."""

    tools: Mapping[str, Sequence[Tool]]
    refused: Mapping[str, Mapping[str, str]]
    """Tools that can't be offered, and why."""
    problems: Mapping[str, str]
    """Why a server can't be used."""


class McpServer:
    """One server of the settings; nothing runs until it is asked."""

    def __init__(self, name: str, settings: ToolServerSettings, surroundings: Surroundings) -> None:
        self.name, self.settings, self._surroundings = name, settings, surroundings
        self._connection: Connection | None = None
        self._offer: Offer | None = None
        self._starts, self._last_start = 0, 0.0
        self._is_closed = False
        self._one_at_a_time = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def offer(self) -> Offer:
        """Return the tools of the server; they are asked for once. Raises ServerFault."""
        if self._offer is None:
            connection = await self._connected()
            self._offer = await offer_of(connection, is_elsewhere=self.settings.is_elsewhere)
        return self._offer

    async def checked_offer(self) -> Offer:
        """Return the tools of the server. Raises ToolServerError."""
        try:
            return await self.offer()
        except ServerFault as fault:
            raise ToolServerError(
                _("The tool server {name} can't be used: {reason}.").format(
                    name=clean_line(self.name), reason=fault.words()
                ),
                _("Check its entry in mcp.json."),
            ) from fault

    async def call(self, name: str, arguments: Mapping[str, object]) -> CallResult:
        """Call a tool. Raises ServerFault."""
        connection = await self._connected()
        try:
            result = await connection.call(name, arguments)
        except RequestRefused:
            self._starts = 0
            raise
        self._starts = 0
        return result

    async def close(self) -> None:
        """End the server, and wait until it has ended."""
        self._is_closed = True
        self._retire()
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def _connected(self) -> Connection:
        async with self._one_at_a_time:
            if self._connection and not self._connection.ended:
                return self._connection
            self._retire()
            self._count_start()
            self._connection = connection = await self._new()
            try:
                if self._is_closed:
                    raise ServerFault(lambda: _("it was ended"))
                await connection.open()
            except BaseException:
                self._retire()
                raise
            return connection

    def _count_start(self) -> None:
        """Raise ServerFault where the server failed too often, for a while."""
        now = time.monotonic()
        if self._starts >= MOST_STARTS:
            if now - self._last_start < self._surroundings.limits.pause:
                raise ServerFault(lambda: _("it failed too often; it is tried again in a few minutes"))
            self._starts = 0
        self._starts, self._last_start = self._starts + 1, now

    def _retire(self) -> None:
        """Close the connection, without waiting for that."""
        if self._connection:
            task = asyncio.create_task(self._connection.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._connection = None

    async def _new(self) -> Connection:
        """Return a connection that is not open. Raises ServerFault."""
        place = self._surroundings
        target = self.settings.target(place.environ)
        if isinstance(target, ServerAddress):
            if place.offline and self.settings.is_elsewhere:
                raise ServerFault(lambda: _("the setting hub.offline forbids it"))
            try:
                kind = await asyncio.to_thread(_http_connection)
            except ImportError:
                raise ServerFault(lambda: _("it needs a package: {command}").format(command=INSTALL)) from None
            return kind(target, place.environ, place.limits)
        return StdioConnection(target, place.environ, ServerLog.open(place.log_folder, self.name), place.limits)


def _http_connection() -> type["HttpConnection"]:
    from qwenchat.tools.mcp.http import HttpConnection  # noqa: PLC0415 - it takes a second, and may be missing

    return HttpConnection


class McpTool:
    """A tool of a server; a `Tool`."""

    def __init__(self, server: McpServer, description: ToolDescription) -> None:
        self._server, self._description = server, description

    @property
    def spec(self) -> ToolSpec:
        return self._description.spec

    @property
    def writes(self) -> bool:
        return self._description.writes

    async def run(self, arguments: Mapping[str, object]) -> str:
        try:
            return text_of(await self._server.call(self._description.name, arguments))
        except ServerFault as fault:
            raise ToolError(f"The call failed at the tool server {clean_line(self._server.name)}: {fault}.") from fault


class McpServers:
    """The servers of all chats. Those that run are the ones that were asked for last."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._servers: dict[str, McpServer] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def tools(self, wanted: Mapping[str, ToolServerSettings]) -> ServerTools:
        """Return the tools of servers, which start at the same time where they do not run yet.

        A server whose settings have changed is restarted; one that is no longer wanted, or is disabled, is ended. That
        is settled before anything is awaited, so it may be called again while servers start.
        """
        used = {name: settings for name, settings in wanted.items() if not settings.disabled}
        for name in [name for name, server in self._servers.items() if server.settings != used.get(name)]:
            task = asyncio.create_task(self._servers.pop(name).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for name in used.keys() - self._servers.keys():
            self._servers[name] = McpServer(name, used[name], self._surroundings)
        servers = [self._servers[name] for name in used]
        offers = await asyncio.gather(*map(_offer_or_reason, servers))
        found = dict(zip(servers, offers, strict=True))
        usable = {server: offer for server, offer in found.items() if isinstance(offer, Offer)}
        return ServerTools(
            tools={server.name: [McpTool(server, each) for each in offer.tools] for server, offer in usable.items()},
            refused={server.name: offer.refused for server, offer in usable.items() if offer.refused},
            problems={server.name: offer for server, offer in found.items() if isinstance(offer, str)},
        )

    async def close(self) -> None:
        """End all servers, and wait until they have ended."""
        await asyncio.gather(*(server.close() for server in self._servers.values()), *self._closing)


async def _offer_or_reason(server: McpServer) -> Offer | str:
    try:
        return await server.offer()
    except ServerFault as fault:
        return fault.words()
