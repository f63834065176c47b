"""Counts tokens while a question is written, and loads the model meanwhile. Nothing here blocks or changes a chat."""

import asyncio
from contextlib import suppress
from itertools import takewhile

from textual.timer import Timer

from qwenchat.errors import Interrupted
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.drafts import DraftController
from qwenchat.tui.session_view import SessionView, ViewChange
from qwenchat.tui.slash_commands import SlashCommand, parse
from qwenchat.tui.widgets.gauge import ContextUsage

_COUNT_AFTER_S = 0.25


class TokenCountController:
    """Keeps the gauge and the tokens of attached files up to date."""

    def __init__(self, context: ChatContext, drafts: DraftController) -> None:
        self._context, self._drafts = context, drafts
        self._prompt, self._open = context.prompt, context.open
        self._timer: Timer | None = None
        self._loaded_early = ""
        """The model that was loaded because a question was begun."""
        self._open.listen(self._follow)

    def count_soon(self) -> None:
        """Count a moment after the last key or the last change."""
        if self._timer:
            self._timer.stop()
        self._timer = self._context.after(
            _COUNT_AFTER_S, lambda: self._context.run(self._count(), "count", exclusive=True)
        )

    def load_early(self) -> None:
        """Load the model while the first question is being written, or has a file."""
        view, text, model = self._open.view, self._prompt.text, self._context.chats.model
        begun = bool(text.strip()) and not text.startswith("/") and self._drafts.changed
        begun = begun or bool(self._prompt.attached)
        if not begun or not view.session.model or view.session.model == self._loaded_early:
            return
        if not view.queue.running and not model.is_for(view.session):
            self._loaded_early = view.session.model
            self._context.run(model.load(view.session), "load early")

    def _follow(self, change: ViewChange) -> None:
        if change.branch_changed or _counted(change.before) != _counted(change.after):
            self.count_soon()

    async def _count(self) -> None:
        with suppress(Interrupted):  # counting shares the engine with answers, which a user may stop
            await self._show_counts()

    async def _show_counts(self) -> None:
        branch = self._context.transcript.messages
        if left_behind := len(self._open.view.left_behind):
            branch = branch[:-left_behind]
        text = "" if isinstance(parse(self._prompt.text), SlashCommand) else self._prompt.text
        await self._show_forecasts(text)
        attachments = tuple(self._prompt.attachments)
        editing = self._drafts.editing
        if editing:
            at = [message.id for message in branch].index(editing.id)
            branch = branch[:at]
        model, session_id = self._context.chats.model, self._open.id
        plan = await model.plan(self._open.session, branch, text, attachments)
        seen_of = plan
        if streaming := self._open.view.streaming:  # what is answered now, not what may be asked next
            before = takewhile(lambda message: message.id != streaming, branch)
            seen_of = await model.plan(self._open.session, list(before), "")
        elif plan and plan.too_long:  # as written now it will not be asked
            seen_of = await model.plan(self._open.session, branch, "")
        if session_id != self._open.id:
            return
        self._open.show_usage(ContextUsage.of(plan) if plan else None)
        if not editing:  # the guide never sees earlier messages: that is no news
            trims = seen_of is not None and model.info is not None and model.info.reads_history
            self._open.show_first_seen(seen_of.first_seen if seen_of and trims else None)

    async def _show_forecasts(self, text: str) -> None:
        """Show what reading each attachment takes with the question as it is written: nothing before a model is ready.

        It decides whether those go whole about which the user did not.
        """
        chats, session = self._context.chats, self._open.session
        attached = [each for each in self._prompt.attached if each.is_read]
        if not attached:
            return
        file = chats.model.info.file if chats.model.info else ""
        for each in attached:
            if file not in each.counts and (count := await chats.model.count_documents(session, each.documents)):
                each.counts[file] = count
        counted = [(each.counts[file], each.wish) for each in attached if file in each.counts]
        speed = await asyncio.to_thread(chats.documents.speed, file)
        found = await chats.model.forecast(session, text, counted, speed)
        known = found if found and len(found) == len(attached) else [None] * len(attached)
        for each, forecast in zip(attached, known, strict=True):
            each.forecast = forecast
        self._prompt.chips.level = session.level
        self._prompt.show_chips()


def _counted(view: SessionView) -> tuple[object, ...]:
    """Return what the counts depend on beside messages and prompt."""
    session = view.session
    return view.fork, session.model, session.system, session.context, session.sampling, session.tools, session.level
