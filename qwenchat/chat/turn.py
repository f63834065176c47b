"""One turn: store the question, have it answered, store the answer. The one way in for everyone.

The question is on disk before the engine is asked. Only a question that is refused because it does not fit the context
window leaves nothing: whoever asked it still has it. Who waits for whom, and which model answers, is decided elsewhere.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from msgspec import Struct, field

from qwenchat.chat.answering import Answering, AnswerSetup
from qwenchat.chat.calling import ToolUse
from qwenchat.chat.context import MessageCounts
from qwenchat.chat.events import TurnEvent
from qwenchat.chat.ids import Clock, NewId
from qwenchat.chat.memory import no_such_message
from qwenchat.chat.message import Attachment, Message, Role, Status
from qwenchat.chat.ports import Engine, Mode, ModelInfo, SessionStore
from qwenchat.chat.sampling import UNSET, Sampling
from qwenchat.chat.session import Session, WaitingQuestion
from qwenchat.chat.sources import Sources
from qwenchat.text.safe import encodable


class Turns(Struct, frozen=True, kw_only=True):
    """Begins turns in the sessions of one store with one engine.

    `sampling` is for the one turn; what it leaves open comes from the session, the `settings`, then the model. The
    events of every turn raise NotFound for an unknown session or message, StoreError when another program is writing
    into it or the disk fails, PromptTooLong, CannotLoad and EngineDied; by then all that was generated is stored.
    PromptTooLong leaves the session as it was before the turn.
    """

    store: SessionStore
    engine: Engine
    new_id: NewId
    clock: Clock
    counts: MessageCounts = field(default_factory=MessageCounts)
    """What was counted before with the same engine and model."""
    mode: Mode = Mode.ANSWER
    """COMPLETE continues a text instead of answering it."""
    model: str = ""
    """The reference of the engine's model where that is not the session's."""
    tools: ToolUse | None = None
    """What the model may call, where the engine can."""
    sources: Sources | None = None
    """The documents that questions are about."""
    settings: Sampling = UNSET
    """The user's own, for all sessions."""

    def ask(
        self,
        session_id: str,
        text: str,
        attachments: Sequence[Attachment] = (),
        sampling: Sampling = UNSET,
    ) -> "RunningTurn":
        """Ask a question at the end of the session's branch."""

        async def begin(session: Session) -> Answering:
            asked = WaitingQuestion(
                id=self.new_id(),
                session=session.id,
                follows=session.leaf,
                text=encodable(text),
                created=self.clock(),
                attachments=tuple(attachments),
            )
            return await self._ask(session, asked.below(session.leaf), sampling)

        return RunningTurn(self.store, session_id, begin)

    def ask_waiting(self, waiting: WaitingQuestion, sampling: Sampling = UNSET) -> "RunningTurn":
        """Ask a question of the outbox, which enters the tree now."""

        async def begin(session: Session) -> Answering:
            parent = session.leaf
            if waiting.follows != session.leaf:
                tree = await asyncio.to_thread(self.store.tree, session.id)
                parent = tree.place_for(waiting.follows, session.leaf)
            return await self._ask(session, waiting.below(parent), sampling)

        return RunningTurn(self.store, waiting.session, begin)

    def regenerate(self, question: Message, sampling: Sampling = UNSET) -> "RunningTurn":
        """Answer a question once more, as a variant beside the answers that it has."""

        async def begin(session: Session) -> Answering:
            return await self._answer(session, question, sampling, added=())

        return RunningTurn(self.store, question.session, begin)

    def continue_answer(self, answer: Message, sampling: Sampling = UNSET) -> "RunningTurn":
        """Continue an answer that ended early; as a variant beside it where another model wrote it."""

        async def begin(session: Session) -> Answering:
            branch = await self._branch(answer)
            return Answering(self._setup, session, branch, branch[-1], sampling=sampling, mode=Mode.CONTINUE)

        return RunningTurn(self.store, answer.session, begin)

    @property
    def _setup(self) -> AnswerSetup:
        return AnswerSetup(
            store=self.store,
            engine=self.engine,
            new_id=self.new_id,
            clock=self.clock,
            counts=self.counts,
            model=self.model,
            tools=self.tools,
            sources=self.sources,
            settings=self.settings,
        )

    async def _ask(self, session: Session, question: Message, sampling: Sampling) -> "Answering":
        await self.engine.check(sampling.over(session.sampling))
        await asyncio.to_thread(self.store.add, question)
        return await self._answer(session, question, sampling, added=(question,))

    async def _answer(
        self, session: Session, question: Message, sampling: Sampling, *, added: tuple[Message, ...]
    ) -> "Answering":
        await self.engine.check(sampling.over(session.sampling))
        answer = Message(
            id=self.new_id(),
            session=session.id,
            parent=question.id,
            role=Role.ASSISTANT,
            parts=(),
            created=self.clock(),
            status=Status.STREAMING,
            model=self.model or session.model,
        )
        branch = await self._branch(question)
        await asyncio.to_thread(self.store.add, answer)
        return Answering(
            self._setup, session, branch, answer, sampling=sampling, mode=self.mode, added=(*added, answer)
        )

    async def _branch(self, last: Message) -> list[Message]:
        """Return the branch that ends with a message. Raises NotFound when another program has deleted it."""
        branch = await asyncio.to_thread(self.store.branch, last.id)
        if not branch:
            raise no_such_message(last.id)
        return branch


class RunningTurn:
    """A turn under way: an asynchronous iterator of its events. It begins with the first one that is asked for."""

    def __init__(
        self, store: SessionStore, session_id: str, begin: Callable[[Session], Awaitable["Answering"]]
    ) -> None:
        self._store, self._session_id, self._begin = store, session_id, begin
        self._is_cancelled = False
        self._answering: Answering | None = None
        self._events = self._run()

    def __aiter__(self) -> AsyncGenerator[TurnEvent, None]:
        return self._events

    async def __anext__(self) -> TurnEvent:
        return await anext(self._events)

    @property
    def model(self) -> ModelInfo | None:
        """The model that answers; None before it is loaded."""
        return self._answering.info if self._answering else None

    @property
    def answer(self) -> Message | None:
        """The answer with all that has been generated so far; None before it has begun, and once it was taken back."""
        return self._answering.streaming.snapshot() if self._answering and not self._answering.is_taken_back else None

    async def cancel(self) -> None:
        """Stop: what was generated is stored and the events go on to TurnEnded.

        Where nothing is generated yet, they raise Interrupted after it.
        """
        self._is_cancelled = True
        if self._answering:
            await self._answering.cancel()

    async def aclose(self) -> None:
        """Stop and read nothing more; what was generated is stored as stopped."""
        await self._events.aclose()

    async def _run(self) -> AsyncGenerator[TurnEvent, None]:
        with self._store.streaming(self._session_id):
            session = await asyncio.to_thread(self._store.session, self._session_id)
            self._answering = answering = await self._begin(session)
            if self._is_cancelled:
                await answering.cancel()
            task = asyncio.create_task(answering.run())
            try:
                await asyncio.sleep(0)  # a task that is cancelled before it has begun would store nothing
                while (event := await answering.events.get()) is not None:
                    yield event
                await task
            finally:
                await _end(task)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has stored what it has, however often the caller is cancelled meanwhile."""
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
