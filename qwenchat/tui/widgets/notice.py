"""A line above the prompt that stays until it is answered: an error with what can be done, or who waits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import ItemGrid, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message as Event
from textual.widget import Widget
from textual.widgets import Button

from qwenchat.text.safe import clean_line
from qwenchat.tui.widgets.prose import Prose

_PADDING = 2
"""Cells of a button beside its words."""


class Notice(Vertical):
    """Words, which scroll where they are many, and buttons below them. Hidden while there are no words."""

    SCOPED_CSS = False
    DEFAULT_CSS = """
    #notice {
        display: none;
        height: auto;
        max-height: 40vh;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        margin: 0 2;
        padding: 0 1;
        background: $panel;
        color: $foreground;
    }
    #notice.shown {
        display: block;
    }
    #notice.warning {
        border-left: thick $warning;
    }
    #notice-text {
        height: auto;
        max-height: 4;
        scrollbar-size-vertical: 1;
    }
    #notice-words {
        height: auto;
    }
    #notice-offers {
        display: none;
        height: auto;
        grid-gutter: 0 1;
        grid-columns: auto;
    }
    #notice-offers.shown {
        display: block;
    }
    #notice-offers Button {
        width: auto;
        min-width: 0;
        max-width: 100%;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    ChatScreen.low #notice-text {
        max-height: 1;
    }
    ChatScreen.thin #notice {
        margin: 0;
    }
    """  # here, and not in the program's style sheet, which the first frame waits for

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_words(-1)", "Up", show=False),
        Binding("down", "scroll_words(1)", "Down", show=False),
    ]

    @dataclass(eq=False, repr=False)
    class OfferChosen(Event):
        """The user chose the offer of this number."""

        number: int

    def __init__(self, *, above: Widget, id: str) -> None:
        """`above` is what it stands above, once there are first words: the first frame is drawn without it."""
        super().__init__(id=id)
        self._below = above

    def show(self, words: str, buttons: Sequence[str] = (), *, warning: bool = False) -> None:
        """Show words, as untrusted as they are, and buttons; empty words hide the notice."""
        if not self.is_attached:
            if not words:
                return
            self._mount()
        self.query_one("#notice-words", Prose).update(Content(clean_line(words, 1000)))
        self.query_one("#notice-text").scroll_home(animate=False)
        row = self.query_one("#notice-offers", ItemGrid)
        _removing = row.remove_children()
        if buttons:
            row.min_column_width = max(map(cell_len, buttons)) + _PADDING
            _mounting = row.mount_all(
                Button(Content(label), name=str(number), compact=True) for number, label in enumerate(buttons)
            )
        row.set_class(bool(buttons), "shown")
        self.set_class(bool(words), "shown")
        self.set_class(warning, "warning")

    def _mount(self) -> None:
        text = VerticalScroll(id="notice-text", can_focus=False)
        _mounting = self._below.screen.mount(self, before=self._below)
        _mounting = self.mount(text, ItemGrid(id="notice-offers"))
        _mounting = text.mount(Prose(id="notice-words", markup=False))

    def action_scroll_words(self, lines: int) -> None:
        """Show more of the words."""
        self.query_one("#notice-text").scroll_relative(y=lines, animate=False)

    @on(Button.Pressed)
    def report_choice(self, event: Button.Pressed) -> None:
        """Report what was chosen."""
        event.stop()
        self.post_message(self.OfferChosen(int(event.button.name or 0)))
