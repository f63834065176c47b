"""Which session is open, and which part of the screen has the focus: letters are text in the prompt, else commands."""

from textual.screen import Screen
from textual.widget import Widget

from qwenchat.errors import NotFound
from qwenchat.tui.actions import Where
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
        self.to_prompt()

    def open_soon(self, session_id: str, message_id: str | None = None) -> None:
        """Begin to open a session; what was being opened before is not."""
        self._context.run(self.open(session_id, message_id), "open", exclusive=True)

    def open_new(self, *, private: bool = False) -> None:
        """Begin a chat, one that is written nowhere if `private`."""
        self.open_soon(self._context.chats.sessions.new(self._open.session.model, private=private).id)

    @property
    def place(self) -> Where:
        """The part of the screen that has the focus; `ANYWHERE` for lines of search and buttons."""
        focused = self._screen.focused
        parts: dict[Widget, Where] = {
            self._prompt.area: Where.PROMPT,
            self._context.transcript: Where.MESSAGE,
            self._context.sidebar.list: Where.LIST,
        }
        return parts.get(focused, Where.ANYWHERE) if focused else Where.ANYWHERE

    def to_prompt(self) -> None:
        """Go to the prompt at once: what is typed next is text, however fast it comes."""
        if self._screen.has_class("narrow"):
            self._screen.remove_class("sidebar")
        self._screen.set_focus(self._prompt.area)

    def to_next_part(self) -> None:
        """Go from the prompt to the messages, from there to the list where it is shown, and back to the prompt."""
        transcript, place = self._context.transcript, self.place
        if place is Where.PROMPT and transcript.messages:
            self._screen.set_focus(transcript)
            if transcript.selected is None:
                transcript.select_next(-1)
        elif place in (Where.PROMPT, Where.MESSAGE) and self._screen.has_class("sidebar"):
            self._screen.set_focus(self._context.sidebar.list)
        else:
            self.to_prompt()

    def toggle_sidebar(self) -> None:
        """Show the list of chats and go there, or hide it."""
        self._screen.toggle_class("sidebar")
        if self._screen.has_class("sidebar"):
            self._screen.set_focus(self._context.sidebar.list)
        else:
            self.to_prompt()

    def search(self) -> None:
        """Go to the search of all chats."""
        self._screen.add_class("sidebar")
        self._context.sidebar.focus_search()
