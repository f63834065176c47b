"""Two variants of a message side by side, one of which may still be written; the user picks one to continue with.

It shows what it is given and changes nothing: the answer that streams is reported by `controllers.comparing`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingsMap, BindingType
from textual.containers import Horizontal, Vertical
from textual.markup import escape
from textual.types import CSSPathType
from textual.widget import Widget
from textual.widgets import Button

from qwenchat.chat.message import Message, Part, Role, Status
from qwenchat.chat.tree import VariantPlace
from qwenchat.i18n import _, labelled
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs.dialog import Dialog, button, plain
from qwenchat.tui.model_names import ModelNames
from qwenchat.tui.textual_private.widgets import add_bindings
from qwenchat.tui.transcript.drawing import Look
from qwenchat.tui.transcript.transcript import Transcript

_WIDTHS = [(0, "-stacked"), (100, "-beside")]
_PANE_KEYS = (
    Binding("enter", "screen.pick_focused"),
    Binding("left,h", "variant(-1)"),
    Binding("right,l", "variant(1)"),
    Binding("k", "scroll_up"),
    Binding("j", "scroll_down"),
    Binding("ctrl+home,g", "scroll_home"),
    Binding("ctrl+end,G", "scroll_end"),
)


class VariantPane(Transcript):
    """One variant. Its message is never selected: the actions on messages are the chat's."""

    FOCUS_ON_CLICK = True

    def action_variant(self, step: int) -> None:
        """Ask for a sibling of the message."""
        self._choose_variant(0, step)


@dataclass(frozen=True, slots=True)
class Picked:
    """The id of a variant to continue with, and an action of the chat to do with it; empty for none."""

    message: str
    action: str = ""


