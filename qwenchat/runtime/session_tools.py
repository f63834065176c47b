"""The tools of each session: whether they are on there, what the user allowed there, and who decides about a call.

They are put together anew for each turn, from the settings as they are then: what was changed in the settings holds
from the next question on. What a user allows for a chat is remembered until the program ends, and saved nowhere.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial

from qwenchat.chat.calling import ToolUse
from qwenchat.chat.session import Session
from qwenchat.chat.tools import ToolSpec
from qwenchat.errors import WrongUse
from qwenchat.i18n import _, enumerated
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line
from qwenchat.tools.builtin import builtin_tools
from qwenchat.tools.builtin.search_chats import ChatExcerpt
from qwenchat.tools.policy import Decision, PendingCall, Policy
from qwenchat.tools.tool import Tool
from qwenchat.tools.toolbox import ToolRunner, named

AskUser = Callable[[Session, PendingCall], Awaitable[Decision]]
"""Asks the user about a call in a session. It may be cancelled while it waits."""


class SessionTools:
    """The tools of all sessions. Methods raise WrongUse for settings that can't be used."""

    def __init__(self, program: Program, ask: AskUser) -> None:
        self._program, self._ask = program, ask
        self._allowed: dict[str, set[str]] = {}
        """By session, the tools that the user allowed for it."""

    def are_on(self, session: Session) -> bool:
        """Return whether the model of a session may call tools."""
        return self._program.settings.tools.enabled if session.tools is None else session.tools

    async def all(self, session_id: str = "") -> dict[str, Tool]:
        """Return all tools that the settings provide, by their names; a session does not find itself in a search."""
        program = self._program

        def find(words: str, limit: int) -> Sequence[ChatExcerpt]:
            return _find_in_chats(program, words, limit, without=session_id)

        settings = program.settings
        own = builtin_tools(settings.tools, find_in_chats=find, offline=settings.hub.offline)
        return named(own, {})

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
        tools = await self.all(session.id)
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
        """End what tools run beside this program."""


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
