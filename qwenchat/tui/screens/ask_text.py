"""Asks for a line of text: a title, words to find, a name."""

from textual import on
from textual.app import ComposeResult
from textual.suggester import Suggester
from textual.widgets import Button, Input

from qwenchat.i18n import _
from qwenchat.text import clean_line
from qwenchat.tui.screens.dialog import Dialog, button, buttons


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
