"""The page beside the answer: which source of which answer is shown, where, and where the focus goes afterwards.

Text comes from the runtime in a thread. A document that is gone leaves the passage, which the answer has.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.containers import Horizontal
from textual.screen import Screen
from textual.widget import Widget

from qwenchat.chat.message import Citation, Message
from qwenchat.errors import NotFound
from qwenchat.i18n import _
from qwenchat.tui.actions import Action, Methods, Where, bindings
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.focus import FocusController
from qwenchat.tui.session_view import ViewChange
from qwenchat.tui.textual_private.widgets import add_bindings

if TYPE_CHECKING:
    from qwenchat.tui.widgets.document_panel import DocumentPanel

_ROOM_FOR_LIST = 140
"""Columns from which on the list of chats stays beside the page."""


class PageController:
    """Opens and closes the panel, which is made when it is first needed."""

    def __init__(
        self, context: ChatContext, screen: Screen[None], actions: Sequence[Action], focus: FocusController
    ) -> None:
        self._context, self._screen, self._actions, self._focus = context, screen, actions, focus
        self._panel: DocumentPanel | None = None
        self._answer: Message | None = None
        """The answer whose source is shown."""
        self._number = 0
        """Of that source."""
        self._before: Widget | None = None
        """What had the focus before the panel."""
        self._hid_list = False
        """Whether the list of chats made room for the panel."""
        context.open.listen(self._follow)

    @property
    def methods(self) -> Methods:
        """What carries out the actions on sources and pages."""
        return {
            "show_source": self.show_source,
            "next_source": lambda: self._step(1),
            "previous_source": lambda: self._step(-1),
            "find_in_page": self._find,
            "close_page": self.escape,
        }

    def show_source(self, number: int = 0) -> None:
        """Show a source of the selected answer, or of that to the selected question; without a number, the first cited.

        With no message selected, of the last answer that has sources.
        """
        selected, messages = self._context.transcript.selected, self._context.transcript.messages
        meant = [each for each in reversed(messages) if not selected or selected.id in (each.id, each.parent)]
        answer = next((each for each in meant if each.citations), None)
        if answer is None:
            self._context.notify(_("This answer has no sources.") if selected else _("No answer here has sources."))
            return
        from qwenchat.chat.passages import cited  # noqa: PLC0415 - the first frame waits for this module

        found = next((each for each in answer.citations if each.number == number), cited(answer)[0])
        self._answer = answer
        self._context.run(self._show(found), "page", exclusive=True)

    def escape(self) -> bool:
        """Take the words to be found away, else the panel; return whether there was either."""
        if not self._is_open or self._panel is None:
            return False
        if not self._panel.end_find():
            self.close()
        return True

    def close(self) -> None:
        """Take the panel away; the focus goes back to where it was."""
        if self._is_open:
            had_focus = self._panel is not None and self._panel.has_focus_within
            self._screen.remove_class("page")
            if self._hid_list:
                self._screen.add_class("sidebar")
            if had_focus and self._before and self._before.is_on_screen:
                self._screen.set_focus(self._before)
            elif had_focus:
                self._focus.to_prompt()

    async def show_document(self, name: str, digest: str) -> None:
        """Show a document of the chat from its beginning. Raises NotFound where it is gone, and StoreError."""
        text = await self._text(digest)
        self._answer = None
        panel = await self._opened()
        panel.show(name, text)

    async def _show(self, citation: Citation) -> None:
        self._number = citation.number
        text, first = citation.text, 0
        try:
            text, first = await self._text(citation.digest), citation.start
        except NotFound as error:
            self._context.notify_error(error)
        panel = await self._opened()
        panel.show(citation.document, text, passage=(first, first + len(citation.text)), of=citation)

    async def _text(self, digest: str) -> str:
        chats, session = self._context.chats, self._context.open.session
        return await chats.documents.text_of(chats.sessions.store(session.id), session, digest)

    async def _opened(self) -> "DocumentPanel":
        """Return the panel, which is shown and has the focus now."""
        if self._panel is None:
            from qwenchat.tui.widgets.document_panel import DocumentPanel  # noqa: PLC0415 - an empty chat needs none

            self._panel = DocumentPanel(id="page")
            await self._screen.query_one("#parts", Horizontal).mount(self._panel)
            add_bindings(self._panel.view, bindings(self._actions, Where.PAGE))
        if not self._is_open:
            self._before = self._screen.focused
            self._hid_list = self._screen.has_class("sidebar") and self._screen.size.width < _ROOM_FOR_LIST
            self._screen.set_class(self._screen.has_class("sidebar") and not self._hid_list, "sidebar")
        self._screen.add_class("page")
        self._screen.set_focus(self._panel.view)
        return self._panel

    def _step(self, step: int) -> None:
        """Show the next source of the answer, or the one before."""
        if self._answer is None:
            return
        sources = self._answer.citations
        at = next(at for at, each in enumerate(sources) if each.number == self._number)
        self._context.run(self._show(sources[(at + step) % len(sources)]), "page", exclusive=True)

    def _find(self) -> None:
        if self._panel and self._is_open:
            self._panel.begin_find()

    def _follow(self, change: ViewChange) -> None:
        if change.switched:
            self.close()

    @property
    def _is_open(self) -> bool:
        return self._screen.has_class("page")
