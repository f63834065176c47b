"""Undo: the last deletion or branch of this run first, then the deletions of earlier runs that the store has."""

import asyncio
from collections.abc import Awaitable, Callable

from msgspec import Struct

from qwenchat.chat.session import Session
from qwenchat.errors import StoreError
from qwenchat.i18n import _
from qwenchat.text.safe import clean_line
from qwenchat.tui.actions import Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.navigation import NavigationController


class Undoable(Struct, frozen=True):
    """What was deleted or left behind, and how it comes back."""

    words: str
    """Shown when it is back."""
    restore: Callable[[], Awaitable[object]]


class UndoController:
    """Remembers deletions and branches and takes them back, wherever the focus is."""

    def __init__(self, context: ChatContext, navigation: NavigationController) -> None:
        self._context, self._navigation = context, navigation
        self._done: list[Undoable] = []
        self._one_at_a_time = asyncio.Lock()

    @property
    def methods(self) -> Methods:
        """What carries out the actions that undo."""
        return {
            "undo": self.undo,
            "undo_list": self.undo,
            "undo_message": self.undo,
        }

    def add_message(self, session_id: str, message_id: str) -> None:
        """Remember a message that was deleted."""
        self._done.append(self._deleted_message(session_id, message_id))

    def add_session(self, session: Session) -> None:
        """Remember a session that was moved to the trash."""
        self._done.append(self._deleted_session(session))

    def add_branch(self, session_id: str, message_id: str) -> None:
        """Remember the first message that a new branch does not show."""

        async def restore() -> None:
            opened = await self._context.chats.sessions.show(session_id, message_id)
            if not self._context.open.refresh(opened):
                await self._navigation.open(session_id, message_id)

        words = _("Back on the previous branch. The new one is still there: /branches lists all branches.")
        self._done.append(Undoable(words, restore))

    def undo(self) -> None:
        """Take the last of them back; a branch that is not begun yet first."""
        if self._context.open.view.fork:
            self._context.open.fork_at("")
        else:
            self._context.run(self._undo())

    async def _undo(self) -> None:
        async with self._one_at_a_time:
            last = self._done.pop() if self._done else await self._earlier()
            if last is None:
                self._context.notify(_("Nothing to undo."))
                return
            try:
                await last.restore()
            except StoreError:
                self._done.append(last)
                raise
            self._context.notify(last.words)

    async def _earlier(self) -> Undoable | None:
        """Return what was deleted last from the open chat, else the chat that was deleted last."""
        store, session_id = self._context.program.store, self._context.open.id
        if message_id := await asyncio.to_thread(store.trash.last_message, session_id):
            return self._deleted_message(session_id, message_id)
        trashed = await asyncio.to_thread(store.listing.newest, 1, trashed=True)
        return self._deleted_session(trashed[0].session) if trashed else None

    def _deleted_message(self, session_id: str, message_id: str) -> Undoable:
        async def restore() -> None:
            context = self._context
            await asyncio.to_thread(context.program.store.trash.restore_message, message_id)
            if session_id == context.open.id:
                context.open.refresh(await context.chats.sessions.show(session_id, message_id), at=message_id)
            else:
                await self._navigation.open(session_id, message_id)
            context.sidebar.reload()

        return Undoable(_("Message restored."), restore)

    def _deleted_session(self, session: Session) -> Undoable:
        async def restore() -> None:
            await asyncio.to_thread(self._context.program.store.trash.restore, session.id)
            self._context.sidebar.reload()

        title = clean_line(session.title, 100) or _("New chat")
        return Undoable(_('Restored "{title}".').format(title=title), restore)
