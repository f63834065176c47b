"""The running side of the screen: sessions, the loaded model, and who is answering or waits. No Textual here.

One answer streams at a time; other questions are kept at once and wait for their turn. What happens is told to one
listener, on the loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from qwenchat.chat.events import Ended, Saved, TurnEvent
from qwenchat.chat.ids import unix_ms
from qwenchat.chat.message import Attachment, Message, Role
from qwenchat.chat.title import suggest
from qwenchat.chat.turn import TurnEvents, Turns
from qwenchat.errors import Interrupted, QwenchatError
from qwenchat.runtime.events import Failed, Happened, Listener, Offer, Queue
from qwenchat.runtime.model_manager import EngineFactory, LoadedModel
from qwenchat.runtime.program import Program
from qwenchat.runtime.session_access import Sessions


@dataclass(frozen=True, slots=True)
class _Asked:
    session: str
    begin: Callable[[Turns], TurnEvents]
    anew: bool = False
    """Whether the model is loaded anew for it."""
    question: Message | None = None
    """The question, as it was asked, where this is its first answer."""


class Chats:
    """All that runs behind the screen. Methods raise QwenchatError; call `close` at the end."""

    def __init__(self, program: Program, listener: Listener, new_engine: EngineFactory | None = None) -> None:
        self.sessions = Sessions(program)
        self.model = LoadedModel(new_engine or program.engine, listener)
        self.running = ""
        """The id of the session that is being answered, empty for none."""
        self._program, self._listener = program, listener
        self._queue: deque[_Asked] = deque()
        self._held: dict[str, list[_Asked]] = {}
        """By session, what waited behind an answer that failed: the person decides about that one first."""
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._beginning: Message | None = None
        """The question whose turn has come and whose first answer has not begun."""
        self._asking = asyncio.Lock()
        self._placing = asyncio.Lock()
        """Held while a message finds its place in the tree."""

    async def send(self, session_id: str, text: str, attachments: Sequence[Attachment] = ()) -> Message:
        """Keep a question at the end of the branch and have it answered when its turn comes; return it."""
        async with self._placing:
            await self.sessions.keep(session_id)
            session = await self.sessions.labels(session_id)
            return await self._ask(session_id, session.leaf, text, tuple(attachments))

    async def edit(self, question: Message, text: str) -> Message:
        """Ask a question again in other words, as a variant beside it."""
        async with self._placing:
            return await self._ask(question.session, question.parent, text, question.attachments)

    def regenerate(self, question: Message, *, anew: bool = False) -> None:
        """Answer a question once more, with the model loaded `anew`."""
        self._first(_Asked(question.session, lambda turns: turns.regenerate(question), anew), question.id)

    def waits(self, question: Message) -> bool:
        """Whether a question waits for its first answer."""
        waiting = [self._beginning, *(asked.question for asked in self._queue)]
        return any(one is not None and one.id == question.id for one in waiting)

    def resume(self, answer: Message, *, anew: bool = False) -> None:
        """Carry an ended answer on, with the model loaded `anew`."""
        self._first(_Asked(answer.session, lambda turns: turns.resume(answer), anew))

    async def stop(self, session_id: str) -> None:
        """Stop the answer of a session, and forget what waits there; questions stay."""
        self._withdrawn(session_id)
        self._held.pop(session_id, None)
        if self.running == session_id:
            self._stopping, self._beginning = True, None
            if self.model.engine:
                await self.model.engine.cancel()
        self._tell_queue()

    async def retry(self, session_id: str, offer: Offer) -> None:
        """Go on with what failed when its turn comes: with the model loaded anew, as offered, or with the other one."""
        anew = offer is not Offer.OTHER_MODEL
        opened = await self.sessions.open(session_id)
        if offer is Offer.SMALLER_CONTEXT:
            await self.sessions.change(session_id, context=self.model.smaller_context(opened.session))
        elif offer in (Offer.FEWER_LAYERS, Offer.WITHOUT_GPU):
            self.model.take_layers(offer, opened.session)
        waiting = {asked.question.id for asked in self._held.get(session_id, ()) if asked.question}
        branch = [message for message in opened.branch if message.id not in waiting]
        if not branch:
            return
        last = branch[-1]
        if last.role is Role.USER:
            self.regenerate(last, anew=anew)
        elif last.text:
            self.resume(last, anew=anew)
        else:
            self.regenerate(branch[-2], anew=anew)

    async def title(self, session_id: str) -> str:
        """Return a title by the session's model, when it has nothing else to do; empty where nothing was asked."""
        opened = await self.sessions.open(session_id)
        async with self._asking:
            return await suggest(await self.model.load(opened.session), opened.branch)

    async def close(self) -> None:
        """Stop what runs, keep it, and end the engine."""
        self._queue.clear()
        if self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.model.close()

    async def _ask(
        self, session_id: str, parent: str | None, text: str, attachments: tuple[Attachment, ...]
    ) -> Message:
        question = await self.sessions.add_question(session_id, parent, text, attachments)
        asked = _Asked(session_id, lambda turns: turns.regenerate(question), question=question)
        self._enqueue(*self._held.pop(session_id, ()), asked)
        return question

    def _first(self, asked: _Asked, question_id: str = "") -> None:
        """Ask before what was held back, in which the same question may be."""
        held = self._held.pop(asked.session, ())
        self._enqueue(asked, *(one for one in held if one.question is None or one.question.id != question_id))

    def _withdrawn(self, session_id: str) -> list[_Asked]:
        """Take what a session has waiting out of the queue."""
        taken = [asked for asked in self._queue if asked.session == session_id]
        self._queue = deque(asked for asked in self._queue if asked.session != session_id)
        return taken

    def _enqueue(self, *asked: _Asked) -> None:
        self._queue.extend(asked)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        else:
            self._tell_queue()

    async def _work(self) -> None:
        while self._queue:
            asked = self._queue.popleft()
            self.running, self._stopping, self._beginning = asked.session, False, asked.question
            self._tell_queue()
            try:
                async with self._asking:
                    await self._run(asked)
            except Interrupted:
                pass
            except QwenchatError as error:
                if offers := self.model.offers(error):
                    self._held[asked.session] = self._withdrawn(asked.session)
                self._listener(Failed(asked.session, error, offers))
            finally:
                self.running, self._beginning = "", None
        self._tell_queue()

    async def _run(self, asked: _Asked) -> None:
        if asked.anew:
            await self.model.unload()
        engine = await self.model.load(await self.sessions.labels(asked.session))
        if self._is_stopping():
            return
        store = self.sessions.store(asked.session)
        async with aclosing(asked.begin(Turns(store, engine, self.sessions.new_id, unix_ms))) as events:
            try:
                async for event in events:
                    await self._report(asked.session, event)
                    if self._is_stopping():
                        await engine.cancel()
            finally:
                self.sessions.end()

    async def _report(self, session: str, event: TurnEvent) -> None:
        at = self.sessions.follow(event)
        if isinstance(event, Saved):
            self._beginning = None
            await self._let_follow(event)
        if isinstance(event, Ended) and not self.sessions.is_private(session):
            await asyncio.to_thread(self._program.machine.note_speed, event.answer)
        self._listener(Happened(session, event, at))

    async def _let_follow(self, begun: Saved) -> None:
        """Put the questions that wait below the one that is being answered below its answer."""
        async with self._placing:
            moved: dict[str | None, Message] = {}
            for question in (asked.question for asked in self._queue):
                if question and question.parent == begun.question.id:
                    moved[question.id] = replace(question, parent=begun.answer.id)
                elif question and question.parent in moved:
                    moved[question.id] = question
            if moved:
                await asyncio.to_thread(self.sessions.store(begun.answer.session).move, *moved.values())

    def _is_stopping(self) -> bool:
        return self._stopping

    def _tell_queue(self) -> None:
        self._listener(Queue(self.running, tuple(asked.session for asked in self._queue)))
