"""The chips above the text of the prompt: attached files and folders, and long pastes that are folded away.

Each can be clicked; with the focus here one of them is selected, and keys are commands about it (`tui.actions`). It
reports what is wanted and changes nothing itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from textual import events
from textual.content import Content
from textual.geometry import Size
from textual.message import Message as Event
from textual.style import Style
from textual.widget import Widget

from qwenchat.i18n import _, ngettext
from qwenchat.text.safe import clean_line, human_size, human_time
from qwenchat.tui.attached import Attached

Chip = Attached | str
"""What was attached, or the text of a folded paste."""
Wish = Literal["open", "switch", "remove"]

_MOST_LINES = 4
_MINUTE = 60
_LONGEST_NAME = 40
"""Characters."""
_STYLE, _SELECTED = "$foreground on $panel", "bold reverse $foreground on $panel"
_META = "chip"
"""In the style of what can be clicked: the number of the chip and what the click wishes."""
_Words = list[tuple[str, Wish]]
"""The words of a chip, each with what a click on it wishes."""


class Chips(Widget, can_focus=True):
    """Hidden while there are none. Where they take too many lines, those around the selected one are shown."""

    @dataclass(eq=False, repr=False)
    class Wished(Event):
        """The user wants something of a chip."""

        chip: Chip
        wish: Wish

    class Emptied(Event):
        """The last chip went while the focus was here."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._chips: Sequence[Chip] = ()
        self._selected = 0
        self.open_key = ""
        """The key that opens a folded paste from the prompt."""
        self.level: int | None = None
        """How the chat's documents are read in parts; None where the question decides."""

    @property
    def selected(self) -> Chip | None:
        """The chip that keys are about."""
        return self._chips[self._selected] if self._chips else None

    def show(self, chips: Sequence[Chip]) -> None:
        """Show these chips; a new one is selected, otherwise the selection stays as near as it can."""
        grew, selected = len(chips) > len(self._chips), self.selected
        self._chips = tuple(chips)
        self._selected = max(len(chips) - 1 if grew else min(self._selected, len(chips) - 1), 0)
        if selected is not None and not grew:
            self.select(selected)
        self.set_class(bool(chips), "shown")
        self.tooltip = _("✕ remove") if chips else None
        self.refresh(layout=True)
        if not chips and self.has_focus:
            self.post_message(self.Emptied())

    def select(self, chip: Chip) -> bool:
        """Select a chip, and return whether it is still there."""
        place = next((place for place, each in enumerate(self._chips) if each is chip), None)
        if place is not None:
            self._selected = place
            self.refresh(layout=True)
        return place is not None

    # Keys and the mouse

    def action_select_chip(self, step: int) -> None:
        """Select another chip; beyond the last one, stay."""
        self._selected = max(min(self._selected + step, len(self._chips) - 1), 0)
        self.refresh(layout=True)

    def action_wish(self, wish: Wish) -> None:
        """Report what is wanted of the selected chip."""
        if self.selected is not None:
            self.post_message(self.Wished(self.selected, wish))

    def on_click(self, event: events.Click) -> None:
        """Select the chip under the pointer; the left button also does what its words say."""
        if _META not in event.style.meta:
            return
        self._selected, wish = event.style.meta[_META]
        self.refresh()
        if event.button == 1:
            self.action_wish(wish)

    def on_focus(self) -> None:
        """Show the selection."""
        self.refresh()

    def on_blur(self) -> None:
        """Hide the selection."""
        self.refresh()

    # Drawing

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return how many lines the chips take."""
        return len(self._lines(width))

    def render(self) -> Content:
        """Return the chips, as many as fit into a line below one another."""
        return Content("\n").join(self._lines(self.content_size.width or self.app.size.width))  # hidden so far

    def _lines(self, width: int) -> list[Content]:
        lines: list[Content] = []
        selected_line = 0
        for number, chip in enumerate(self._chips):
            drawn = self._drawn(number, chip, width)
            if lines and lines[-1].cell_length + 1 + drawn.cell_length <= width:
                lines[-1] = Content.assemble(lines[-1], " ", drawn)
            else:
                lines.append(drawn)
            if number == self._selected:
                selected_line = len(lines) - 1
        if len(lines) <= _MOST_LINES:
            return lines
        shown = _MOST_LINES - 1
        first = max(min(selected_line - shown // 2, len(lines) - shown), 0)
        count = len(self._chips)
        of_all = ngettext("{count:,} attachment", "{count:,} attachments", count).format(count=count)
        return [*lines[first : first + shown], Content.styled(f" … {of_all}", "$foreground-muted")]

    def _drawn(self, number: int, chip: Chip, width: int) -> Content:
        style = _SELECTED if self.has_focus and number == self._selected else _STYLE
        room = max(width, 8)
        words = next((each for each in self._wordings(chip) if _cells(each) <= room), None)
        words = words or self._wordings(chip)[-1]
        parts = [
            Content.styled(text, style).stylize(Style.from_meta({_META: (number, wish)}))
            for text, wish in _separated(words)
        ]
        label = Content.assemble(*parts)
        cross = Content.styled("✕ ", style).stylize(Style.from_meta({_META: (number, "remove")}))
        return Content.assemble(label.truncate(room - cross.cell_length, ellipsis=True), cross)

    def _wordings(self, chip: Chip) -> list[_Words]:
        """Return what a chip may say, the most first."""
        if isinstance(chip, str):
            count = chip.count("\n") + 1
            words = ngettext("{count:,} pasted line", "{count:,} pasted lines", count).format(count=count)
            pasted: _Words = [(f"▸ {words}", "open")]
            opens = _("{key} open").format(key=self.open_key)
            return [[*pasted, (opens, "open")], pasted] if self.open_key else [pasted]
        name: _Words = [(clean_line(chip.title, _LONGEST_NAME), "open")]
        if not chip.is_read:
            return [[*name, (_("reading…"), "open")], name]
        size: _Words = [(_size(chip), "open")]
        pages: _Words = [(words, "open") for words in (_pages(chip),) if words]
        brief: _Words = [(_mode(chip), "switch")]
        full: _Words = [(f"{_mode(chip)} {self._time_of(chip)}".rstrip(), "switch")]
        return [[*name, *pages, *size, *full], [*name, *size, *full], [*name, *size, *brief], [*name, *brief], name]

    def _time_of(self, chip: Attached) -> str:
        if not chip.forecast:
            return ""
        return _time(chip.forecast.parts_s(self.level) if chip.in_parts else chip.forecast.whole_s)


def _separated(words: _Words) -> _Words:
    """Return the words with what stands between and around them."""
    last = len(words) - 1
    return [(" " + text + (" ·" if at < last else " "), wish) for at, (text, wish) in enumerate(words)]


def _cells(words: _Words) -> int:
    return sum(Content(text).cell_length for text, _wish in _separated(words)) + 2


def _size(chip: Attached) -> str:
    if not chip.forecast:
        return human_size(chip.bytes)
    count = chip.forecast.tokens
    words = ngettext("{count:,} token", "{count:,} tokens", count).format(count=count)
    return words if chip.forecast.is_exact else f"≈ {words}"


def _pages(chip: Attached) -> str:
    count = chip.pages
    return ngettext("{count:,} page", "{count:,} pages", count).format(count=count) if count else ""


def _mode(chip: Attached) -> str:
    return _("in parts") if chip.in_parts else _("whole")


def _time(seconds: float | None) -> str:
    """Return how long reading takes, about; empty where that is not known."""
    if seconds is None:
        return ""
    if seconds >= _MINUTE:
        return f"≈ {human_time(seconds)}"
    return "≈ " + _("{seconds} s").format(seconds=max(round(seconds), 1))
