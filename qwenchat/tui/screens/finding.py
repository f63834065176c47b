"""Finding words in the open chat: a line above the prompt, marks in the transcript, from match to match."""

from textual import on
from textual.widgets import Input

from qwenchat.i18n import _
from qwenchat.tui.screens.conversation import Conversation
from qwenchat.tui.transcript.view import Transcript


class Finding(Conversation):
    """The search within the chat that is open."""

    @property
    def find_line(self) -> Input:
        """Where the words are typed; it is made when it is first wanted."""
        if not self.query("#find"):
            line = Input(placeholder=_("Find in this chat"), id="find", compact=True)
            _mounting = self.query_one("#chat").mount(line, before=self.notice)
        return self.query_one("#find", Input)

    def action_find(self) -> None:
        """Find words in this chat."""
        self.add_class("finding")
        self.find_line.focus()

    @on(Input.Changed, "#find")
    def find_typed(self, event: Input.Changed) -> None:
        """Mark words as they are typed."""
        self.transcript.find(event.value)

    @on(Input.Submitted, "#find")
    def find_next(self) -> None:
        """Go to the match before."""
        self.transcript.find_next(-1)

    @on(Transcript.Found)
    def show_found(self, event: Transcript.Found) -> None:
        """Say where the search stands."""
        self.find_line.border_subtitle = f"{event.message}/{event.messages}"
        self.gauge.activity = _("{number} of {count} messages · Enter: the one before · Esc: end").format(
            number=event.message, count=event.messages
        )

    def end_finding(self) -> None:
        """Take the line and the marks away."""
        self.remove_class("finding")
        self.find_line.value = ""
        self.transcript.find("")
        self.gauge.activity = ""
        self.prompt.area.focus()
