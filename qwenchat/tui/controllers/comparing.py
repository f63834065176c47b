"""Comparing: the question of an answer goes to a second model too, or two variants that are there are shown together.

The second answer is a variant like any other: the chat service asks for it, it is saved as it comes, and the chat's own
model answers what is asked next.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from qwenchat.chat.message import Message, Role, Status
from qwenchat.i18n import _
from qwenchat.runtime.events import ChatEvent, TurnReported
from qwenchat.runtime.model_choice import lasting_reference
from qwenchat.tui.actions import Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.dialogs import open as dialogs
from qwenchat.tui.session_view import ViewChange

if TYPE_CHECKING:
    from qwenchat.tui.dialogs.compare import CompareScreen, Picked


class CompareController:
    """Opens the comparison and reports to it.

    `copy` copies text, `run_action` carries out an action by its id, and `may_send` asks the user, if need be, whether
    a chat may be sent to a model.
    """

    def __init__(
        self,
        context: ChatContext,
        *,
        copy: Callable[[str], object],
        run_action: Callable[[str], object],
        may_send: Callable[[str, str], Awaitable[bool]],
    ) -> None:
        self._context, self._copy, self._run_action, self._may_send = context, copy, run_action, may_send
        self._open, self._transcript = context.open, context.transcript
        self._screen: CompareScreen | None = None
        """While it is open."""
        self._asks = False
        """Whether it is open for an answer that is still to come, or was when it was opened."""
        self._streaming = ""
        """The id of the answer that is written, or was written last."""
        self._open.listen(self._follow)

    @property
    def methods(self) -> Methods:
        """What carries out the action that compares."""
        return {"compare": self.compare}

    def compare(self) -> None:
        """Compare the variants of the selected message, else of the last answer; where it has none, ask for a model."""
        selected, variants = self._transcript.selected, self._open.view.variants
        message = selected if selected and selected.id in variants else self._answer()
        if message is None:
            self._context.notify(_("There is no answer to compare with yet."))
        elif message.id in variants:
            self._context.run(self._show_variants(message), "compare")
        else:
            current = self._open.session.model
            dialog = self._context.models(current)
            self._context.ask(dialog, lambda reference: self.compare_with(reference) if reference else None)

    def compare_with(self, model: str) -> None:
        """Ask a second model the question of the selected answer, else of the last one, and show both answers."""
        if answer := self._answer():
            self._context.run(self._ask(answer, model), "compare")
        else:
            self._context.notify(_("There is no answer to compare with yet."))

    def report(self, event: ChatEvent) -> None:
        """Show what an answer grew by, and how it ended."""
        if not self._screen or not isinstance(event, TurnReported) or event.session != self._open.id:
            return
        from qwenchat.chat.events import PartGrew, TurnEnded, TurnStarted  # noqa: PLC0415 - the screen is drawn without it

        match event.event:
            case TurnStarted(answer=answer):
                self._streaming = answer.id
                self._screen.update_variant(replace(answer, status=Status.STREAMING))
            case PartGrew(index, offset, fragment):
                self._screen.append(self._streaming, fragment, index=index, offset=offset)
            case TurnEnded(answer):
                self._screen.update_variant(answer)

    def _follow(self, change: ViewChange) -> None:
        """Show what is going on; close the comparison where the answer that it waits for will not come."""
        if not (screen := self._screen):
            return
        view = change.after
        screen.show_activity(view.activity)
        ended = change.before.answering and not view.answering
        if ended and self._asks and all(message.id != screen.newest.id for message in view.branch):
            screen.answer(None)

    async def _ask(self, answer: Message, model: str) -> None:
        model = await asyncio.to_thread(lasting_reference, self._context.program, model)
        question = next(message for message in self._transcript.messages if message.id == answer.parent)
        if self._context.chats.is_waiting(question):
            self._context.notify(_("This question is already waiting for its answer."))
            return
        if not await self._may_send(answer.session, model):
            return
        variants = await self._context.chats.sessions.variants(answer)
        at = [variant.id for variant in variants].index(answer.id)
        to_come = replace(
            answer, id="", parts=(), status=Status.STREAMING, model=model, model_file="", usage=None, timings=None
        )
        self._asks = True
        await self._show([*variants, to_come], (at, len(variants)), answer)
        self._context.chats.regenerate(question, model=model)

    async def _show_variants(self, message: Message) -> None:
        variants = await self._context.chats.sessions.variants(message)
        at = [variant.id for variant in variants].index(message.id)
        self._asks = False
        await self._show(variants, (at - 1, at) if at else (0, 1), message)

    async def _show(self, variants: Sequence[Message], shown: tuple[int, int], current: Message) -> None:
        """Open the comparison; `current` is the variant that the chat shows."""
        chats, session_id = self._context.chats, self._open.id
        asked = [message.text for message in self._transcript.messages if message.id == current.parent]
        screen = dialogs.compare(
            asked[0] if asked and current.role is Role.ASSISTANT else "",
            variants,
            shown,
            stop=lambda: self._context.run(chats.stop(session_id)),
            copy=self._copy,
            names=self._context.names,
            call_since=lambda: chats.call_since,
        )

        def closed(picked: "Picked | None") -> None:
            self._screen = None
            self._context.run(self._go_on(current, picked), "compare")

        await self._transcript.app.push_screen(screen, closed)
        self._screen, self._streaming = screen, self._open.view.streaming

    async def _go_on(self, before: Message, picked: "Picked | None") -> None:
        """Continue from what was picked; from where the chat was before, if nothing was."""
        message_id = picked.message if picked else before.id
        view = self._open.view
        if view.answering and view.streaming != message_id:
            await self._context.chats.stop(self._open.id)
        if picked is None and any(message.id == message_id for message in view.branch):
            return
        self._open.refresh(await self._context.chats.sessions.show(self._open.id, message_id), at=message_id)
        chosen, model = self._transcript.selected, self._open.session.model
        if picked and chosen and chosen.model not in ("", model):
            words = _("The chat continues from this answer with its own model, {model}. /model chooses another one.")
            self._context.notify(words.format(model=self._context.names.full(model)))
        if picked and picked.action:
            self._run_action(picked.action)

    def _answer(self) -> Message | None:
        """Return the selected answer, that to the selected question, or the last one."""
        selected = self._transcript.selected
        answers = [message for message in self._transcript.messages if message.role is Role.ASSISTANT]
        if selected:
            return next((each for each in answers if selected.id in (each.id, each.parent)), None)
        return answers[-1] if answers else None
