"""The running side of the screen: which model is loaded, who is answering, who waits. No Textual here.

One answer streams at a time; other questions are kept at once and wait for their turn. Every call to the store
runs in a thread. What happens is told to one listener, on the loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from qwenchat.chat import prompt, window
from qwenchat.chat.conversation import Attachment, Message, Role, Session, Status
from qwenchat.chat.events import Delta, Ended, Loading, Saved, TurnEvent
from qwenchat.chat.identity import UUIDv7, unix_ms
from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.ports import Engine, ModelInfo, SessionStore
from qwenchat.chat.turn import TurnEvents, Turns
from qwenchat.errors import CannotLoad, EngineDied, Interrupted, NotFound, QwenchatError
from qwenchat.i18n import _
from qwenchat.planning import Wishes
from qwenchat.program import Program
from qwenchat.text import whole

_LEAST_CONTEXT = 512


class Offer(Enum):
    """What can be done about an answer that failed."""

    AGAIN = auto()
    SMALLER_CONTEXT = auto()
    WITHOUT_GPU = auto()
    OTHER_MODEL = auto()


@dataclass(frozen=True, slots=True)
class Happened:
    """A turn of a session reports."""

    session: str
    event: TurnEvent
    at: int = 0
    """Characters of the answer before this event."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Another session is answering now, empty for none; `waiting` in their order."""

    running: str
    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """A turn of a session ended with an error; what it said so far is kept."""

    session: str
    error: QwenchatError
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model is ready."""

    reference: str
    info: ModelInfo


@dataclass(frozen=True, slots=True)
class LoadingModel:
    """A model is being read."""

    reference: str
    fraction: float


ChatEvent = Happened | Queue | Failed | Loaded | LoadingModel
Listener = Callable[[ChatEvent], object]
EngineFactory = Callable[[str, Wishes], Engine]
"""Makes an engine for a model reference; may block and raise NotFound, FileError or CannotLoad."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A session and the branch being read."""

    session: Session
    branch: list[Message]
    variants: dict[str, tuple[int, int]]
    """(number, count) of messages with siblings."""


@dataclass(frozen=True, slots=True)
class Fill:
    """How full the context window would be, in tokens."""

    used: int
    """Question and history that the model sees."""
    reserve: int
    """Kept free for the answer."""
    n_ctx: int
    first_seen: str | None
    """The oldest message that the model sees; None where it sees all."""
    too_long: bool = False
    """The question alone does not fit."""


@dataclass(frozen=True, slots=True)
class _Asked:
    session: str
    begin: Callable[[Turns], TurnEvents]


