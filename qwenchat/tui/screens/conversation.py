"""What every part of the chat screen stands on: the open session, the parts of the screen, errors, notices that pass.

What the running side tells is in `answering`, actions in `message_actions` and `session_actions`, writing in `writing`;
the layout is in `chat`.
"""

import traceback
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from textual.content import Content
from textual.message import Message as Event
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from qwenchat.chat.message import Attachment, Message
from qwenchat.chat.session import Session
from qwenchat.errors import QwenchatError
from qwenchat.i18n import _
from qwenchat.runtime.events import ChatEvent, Queue
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line
from qwenchat.tui.transcript.view import Transcript
from qwenchat.tui.widgets.gauge import Gauge
from qwenchat.tui.widgets.notice import Notice
from qwenchat.tui.widgets.prompt import Prompt
from qwenchat.tui.widgets.sidebar import Sidebar
from qwenchat.tui.widgets.working import Working

if TYPE_CHECKING:
    from qwenchat.runtime.chat_service import Chats
    from qwenchat.runtime.downloads import BackgroundDownloads, Download
    from qwenchat.runtime.model_manager import EngineFactory

Result = TypeVar("Result")


def void(_value: object) -> None:
    """Forget a value."""


@dataclass(frozen=True, slots=True)
class Undo:
    """How a deletion is taken back."""

    words: str
    """What comes back, said when it did."""
    back: Callable[[], Awaitable[object]]


class Conversation(Screen[None], Working):
    """The open session and what happens in all of them."""

    @dataclass
    class Heard(Event):
        """What the running side tells."""

        event: ChatEvent

    @dataclass
    class Fetched(Event):
        """A download stands otherwise than before."""

        download: "Download"

    def __init__(self, program: Program, new_engine: "EngineFactory | None" = None, model: str = "") -> None:
        super().__init__()
        self.program = program
        self._new_engine, self._model = new_engine, model
        self.undone: list[Undo] = []
        self.queue = Queue("", ())
        self.attached: dict[str, list[Attachment]] = {}
        """Files that wait in the prompts of other sessions."""
        self.branched = False
        """Whether the next question gets siblings."""
        self.editing: Message | None = None
        """The question that is being edited in the prompt."""
        self.arriving = ""
        """What is being downloaded, in a few words."""

    # Parts

    @cached_property
    def chats(self) -> "Chats":
        """What runs behind the screen; made after the first frame, by who asks first."""
        from qwenchat.runtime.chat_service import Chats  # noqa: PLC0415

        return Chats(self.program, lambda event: self.post_message(self.Heard(event)), self._new_engine)

    @cached_property
    def session(self) -> Session:
        """The session that is open; at first a new one."""
        return self.chats.sessions.new(self._model)

    @cached_property
    def downloads(self) -> "BackgroundDownloads":
        """What is being downloaded in the background; its threads tell the loop."""
        from qwenchat.runtime.downloads import BackgroundDownloads  # noqa: PLC0415 - the chat opens without it

        downloads = BackgroundDownloads(self.program)
        downloads.listen(lambda download: self.post_message(self.Fetched(download)))
        return downloads

    @property
    def transcript(self) -> Transcript:
        """The messages."""
        return self.query_one(Transcript)

    @property
    def prompt(self) -> Prompt:
        """Where the question is written."""
        return self.query_one(Prompt)

    @property
    def gauge(self) -> Gauge:
        """The line at the bottom."""
        return self.query_one(Gauge)

    @property
    def sidebar(self) -> Sidebar:
        """The list of chats."""
        return self.query_one(Sidebar)

    @property
    def notice(self) -> Notice:
        """The line above the prompt."""
        return self.query_one(Notice)

    @property
    def answering(self) -> bool:
        """Whether the open session is being answered or waits for it."""
        return self.session.id in (self.queue.running, *self.queue.waiting)

    # Doing things

    def attempt(self, doing: Coroutine[object, object, object], group: str = "doing", *, alone: bool = False) -> None:
        """Do something that waits, guarded."""
        self.run_worker(self.guard(doing), group=group, exclusive=alone)

    async def guard(self, doing: Awaitable[object]) -> None:
        """Wait for something; an error becomes a notice, and so does a bug: the screen stays with its words."""
        try:
            await doing
        except QwenchatError as error:
            self.tell_error(error)
        except Exception as bug:
            self.tell_bug(bug)

    def ask(self, screen: ModalScreen[Result], take: Callable[[Result | None], object]) -> None:
        """Open a modal screen and take what it returns."""

        async def opened() -> None:
            await self.app.push_screen(screen, lambda result: void(take(result)))

        self.attempt(opened(), "ask")

    def tell(self, words: str, *, warning: bool = False) -> None:
        """Say something that passes."""
        self.notify(clean_line(words, 500), severity="warning" if warning else "information", markup=False)

    def tell_error(self, error: QwenchatError) -> None:
        """Say what is wrong and what to do."""
        self.notify(
            clean_line(error.hint, 500),
            title=clean_line(error.message, 500),
            severity="error",
            timeout=10,
            markup=False,
        )

    def tell_bug(self, bug: Exception) -> None:
        """Say that the program went wrong, and where; nothing else ends with it."""
        *_callers, place = traceback.extract_tb(bug.__traceback__)
        words = _("What you wrote is still here. Please report this, with the place: {place}.")
        self.notify(
            clean_line(words.format(place=f"{Path(place.filename).name}:{place.lineno}"), 500),
            title=clean_line(_("This is a bug in qwenchat: {what}").format(what=repr(bug)), 500),
            severity="error",
            timeout=60,
            markup=False,
        )

    def show_header(self) -> None:
        """Show title, model, what is being downloaded and whether the chat is private."""
        title = clean_line(self.session.title, 100) or _("New chat")
        model = clean_line(self.session.model, 60)
        parts = [Content.styled(title, "bold"), Content.styled(f"  ✦ {model}" if model else "", "$text-primary")]
        if self.arriving:
            parts.insert(0, Content.styled(self.arriving + "  ", "$text-primary"))
        if self.chats.sessions.is_private(self.session.id):
            parts.insert(0, Content.styled(_("PRIVATE") + " ", "bold $text-warning"))
        self.query_one("#header", Static).update(Content.assemble(*parts), layout=False)
        self.app.title = "qwenchat" if self.chats.sessions.is_private(self.session.id) else title
        self.set_class(not len(self.transcript.column), "empty")

    def take(self, session: Session) -> None:
        """Follow what changed of a session, if it is still the open one; its draft is what the prompt holds."""
        if session.id == self.session.id:
            self.session = replace(session, draft=self.session.draft)
            self.show_header()

    def recount(self) -> None:
        """Count tokens anew, soon."""
