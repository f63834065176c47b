"""Small dialogs: a question before something that can't be undone, a line of text, the keys that work."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.suggester import Suggester
from textual.types import CSSPathType
from textual.widgets import Button, Input, OptionList
from textual.widgets.option_list import Option

from qwenchat.i18n import _
from qwenchat.text.pinyin import initials
from qwenchat.text.safe import clean_line
from qwenchat.text.wrap import wrapped
from qwenchat.tui.dialogs.dialog import Buttons, Dialog, button, plain
from qwenchat.tui.widgets.fields import Filter, LineField

_KEY_COLUMN = 18
"""Cells of the column of keys in the help; words stand below keys that are longer."""


class ConfirmScreen(Dialog[bool]):
    """A question with two answers; Esc is no, and no has the focus. `yes` and `no` are verbs."""

    def __init__(self, message: str, hint: str = "", yes: str = "", *, no: str = "") -> None:
        super().__init__()
        self._message, self._hint, self._yes, self._no = message, hint, yes, no

    def heading(self) -> str:
        return self._message

    def body(self) -> ComposeResult:
        if self._hint:
            yield plain(self._hint)
        row = [button(self._no or _("Cancel"), "no"), button(self._yes or _("OK"), "yes", main=True)]
        yield Buttons(row, foot=bool(self._hint))  # what is docked alone takes no room

    def on_mount(self) -> None:
        """Focus the harmless answer, so that Enter chooses it."""
        self.set_focus(self.query_one("#no"))

    def action_close(self) -> None:
        """Answer no."""
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
        yield LineField(clean_line(self._value), suggester=self._suggester)
        yield Buttons([button(_("OK"), "ok", main=True), button(_("Cancel"), "cancel")])

    @on(Input.Submitted)
    @on(Button.Pressed, "#ok")
    def _answer_text(self) -> None:
        self.answer(clean_line(self.query_one(Input).value))

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.action_close()


class HelpScreen(Dialog[None]):
    """Every action by group: `actions` are triples of group, key as it is written, description."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "help.tcss"]

    def __init__(self, actions: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        self._actions = [(clean_line(group), clean_line(key), clean_line(words)) for group, key, words in actions]

    def heading(self) -> str:
        return _("Keys")

    def body(self) -> ComposeResult:
        yield Filter(placeholder=_("Type to filter"))
        yield OptionList(markup=False)

    def enter_on_list(self) -> str:
        return ""

    def on_resize(self) -> None:
        """Show all words of what is shown, in the room that there is."""
        self._show()

    @on(Input.Changed)
    def _show(self) -> None:
        listed, wanted = self.query_one(OptionList), self.query_one(Input).value.casefold().strip()
        actions = [action for action in self._actions if _has(" ".join(action).casefold(), wanted)]
        width = min(max((cell_len(key) for _group, key, _words in actions), default=0), _KEY_COLUMN)
        indent = " " * (width + 4)
        room = max(listed.scrollable_content_region.width - len(indent), 10)
        options, before = [], ""
        for group, key, words in actions:
            if group != before:
                options.append(Option(Content.styled(group, "bold"), disabled=True))
            gap = " " * (width - cell_len(key) + 2) if cell_len(key) <= width else "\n" + indent
            lines = ("\n" + indent).join(wrapped(words, room))
            options.append(Option(Content.assemble("  ", (key, "$accent"), gap, lines)))
            before = group
        listed.clear_options()
        listed.add_options(options)


def _has(text: str, wanted: str) -> bool:
    """Return whether words, in lower case, or the initials of Chinese ones have what is wanted."""
    return wanted in text or wanted in initials(text)
