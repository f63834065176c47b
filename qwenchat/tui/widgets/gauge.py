"""The line at the bottom: how full the context window is, and what the model is doing or did."""

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from qwenchat.i18n import _
from qwenchat.text import clean_line
from qwenchat.tui.running.told import Fill

_BAR = 10
_NEARLY = 0.85


class Gauge(Widget):
    """One line. Numbers first, so that nothing is said by the bar or a colour alone."""

    fill: reactive[Fill | None] = reactive(None)
    """How full the window is; None while that is not known."""
    activity: reactive[str] = reactive("")
    """What is going on, in words."""
    fraction: reactive[float | None] = reactive(None)
    """How far that is, from 0 to 1; None without an end in sight."""
    hint: reactive[str] = reactive("")
    """Shown at the end where there is room."""

    def render(self) -> Content:
        """Return the line, shortened to the room there is."""
        width = self.size.width
        left, right = self._window(width), self._activity(width)
        hint = Content.styled(self.hint, "$foreground-muted")
        used = left.cell_length + right.cell_length
        if used + 2 > width:
            left = Content("") if self.activity else left
            return Content.assemble(left, right).truncate(max(width, 1), ellipsis=True)
        middle = Content("   " if left.cell_length and right.cell_length else "")
        used += middle.cell_length
        gap = width - used - hint.cell_length
        if gap < 2:
            return Content.assemble(left, middle, right)
        return Content.assemble(left, middle, right, Content(" " * gap), hint)

    def _window(self, width: int) -> Content:
        fill = self.fill
        if fill is None:
            return Content("")
        share = min((fill.used + fill.reserve) / fill.n_ctx, 1.0)
        numbers = _("{used:,} + {reserve:,} of {n_ctx:,} tokens").format(
            used=fill.used, reserve=fill.reserve, n_ctx=fill.n_ctx
        )
        if width < 60:
            numbers = f"{fill.used:,}/{fill.n_ctx:,}"
        style = "$text-error" if fill.too_long else "$text-warning" if share > _NEARLY else "$foreground-muted"
        mark = _("too long: ") if fill.too_long else ""
        parts = [Content.styled(mark + numbers, style)]
        if width >= 80:
            parts.insert(0, Content.styled(bar(share) + " ", style))
        return Content.assemble(*parts)

    def _activity(self, width: int) -> Content:
        words = clean_line(self.activity, max(width, 1))
        if self.fraction is None or width < 50:
            return Content.styled(words, "$text-primary")
        return Content.assemble(Content.styled(bar(self.fraction) + " " + words, "$text-primary"))


def bar(share: float) -> str:
    """Return a bar of `_BAR` cells filled to a share from 0 to 1."""
    filled = round(max(0.0, min(share, 1.0)) * _BAR)
    return "▰" * filled + "▱" * (_BAR - filled)
