"""The tools of each session: whether they are on there, what the user allowed there, and who decides about a call.

They are put together anew for each turn, from the settings as they are then: what was changed in the settings holds
from the next question on. What a user allows for a chat is remembered until the program ends, and saved nowhere. MCP
servers start with the first turn that needs them, and run until `close`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from qwenchat.chat.calling import ToolUse
from qwenchat.chat.session import Session
from qwenchat.chat.tools import ToolSpec
from qwenchat.errors import QwenchatError, WrongUse
from qwenchat.i18n import _, enumerated
from qwenchat.runtime.program import Program
from qwenchat.runtime.session_documents import SessionDocuments
from qwenchat.text.safe import clean_line
from qwenchat.tools.builtin import builtin_tools
from qwenchat.tools.builtin.search_chats import ChatExcerpt
from qwenchat.tools.builtin.search_documents import FindInDocuments, SearchDocuments
from qwenchat.tools.policy import Decision, PendingCall, Policy
from qwenchat.tools.tool import Tool
from qwenchat.tools.toolbox import ToolRunner, named

if TYPE_CHECKING:
    from qwenchat.tools.mcp.server import McpServers
    from qwenchat.tools.mcp.settings import ServerFile

AskUser = Callable[[Session, PendingCall], Awaitable[Decision]]
"""Asks the user about a call in a session. It may be cancelled while it waits."""


class SessionTools:
    """The tools of all sessions. Methods raise WrongUse for settings that can't be used."""

    def __init__(
        self,
        program: Program,
        ask: AskUser,
        is_private: Callable[[str], bool],
        documents: SessionDocuments | None = None,
    ) -> None:
        """`is_private` says of a session's id whether nothing of it may be written, such as a server's log."""
        self.problems: Mapping[str, str] = MappingProxyType({})
        """Why servers can't be used, by their names, as far as they were asked; in the user's language."""
        self._program, self._ask, self._is_private = program, ask, is_private
        self._documents = documents or SessionDocuments(program, is_private)
        self._allowed: dict[str, set[str]] = {}
        """By session, the tools that the user allowed for it."""
        self._servers: dict[bool, McpServers] = {}
        """Those that log, and those for private chats, which do not; once they are needed."""

    def are_on(self, session: Session) -> bool:
        """Return whether the model of a session may call tools."""
        return self._program.offers_tools(session)

    async def all(self, session: Session | None = None) -> dict[str, Tool]:
        """Return all tools, by the names that the model of a session knows them by; servers start where they must.

        Without a session, these are all that any session may have.
        """
        is_private = session is not None and self._is_private(session.id)
        return named(await self._built_in(session), await self._offered_by_servers(is_private=is_private))

    async def own(self, session: Session) -> dict[str, Tool]:
        """Return the tools that come with the program, as `all` has them."""
        return named(await self._built_in(session), {})

    async def _built_in(self, session: Session | None) -> list[Tool]:
        if session is None:
            return built_in(self._program)
        has_documents = await asyncio.to_thread(self._documents.known, session)
        search = partial(self._documents.search, session) if has_documents else None
        return built_in(self._program, without=session.id, find_in_documents=search)

    async def server_names(self) -> list[str]:
        """Return the names of the servers that `all` starts or asks."""
        if not self._may_have_servers:
            return []
        file = await asyncio.to_thread(_server_file, self._program)
        return [name for name, settings in file.servers.items() if not settings.disabled]

    @property
    def _may_have_servers(self) -> bool:
        return self._program.paths.tool_servers.exists()

    async def specs(self, session: Session) -> Sequence[ToolSpec]:
        """Return what the model of a session is told of tools."""
        use = await self.use(session)
        return use.toolbox.specs if use else ()

    async def use(self, session: Session, *, only: Collection[str] = (), granted: Iterable[str] = ()) -> ToolUse | None:
        """Return what the model of a session may call in a turn; None where its tools are off.

        Without `only`, these are all tools. `granted` are called without asking, those that write, too. Raises WrongUse
        where one of either is no tool, or is denied.
        """
        if not self.are_on(session):
            return None
        tools = await self.all(session)
        search = SearchDocuments(partial(self._documents.search, session))
        if search.spec.name in only:  # the question may bring the first documents
            tools.setdefault(search.spec.name, search)
        settings = self._program.settings.tools
        for name in (*only, *granted):
            if name not in tools:
                raise no_such_tool(name, tools)
            if settings.policy.get(name) == "deny":
                raise _denied(name)
        allowed = self._allowed.setdefault(session.id, set())
        policy = Policy(settings.policy, partial(self._ask, session), granted=granted, allowed=allowed)
        chosen = {name: tool for name, tool in tools.items() if name in only or not only}
        return ToolUse(toolbox=ToolRunner(chosen, policy), rounds=settings.max_rounds, seconds=settings.max_seconds)

    async def close(self) -> None:
        """End the servers. They start again when they are needed next."""
        servers, self._servers = [*self._servers.values()], {}
        await asyncio.gather(*(each.close() for each in servers))

    async def _offered_by_servers(self, *, is_private: bool) -> Mapping[str, Sequence[Tool]]:
        """Return the tools of all servers that can be used, by the names of the servers."""
        if not self._servers and not self._may_have_servers:
            return {}  # nothing of them is imported
        file = await asyncio.to_thread(_server_file, self._program)
        if is_private not in self._servers:
            self._servers[is_private] = _new_servers(self._program, is_private=is_private)
        offered = await self._servers[is_private].tools(file.servers)
        self.problems = {**file.problems, **offered.problems}
        return offered.tools