class CompareScreen(Dialog[Picked | None]):
    """Answers with the variant to continue with; None where the user closes it.

    `variants` are all siblings, oldest first, of which two are `shown` at first. Esc calls `stop` while an answer is
    being written, `copy` copies what is clicked, `names` has those of the models, and `call_since` is that of `Look`.
    """

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "compare.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "pick(0)", show=False),
        Binding("2", "pick(1)", show=False),
    ]
    HORIZONTAL_BREAKPOINTS = _WIDTHS

    def __init__(
        self,
        question: str,
        variants: Sequence[Message],
        shown: tuple[int, int],
        *,
        stop: Callable[[], object],
        copy: Callable[[str], object],
        names: ModelNames,
        call_since: Callable[[], float],
    ) -> None:
        super().__init__()
        self._question, self._variants, self._shown = question, list(variants), list(shown)
        self._stop, self._copy, self._names = stop, copy, names
        look = Look(timestamps=False, call_since=call_since)
        self._panes = (VariantPane(look), VariantPane(look))
        self._activities = (plain("", classes="activity"), plain("", classes="activity"))

    def heading(self) -> str:
        title = _("Compare answers") if self._variants[0].role is Role.ASSISTANT else _("Compare questions")
        return labelled(title, clean_line(self._question, 60)) if self._question else title

    def body(self) -> ComposeResult:
        with Horizontal(classes="panes"):
            for number, (pane, activity) in enumerate(zip(self._panes, self._activities, strict=True), start=1):
                with Vertical(classes="pane"):
                    yield pane
                    yield activity
                    words = _("Continue with this one ({key})").format(key=number)
                    yield button(words, f"pick-{number}", main=True)

    def keys_of(self, focused: Widget | None) -> list[tuple[str, str]]:
        if not isinstance(focused, VariantPane):
            return super().keys_of(focused)
        keys = [("↑↓", _("scroll")), ("Enter", _("choose"))]
        return [*keys, ("←→", _("other variants"))] if len(self._variants) > 2 else keys

    def escape_words(self) -> str:
        return _("stop") if self._is_writing else _("close")

    def on_mount(self) -> None:
        """Show the two variants."""
        for pane in self._panes:
            add_bindings(pane, BindingsMap(_PANE_KEYS))
            pane.show_names(self._names)
        for at in range(len(self._panes)):
            self._show(at)
        self.set_focus(self._panes[0])

    # What happens while an answer is written

    def update_variant(self, message: Message) -> None:
        """Show another state of a variant; one that is new takes the place of the last, which stands for it."""
        ids = [variant.id for variant in self._variants]
        index = ids.index(message.id) if message.id in ids else len(ids) - 1
        self._variants[index] = message
        for at, shown in enumerate(self._shown):
            if self._panes[at].is_attached and (shown == index or not self._is_writing):  # while it closes, no pane is
                self._show(at)

    def append(self, message_id: str, fragment: Part, *, index: int, offset: int) -> None:
        """Let a variant grow as it streams."""
        for pane, shown in zip(self._panes, self._shown, strict=True):
            if pane.is_attached and self._variants[shown].id == message_id:
                pane.append(message_id, fragment, index=index, offset=offset)

    def show_activity(self, words: str) -> None:
        """Show below the answer that is written what is going on; nothing without words."""
        writing = next((at for at, shown in enumerate(self._shown) if self._is_written(shown)), None)
        for at, activity in enumerate(self._activities):
            activity.display = bool(words) and at == writing
            activity.update(clean_line(words, 200))

    @property
    def newest(self) -> Message:
        """The last of the variants; it has no id where it is still to come."""
        return self._variants[-1]

    @property
    def _is_writing(self) -> bool:
        return any(map(self._is_written, range(len(self._variants))))

    def _is_written(self, index: int) -> bool:
        return self._variants[index].status is Status.STREAMING

    def _show(self, at: int) -> None:
        """Show a variant in its pane; other ones can be chosen once all are complete."""
        message, pane = self._variants[self._shown[at]], self._panes[at]
        has_others = len(self._variants) > len(self._panes) and not self._is_writing
        variant = VariantPlace(self._shown[at] + 1, len(self._variants)) if has_others else VariantPlace()
        if pane.position(message.id) is None:
            is_complete = message.status is not Status.STREAMING
            pane.load([message], {message.id: variant}, show=message.id if is_complete else None)
        else:
            pane.replace(message, variant)
        if isinstance(pane.parent, Widget):
            pane.parent.border_title = escape(f"{at + 1} · {self._names.author(message)}".removesuffix(" · "))
        self.show_keys()

    # What the user does

    def action_close(self) -> None:
        """Stop the answer that is written, else leave without picking one."""
        if self._is_writing:
            self._stop()
        else:
            self.answer(None)

    def action_pick(self, at: int, action: str = "") -> None:
        """Continue with what a pane shows; one that is still to come can't be picked."""
        if picked := self._variants[self._shown[at]].id:
            self.answer(Picked(picked, action))

    def action_pick_focused(self) -> None:
        """Continue with what the focused pane shows."""
        self.action_pick(self._place(self.focused))

    @on(Button.Pressed)
    def _pick(self, event: Button.Pressed) -> None:
        self.action_pick(int(str(event.button.id).removeprefix("pick-")) - 1)

    @on(Transcript.VariantChosen)
    def _choose_variant(self, event: Transcript.VariantChosen) -> None:
        at = self._place(event.transcript)
        self._shown[at] += event.step
        self._show(at)

    @on(Transcript.ActionChosen)
    def _pick_and_act(self, event: Transcript.ActionChosen) -> None:
        self.action_pick(self._place(event.transcript), event.action)

    @on(Transcript.Selected)
    def _unselect(self, event: Transcript.Selected) -> None:
        event.transcript.select(None)

    @on(Transcript.LinkActivated)
    def _copy_link(self, event: Transcript.LinkActivated) -> None:
        self._copy(event.target)

    @on(Transcript.CodeActivated)
    def _copy_code(self, event: Transcript.CodeActivated) -> None:
        self._copy(event.transcript.code_blocks(event.message.id)[event.index].text)

    def _place(self, pane: Widget | None) -> int:
        return next(at for at, each in enumerate(self._panes) if each is pane)
