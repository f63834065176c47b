"""Compaction of sessions: reads what there is, has it summarised, and stores the branch that begins with the summary.

How a summary is made is decided in `chat.compaction`, and when it is this one's turn by the chat service.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from qwenchat.chat.compaction import compacted, oldest, summarise, summarised
from qwenchat.chat.events import Summarising
from qwenchat.chat.ids import unix_ms
from qwenchat.chat.message import Message
from qwenchat.chat.ports import Engine
from qwenchat.chat.session import Session
from qwenchat.chat.tools import ToolSpec
from qwenchat.errors import NotFound, WrongUse
from qwenchat.i18n import _
from qwenchat.runtime.model_manager import ModelManager
from qwenchat.runtime.session_access import SessionAccess


class NewBranch(Struct, frozen=True, kw_only=True):
    """A branch that begins with a summary."""

    messages: Sequence[Message]
    instead_of: Sequence[Message]
    """The branch that was read before."""


class Compactions:
    """The summaries of sessions. `tools` returns what the model of a session may call."""

    def __init__(
        self,
        sessions: SessionAccess,
        model: ModelManager,
        tools: Callable[[Session], Awaitable[Sequence[ToolSpec]]],
    ) -> None:
        self._sessions, self._model, self._tools = sessions, model, tools

    async def make(
        self, session_id: str, engine: Engine, again: Message | None, report: Callable[[Summarising], object]
    ) -> NewBranch:
        """Have the oldest messages of a session summarised, or those of a summary again; return the new branch.

        It is not stored. Raises WrongUse where there is nothing to summarise or no summary comes of it, NotFound where
        what was summarised is gone, and what the engine raises.
        """
        store, info = self._sessions.store(session_id), await engine.load()
        session = await self._sessions.labels(session_id)
        if again:
            branch, old = await self._branch_of(again), await self.original(again)
            count = 1
        else:
            branch = await asyncio.to_thread(store.branch, session.leaf)
            tools = await self._tools(session) if engine.capabilities.tools else ()
            count = await oldest(engine, info, branch, system=session.system, tools=tools, counts=self._model.counts)
            old = branch[:count]
        if not count:
            raise WrongUse(
                _("There is nothing to summarise."),
                _("A summary helps once a chat takes more than half of the context window."),
            )
        text = await summarise(engine, info, old, report)
        if not text:
            raise WrongUse(
                _("The model gave no summary; the chat is unchanged."), _("Try again, or choose another model.")
            )
        return self._instead(branch, count, text)

    async def edited(self, summary: Message, text: str) -> NewBranch:
        """Return the branch that begins with a summary in other words, which is not stored."""
        return self._instead(await self._branch_of(summary), 1, text)

    def _instead(self, branch: Sequence[Message], count: int, text: str) -> NewBranch:
        new = compacted(branch, count, text, new_id=self._sessions.new_id, now=unix_ms())
        return NewBranch(messages=new, instead_of=branch)

    async def original(self, summary: Message) -> list[Message]:
        """Return the messages that a summary was made of. Raises NotFound where they have been deleted."""
        tree = await asyncio.to_thread(self._sessions.store(summary.session).tree, summary.session)
        if old := summarised(tree, await self._branch_of(summary)):
            return old
        raise _deleted()

    async def store(self, new: NewBranch) -> None:
        """Store a branch that begins with a summary; what waits behind the branch that was read follows it.

        Raises NotFound where messages of that one have been deleted meanwhile.
        """
        session_id, read = new.messages[0].session, [message.id for message in new.instead_of]
        store = self._sessions.store(session_id)
        if [message.id for message in await asyncio.to_thread(store.branch, read[-1])] != read:
            raise _deleted()
        await asyncio.to_thread(store.add, *new.messages)
        await asyncio.to_thread(store.redirect, session_id, read[-1], new.messages[-1].id)

    async def _branch_of(self, summary: Message) -> list[Message]:
        """Return the branch that is read where it begins with a summary, else the one through it."""
        store = self._sessions.store(summary.session)
        leaf = (await self._sessions.labels(summary.session)).leaf
        branch = await asyncio.to_thread(store.branch, leaf)
        if branch and branch[0].id == summary.id:
            return branch
        tree = await asyncio.to_thread(store.tree, summary.session)
        return tree.branch(tree.leaf_below(summary.id))


def _deleted() -> NotFound:
    return NotFound(_("The messages that this summary was made of have been deleted."), _("Look in the trash."))
