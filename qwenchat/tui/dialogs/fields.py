"""What dialogs with lists and paths share: aligned columns, a careful list, suggestions of paths."""

import asyncio
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.suggester import Suggester
from textual.widgets import OptionList

from qwenchat.tui.arguments import path_completions

_GAP = 2


def aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return each row as one line of at most `width` cells, columns below one another.

    All rows have the same number of columns, the most important first. Columns that find no room are left out; the
    first is there always, cut if it must be.
    """
    if not rows:
        return []
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    while len(widths) > 1 and sum(widths) + _GAP * (len(widths) - 1) > width:
        widths.pop()
    widths[0] = min(widths[0], max(width, 1))
    gap = " " * _GAP
    return [gap.join(set_cell_size(cell, w) for cell, w in zip(row, widths, strict=False)).rstrip() for row in rows]


class CarefulList(OptionList):
    """A list in which a click only highlights; a double click chooses. For lines that start something large."""

    def on_resize(self) -> None:
        """Show the first lines where the highlighted one is among them; it was scrolled to in less room."""
        self.scroll_home(animate=False)
        self.scroll_to_highlight()

    def on_click(self, event: events.Click) -> None:
        """Highlight the line under the pointer; a double click takes it."""
        event.prevent_default()
        at = event.style.meta.get("option")
        if isinstance(at, int) and not self.get_option_at_index(at).disabled:
            self.highlighted = at
            if event.chain == 2:
                self.action_select()


class PathSuggester(Suggester):
    """Suggests folders, and files that end in one of `suffixes`; without any, all files."""

    def __init__(self, *suffixes: str) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._suffixes = suffixes or ("",)

    async def get_suggestion(self, value: str) -> str | None:
        """Return the first name that `value` may become."""
        is_path = "/" in value or "\\" in value
        found = await asyncio.to_thread(path_completions, value, self._suffixes) if is_path else []
        return next(iter(found), None)