class Chats:
    """All that runs behind the screen. Methods raise QwenchatError; call `close` at the end."""

    def __init__(self, program: Program, listener: Listener, new_engine: EngineFactory | None = None) -> None:
        self.program = program
        self.info: ModelInfo | None = None
        """The loaded model."""
        self.running = ""
        """The id of the session that is being answered, empty for none."""
        self._listener = listener
        self._new_engine = new_engine or program.engine
        self._new_id = UUIDv7()
        self._private = MemoryStore()
        self._private_ids: set[str] = set()
        self._unsaved: dict[str, Session] = {}
        self._engine: Engine | None = None
        self._reference = ""
        self._wishes: dict[str, Wishes] = {}
        self._engine_lock = asyncio.Lock()
        self._queue: deque[_Asked] = deque()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._answer: Message | None = None
        self._said: list[str] = []
        self._counts: dict[tuple[str, int], int] = {}

    # Sessions

    def is_private(self, session_id: str) -> bool:
        """Whether a session is written nowhere."""
        return session_id in self._private_ids

    def is_new(self, session_id: str) -> bool:
        """Whether nothing of a session is on disk yet."""
        return session_id in self._unsaved

    def new(self, model: str = "", *, private: bool = False) -> Session:
        """Return a new session; it is kept from its first question, or its first draft, on."""
        settings, now = self.program.settings, unix_ms()
        session = Session(self._new_id(), now, now, model=model or settings.model.default, system=settings.system)
        if private:
            self._private_ids.add(session.id)
        self._unsaved[session.id] = session
        return session

    async def open(self, session_id: str) -> Opened:
        """Return a session as it is read now. Raises NotFound."""
        if session_id in self._unsaved:
            return Opened(self._unsaved[session_id], [], {})
        opened = await asyncio.to_thread(self._opened, session_id)
        return replace(opened, branch=[self.latest(message) for message in opened.branch])

    async def labels(self, session_id: str) -> Session:
        """Return a session without its messages. Raises NotFound."""
        if session_id in self._unsaved:
            return self._unsaved[session_id]
        return await asyncio.to_thread(self._store(session_id).session, session_id)

    def latest(self, message: Message) -> Message:
        """Return a message with all that was said of it, if it is the answer that streams."""
        if self._answer and message.id == self._answer.id:
            return replace(self._answer, text="".join(self._said))
        return message

    async def change(self, session_id: str, **fields: Any) -> Session:
        """Change some of a session's fields, such as `title`, `model`, `sampling`, `draft`."""
        if session_id in self._unsaved:
            self._unsaved[session_id] = replace(self._unsaved[session_id], **fields)
            if fields.get("draft") and not self.is_private(session_id):
                await self._keep(session_id)
                return await asyncio.to_thread(self._store(session_id).session, session_id)
            return self._unsaved[session_id]
        return await asyncio.to_thread(self._label, session_id, fields)

    async def show(self, message: Message) -> Opened:
        """Read the branch through a message, down to where it was written to last."""
        return await asyncio.to_thread(self._lead_to, message, below=True)

    async def branch_at(self, message: Message) -> Opened:
        """Read the branch that ends with a message, so that what is asked next follows it."""
        return await asyncio.to_thread(self._lead_to, message, below=False)

    async def variant(self, message: Message, step: int) -> Opened:
        """Read the branch through the sibling of a message that is `step` away."""
        tree = await asyncio.to_thread(self._store(message.session).tree, message.session)
        siblings = tree.variants(message.id)
        at = next(number for number, one in enumerate(siblings) if one.id == message.id)
        return await self.show(siblings[max(0, min(at + step, len(siblings) - 1))])

    async def recover(self) -> None:
        """Open the store: answers of programs that died are marked as interrupted."""
        await asyncio.to_thread(lambda: self.program.store)

    # Turns

    async def send(self, session_id: str, text: str, attachments: Sequence[Attachment] = ()) -> Message:
        """Keep a question at the end of the branch and have it answered when its turn comes; return it."""
        await self._keep(session_id)
        session = await asyncio.to_thread(self._store(session_id).session, session_id)
        return await self._ask(session_id, session.leaf, text, tuple(attachments))

    async def edit(self, question: Message, text: str) -> Message:
        """Ask a question again in other words, as a variant beside it."""
        return await self._ask(question.session, question.parent, text, question.attachments)

    def regenerate(self, question: Message) -> None:
        """Answer a question once more."""
        self._enqueue(_Asked(question.session, lambda turns: turns.regenerate(question)))

    def resume(self, answer: Message) -> None:
        """Carry an ended answer on."""
        self._enqueue(_Asked(answer.session, lambda turns: turns.resume(answer)))

    async def stop(self, session_id: str) -> None:
        """Stop the answer of a session, and forget what waits there; questions stay."""
        self._queue = deque(asked for asked in self._queue if asked.session != session_id)
        if self.running == session_id:
            self._stopping = True
            if self._engine:
                await self._engine.cancel()
        self._tell_queue()

    async def retry(self, session_id: str, offer: Offer) -> None:
        """Load the model anew, as offered, and go on with the answer that failed."""
        opened = await self.open(session_id)
        reference = self._reference_of(opened.session)
        wishes = self._wishes.get(reference, Wishes())
        if offer is Offer.SMALLER_CONTEXT:
            before = self.info.n_ctx if self.info else wishes.ctx or window.ANSWER_RESERVE * 16
            wishes = replace(wishes, ctx=max(_LEAST_CONTEXT, before // 2))
        elif offer is Offer.WITHOUT_GPU:
            wishes = replace(wishes, gpu_layers=0)
        self._wishes[reference] = wishes
        await self._unload()
        if not opened.branch:
            return
        last = opened.branch[-1]
        if last.role is Role.USER:
            self.regenerate(last)
        elif last.text:
            self.resume(last)
        else:
            self.regenerate(opened.branch[-2])

    # The model

    def loaded(self, session: Session) -> bool:
        """Whether the model of a session is the one that is ready."""
        return self.info is not None and self._reference == self._reference_of(session, strict=False)

    async def load(self, session: Session) -> ModelInfo:
        """Get the model of a session ready. Raises what the engine raises; the session stays as it is."""
        reference = self._reference_of(session)
        async with self._engine_lock:
            if self._engine is None or reference != self._reference:
                await self._unload()
                wishes = self._wishes.get(reference, Wishes())
                self._engine = await asyncio.to_thread(self._new_engine, reference, wishes)
                self._reference = reference

            def loading(event: Loading) -> None:
                self._listener(LoadingModel(reference, event.fraction))

            known, self.info = self.info, None
            self.info = await self._engine.ready(loading)
            if self.info is not known:
                self._listener(Loaded(reference, self.info))
            return self.info

    async def count(
        self, session: Session, branch: Sequence[Message], text: str, attachments: Sequence[Attachment] = ()
    ) -> Fill | None:
        """Return how full the window is with a question after a branch; None while the model is not loaded."""
        if not self.loaded(session) or not self._engine or not self.info:
            return None
        counts = await self._count(self._engine, session.system, branch)
        if text or attachments:
            question = Message("", session.id, None, Role.USER, text, 0, attachments=tuple(attachments))
            counts += await self._engine.count(prompt.turns_of("", [question])[1:])
        wished = session.sampling.over(self.info.defaults)
        reserve = window.reserve(self.info.n_ctx, wished.max_tokens)
        try:
            view = window.fit(counts, self.info.n_ctx, reserve)
        except QwenchatError:
            return Fill(counts[0] + sum(counts[-1:]), reserve, self.info.n_ctx, None, too_long=True)
        first = branch[view.start - 1].id if view.left_out and view.start <= len(branch) else None
        return Fill(view.tokens, reserve, self.info.n_ctx, first)

    async def count_file(self, attachment: Attachment) -> int | None:
        """Return the tokens that a file takes in a prompt; None while no model is loaded."""
        if not self._engine or not self.info:
            return None
        [count] = await self._engine.count([prompt.Turn("user", prompt.fenced(attachment.name, attachment.text))])
        return count

    async def close(self) -> None:
        """Stop what runs, keep it, and end the engine."""
        self._queue.clear()
        if self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        async with self._engine_lock:
            await self._unload()

    # Inside

    def _store(self, session_id: str) -> SessionStore:
        return self._private if session_id in self._private_ids else self.program.store

    def _opened(self, session_id: str) -> Opened:
        store = self._store(session_id)
        session, tree = store.session(session_id), store.tree(session_id)
        branch = tree.branch(session.leaf)
        return Opened(session, branch, _variants(branch, tree.children))

    def _lead_to(self, message: Message, *, below: bool) -> Opened:
        store = self._store(message.session)
        leaf = store.tree(message.session).leaf_below(message.id) if below else message.id
        self._label(message.session, {"leaf": leaf})
        return self._opened(message.session)

    def _label(self, session_id: str, fields: dict[str, Any]) -> Session:
        if not self.is_private(session_id):
            return self.program.store.label(session_id, **fields)
        session = replace(self._private.session(session_id), **fields)
        self._private.update(session)
        return session

    async def _keep(self, session_id: str) -> None:
        if session := self._unsaved.pop(session_id, None):
            await asyncio.to_thread(self._store(session_id).create, session)

    async def _ask(
        self, session_id: str, parent: str | None, text: str, attachments: tuple[Attachment, ...]
    ) -> Message:
        question = Message(
            self._new_id(), session_id, parent, Role.USER, whole(text), unix_ms(), attachments=attachments
        )
        await asyncio.to_thread(self._store(session_id).add, question)
        self.regenerate(question)
        return question

    def _enqueue(self, asked: _Asked) -> None:
        self._queue.append(asked)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        else:
            self._tell_queue()

    async def _work(self) -> None:
        while self._queue:
            asked = self._queue.popleft()
            self.running, self._stopping = asked.session, False
            self._tell_queue()
            try:
                await self._run(asked)
            except Interrupted:
                pass
            except QwenchatError as error:
                self._failed(asked.session, error)
            finally:
                self.running = ""
        self._tell_queue()

    async def _run(self, asked: _Asked) -> None:
        store = self._store(asked.session)
        session = await asyncio.to_thread(store.session, asked.session)
        await self.load(session)
        engine = self._engine
        if engine is None or self._is_stopping():
            return
        async with aclosing(asked.begin(Turns(store, engine, self._new_id, unix_ms))) as events:
            async for event in events:
                at = self._follow(event)
                if isinstance(event, Ended) and not self.is_private(asked.session):
                    await asyncio.to_thread(self.program.note_speed, event.answer)
                self._listener(Happened(asked.session, event, at))
                if self._is_stopping():
                    await engine.cancel()

    def _is_stopping(self) -> bool:
        return self._stopping

    def _follow(self, event: TurnEvent) -> int:
        """Keep what the answer says at hand, and return how many characters it had before."""
        if isinstance(event, Saved):
            self._answer, self._said = event.answer, [event.answer.text]
        at = sum(map(len, self._said)) if isinstance(event, Delta) else 0
        if isinstance(event, Delta):
            self._said = ["".join(self._said), event.text] if len(self._said) > 64 else [*self._said, event.text]
        elif isinstance(event, Ended):
            self._answer, self._said = None, []
        return at

    def _failed(self, session_id: str, error: QwenchatError) -> None:
        offers: tuple[Offer, ...] = ()
        if isinstance(error, EngineDied):
            offers = (Offer.AGAIN, Offer.SMALLER_CONTEXT, Offer.WITHOUT_GPU)
            self.info = None
        elif isinstance(error, CannotLoad):
            offers = (Offer.SMALLER_CONTEXT, Offer.WITHOUT_GPU, Offer.OTHER_MODEL)
        elif isinstance(error, NotFound):
            offers = (Offer.OTHER_MODEL,)
        self._listener(Failed(session_id, error, offers))

    def _tell_queue(self) -> None:
        self._listener(Queue(self.running, tuple(asked.session for asked in self._queue)))

    def _reference_of(self, session: Session, *, strict: bool = True) -> str:
        reference = session.model or self.program.settings.model.default
        if strict and not reference:
            raise NotFound(_("No model is chosen."), _("Choose one with /model."))
        return reference

    async def _unload(self) -> None:
        engine, self._engine, self._reference, self.info = self._engine, None, "", None
        self._counts.clear()
        if engine:
            await engine.close()

    async def _count(self, engine: Engine, system: str, branch: Sequence[Message]) -> list[int]:
        """Return the tokens of the system prompt and of each message, counting each only once."""
        keys = [(message.id, len(message.text)) for message in branch]
        missing = [message for message, key in zip(branch, keys, strict=True) if key not in self._counts]
        counts = await engine.count(prompt.turns_of(system, missing))
        settled = {m.id for m in missing if m.status is not Status.STREAMING}
        fresh = dict(zip(((m.id, len(m.text)) for m in missing), counts[1:], strict=True))
        found = [fresh[key] if key in fresh else self._counts[key] for key in keys]
        self._counts.update((key, count) for key, count in fresh.items() if key[0] in settled)
        return [counts[0], *found]


def _variants(branch: Iterable[Message], children: Callable[[str | None], list[Message]]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for message in branch:
        siblings = [one.id for one in children(message.parent)]
        if len(siblings) > 1:
            found[message.id] = (siblings.index(message.id) + 1, len(siblings))
    return found
