"""What happens in the open session and in the others, as the running side tells it: text, speed, errors, who waits."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on

from qwenchat.chat.events import Delta, Ended, LeftOut, Loading, Prefilling, Saved, TurnEvent
from qwenchat.chat.message import Message, Role, Status
from qwenchat.chat.quality import Fault, fault_of
from qwenchat.i18n import _, ngettext
from qwenchat.runtime.events import ChatEvent, Failed, Happened, Loaded, LoadingModel, Offer, Opened, Queue
from qwenchat.runtime.program import Program
from qwenchat.tui.screens.conversation import Conversation
from qwenchat.tui.screens.drafting import Drafting
from qwenchat.tui.widgets.notice import Notice

if TYPE_CHECKING:
    from qwenchat.runtime.model_manager import EngineFactory

_SPEED_EVERY_S = 0.25


class Answering(Drafting):
    """Shows a session, and what is answered in it."""

    def __init__(self, program: Program, new_engine: "EngineFactory | None" = None, model: str = "") -> None:
        super().__init__(program, new_engine, model)
        self._failures: dict[str, Failed] = {}
        """By session, what failed there and was not tried again since."""
        self._told: Failed | None = None
        """Which of them the notice tells."""
        self._warning = ""
        """What is odd about the last answer."""
        self._tokens, self._since, self._shown_at = 0, 0.0, 0.0
        self._streaming, self._length = "", 0
        """The id of the answer that streams here, and how many characters of it are shown."""

    async def show(self, opened: Opened, *, at: str | None = None) -> None:
        """Show a session as it was read; where it was not the open one, draft and files are exchanged too."""
        before, other = self.session.id, opened.session.id != self.session.id
        if self.editing and (other or all(message.id != self.editing.id for message in opened.branch)):
            self.set_edit_aside()
        if other:
            self.keep_last_words()
        self.session = opened.session if other else replace(opened.session, draft=self.session.draft)
        if other:
            self.attached[before] = self.prompt.attachments
            self.prompt.fill(self.session.draft, self.attached.pop(self.session.id, []))
        streaming = next((one for one in opened.branch if one.status is Status.STREAMING), None)
        self._streaming, self._length = (streaming.id, len(streaming.text)) if streaming else ("", 0)
        self.transcript.load(opened.branch, opened.variants, show=at)
        self.prompt.area.earlier = [message.text for message in opened.branch if message.role is Role.USER]
        if other:
            self._warning = ""
            self.gauge.activity, self.gauge.fraction, self.gauge.fill = "", None, None
        if at:
            self.transcript.select(at)
        self.show_header()
        self.recount()
        if other:
            await self.show_queue()

    async def reread(self) -> None:
        """Show the session as it is now."""
        await self.reshow(await self.chats.sessions.open(self.session.id))

    async def reshow(self, opened: Opened, *, at: str | None = None) -> bool:
        """Show a session as it was read, if it is still the open one."""
        still = opened.session.id == self.session.id
        if still:
            await self.show(opened, at=at)
        return still

    async def on_conversation_heard(self, heard: Conversation.Heard) -> None:
        """Show what happened, if it happened here."""
        await self.guard(self._show_event(heard.event))

    async def _show_event(self, told: ChatEvent) -> None:
        match told:
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
                for session in (queue.running, *queue.waiting):
                    self._failures.pop(session, None)
                self.sidebar.mark(self.session.id, (queue.running, *queue.waiting))
                await self.show_queue()
                if not queue.running:
                    self._show_activity("")
            case Failed() as failed:
                await self._show_failure(failed)

    async def show_queue(self) -> None:
        """Say what failed here, else who waits, else what is odd about the answer."""
        told, self._told = self._told, self._failures.get(self.session.id)
        if self._told:
            if self._told is not told:
                await self._tell_failure(self._told)
        elif self.session.id in self.queue.waiting and self.queue.running != self.session.id:
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
                self._warning = ""
                await self.show_queue()
                await self._show_begun(question, answer)
            case Loading():
                pass
            case LeftOut(first_kept=first):
                view.show_boundary(first)
            case Prefilling(done, total, speed, left):
                words = _("reading {done:,} of {total:,} tokens · {left:.0f} s left · {speed:.0f}/s").format(
                    done=done, total=total, speed=speed, left=left
                )
                self._show_activity(words, done / total if total else 1.0)
            case Delta(text, token_ids):
                self._append(text, at)
                self._show_speed(len(token_ids))
            case Ended(answer):
                await self._show_ended(answer)

    async def _show_begun(self, question: Message, answer: Message) -> None:
        if question.session != self.session.id:
            return
        shown = self.transcript.messages
        if shown and shown[-1].id == question.id != answer.id:  # the usual case, whatever the length of the chat
            self.transcript.add(answer)
            self._streaming, self._length = answer.id, len(answer.text)
        else:
            await self.reread()
        self.transcript.follow()
        self.take(await self.chats.sessions.labels(question.session))
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
        self.take(await self.chats.sessions.labels(answer.session))
        self.sidebar.reload()
        self.recount()

    async def _show_failure(self, failed: Failed) -> None:
        self._show_activity("")
        self._failures[failed.session] = failed
        if failed.session != self.session.id:
            self.tell_error(failed.error)
            return
        await self.show_queue()
        await self.reread()

    async def go_on_with_other_model(self, session_id: str) -> None:
        """Ask again what failed for want of another model than it had."""
        failed = self._failures.get(session_id)
        if failed and Offer.OTHER_MODEL in failed.offers:
            await self.chats.retry(session_id, Offer.OTHER_MODEL)

    async def _tell_failure(self, failed: Failed) -> None:
        names = {
            Offer.AGAIN: _("Start again"),
            Offer.SMALLER_CONTEXT: _("Smaller context"),
            Offer.FEWER_LAYERS: _("Fewer layers on the GPU"),
            Offer.WITHOUT_GPU: _("Without the GPU"),
            Offer.OTHER_MODEL: _("Other model"),
        }
        words = f"✗ {failed.error.message} {failed.error.hint}"
        await self.notice.say(words, [names[offer] for offer in failed.offers], warning=True)

    def _show_activity(self, words: str, fraction: float | None = None) -> None:
        self.gauge.activity, self.gauge.fraction = words, fraction

    @on(Notice.Chosen)
    async def take_offer(self, event: Notice.Chosen) -> None:
        """Do what a person chose about an error."""
        failed = self._failures.get(self.session.id)
        if not failed or event.number >= len(failed.offers):  # it was taken already, or another chat was opened
            return
        session, offer = failed.session, failed.offers[event.number]
        self.prompt.area.focus()
        if offer is Offer.OTHER_MODEL:
            await self.run_action("screen.models")
        else:
            del self._failures[session]
            await self.show_queue()
            self.attempt(self.chats.retry(session, offer))
