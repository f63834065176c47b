"""The last line: the few best keys of the part of the screen that has the focus, each of which can be clicked."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct
from textual import events
from textual.content import Content
from textual.reactive import reactive
from textual.style import Style
from textual.widget import Widget

from qwenchat.i18n import _
from qwenchat.tui.actions import Action, Where, key_of

_GAP = "  "


class KeyHint(Struct, frozen=True):
    """A key, what it does in a word or two, and the action that a click carries out."""

    key: str
    words: str
    action: str


def key_hints(
    of: Iterable[Action], where: Where, keymap: Mapping[str, str], *, answering: bool, without: Collection[str] = ()
) -> list[KeyHint]:
    """Return what the footer shows while the focus is in `where`, the most useful first, `without` some actions."""
    known = {action.id: action for action in of}
    escape = KeyHint(
        key_of(known["escape"], keymap),
        _("stop") if answering and where is not Where.CHIP else _("back"),
        "screen.escape",
    )
    own = [
        KeyHint(key_of(action, keymap), action.foot, "" if action.run else f"screen.{action.id}")
        for action in known.values()
        if action.where is where and action.foot and action.id not in without
    ]
    if where is Where.PROMPT:
        parts = KeyHint(key_of(known["messages"], keymap), _("to messages"), "screen.messages")
        own = [*own, KeyHint("/", _("commands"), "screen.slash"), parts]
        return [escape, *own] if answering else own
    return [escape, *own]


class KeyFooter(Widget):
    """One line. What finds no room is left out, the last of it first; the palette and help are always there."""

    hints: reactive[Sequence[KeyHint]] = reactive(())
    """The keys of the focused part."""
    general: reactive[Sequence[KeyHint]] = reactive(())
    """Shown at the end; where there is no room for their words, the last of them alone, as a key."""

    def render(self) -> Content:
        """Return the line, shortened to the room there is."""
        width = self.size.width
        right = _GAP_CONTENT.join(_clickable(hint) for hint in self.general)
        left = self._left(width - right.cell_length - len(_GAP))
        if len(left) < len(self.hints) and self.general:
            right = _clickable(KeyHint(self.general[-1].key, "", self.general[-1].action))
            left = self._left(width - right.cell_length - len(_GAP))
        shown = _GAP_CONTENT.join(left)
        return Content.assemble(shown, " " * max(width - shown.cell_length - right.cell_length, 0), right)

    async def on_click(self, event: events.Click) -> None:
        """Do what the key under the pointer does."""
        if action := event.style.meta.get("action"):
            await self.run_action(str(action))

    def _left(self, room: int) -> list[Content]:
        shown: list[Content] = []
        for hint in self.hints:
            content = _clickable(hint)
            room -= content.cell_length + len(_GAP) * bool(shown)
            if room < 0:
                break
            shown.append(content)
        return shown


_GAP_CONTENT = Content(_GAP)


def _clickable(hint: KeyHint) -> Content:
    parts = [Content.styled(hint.key, "bold $text-primary")]
    if hint.words:
        parts.append(Content.styled(" " + hint.words, "$foreground-muted"))
    content = Content.assemble(*parts)
    return content.stylize(Style.from_meta({"action": hint.action})) if hint.action else content
