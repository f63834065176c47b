"""One turn: save the question, stream the answer, save it as it comes, finish. The one way in for all.

The question is on disk before the engine hears of it, and a background task saves the answer four times a second,
however slowly whoever reads the events takes them. Whatever ends the turn, the answer so far is kept, with the
status that says how it ended.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from qwenchat.chat.events import TurnEvent
from qwenchat.chat.memory import no_such_message
from qwenchat.chat.message import Attachment, Message, Role, Status, text_parts
from qwenchat.chat.run import Means, Run
from qwenchat.chat.sampling import UNSET, Sampling
from qwenchat.chat.session import Session
from qwenchat.text.safe import whole

TurnEvents = AsyncGenerator[TurnEvent, None]
"""Close it (`aclose`) to end the turn early; the answer so far is kept as stopped."""


@dataclass(frozen=True, slots=True)
class Turns(Means):
    """Runs turns in the sessions of one store with one engine.

    `sampling` is for the one turn; what it leaves open comes from the session, then from the model. Every method
    raises NotFound for an unknown session or message, StoreError when another program is writing into it or the disk
    fails, PromptTooLong, CannotLoad and EngineDied; by then all that came is kept.
    """

    def send(
        self,
        session_id: str,
        text: str,
        attachments: Sequence[Attachment] = (),
        sampling: Sampling = UNSET,
    ) -> TurnEvents:
        """Ask a question at the end of the session's branch."""

        async def begin(session: Session) -> Run:
            return await self._ask(session, session.leaf, text, tuple(attachments), sampling)

        return self._turn(session_id, begin)

    def edit(self, question: Message, text: str, sampling: Sampling = UNSET) -> TurnEvents:
        """Ask a question again in other words, as a variant beside it."""

        async def begin(session: Session) -> Run:
            return await self._ask(session, question.parent, text, question.attachments, sampling)

        return self._turn(question.session, begin)

    def regenerate(self, question: Message, sampling: Sampling = UNSET) -> TurnEvents:
        """Answer a question once more, as a variant beside the answers that it has."""

        async def begin(session: Session) -> Run:
            return await self._reply(session, question, sampling)

        return self._turn(question.session, begin)

    def resume(self, answer: Message, sampling: Sampling = UNSET) -> TurnEvents:
        """Carry an ended answer on where it stopped; as a variant beside it where another model's words are there."""

        async def begin(session: Session) -> Run:
            branch = await self._branch(answer)
            return Run(self, session, branch, branch[-1], sampling, resume=True)

        return self._turn(answer.session, begin)

    async def _turn(self, session_id: str, begin: Callable[[Session], Awaitable[Run]]) -> TurnEvents:
        with self.store.streaming(session_id):
            run = await begin(await asyncio.to_thread(self.store.session, session_id))
            task = asyncio.create_task(run.pump())
            try:
                await asyncio.sleep(0)  # it has begun: a task that is cancelled before keeps nothing
                while (event := await run.events.get()) is not None:
                    yield event
                await task
            finally:
                await _end(task)

    async def _ask(
        self,
        session: Session,
        parent: str | None,
        text: str,
        attachments: tuple[Attachment, ...],
        sampling: Sampling,
    ) -> Run:
        question = Message(
            id=self.new_id(),
            session=session.id,
            parent=parent,
            role=Role.USER,
            parts=text_parts(whole(text)),
            created=self.clock(),
            attachments=attachments,
        )
        await asyncio.to_thread(self.store.add, question)
        return await self._reply(session, question, sampling)

    async def _reply(self, session: Session, question: Message, sampling: Sampling) -> Run:
        ids = self.new_id(), session.id, question.id
        answer = Message(*ids, Role.ASSISTANT, "", self.clock(), Status.STREAMING, model=session.model)
        branch = await self._branch(question)
        await asyncio.to_thread(self.store.add, answer)
        return Run(self, session, branch, answer, sampling)

    async def _branch(self, last: Message) -> list[Message]:
        """Return the branch that ends with a message. Raises NotFound when another program has deleted it."""
        branch = await asyncio.to_thread(self.store.branch, last.id)
        if not branch:
            raise no_such_message(last.id)
        return branch


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has kept what it has, however often the one who waits is cancelled meanwhile."""
    cancelled_again: asyncio.CancelledError | None = None
    left_early = not task.done()
    task.cancel()
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as again:
            cancelled_again = again
    failure = None if task.cancelled() else task.exception()
    if cancelled_again:
        raise cancelled_again
    if failure and left_early:
        raise failure
