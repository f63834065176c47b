"""Draws less than Textual does, and sooner: only the lines that have changed, and a frame as soon as one is due.

It knows no message and no colour; what a view shows, the view decides.
"""

from asyncio import Event, sleep
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import ceil
from typing import Self

from rich.console import RenderableType
from textual._compositor import ChopsUpdate, Compositor, CompositorMap, ReflowResult
from textual._text_area_theme import TextAreaTheme
from textual.geometry import Region, Size
from textual.screen import UPDATE_PERIOD, Screen, ScreenResultType
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBar
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import TextArea


class QuickScreen(Screen[ScreenResultType]):
    """A screen that renders only the lines that have changed, and nothing that lies behind them; and as soon as it may.

    Textual's timer for frames counts its periods from its start, so that what changes after a frame waits for up to two
    of them, such as the echo of a key while an answer streams.
    """

    def __init__(self, name: str | None = None, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(name, id, classes)
        self._compositor = _TightCompositor()
        self._frames: _FrameTimer | None = None

    @property
    def _update_timer(self) -> Timer:
        if self._frames is None:
            self._frames = _FrameTimer(self, UPDATE_PERIOD, callback=self._on_timer_update, pause=True)
            self._frames._start()
            self._timers.add(self._frames)
        return self._frames

    def _on_timer_update(self) -> None:
        """Draw a frame; while widgets are exchanged, later. Textual would drop it and wait for the next change."""
        if not self.app._batch_count:
            super()._on_timer_update()


class _FrameTimer(Timer):
    """Calls back as soon as it is resumed, but not within a period of the last call, until the callback pauses it."""

    async def _run(self) -> None:
        resumed: Event = self._active
        while await resumed.wait():
            await self._tick(next_timer=0.0, count=0)
            await sleep(self._interval)


def scroll_within(view: ScrollView, size: Size, top: int) -> None:
    """Set the size of what is scrolled in a view whose scrollbar is always shown, and the line at the view's top.

    Textual would lay out the whole screen for each new line, and nothing but the scrollbar changes, if anything.
    """
    if size != view.virtual_size:
        view.set_reactive(Widget.virtual_size, size)
        view.vertical_scrollbar.set_reactive(ScrollBar.position, top)  # with the size: between them, the bar moves
        view._scroll_update(size)
    view.scroll_target_y = view.scroll_y = top


class SteadyTextArea(TextArea):
    """A text area that looks its colours up when its styles have changed.

    Textual does so for each key and each blink of the caret, and it takes longer than drawing the line. So no rule for
    a part of it, such as the caret, may depend on a class or on the focus: Textual does not notify of those.
    """

    _coloured: TextAreaTheme | None = None
    """What has the colours of the styles as they are now."""

    def notify_style_update(self) -> None:
        """Look the colours up again."""
        self._coloured = None
        super().notify_style_update()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the lines of a part of the view."""
        if self._coloured is self._theme:
            return super(TextArea, self).render_lines(crop)
        self._coloured = self._theme
        return super().render_lines(crop)


class SteadyScrollView(ScrollView):
    """A view whose scrollbar is drawn again only where that changes it: beside a long chat, a new line does not.

    Textual draws all of it whenever the view grows or scrolls.
    """

    @property
    def vertical_scrollbar(self) -> ScrollBar:
        """The scrollbar, made when it is first asked for."""
        if self._vertical_scrollbar is None:
            bar = _SteadyScrollBar(vertical=True, name="vertical", thickness=self.scrollbar_size_vertical)
            bar.display = False
            self._vertical_scrollbar = bar
            self.app._start_widget(self, bar)
        return self._vertical_scrollbar


class _SteadyScrollBar(ScrollBar):
    _drawn: tuple[object, ...] = ()
    """What was drawn last: its ends in eighths of a cell, and its look."""

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        if layout or recompose or self._shown() != self._drawn:
            super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        return self

    def render(self) -> RenderableType:
        self._drawn = self._shown()
        return super().render()

    def _shown(self) -> tuple[object, ...]:
        """Return all that Textual draws the bar from, rounded in the same steps as there."""
        height, total = self.size.height, ceil(self.window_virtual_size)
        window = ceil(self.window_size) if self.window_size < self.window_virtual_size else 0
        start = end = 0
        if window and height and height != total:
            length = max(1, window / (total / height))
            start = int((height - length) * (self.position / (total - window)) * 8)
            end = start + ceil(length * 8)
        styles = self.parent.styles if isinstance(self.parent, Widget) else self.styles
        colours = (
            (styles.scrollbar_color_active, styles.scrollbar_background_active)
            if self.grabbed
            else (styles.scrollbar_color_hover, styles.scrollbar_background_hover)
            if self.mouse_over
            else (styles.scrollbar_color, styles.scrollbar_background)
        )
        return height, start, end, *colours


class _TightCompositor(Compositor):
    """Textual renders every line of every widget for each frame, and then drops what has not changed or is covered.

    It also divides what covers a widget at the widget's edges, and a wide character that an edge divides is lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self._laid_out: CompositorMap = {}
        """Where everything was after the last layout."""

    def reflow(self, parent: Widget, size: Size) -> ReflowResult:
        """Lay everything out, and return which widgets are new or have a new size since that was last done.

        Textual compares with a map that it makes in between when something has scrolled and a widget's place is looked
        up. That one has the new places already: nobody would learn of them, and what has moved would not be drawn.
        """
        self._full_map = self._laid_out
        result = super().reflow(parent, size)
        self._laid_out = self._full_map
        return result

    def clear(self) -> None:
        """Remove all references to widgets."""
        super().clear()
        self._laid_out = {}

    @property
    def cuts(self) -> list[list[int]]:
        """Where each line is divided: at the edges of widgets, as far as nothing covers them."""
        if self._cuts is None:
            cuts = [{0, self.size.width} for _line in range(self.size.height)]
            covered: list[list[tuple[int, int]]] = [[] for _line in cuts]
            for region, clip in self.visible_widgets.values():
                x, y, width, height = region.intersection(clip)
                lines = range(y, min(y + height, len(cuts))) if width else ()
                for line in lines:
                    edges = (x, x + width)
                    cuts[line].update(
                        edge for edge in edges if not any(start < edge < end for start, end in covered[line])
                    )
                    covered[line].append(edges)
            self._cuts = [sorted(edges) for edges in cuts]
        return self._cuts

    def render_partial_update(self) -> ChopsUpdate | None:
        """Return what has changed; each piece of a line is drawn whole, so that no wide character in it is divided."""
        if update := super().render_partial_update():
            update.spans = [
                (y, start, next((cut for cut in self.cuts[y] if cut >= end), end)) for y, start, end in update.spans
            ]
        return update

    def _render_chops(self, crop: Region, is_rendered_line: Callable[[int], bool]) -> Sequence[Mapping[int, Strip]]:
        """Return the pieces of each line by the cut at which they begin, of the frontmost widget there."""
        chops = [dict.fromkeys(cuts[:-1], Strip([])) for cuts in self.cuts]
        for widget, (region, clip) in self.visible_widgets.items():
            shown = region.intersection(clip)
            part = shown.intersection(Region(shown.x, crop.y, shown.width, crop.height))
            rows = filter(is_rendered_line, part.line_range if part.overlaps(crop) else ())
            cuts_of = {y: [cut for cut in self.cuts[y] if part.x <= cut <= part.right] for y in rows}
            uncovered = {
                y: cuts
                for y, cuts in cuts_of.items()
                if any(start < crop.right and end > crop.x and not chops[y][start] for start, end in pairwise(cuts))
            }
            if not uncovered:
                continue
            part = Region(part.x, min(uncovered), part.width, max(uncovered) - min(uncovered) + 1)
            for y, strip in zip(part.line_range, widget.render_lines(part.translate(-region.offset)), strict=False):
                if cuts := uncovered.get(y, []):
                    pieces = strip.crop(cuts[0] - part.x).divide([cut - cuts[0] for cut in cuts[1:]])
                    for cut, piece in zip(cuts, pieces, strict=False):
                        if not chops[y][cut]:
                            chops[y][cut] = piece
        return chops
