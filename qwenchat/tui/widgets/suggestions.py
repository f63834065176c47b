"""The list above the prompt: what a half-typed command can become, or what Enter does with it."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual import on
from textual.content import Content
from textual.message import Message as Event
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from qwenchat.tui.completions import Completion

_WIDEST = 34
"""Cells of the column of labels."""


class Suggestions(OptionList, can_focus=False):
    """Never has the focus: the prompt's arrows walk it, and its Tab and Enter take from it."""

    @dataclass(eq=False, repr=False)
    class Taken(Event):
        """The user clicked a completion."""

        completion: Completion

    def __init__(self, id: str) -> None:
        super().__init__(id=id, markup=False, compact=True)
        self._completions: Sequence[Completion] = ()
        self.walked = False
        """Whether the user went to the highlighted line, which was the first line until then."""

    @property
    def current(self) -> Completion | None:
        """The highlighted completion."""
        return self._completions[self.highlighted] if self._completions and self.highlighted is not None else None

    def show(self, completions: Sequence[Completion], words: str = "") -> None:
        """Show completions with the first one highlighted, else words about what is typed; nothing hides the list."""
        self._completions, self.walked = completions, False
        width = min(max((cell_len(each.label) for each in completions), default=0), _WIDEST)
        self.clear_options()
        self.add_options(Option(_line(each, width)) for each in completions)
        if not completions and words:
            self.add_option(Option(Content.styled(words, "$foreground-muted"), disabled=True))
        self.highlighted = 0 if completions else None
        self.set_class(bool(completions or words), "shown")

    def walk(self, step: int) -> None:
        """Go to the next line, or the one before; from the last to the first."""
        self.walked = True
        if step > 0:
            self.action_cursor_down()
        else:
            self.action_cursor_up()

    @on(OptionList.OptionSelected)
    def report_click(self, event: OptionList.OptionSelected) -> None:
        """Report what was clicked."""
        event.stop()
        self.post_message(self.Taken(self._completions[event.option_index]))


def _line(completion: Completion, width: int) -> Content:
    padding = " " * max(width - cell_len(completion.label), 0)
    return Content.assemble(completion.label + padding + "  ", (completion.help, "$foreground-muted"))
