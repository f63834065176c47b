"""What happens while answers come, in the open session and in the others: text, speed, who waits, how it ended.

Events come from the runtime in their order. Text goes straight to the transcript; all else changes the open session's
view.
"""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.timer import Timer

from qwenchat.chat.ids import unix_ms
from qwenchat.chat.message import Citation, Message, Status, ToolResult
from qwenchat.chat.quality import QualityFault, fault_of
from qwenchat.i18n import _, ngettext, sentences
from qwenchat.runtime.events import (
    ChatEvent,
    ModelLoaded,
    ModelLoading,
    ModelWaiting,
    QueueChanged,
    TurnFailed,
    TurnReported,
    WaitingChanged,
)
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.drafts import DraftController
from qwenchat.tui.controllers.token_counts import TokenCountController
from qwenchat.tui.session_view import ViewChange
from qwenchat.tui.waiting_words import reading_words

if TYPE_CHECKING:
    from qwenchat.chat.events import TurnEvent, WaitingToRetry

_SPEED_EVERY_S = 0.5


class StreamingController:
    """Shows the runtime's events."""

    def __init__(self, context: ChatContext, counts: TokenCountController, drafts: DraftController) -> None:
        self._context, self._counts, self._drafts = context, counts, drafts
        self._open, self._transcript = context.open, context.transcript
        self._tokens, self._since, self._shown_at = 0, 0.0, 0.0
        """Tokens of the answer, and the times at which the first came and the speed was shown last."""
        self._pieces = 0
        """Pieces of the answer, each about a token; for engines that do not report tokens."""
        self._host = ""
        """Where the answer comes from; empty for this computer."""
        self._ticking: Timer | None = None
        self._open.listen(self._follow)

    async def stop(self) -> None:
        """Stop the answer in the open session; its text stays."""
        await self._context.chats.stop(self._open.id)

    async def report(self, event: ChatEvent) -> None:
        """Show an event of the runtime, if it is of concern here."""
        match event:
            case TurnReported(session, turn):
                await self._report_turn(session, turn)
            case ModelLoading(reference, fraction):
                host = self._context.names.host(reference) if reference.startswith("@") else ""
                words = _("connecting to {host}") if host else _("loading {model}")
                words = words.format(model=self._context.names(reference), host=host)
                self._show_activity(words, None if host else fraction)
            case ModelWaiting(reference, waiting):
                self._wait_to_retry(waiting, self._context.names.host(reference))
            case ModelLoaded(reference, info):
                if not reference.startswith("@"):
                    self._context.names.note_peers(reference, info.host)
                self._show_activity()
                self._show_capabilities()
                for warning in info.warnings:
                    self._context.notify(warning, warning=True)
                self._counts.count_soon()
            case WaitingChanged():
                self._open.show_waiting(event)
            case QueueChanged():
                self._open.show_queue(event)
                if not event.running:
                    self._show_activity()
            case TurnFailed():
                await self._report_failure(event)

    async def _report_turn(self, session_id: str, event: "TurnEvent") -> None:
        from qwenchat.chat import events  # noqa: PLC0415 - the screen is drawn without it

        if session_id != self._open.id:
            if isinstance(event, events.TurnEnded):
                self._context.notify(_("An answer in another chat is ready."))
                self._context.sidebar.reload()
            return
        match event:
            case events.TurnStarted(question, answer):
                await self._begin(question, answer)
            case events.Trimmed(first_seen=first_seen):
                self._open.show_first_seen(first_seen)
            case events.WaitingToRetry():
                self._wait_to_retry(event, self._host)
            case events.Reading():
                self._stop_ticking()
                self._open.show_reading(event, reading_words(event))
            case events.Prefilling(done, total) if done >= total:
                self._show_activity()  # what is generated now may be a call, which shows nothing before it is whole
            case events.Prefilling(done, total, speed, left):
                words = _("reading {done:,} of {total:,} tokens · {left:.0f} s left · {speed:.0f}/s")
                words = words if speed else _("reading {done:,} of {total:,} tokens")
                self._show_activity(words.format(done=done, total=total, speed=speed, left=left), done / total)
            case events.PartGrew(index, offset, fragment):
                if streaming := self._open.view.streaming:
                    self._transcript.append(streaming, fragment, index=index, offset=offset)
                if not isinstance(fragment, ToolResult | Citation):
                    self._show_speed(len(fragment.token_ids))
            case events.TurnEnded(answer):
                await self._end(answer)

    async def _begin(self, question: Message, answer: Message) -> None:
        self._tokens, self._pieces, self._since = 0, 0, 0.0
        self._open.show_warning()
        self._wait_for_server(answer)
        await self._open.begin_answer(question, answer)
        self._transcript.follow()
        self._open.relabel(await self._context.chats.sessions.labels(question.session))

    async def _end(self, answer: Message) -> None:
        if self._open.view.reading and answer.status is Status.STOPPED:
            self._context.notify(_("Reading is paused. What was read is remembered: continue (c) goes on from there."))
        self._open.replace_message(answer)
        self._show_activity()
        if fault := fault_of(answer.text):
            what = (
                _("This answer repeats itself.")
                if fault is QualityFault.LOOP
                else _("This answer looks like gibberish.")
            )
            hint = _("Answer again (Ctrl+R), raise the repeat penalty, or choose a larger model or quantisation.")
            self._open.show_warning("⚠ " + sentences(what, hint))
        self._open.relabel(await self._context.chats.sessions.labels(answer.session))

    async def _report_failure(self, failed: TurnFailed) -> None:
        self._show_activity()
        self._open.add_failure(failed)
        if failed.session == self._open.id:
            await self._open.reload()
        else:
            self._context.notify_error(failed.error)
        if failed.question:
            await self._give_back(failed.question)

    async def _give_back(self, question: Message) -> None:
        """Put a question that could not be asked where it was written: into the prompt, following what it followed."""
        branch = self._open.view.branch if question.session == self._open.id else ()
        if branch and not question.parent:  # nothing but an edit of the first question stands beside it
            await self._drafts.edit_again(branch[0], question.text, question.attachments)
            return
        await self._drafts.give_back(question.session, question.text, question.attachments)
        if branch and question.parent:
            self._open.fork_at(question.parent)
        await self._drafts.save()

    # What is going on

    def _show_activity(self, words: str = "", progress: float | None = None) -> None:
        """Show what is going on in place of what was."""
        self._stop_ticking()
        self._open.show_activity(words, progress)

    def _stop_ticking(self) -> None:
        if self._ticking:
            self._ticking.stop()
        self._ticking = None

    def _tick(self, words: Callable[[int], str], *, waited_s: float = 0) -> None:
        """Show words that change with the seconds, until something else is shown."""
        started = time.monotonic() - waited_s

        def show() -> None:
            self._show_activity(words(round(time.monotonic() - started)))
            self._ticking = self._context.after(1, show)

        show()

    def _wait_for_server(self, answer: Message, waited_s: float = 0) -> None:
        """Show for how long a server has been waited for; not all report what they do before the first token."""
        self._host = self._context.names.host(answer.model)
        if self._host:
            self._tick(lambda seconds: _waiting_words(self._host, seconds), waited_s=waited_s)

    def _wait_to_retry(self, waiting: "WaitingToRetry", host: str) -> None:
        """Show why a server is asked again, and when; then that it is waited for."""
        words = _("trying again in {seconds} s ({attempt} of {attempts}) · {reason}")
        if not waiting.attempts:
            words = _("trying again in {seconds} s · {reason}")
        wait_s = math.ceil(waiting.wait_s)

        def said(seconds: int) -> str:
            if seconds >= wait_s:
                return _waiting_words(host, seconds - wait_s)
            numbers = {"seconds": wait_s - seconds, "attempt": waiting.attempt, "attempts": waiting.attempts}
            return words.format(**numbers, reason=waiting.reason)

        self._tick(said)

    def _show_capabilities(self) -> None:
        known = self._context.chats.model.capabilities(self._open.session)
        if known != self._open.view.capabilities:
            self._open.show_capabilities(known)

    def _follow(self, change: ViewChange) -> None:
        view = change.after
        if change.switched:
            self._stop_ticking()  # that was about the other session
            answer = next((each for each in view.branch if each.id == view.streaming and not each.parts), None)
            if answer:
                self._wait_for_server(answer, (unix_ms() - answer.created) / 1000)
        if change.switched or change.before.session.model != view.session.model:
            self._show_capabilities()

    def _show_speed(self, tokens: int) -> None:
        now = time.monotonic()
        if not self._since:
            self._since, self._tokens, self._pieces = now, 0, 0
        self._tokens += tokens
        self._pieces += 1
        if now - self._shown_at < _SPEED_EVERY_S:
            return
        self._shown_at = now
        count = self._tokens or (self._pieces if self._host else 0)
        words = ngettext("{count:,} token", "{count:,} tokens", count).format(count=count)
        if now > self._since and count:
            words += " · " + _("{speed:.1f} tokens/s").format(speed=count / (now - self._since))
        words = words if self._tokens == count else "≈ " + words
        self._show_activity(words)


def _waiting_words(host: str, seconds: int) -> str:
    return _("waiting for {host} · {seconds} s").format(host=host, seconds=seconds)
