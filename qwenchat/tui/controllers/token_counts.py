"""Counts tokens while a question is written, and loads the model meanwhile. Nothing here blocks or changes a chat."""

from contextlib import suppress
from itertools import takewhile

from textual.timer import Timer

from qwenchat.chat.context import ContextPlan
from qwenchat.errors import Interrupted
from qwenchat.tui.attached import Attached, Cost
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
        """Load the model while the first question is being written."""
        view, text, model = self._open.view, self._prompt.text, self._context.chats.model
        begun = bool(text.strip()) and not text.startswith("/") and self._drafts.changed
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
        attachments = tuple(self._prompt.attachments)
        text = "" if isinstance(parse(self._prompt.text), SlashCommand) else self._prompt.text
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
        if not editing:
            self._open.show_first_seen(seen_of.first_seen if seen_of else None)
        if plan:
            await self._show_costs(plan)

    async def _show_costs(self, plan: ContextPlan) -> None:
        """Show what each attachment takes, and whether the window has room for it beside what else is said."""
        attached = [each for each in self._prompt.attached if each.is_read]
        tokens = {each: await self._tokens(each) for each in attached}
        whole = sum(tokens[each] for each in attached if not each.in_parts)
        free = plan.room - (plan.used - whole)
        for each in attached:
            others = whole if each.in_parts else whole - tokens[each]
            each.cost = Cost(
                tokens=tokens[each],
                is_exact=plan.counts.exact,
                fits=tokens[each] <= free - others,
                is_comfortable=tokens[each] <= free // 2 - others,
            )
        self._prompt.show_chips()

    async def _tokens(self, attached: Attached) -> int:
        """Return the tokens of what is attached, which are counted once for a model."""
        model, session = self._context.chats.model, self._open.session
        counts = [await model.count_file(session, document) for document in attached.documents]
        return sum(count or 0 for count in counts)


def _counted(view: SessionView) -> tuple[object, ...]:
    """Return what the counts depend on beside messages and prompt."""
    session = view.session
    return view.fork, session.model, session.system, session.context, session.sampling, session.tools
