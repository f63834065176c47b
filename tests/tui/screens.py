"""A program that shows a transcript and nothing else, and waiting for states."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rich.cells import cell_len
from textual import events
from textual._context import visible_screen_stack
from textual.app import App, ComposeResult
from textual.errors import NoWidget
from textual.geometry import Region
from textual.message import Message as Event
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget

from qwenchat.chat.message import Attachment, Message, Role, Status, text_parts
from qwenchat.i18n import use_language
from qwenchat.tui.actions import Where, actions, bindings
from qwenchat.tui.textual_private.widgets import add_bindings
from qwenchat.tui.themes import load_all
from qwenchat.tui.transcript.drawing import Look
from qwenchat.tui.transcript.transcript import Transcript

Said = TypeVar("Said", bound=Event)


class TranscriptApp(App[None]):
    """Shows messages and keeps what the transcript says."""

    def __init__(self, branch: list[Message] | None = None, theme: str = "ink", language: str = "en") -> None:
        super().__init__()
        use_language(language)
        self.said: list[Event] = []
        self._branch = branch or []
        self._wanted = theme
        self._began = time.monotonic()

    def compose(self) -> ComposeResult:
        yield Transcript(Look(call_since=lambda: self._began))

    def on_mount(self) -> None:
        for theme in load_all(Path("/nowhere")).by_name.values():
            self.register_theme(theme)
        self.theme = self._wanted
        add_bindings(self.transcript, bindings(actions(), Where.MESSAGE))
        self.transcript.load(self._branch)
        self.transcript.focus()

    @property
    def transcript(self) -> Transcript:
        return self.query_one(Transcript)

    @property
    def rows(self) -> list[str]:
        """The visible lines as text."""
        view = self.transcript
        return [view.render_line(y).text.rstrip() for y in range(view.size.height)]

    def heard(self, kind: type[Said]) -> list[Said]:
        return [said for said in self.said if isinstance(said, kind)]

    def on_transcript_selected(self, event: Transcript.Selected) -> None:
        self.said.append(event)

    def on_transcript_action_chosen(self, event: Transcript.ActionChosen) -> None:
        self.said.append(event)

    def on_transcript_variant_chosen(self, event: Transcript.VariantChosen) -> None:
        self.said.append(event)

    def on_transcript_link_activated(self, event: Transcript.LinkActivated) -> None:
        self.said.append(event)

    def on_transcript_code_activated(self, event: Transcript.CodeActivated) -> None:
        self.said.append(event)

    def on_transcript_found(self, event: Transcript.Found) -> None:
        self.said.append(event)


def question(number: int, text: str = "", attachments: tuple[Attachment, ...] = ()) -> Message:
    text = text or f"Question {number}"
    return Message(
        id=f"m{number}",
        session="s",
        parent=None,
        role=Role.USER,
        parts=text_parts(text),
        created=1_760_000_000_000 + number,
        attachments=attachments,
    )


def answer(number: int, text: str = "", status: Status = Status.COMPLETE) -> Message:
    text = text if text or status is Status.STREAMING else f"Answer {number}.\n\n- with a list\n- of two"
    return Message(
        id=f"m{number}",
        session="s",
        parent=None,
        role=Role.ASSISTANT,
        parts=text_parts(text),
        created=number,
        status=status,
        model="7b",
    )


def talk(count: int) -> list[Message]:
    return [answer(number) if number % 2 else question(number) for number in range(count)]


async def until(state: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a state; fail when it does not come."""
    end = time.monotonic() + seconds
    while not state():
        assert time.monotonic() < end, "the state did not come"
        await asyncio.sleep(0.01)


def is_open(program: App[Any], kind: type[Screen[Any]]) -> bool:
    """Whether a dialog is on top, with all that is in it."""
    return isinstance(program.screen, kind) and program.screen.is_mounted


async def click(
    program: App[Any], target: str | type[Widget] | Widget, offset: tuple[int, int] | None = None, button: int = 1
) -> None:
    """Click a widget once it is seen, in its middle or at an offset, where it is at that moment.

    A pilot looks where it is, waits, and clicks there: on something else, if a layout came in between.
    """
    widget = target if isinstance(target, Widget) else program.screen.query_one(target)

    def place() -> tuple[int, int]:
        region = widget.region
        x, y = offset or (region.width // 2, region.height // 2)
        return region.x + x, region.y + y

    def is_seen() -> bool:
        try:
            at_place, _region = program.get_widget_at(*place())
            return widget in at_place.ancestors_with_self and not widget.has_class("-active")  # as after a click
        except NoWidget:
            return False

    await until(is_seen)
    for event in (events.MouseDown, events.MouseUp):
        await program.on_event(event(None, *place(), 0, 0, button, False, False, False))
    await Pilot(program).pause()


async def click_words(program: App[Any], view: Transcript, words: str) -> None:
    """Click on words of a transcript."""
    rows = [view.render_line(y).text for y in range(view.size.height)]
    y = next(y for y, row in enumerate(rows) if words in row)
    await click(program, view, offset=(cell_len(rows[y].partition(words)[0]), y))


def words_on(program: App[Any], part: Region | None = None) -> str:
    """All that stands on the screen or in a part of it, as a frame would draw it."""
    part = part or program.screen.region
    visible_screen_stack.set(program._background_screens)  # where a dialog finds what is behind it
    strips = program.screen._compositor.render_strips()[part.y : part.bottom]
    return "\n".join(strip.crop(part.x, part.right).text.rstrip() for strip in strips)


def words_in_dialog(program: App[Any]) -> str:
    """All that stands in the frame of the dialog that is open; empty as long as none is."""
    frames = program.screen.query(".frame")
    return words_on(program, frames.first().region) if frames else ""
