"""Asks before something that can't be undone."""

from textual import on
from textual.app import ComposeResult
from textual.widgets import Button

from qwenchat.i18n import _
from qwenchat.tui.screens.dialog import Dialog, button, buttons, plain


class ConfirmScreen(Dialog[bool]):
    """A question with two answers; Esc is no, and no has the focus."""

    def __init__(self, message: str, hint: str = "", yes: str = "") -> None:
        super().__init__()
        self._message, self._hint, self._yes = message, hint, yes

    def heading(self) -> str:
        return self._message

    def body(self) -> ComposeResult:
        if self._hint:
            yield plain(self._hint)
        yield buttons([button(_("No"), "no"), button(self._yes or _("Yes"), "yes", main=True)])

    def on_mount(self) -> None:
        """Let Enter harm nobody."""
        self.query_one("#no").focus()

    def action_close(self) -> None:
        """Take it for a no."""
        self.answer(False)

    @on(Button.Pressed)
    def _answer(self, event: Button.Pressed) -> None:
        self.answer(event.button.id == "yes")
