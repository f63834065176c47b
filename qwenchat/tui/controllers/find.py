"""Finding words in the open chat: a line above the prompt, marks in the transcript, from match to match."""

from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Input

from qwenchat.i18n import _
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.focus import FocusController
from qwenchat.tui.transcript.transcript import Transcript
from qwenchat.tui.widgets.fields import LineField
from qwenchat.tui.widgets.notice import Notice


class FindController:
    """Shows and hides the line in which the words are typed; its id is `find`. It is made when it is first needed."""

    def __init__(self, context: ChatContext, screen: Screen[None], focus: FocusController, *, notice: Notice) -> None:
        self._context, self._screen, self._focus, self._notice = context, screen, focus, notice
        self._line: Input | None = None

    @property
    def active(self) -> bool:
        """Whether the line is shown."""
        return self._screen.has_class("finding")

    def start(self, words: str | None = None) -> None:
        """Show the line, go there, and find words where some are given."""
        self._screen.add_class("finding")
        line = self._made_line()
        line.focus()
        if words is not None:
            line.value = words

    def show_words(self, words: str) -> None:
        """Mark words as they are typed."""
        self._context.transcript.find(words)

    def go_to_previous(self) -> None:
        """Go to the match before."""
        self._context.transcript.find_next(-1)

    def show_position(self, found: Transcript.Found) -> None:
        """Say where the search stands."""
        self._made_line().border_subtitle = f"{found.message}/{found.messages}"
        words = _("{number} of {count} messages · Enter: previous · Esc: close")
        self._context.open.show_activity(words.format(number=found.message, count=found.messages))

    def end(self) -> None:
        """Take the line and the marks away."""
        self._screen.remove_class("finding")
        self._made_line().value = ""
        self._context.transcript.find("")
        self._context.open.show_activity()
        self._focus.to_prompt()

    def _made_line(self) -> Input:
        if self._line is None:
            self._line = LineField(placeholder=_("Find in this chat"), id="find", compact=True)
            _mounting = self._screen.query_one("#chat", Vertical).mount(self._line, before=self._notice)
        return self._line