def _new_servers(program: Program, *, is_private: bool) -> "McpServers":
    from qwenchat.tools.mcp.server import McpServers, Surroundings  # noqa: PLC0415 - most users have no servers

    log_folder = None if is_private else program.paths.logs
    return McpServers(
        Surroundings(environ=program.environ, log_folder=log_folder, offline=program.settings.hub.offline)
    )


def built_in(
    program: Program, *, without: str = "", find_in_documents: FindInDocuments | None = lambda _words, _limit: ()
) -> list[Tool]:
    """Return the tools that come with the program; the session `without` is not found in a search.

    `find_in_documents` is None where there are no documents to search.
    """

    def find(words: str, limit: int) -> Sequence[ChatExcerpt]:
        return _find_in_chats(program, words, limit, without=without)

    settings = program.settings
    return builtin_tools(
        settings.tools,
        find_in_chats=find,
        find_in_documents=find_in_documents,
        offline=settings.hub.offline,
    )


def _server_file(program: Program) -> "ServerFile":
    """Return the servers of the user; a file that can't be used is a problem, and ends no turn."""
    from qwenchat.tools.mcp.settings import ServerFile, load  # noqa: PLC0415

    file = program.paths.tool_servers
    try:
        return load(file)
    except QwenchatError as error:
        return ServerFile({}, {file.name: error.message})


def no_such_tool(name: str, tools: Iterable[str]) -> WrongUse:
    """Return the error for a name that no tool has."""
    return WrongUse(
        _("There is no tool named {name}.").format(name=clean_line(name)),
        _("Tools: {names}.").format(names=enumerated(map(clean_line, tools))),
    )


def _denied(name: str) -> WrongUse:
    return WrongUse(
        _("The settings deny the tool {name}.").format(name=name),
        _("To be asked about it: {command}").format(command=f"qwenchat config set tools.policy.{name} ask"),
    )


def _find_in_chats(program: Program, words: str, limit: int, *, without: str) -> list[ChatExcerpt]:
    """Return excerpts of stored chats, the best first."""
    hits = program.store.search.find(words, 4 * limit).hits
    others = [hit for hit in hits if hit.session != without][:limit]
    return [ChatExcerpt(title=hit.title, created=hit.created, text=hit.excerpt.text) for hit in others]
