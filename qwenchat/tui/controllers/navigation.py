"""Which session is open, and which part of the screen has the focus."""

from textual.screen import Screen

from qwenchat.errors import NotFound
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.drafts import DraftController


class NavigationController:
    """Opens sessions and moves between the list, the messages and the prompt."""

    def __init__(self, context: ChatContext, screen: Screen[None], drafts: DraftController) -> None:
        self._context, self._screen, self._drafts = context, screen, drafts
        self._open, self._prompt = context.open, context.prompt

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
        self._prompt.area.focus()
        if self._screen.has_class("narrow"):
            self._screen.remove_class("sidebar")

    def open_soon(self, session_id: str, message_id: str | None = None) -> None:
        """Begin to open a session; what was being opened before is not."""
        self._context.run(self.open(session_id, message_id), "open", exclusive=True)

    def open_new(self, *, private: bool = False) -> None:
        """Begin a chat, one that is written nowhere if `private`."""
        self.open_soon(self._context.chats.sessions.new(self._open.session.model, private=private).id)

    def toggle_messages(self) -> None:
        """Go to the messages, or back to the prompt."""
        transcript = self._context.transcript
        if transcript.has_focus:
            self._prompt.area.focus()
        else:
            transcript.focus()
            if transcript.selected is None:
                transcript.select_next(-1)

    def toggle_sidebar(self) -> None:
        """Show the list of chats and go there, or hide it."""
        self._screen.toggle_class("sidebar")
        if self._screen.has_class("sidebar"):
            self._context.sidebar.list.focus()
        else:
            self._prompt.area.focus()

    def search(self) -> None:
        """Go to the search of all chats."""
        self._screen.add_class("sidebar")
        self._context.sidebar.focus_search()
