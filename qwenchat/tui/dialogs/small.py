"""Asks before something that can't be undone.

Asks for a line of text: a title, words to find, a name.
"""

from textual import on
from textual.app import ComposeResult
from textual.suggester import Suggester
from textual.widgets import Button, Input

from qwenchat.i18n import _
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs.dialog import Dialog, button, buttons, plain


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


class TextScreen(Dialog[str | None]):
    """One field; Enter gives what is in it, as one clean line, Esc gives None."""

    def __init__(self, title: str, value: str = "", suggester: Suggester | None = None) -> None:
        super().__init__()
        self._title, self._value, self._suggester = title, value, suggester

    def heading(self) -> str:
        return self._title

    def body(self) -> ComposeResult:
        yield Input(clean_line(self._value), suggester=self._suggester)
        yield buttons([button(_("OK"), "ok", main=True), button(_("Cancel"), "cancel")])

    @on(Input.Submitted)
    @on(Button.Pressed, "#ok")
    def _give(self) -> None:
        self.answer(clean_line(self.query_one(Input).value))

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.action_close()
