"""What all dialogs share: a frame that scrolls in small terminals, a heading, Esc, errors beside their cause.

A dialog answers with its result and changes nothing behind it. Strings are made when it opens, in the language of
that moment.
"""

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from rich.cells import cell_len
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, ItemGrid, VerticalScroll
from textual.content import Content
from textual.markup import escape
from textual.screen import ModalScreen
from textual.types import CSSPathType
from textual.widget import Widget
from textual.widgets import Button, Input, OptionList, Select, Static, TextArea

from qwenchat.errors import QwenchatError
from qwenchat.i18n import _
from qwenchat.text.safe import clean, clean_line
from qwenchat.tui import advice
from qwenchat.tui.textual_private.drawing import QuickScreen
from qwenchat.tui.textual_private.widgets import EndsItsWork
from qwenchat.tui.widgets.fields import Filter
from qwenchat.tui.widgets.prose import Prose

Result = TypeVar("Result")
_WIDTHS = [(0, "-narrow"), (64, "-wide")]
_HEIGHTS = [(0, "-short"), (16, "-tall")]
_PADDING = 4
"""Cells of a button beside its label."""


class CloseMark(Static):
    """The mark that closes a dialog with the mouse."""


class Complaint(Prose):
    """An error below what it is about; takes no room while all is well."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__("", id=id, markup=False)
        self.display = False

    @property
    def text(self) -> str:
        """The words shown, empty for none."""
        return str(self.content) if self.display else ""

    def show(self, error: QwenchatError | str | None) -> None:
        """Show an error with its hint, or a sentence; None or an empty one hides it."""
        words = advice.words(error) if isinstance(error, QwenchatError) else error or ""
        self.display = bool(words)
        self.update("✗ " + clean_line(words, 600))


class Dialog(ModalScreen[Result], QuickScreen[Result], EndsItsWork):
    """A frame in the middle of the screen; subclasses give its `heading` and `body`."""

    CSS_PATH: ClassVar[CSSPathType | None] = "dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", show=False)]
    HORIZONTAL_BREAKPOINTS = _WIDTHS
    VERTICAL_BREAKPOINTS = _HEIGHTS

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="frame", can_focus=False):
            with Horizontal(classes="head"):
                yield plain(self.heading(), classes="heading")
                yield CloseMark(_("Esc ✕"), markup=False)
            yield from self.body()

    def heading(self) -> str:
        """Return what the dialog is about."""
        raise NotImplementedError

    def body(self) -> ComposeResult:
        """Yield what is below the heading."""
        raise NotImplementedError

    def enter_on_list(self) -> str:
        """Return what Enter does with the highlighted line, in a word; empty where it does nothing."""
        return _("choose")

    def keys_of(self, focused: Widget | None) -> list[tuple[str, str]]:
        """Return the best keys of what has the focus, each with what it does in a word or two."""
        match focused:
            case OptionList() | Filter():
                return [("↑↓", _("move")), ("Enter", self.enter_on_list())]
            case Button(label=label):
                return [("Enter", str(label))]
            case Select():
                return [("Enter", _("open"))]
            case Input():
                return [("Enter", _("done"))]
            case _:
                return []

    def escape_words(self) -> str:
        """Return what Esc does, in a word."""
        return _("close")

    @on(events.DescendantFocus)
    def show_keys(self) -> None:
        """Show the best keys of what has the focus on the edge of the frame, as a footer."""
        hints = [*self.keys_of(self.focused), ("Tab", _("next")), ("Esc", self.escape_words())]
        words = "  ".join(f"{key} {clean_line(does, 30)}" for key, does in hints if does)
        self.query_one(".frame").border_subtitle = escape(words)

    def lead_to_filter(self, event: events.Key | events.Paste) -> None:
        """Go to the filter, where there is one, before a character that is no key here, or a paste, is delivered."""
        if isinstance(self.focused, Input | TextArea):
            return
        field = next(iter(self.query(Filter)), None)
        if field and (
            isinstance(event, events.Paste) or (event.is_printable and event.key not in self.active_bindings)
        ):
            field.select_on_focus = False  # the character would replace what was typed before
            self.set_focus(field)

    def action_close(self) -> None:
        """Leave without a result."""
        self.answer(None)

    def answer(self, result: Result | None) -> None:
        """Close with a result."""
        _closing = self.dismiss(result)  # who opened it gets the result, and need not wait for the end

    @on(events.Click)
    def _close_on_click(self, event: events.Click) -> None:
        if event.widget is self or isinstance(event.widget, CloseMark):
            self.action_close()


def plain(text: str, classes: str = "", id: str | None = None) -> Prose:
    """Return a widget that shows text literally, without markup."""
    return Prose(clean(text), classes=classes, id=id, markup=False)


def button(label: str, id: str, *, main: bool = False) -> Button:
    """Return a button of one line; `main` is what Enter is likely to mean here."""
    return Button(Content(clean_line(label)), id=id, compact=True, variant="primary" if main else "default")


def relabel(button: Button, label: str) -> None:
    """Give a button another label, and the room that it takes."""
    button.label = Content(clean_line(label))
    button.refresh(layout=True)
    if isinstance(button.parent, Buttons):
        button.parent.fit()


class Buttons(ItemGrid):
    """Buttons side by side, in several rows where there is no room; with `foot` they stay while the rest scrolls."""

    def __init__(self, row: Sequence[Button], *, foot: bool = True) -> None:
        super().__init__(*row, classes="foot" if foot else "")
        self._row = row
        self.fit()

    def fit(self) -> None:
        """Make room for the widest label."""
        self.min_column_width = max(cell_len(str(button.label)) + _PADDING for button in self._row)
