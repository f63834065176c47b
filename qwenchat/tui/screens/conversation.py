"""What every part of the chat screen stands on: the open session, its transcript, what is running, and notices.

Actions on messages and on sessions are in `message_actions` and `session_actions`; the layout is in `chat`.
"""

import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from textual import on
from textual.content import Content
from textual.message import Message as Event
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from qwenchat.chat.conversation import Message, Role, Session, Status
from qwenchat.chat.events import Delta, Ended, LeftOut, Loading, Prefilling, Saved, TurnEvent
from qwenchat.chat.quality import Fault, fault_of
from qwenchat.errors import QwenchatError
from qwenchat.i18n import _, ngettext
from qwenchat.program import Program
from qwenchat.text import clean_line
from qwenchat.tui.chats import (
    ChatEvent,
    Chats,
    EngineFactory,
    Failed,
    Happened,
    Loaded,
    LoadingModel,
    Offer,
    Opened,
    Queue,
)
from qwenchat.tui.transcript.view import Transcript
from qwenchat.tui.widgets.gauge import Gauge
from qwenchat.tui.widgets.notice import Notice
from qwenchat.tui.widgets.prompt import Prompt
from qwenchat.tui.widgets.sidebar import Sidebar

if TYPE_CHECKING:
    from qwenchat.tui.downloads import Downloads

_SPEED_EVERY_S = 0.25
Result = TypeVar("Result")


def void(_value: object) -> None:
    """Forget a value."""


@dataclass(frozen=True, slots=True)
class Undo:
    """How a deletion is taken back."""

    words: str
    """What comes back, said when it did."""
    back: Callable[[], Awaitable[object]]


