"""Finding words in the open chat: a line above the prompt, marks in the transcript, from match to match."""

from textual import on
from textual.widgets import Input

from qwenchat.i18n import _
from qwenchat.tui.screens.conversation import Conversation
from qwenchat.tui.transcript.view import Transcript


class Finding(Conversation):
    """The search within the chat that is open."""

    def action_find(self) -> None:
        """Find words in this chat."""
        self.add_class("finding")
        self.query_one("#find", Input).focus()

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
        self.query_one("#find", Input).border_subtitle = f"{event.message}/{event.messages}"
        self.gauge.activity = _("{number} of {count} messages · Enter: the one before · Esc: end").format(
            number=event.message, count=event.messages
        )

    def end_finding(self) -> None:
        """Take the line and the marks away."""
        self.remove_class("finding")
        self.query_one("#find", Input).value = ""
        self.transcript.find("")
        self.gauge.activity = ""
        self.prompt.area.focus()
