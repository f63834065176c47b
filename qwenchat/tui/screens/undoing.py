"""Taking deletions back: those of this run, the last one first, then what the store has of earlier ones."""

import asyncio
from typing import TYPE_CHECKING

from qwenchat.errors import StoreError
from qwenchat.i18n import _
from qwenchat.runtime.program import Program
from qwenchat.tui.screens.conversation import Undo
from qwenchat.tui.screens.session_actions import SessionActions

if TYPE_CHECKING:
    from qwenchat.runtime.model_manager import EngineFactory


class Undoing(SessionActions):
    """Undo, wherever the focus is."""

    def __init__(self, program: Program, new_engine: "EngineFactory | None" = None, model: str = "") -> None:
        super().__init__(program, new_engine, model)
        self._undoing = asyncio.Lock()

    def action_undo(self) -> None:
        """Take the last deletion back."""
        self.attempt(self._undo())

    def action_undo_list(self) -> None:
        """Take the last deletion back."""
        self.action_undo()

    def action_undo_message(self) -> None:
        """Take the last deletion back."""
        self.action_undo()

    async def _undo(self) -> None:
        async with self._undoing:
            undo = self.undone.pop() if self.undone else await self._earlier()
            if undo:
                await self._take_back(undo)
            else:
                self.tell(_("There is nothing to take back."))

    async def _take_back(self, undo: Undo) -> None:
        try:
            await undo.back()
        except StoreError:
            self.undone.append(undo)
            raise
        self.tell(undo.words)

    async def _earlier(self) -> Undo | None:
        """Return how to take back what went last from the open chat, else the chat that went last."""
        store, session_id = self.program.store, self.session.id
        if message_id := await asyncio.to_thread(store.trash.last_message, session_id):
            return self.undo_message(session_id, message_id)
        trashed = await asyncio.to_thread(store.listing.newest, 1, trashed=True)
        return self.undo_trash(trashed[0].session) if trashed else None

    def undo_message(self, session_id: str, message_id: str) -> Undo:
        """Return how a message comes back, with what followed it."""

        async def back() -> None:
            await asyncio.to_thread(self.program.store.trash.restore_message, message_id)
            if session_id == self.session.id:
                await self.reshow(await self.chats.sessions.show(session_id, message_id), at=message_id)
            else:
                await self.open_session(session_id, message_id)
            self.sidebar.reload()

        return Undo(_("The message is back."), back)
