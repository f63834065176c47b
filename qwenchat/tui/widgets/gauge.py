"""The line at the bottom: how full the context window is, and what the model is doing or did."""

from typing import TYPE_CHECKING

from msgspec import Struct
from textual import events
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from qwenchat.i18n import _
from qwenchat.text.safe import clean_line

if TYPE_CHECKING:
    from qwenchat.chat.context import ContextPlan

_BAR = 10
_NEARLY = 0.85


class ContextUsage(Struct, frozen=True):
    """How full the context window is, in tokens."""

    used: int
    """Question and history that the model sees."""
    reserve: int
    """Reserved for the answer."""
    n_ctx: int
    too_long: bool = False
    """The question alone does not fit."""
    exact: bool = True
    """False where it is an estimate."""

    @classmethod
    def of(cls, plan: "ContextPlan") -> "ContextUsage":
        """Return the numbers of a plan."""
        return cls(plan.used, plan.reserve, n_ctx=plan.n_ctx, too_long=plan.too_long, exact=plan.counts.exact)


class Gauge(Widget):
    """One line. Numbers come first: nothing is said by the bar or a colour alone."""

    usage: reactive[ContextUsage | None] = reactive(None)
    """How full the window is; None while that is not known."""
    activity: reactive[str] = reactive("")
    """What is going on, in words."""
    fraction: reactive[float | None] = reactive(None)
    """How far that is, from 0 to 1; None without an end in sight."""

    def render(self) -> Content:
        """Return the line, shortened to the room there is."""
        width = self.size.width
        left, right = self._window(width), self._activity(width)
        gap = Content("   " if left.cell_length and right.cell_length else "")
        words = Content.assemble(left, gap, right)
        if words.cell_length > width and self.activity:
            words = right
        return words.truncate(width, ellipsis=True)

    async def on_click(self, event: events.Click) -> None:
        """Show the statistics of the chat."""
        if event.button == 1:
            await self.run_action("screen.stats")

    def _window(self, width: int) -> Content:
        usage = self.usage
        if usage is None:
            return Content("")
        share = min((usage.used + usage.reserve) / usage.n_ctx, 1.0)
        numbers = _("{used:,} used + {reserve:,} reserved of {n_ctx:,} tokens").format(
            used=usage.used, reserve=usage.reserve, n_ctx=usage.n_ctx
        )
        if width < 60:
            numbers = f"{usage.used:,}/{usage.n_ctx:,}"
        if not usage.exact:
            numbers = "≈ " + numbers
        style = "$text-error" if usage.too_long else "$text-warning" if share > _NEARLY else "$foreground-muted"
        mark = _("too long: ") if usage.too_long else ""
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