class Conversation(Screen[None]):
    """The open session and what happens in all of them."""

    @dataclass
    class Heard(Event):
        """What the running side tells."""

        event: ChatEvent

    def __init__(self, program: Program, new_engine: EngineFactory | None = None) -> None:
        super().__init__()
        self.program = program
        self.chats = Chats(program, lambda event: self.post_message(self.Heard(event)), new_engine)
        self.session: Session = self.chats.new()
        self.undone: list[Undo] = []
        self.queue = Queue("", ())
        self._offers: tuple[Offer, ...] = ()
        self._warning = ""
        """What is odd about the last answer."""
        self.branched = False
        """Whether the next question gets siblings."""
        self._tokens, self._since, self._shown_at = 0, 0.0, 0.0
        self._streaming, self._length = "", 0
        """The id of the answer that streams here, and how many characters of it are shown."""

    # Parts

    @cached_property
    def downloads(self) -> "Downloads":
        """What is being downloaded in the background."""
        from qwenchat.tui.downloads import Downloads  # noqa: PLC0415 - the chat opens without it

        return Downloads(self.program)

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
        """Do something that waits; an error becomes a notice."""

        async def guarded() -> None:
            try:
                await doing
            except QwenchatError as error:
                self.tell_error(error)

        self.run_worker(guarded(), group=group, exclusive=alone)

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

    async def show(self, opened: Opened, *, at: str | None = None) -> None:
        """Show a session as it was read."""
        other = opened.session.id != self.session.id
        self.session = opened.session
        streaming = next((one for one in opened.branch if one.status is Status.STREAMING), None)
        self._streaming, self._length = (streaming.id, len(streaming.text)) if streaming else ("", 0)
        self.transcript.load(opened.branch, opened.variants, show=at)
        self.prompt.area.earlier = [message.text for message in opened.branch if message.role is Role.USER]
        if other:
            self._offers, self._warning = (), ""
            self.gauge.activity, self.gauge.fraction, self.gauge.fill = "", None, None
            await self.show_queue()
        if at:
            self.transcript.select(at)
        self.show_header()
        self.recount()

    async def reread(self) -> None:
        """Show the session as it is now."""
        await self.show(await self.chats.open(self.session.id))

    def show_header(self) -> None:
        """Show title, model and whether the chat is private."""
        title = clean_line(self.session.title, 100) or _("New chat")
        model = clean_line(self.session.model or self.program.settings.model.default, 60) or _("no model")
        parts = [Content.styled(title, "bold"), Content.styled(f"  ✦ {model}", "$text-primary")]
        if self.chats.is_private(self.session.id):
            parts.insert(0, Content.styled(_("PRIVATE") + " ", "bold $text-warning"))
        self.query_one("#header", Static).update(Content.assemble(*parts))
        self.app.title = "qwenchat" if self.chats.is_private(self.session.id) else title
        self.set_class(not len(self.transcript.column), "empty")

    def recount(self) -> None:
        """Count tokens anew, soon."""

    # What the running side tells

    async def on_conversation_heard(self, heard: Heard) -> None:
        """Show what happened, if it happened here."""
        match heard.event:
            case Happened(session, event, at) if session == self.session.id:
                await self._show_turn(event, at)
            case Happened(session, Ended()):
                self.tell(_("An answer in another chat is ready."))
                self.sidebar.reload()
            case LoadingModel(reference, fraction):
                self._show_activity(_("loading {model}").format(model=reference), fraction)
            case Loaded(reference, info):
                self._show_activity("")
                for warning in info.warnings:
                    self.tell(warning, warning=True)
                self.recount()
            case Queue() as queue:
                self.queue = queue
                self.sidebar.mark(self.session.id, (queue.running, *queue.waiting))
                await self.show_queue()
                if not queue.running:
                    self._show_activity("")
            case Failed(session, error, offers):
                await self._show_failure(session, error, offers)

    async def show_queue(self) -> None:
        """Say who waits, unless an error waits for its answer."""
        if self._offers:
            return
        if self.session.id in self.queue.waiting and self.queue.running != self.session.id:
            ahead = self.queue.waiting.index(self.session.id) + 1
            words = ngettext(
                "Waits for {count} answer in another chat.", "Waits for {count} answers in other chats.", ahead
            ).format(count=ahead)
            await self.notice.say(words)
        else:
            await self.notice.say(self._warning, warning=True)

    async def _show_turn(self, event: TurnEvent, at: int) -> None:
        view = self.transcript
        match event:
            case Saved(question, answer):
                self._tokens, self._since = 0, 0.0
                self._offers, self._warning = (), ""
                await self.show_queue()
                await self._show_begun(question, answer)
            case Loading():
                pass
            case LeftOut(first_kept=first):
                view.show_boundary(first)
            case Prefilling(done, total, speed, left):
                words = _("reading {done:,} of {total:,} tokens · {speed:.0f}/s · {left:.0f} s left").format(
                    done=done, total=total, speed=speed, left=left
                )
                self._show_activity(words, done / total if total else 1.0)
            case Delta(text, token_ids):
                self._append(text, at)
                self._show_speed(len(token_ids))
            case Ended(answer):
                await self._show_ended(answer)

    async def _show_begun(self, question: Message, answer: Message) -> None:
        shown = self.transcript.messages
        if shown and shown[-1].id == question.id:  # the usual case, whatever the length of the chat
            self.transcript.add(answer)
            self._streaming, self._length = answer.id, len(answer.text)
        else:
            await self.reread()
        self.transcript.follow()
        self.session = await self.chats.labels(self.session.id)
        self.show_header()
        self.sidebar.reload()

    def _append(self, text: str, at: int) -> None:
        """Add what is not shown yet to the answer that streams, if it is in the branch being read."""
        if self._streaming and at + len(text) > self._length:
            new = text[max(self._length - at, 0) :]
            self.transcript.append(self._streaming, new)
            self._length = at + len(text)

    def _show_speed(self, tokens: int) -> None:
        now = time.monotonic()
        if not self._since:
            self._since, self._tokens = now, 0
        self._tokens += tokens
        if now - self._shown_at >= _SPEED_EVERY_S:
            self._shown_at = now
            speed = self._tokens / (now - self._since) if now > self._since else 0.0
            words = ngettext("{count:,} token", "{count:,} tokens", self._tokens).format(count=self._tokens)
            self._show_activity(words + (" · " + _("{speed:.1f} tokens/s").format(speed=speed) if speed else ""))

    async def _show_ended(self, answer: Message) -> None:
        if any(shown.id == answer.id for shown in self.transcript.messages):
            self.transcript.replace(answer)
        self._streaming = ""
        self._show_activity("")
        fault = fault_of(answer.text)
        if fault:
            what = _("This answer repeats itself.") if fault is Fault.LOOP else _("This answer looks like noise.")
            todo = _("Answer again (Ctrl+R), raise the repeat penalty, or choose a larger model or quantisation.")
            self._warning = f"⚠ {what} {todo}"
            await self.show_queue()
        self.session = await self.chats.labels(self.session.id)
        self.show_header()
        self.sidebar.reload()
        self.recount()

    async def _show_failure(self, session: str, error: QwenchatError, offers: tuple[Offer, ...]) -> None:
        self._show_activity("")
        if session != self.session.id:
            self.tell_error(error)
            return
        self._offers = offers
        names = {
            Offer.AGAIN: _("Start again"),
            Offer.SMALLER_CONTEXT: _("Smaller context"),
            Offer.WITHOUT_GPU: _("Without the GPU"),
            Offer.OTHER_MODEL: _("Other model"),
        }
        await self.notice.say(f"✗ {error.message} {error.hint}", [names[offer] for offer in offers], warning=True)
        await self.reread()

    def _show_activity(self, words: str, fraction: float | None = None) -> None:
        self.gauge.activity, self.gauge.fraction = words, fraction

    @on(Notice.Chosen)
    async def take_offer(self, event: Notice.Chosen) -> None:
        """Do what a person chose about an error."""
        offer, self._offers = self._offers[event.number], ()
        await self.show_queue()
        self.prompt.area.focus()
        if offer is Offer.OTHER_MODEL:
            await self.run_action("screen.models")
        else:
            self.attempt(self.chats.retry(self.session.id, offer))
