"""Which session is open."""

from functools import partial

from qwenchat.errors import NotFound
from qwenchat.tui.actions import Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.drafts import DraftController
from qwenchat.tui.controllers.focus import FocusController


class NavigationController:
    """Opens sessions."""

    def __init__(self, context: ChatContext, focus: FocusController, drafts: DraftController) -> None:
        self._context, self._focus, self._drafts = context, focus, drafts
        self._open = context.open

    @property
    def methods(self) -> Methods:
        """What carries out the actions that open a session."""
        return {
            "new": self.open_new,
            "new_private": partial(self.open_new, private=True),
        }

    async def open(self, session_id: str, message_id: str | None = None) -> None:
        """Open a session, at a message if one is given, and save the draft of the one before."""
        if session_id != self._open.id:
            self._drafts.set_edit_aside()
        await self._drafts.save()
        sessions = self._context.chats.sessions
        opened = await sessions.open(session_id)
        if message_id and all(message.id != message_id for message in opened.branch):
            try:
                opened = await sessions.show(session_id, message_id)
            except NotFound:  # deleted since the list was read
                message_id = None
                self._context.sidebar.reload()
        self._open.show(opened, at=message_id)
        self._focus.to_prompt()

    def open_soon(self, session_id: str, message_id: str | None = None) -> None:
        """Begin to open a session; what was being opened before is not."""
        self._context.run(self.open(session_id, message_id), "open", exclusive=True)

    def open_new(self, *, private: bool = False) -> None:
        """Begin a chat, one that is written nowhere if `private`."""
        self.open_soon(self._context.chats.sessions.new(self._open.session.model, private=private).id)
