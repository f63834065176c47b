"""A menu at the pointer: actions with the keys that carry them out elsewhere, which also work here.

It answers with the action's id and carries nothing out.
"""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Offset
from textual.screen import ModalScreen
from textual.types import CSSPathType
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from qwenchat.tui.actions import key_name
from qwenchat.tui.dialogs.open import MenuItem

_GAP = 3
"""Cells between an action's words and its key."""
_FRAME = 4
"""Cells of border and padding at both sides."""


class MenuScreen(ModalScreen[str | None]):
    """The items below one another, the first highlighted, as near to `at` (cells of the screen) as there is room."""

    CSS_PATH: ClassVar[CSSPathType | None] = "menu.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", show=False)]

    def __init__(self, items: Sequence[MenuItem], at: Offset) -> None:
        super().__init__()
        self._items, self._at = items, at

    def compose(self) -> ComposeResult:
        yield OptionList(markup=False, compact=True)

    def on_mount(self) -> None:
        """Show the items."""
        listed = self.query_one(OptionList)
        words = max(cell_len(item.label) for item in self._items)
        keys = max(cell_len(key_name(item.key)) for item in self._items)
        gap = _GAP if keys else 0
        listed.add_options(Option(_line(item, words + gap, keys), id=item.action) for item in self._items)
        listed.styles.width = words + gap + keys + _FRAME
        listed.highlighted = 0
        self._place()

    def on_resize(self) -> None:
        """Stay on the screen."""
        self._place()

    def _place(self) -> None:
        listed, room = self.query_one(OptionList), self.app.size
        width = int(listed.styles.width.value) if listed.styles.width else room.width
        x, y = min(self._at.x, room.width - width), min(self._at.y, room.height - len(self._items) - 2)
        listed.styles.offset = (max(x, 0), max(y, 0))

    def on_key(self, event: events.Key) -> None:
        """Choose the item that has this key; Enter chooses the one under the cursor."""
        pressed = {event.key, event.character} - {"enter"}
        item = next((item for item in self._items if item.key in pressed), None)
        if item:
            event.stop()
            self._answer(item.action)

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        """Choose the item under the cursor."""
        self._answer(event.option_id)

    def on_click(self, event: events.Click) -> None:
        """Close on a click beside the menu."""
        if event.widget is self:
            self.action_close()

    def action_close(self) -> None:
        """Choose nothing."""
        self._answer(None)

    def _answer(self, action: str | None) -> None:
        _closing = self.dismiss(action)


def _line(item: MenuItem, words: int, keys: int) -> Content:
    key = key_name(item.key)
    padding = " " * (words - cell_len(item.label) + keys - cell_len(key))
    return Content.assemble(item.label, padding, (key, "$text-muted"))
