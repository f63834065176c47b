"""Undo: the last deletion of this run first, then what the store has of earlier runs."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from qwenchat.chat.session import Session
from qwenchat.errors import StoreError
from qwenchat.i18n import _
from qwenchat.text.safe import clean_line
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.navigation import NavigationController


@dataclass(frozen=True, slots=True)
class Deletion:
    """What was deleted, and how it comes back."""

    words: str
    """Shown when it is back."""
    restore: Callable[[], Awaitable[object]]


class UndoController:
    """Remembers deletions and takes them back, wherever the focus is."""

    def __init__(self, context: ChatContext, navigation: NavigationController) -> None:
        self._context, self._navigation = context, navigation
        self._deletions: list[Deletion] = []
        self._one_at_a_time = asyncio.Lock()

    def add_message(self, session_id: str, message_id: str) -> None:
        """Remember a message that was deleted."""
        self._deletions.append(self._deleted_message(session_id, message_id))

    def add_session(self, session: Session) -> None:
        """Remember a session that was moved to the trash."""
        self._deletions.append(self._deleted_session(session))

    def undo(self) -> None:
        """Take the last deletion back."""
        self._context.run(self._undo())

    async def _undo(self) -> None:
        async with self._one_at_a_time:
            deletion = self._deletions.pop() if self._deletions else await self._earlier()
            if deletion is None:
                self._context.notify(_("There is nothing to undo."))
                return
            try:
                await deletion.restore()
            except StoreError:
                self._deletions.append(deletion)
                raise
            self._context.notify(deletion.words)

    async def _earlier(self) -> Deletion | None:
        """Return what was deleted last from the open chat, else the chat that was deleted last."""
        store, session_id = self._context.program.store, self._context.open.id
        if message_id := await asyncio.to_thread(store.trash.last_message, session_id):
            return self._deleted_message(session_id, message_id)
        trashed = await asyncio.to_thread(store.listing.newest, 1, trashed=True)
        return self._deleted_session(trashed[0].session) if trashed else None

    def _deleted_message(self, session_id: str, message_id: str) -> Deletion:
        async def restore() -> None:
            context = self._context
            await asyncio.to_thread(context.program.store.trash.restore_message, message_id)
            if session_id == context.open.id:
                context.open.refresh(await context.chats.sessions.show(session_id, message_id), at=message_id)
            else:
                await self._navigation.open(session_id, message_id)
            context.sidebar.reload()

        return Deletion(_("The message is back."), restore)

    def _deleted_session(self, session: Session) -> Deletion:
        async def restore() -> None:
            await asyncio.to_thread(self._context.program.store.trash.restore, session.id)
            self._context.sidebar.reload()

        title = clean_line(session.title, 100) or _("New chat")
        return Deletion(_("The chat is back: {title}").format(title=title), restore)
