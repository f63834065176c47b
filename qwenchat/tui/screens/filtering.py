"""A field that filters the list beside it: typing narrows it, arrows move in it, Enter takes what is highlighted.

In a `CarefulList` a click only highlights, for lists whose lines do more than a stray click should; a double click
takes the line.
"""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import Input, OptionList


class Filter(Input):
    """Stands in one container with its OptionList."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, f"move('{move}')", show=False)
        for key, move in (
            ("up", "cursor_up"),
            ("down", "cursor_down"),
            ("pageup", "page_up"),
            ("pagedown", "page_down"),
            ("enter", "select"),
        )
    ]

    async def action_move(self, move: str) -> None:
        """Do in the list what the key would do there."""
        if self.parent:
            await self.parent.query_one(OptionList).run_action(move)


class CarefulList(OptionList):
    """A list in which looking at a line with the mouse starts nothing."""

    async def _on_click(self, event: events.Click) -> None:
        event.prevent_default()
        at = event.style.meta.get("option")
        if isinstance(at, int) and not self.get_option_at_index(at).disabled:
            self.highlighted = at
            if event.chain == 2:
                self.action_select()
