"""What happens while answers come, in the open session and in the others: text, speed, who waits, how it ended.

Events come from the runtime in their order. Text goes straight to the transcript; all else changes the open session's
view.
"""

import time

from qwenchat.chat.events import PartGrew, Prefilling, Trimmed, TurnEnded, TurnEvent, TurnStarted
from qwenchat.chat.message import Message, ToolResult
from qwenchat.chat.quality import Fault, fault_of
from qwenchat.i18n import _, ngettext, sentences
from qwenchat.runtime.events import (
    ChatEvent,
    ModelLoaded,
    ModelLoading,
    QueueChanged,
    TurnFailed,
    TurnReported,
    WaitingChanged,
)
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.drafts import DraftController
from qwenchat.tui.controllers.token_counts import TokenCountController

_SPEED_EVERY_S = 0.25


class StreamingController:
    """Shows the runtime's events."""

    def __init__(self, context: ChatContext, counts: TokenCountController, drafts: DraftController) -> None:
        self._context, self._counts, self._drafts = context, counts, drafts
        self._open, self._transcript = context.open, context.transcript
        self._tokens, self._since, self._shown_at = 0, 0.0, 0.0
        """Tokens of the answer, and the times at which the first came and the speed was shown last."""

    async def stop(self) -> None:
        """Stop the answer in the open session; its text stays."""
        await self._context.chats.stop(self._open.id)

    async def report(self, event: ChatEvent) -> None:
        """Show an event of the runtime, if it is of concern here."""
        match event:
            case TurnReported(session, turn) if session == self._open.id:
                await self._report_turn(turn)
            case TurnReported(event=TurnEnded()):
                self._context.notify(_("An answer in another chat is ready."))
                self._context.sidebar.reload()
            case ModelLoading(reference, fraction):
                host = self._context.names.host(reference)
                words = _("connecting to {host}") if reference.startswith("@") else _("loading {model}")
                self._open.show_activity(words.format(model=self._context.names(reference), host=host), fraction)
            case ModelLoaded(reference, info):
                self._open.show_activity()
                if not reference.startswith("@"):
                    self._context.names.note_peers(reference, info.host)
                for warning in info.warnings:
                    self._context.notify(warning, warning=True)
                self._counts.count_soon()
            case WaitingChanged():
                self._open.show_waiting(event)
            case QueueChanged():
                self._open.show_queue(event)
                if not event.running:
                    self._open.show_activity()
            case TurnFailed():
                await self._report_failure(event)

    async def _report_turn(self, event: TurnEvent) -> None:
        match event:
            case TurnStarted(question, answer):
                await self._begin(question, answer)
            case Trimmed(first_seen=first_seen):
                self._open.show_first_seen(first_seen)
            case Prefilling(done, total, speed, left):
                words = _("reading {done:,} of {total:,} tokens · {left:.0f} s left · {speed:.0f}/s").format(
                    done=done, total=total, speed=speed, left=left
                )
                self._open.show_activity(words, done / total if total else 1.0)
            case PartGrew(index, offset, fragment):
                if streaming := self._open.view.streaming:
                    self._transcript.append(streaming, fragment, index=index, offset=offset)
                if not isinstance(fragment, ToolResult):
                    self._show_speed(len(fragment.token_ids))
            case TurnEnded(answer):
                await self._end(answer)

    async def _begin(self, question: Message, answer: Message) -> None:
        self._tokens, self._since = 0, 0.0
        self._open.show_warning()
        await self._open.begin_answer(question, answer)
        self._transcript.follow()
        self._open.relabel(await self._context.chats.sessions.labels(question.session))

    async def _end(self, answer: Message) -> None:
        self._open.replace_message(answer)
        self._open.show_activity()
        if fault := fault_of(answer.text):
            what = _("This answer repeats itself.") if fault is Fault.LOOP else _("This answer looks like gibberish.")
            hint = _("Answer again (Ctrl+R), raise the repeat penalty, or choose a larger model or quantisation.")
            self._open.show_warning("⚠ " + sentences(what, hint))
        self._open.relabel(await self._context.chats.sessions.labels(answer.session))

    async def _report_failure(self, failed: TurnFailed) -> None:
        self._open.show_activity()
        self._open.add_failure(failed)
        if failed.session == self._open.id:
            await self._open.reload()
        else:
            self._context.notify_error(failed.error)
        if failed.question:
            await self._drafts.give_back(failed.session, failed.question.text, failed.question.attachments)
            if failed.question.parent and failed.session == self._open.id:
                self._open.fork_at(failed.question.parent)
            await self._drafts.save()

    def _show_speed(self, tokens: int) -> None:
        now = time.monotonic()
        if not self._since:
            self._since, self._tokens = now, 0
        self._tokens += tokens
        if now - self._shown_at < _SPEED_EVERY_S:
            return
        self._shown_at = now
        words = ngettext("{count:,} token", "{count:,} tokens", self._tokens).format(count=self._tokens)
        if now > self._since and self._tokens:
            words += " · " + _("{speed:.1f} tokens/s").format(speed=self._tokens / (now - self._since))
        self._open.show_activity(words)
