"""A field that filters the list beside it: typing narrows it, arrows move in it, Enter takes what is highlighted."""

from typing import ClassVar

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
