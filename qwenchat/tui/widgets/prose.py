"""Words in dialogs and notices, with lines broken by `text.wrap`: Textual breaks Chinese before its punctuation."""

from textual.content import Content
from textual.css.styles import RulesMap
from textual.geometry import Offset
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual
from textual.widgets import Static

from qwenchat.text.wrap import paragraph_cuts


class Broken(Visual):
    """Content whose lines are broken for the width that it gets, unless its style says otherwise."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._width = 0
        """For which `_spans` were found."""
        self._spans: list[tuple[int, int]] = []

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        """Return the lines as they are drawn."""
        return self._broken(options.rules, width).render_strips(width, height, style, options)

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """Return the width of the longest line that was not broken."""
        return self._content.get_optimal_width(rules, container_width)

    def get_minimal_width(self, rules: RulesMap) -> int:
        """Return the width below which words are cut."""
        return self._content.get_minimal_width(rules)

    def get_height(self, rules: RulesMap, width: int) -> int:
        """Return the number of lines."""
        return self._broken(rules, width).get_height(rules, width)

    def extract(self, selection: Selection) -> str:
        """Return what the mouse selected in the lines that were drawn last, as it was before it was broken."""
        text = self._content.plain
        if not self._spans:
            return selection.extract(text)
        start = self._index(selection.start) if selection.start else 0
        return text[start : self._index(selection.end) if selection.end else len(text)]

    def _index(self, place: Offset) -> int:
        start, end = self._spans[min(place.y, len(self._spans) - 1)]
        return min(start + place.x, end)

    def _broken(self, rules: RulesMap, width: int) -> Content:
        if not width or rules.get("text_wrap") == "nowrap":
            return self._content
        if width != self._width:
            self._width, self._spans = width, []
            at = 0
            for line in self._content.plain.split("\n"):
                self._spans += [(at + cut.start, at + cut.end) for cut in paragraph_cuts(line, width)]
                at += len(line) + 1
        return Content("\n").join(self._content[start:end] for start, end in self._spans)


class Prose(Static):
    """A Static for sentences."""

    _prose: Broken | None = None
    """What was drawn last."""

    def render(self) -> Visual:
        """Return the words, to be broken."""
        self._prose = Broken(self.visual) if isinstance(self.visual, Content) else None
        return self._prose or self.visual

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """Return the text that the mouse selected, without the line breaks that were put into it."""
        return (self._prose.extract(selection), "\n") if self._prose else super().get_selection(selection)
