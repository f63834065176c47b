"""The documents of the open chat: which ones its questions are about, and how much of them is read.

What is read and found is the runtime's; the page beside the answer is `pages`.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from qwenchat.i18n import _
from qwenchat.tui.actions import Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.dialogs import open as dialogs

if TYPE_CHECKING:
    from qwenchat.tui.dialogs.documents import DocumentChoice

_ONLY_SEARCH = 1
"""The level that reads least."""


class DocumentController:
    """Opens the dialogs. `show` shows a document, given its name and its digest."""

    def __init__(self, context: ChatContext, *, show: Callable[[str, str], Awaitable[None]]) -> None:
        self._context, self._open, self._show = context, context.open, show

    @property
    def methods(self) -> Methods:
        """What carries out the actions on documents."""
        return {"docs": self.open_list, "collections": self.open_collections, "read_less": self.read_less}

    def open_list(self) -> None:
        """Show the documents of the open chat, its collections, and how they are read."""
        self._context.run(self._open_list())

    def open_collections(self) -> None:
        """Show all collections, then the documents of the chat, which may use other ones now."""
        self._context.ask(dialogs.collections(self._context.program))

    async def _open_list(self) -> None:
        chats, view = self._context.chats, self._open.view
        info = chats.model.info
        while True:
            dialog = dialogs.documents(
                self._context.program,
                chats.documents,
                self._open.session,
                view.branch,
                speed=chats.documents.speed(info.file) if info else None,
                room=info.n_ctx // 4 if info else 0,
            )
            choice = await self._context.result_of(dialog)
            if choice is None:
                return
            await self._use(view.session.id, choice)
            if choice.shown:
                await self._show(choice.shown.name, choice.shown.digest)
            if not choice.manages:
                return
            await self._context.result_of(dialogs.collections(self._context.program))

    async def _use(self, session_id: str, choice: "DocumentChoice") -> None:
        session = self._open.session
        if (choice.collections, choice.level) != (session.collections, session.level):
            changed = {"collections": choice.collections, "level": choice.level}
            self._open.relabel(await self._context.chats.sessions.change(session_id, **changed))

    def read_less(self) -> None:
        """Stop reading for the answer that waits, and answer from what a search finds."""
        view = self._open.view
        answer = next((each for each in view.branch if each.id == view.streaming), None)
        if view.reading is None or answer is None:
            self._context.notify(_("No documents are being read in this chat."))
            return

        async def search_only() -> None:
            chats = self._context.chats
            self._open.relabel(await chats.sessions.change(view.session.id, level=_ONLY_SEARCH))
            await chats.stop(view.session.id)
            chats.continue_answer(answer)
            self._context.notify(_("This chat only searches its documents from now on; /docs changes that."))

        self._context.run(search_only())
