"""Sessions as the screen reads them: on disk, private in memory, or begun and not kept yet.

Every call to a store runs in a thread. Whatever comes out has a model: its own, else the usual one of this machine.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from qwenchat.chat.events import Delta, Ended, Saved, TurnEvent
from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.memory import MemoryStore, no_such_message
from qwenchat.chat.message import Attachment, Message, Role, Status, text_parts
from qwenchat.chat.ports import SessionStore
from qwenchat.chat.session import Session
from qwenchat.runtime.events import Opened
from qwenchat.runtime.program import Program
from qwenchat.text.safe import whole

_PIECES = 64


class Sessions:
    """All sessions. Methods raise NotFound and StoreError."""

    def __init__(self, program: Program) -> None:
        self.new_id = UUIDv7()
        self._program = program
        self._private = MemoryStore()
        self._private_ids: set[str] = set()
        self._unsaved: dict[str, Session] = {}
        self._keeping = asyncio.Lock()
        """Held by whoever changes or keeps one of those."""
        self._changing = asyncio.Lock()
        """Held by whoever changes or reads one on disk, so that the last change is the one that stays and is read."""
        self._answer: Message | None = None
        self._said: list[str] = []
        self._cut: dict[str, Message] = {}
        """Answers whose end could not be kept."""

    def is_private(self, session_id: str) -> bool:
        """Whether a session is written nowhere."""
        return session_id in self._private_ids

    def is_new(self, session_id: str) -> bool:
        """Whether nothing of a session is on disk yet."""
        return session_id in self._unsaved

    def store(self, session_id: str) -> SessionStore:
        """Return the store that a session is in."""
        return self._private if session_id in self._private_ids else self._program.store

    def new(self, model: str = "", *, private: bool = False) -> Session:
        """Return a new session; it is kept from its first question, or its first draft, on."""
        now = unix_ms()
        session = Session(id=self.new_id(), created=now, updated=now, model=model, system=self._program.settings.system)
        if private:
            self._private_ids.add(session.id)
        self._unsaved[session.id] = session
        return session

    async def open(self, session_id: str) -> Opened:
        """Return a session as it is read now. Raises NotFound."""
        if session_id in self._unsaved:
            return Opened(await self._with_model(self._unsaved[session_id]), [], {})
        async with self._changing:
            opened = await asyncio.to_thread(self._opened, session_id)
        return await self._shown(opened)

    async def labels(self, session_id: str) -> Session:
        """Return a session without its messages. Raises NotFound."""
        if session_id in self._unsaved:
            return await self._with_model(self._unsaved[session_id])
        return await self._with_model(await asyncio.to_thread(self.store(session_id).session, session_id))

    async def change(self, session_id: str, **fields: Any) -> Session:
        """Change some of a session's fields, such as `title`, `model`, `sampling`, `draft`."""
        if await self._change_unsaved(session_id, fields):
            if fields.get("draft") and not self.is_private(session_id):
                await self.keep(session_id)
            return await self.labels(session_id)
        async with self._changing:
            changed = await asyncio.to_thread(self._label, session_id, fields)
        return await self._with_model(changed)

    async def show(self, session_id: str, message_id: str) -> Opened:
        """Read the branch through a message, down to where it was written to last. Raises NotFound."""
        return await self._shown(await asyncio.to_thread(self._lead_to, session_id, message_id, below=True))

    async def branch_at(self, message: Message) -> Opened:
        """Read the branch that ends with a message, so that what is asked next follows it."""
        return await self._shown(await asyncio.to_thread(self._lead_to, message.session, message.id, below=False))

    async def variant(self, message: Message, step: int) -> Opened:
        """Read the branch through the sibling of a message that is `step` away."""
        tree = await asyncio.to_thread(self.store(message.session).tree, message.session)
        siblings = tree.variants(message.id)
        at = next(number for number, one in enumerate(siblings) if one.id == message.id)
        return await self.show(message.session, siblings[max(0, min(at + step, len(siblings) - 1))].id)

    async def recover(self) -> None:
        """Open the store: answers of programs that died are marked as interrupted."""
        await asyncio.to_thread(lambda: self._program.store)

    async def keep(self, session_id: str) -> None:
        """Keep a session that was only begun; it goes on to be one where that fails."""
        if session_id in self._unsaved:
            await asyncio.shield(self._keep(session_id))  # a thread writes on, whoever leaves

    async def add_question(
        self, session_id: str, parent: str | None, text: str, attachments: tuple[Attachment, ...]
    ) -> Message:
        """Keep a question below `parent` and return it."""
        question = Message(
            id=self.new_id(),
            session=session_id,
            parent=parent,
            role=Role.USER,
            parts=text_parts(whole(text)),
            created=unix_ms(),
            attachments=attachments,
        )
        await asyncio.to_thread(self.store(session_id).add, question)
        return question

    def follow(self, event: TurnEvent) -> int:
        """Keep what the streaming answer says at hand, and return how many characters it had before."""
        if isinstance(event, Saved):
            self._answer = replace(event.answer, status=Status.STREAMING)  # one that is carried on had ended
            self._said = [event.answer.text]
        at = sum(map(len, self._said)) if isinstance(event, Delta) else 0
        if isinstance(event, Delta):
            self._said = ["".join(self._said), event.text] if len(self._said) > _PIECES else [*self._said, event.text]
        elif isinstance(event, Ended):
            self._answer, self._said = None, []
        return at

    def end(self) -> None:
        """Take an answer that never ended as interrupted, with all that it said."""
        if self._answer:
            cut = replace(self._answer, text="".join(self._said), status=Status.INTERRUPTED)
            self._answer, self._cut[cut.id] = None, cut

    async def _keep(self, session_id: str) -> None:
        async with self._keeping:
            if session := self._unsaved.get(session_id):
                await asyncio.to_thread(self.store(session_id).create, session)
                del self._unsaved[session_id]

    async def _change_unsaved(self, session_id: str, fields: dict[str, Any]) -> bool:
        """Change a session that was only begun, if it still is."""
        if session_id not in self._unsaved:
            return False
        async with self._keeping:
            if session := self._unsaved.get(session_id):
                self._unsaved[session_id] = replace(session, **fields)
            return session is not None

    def _latest(self, message: Message) -> Message:
        """Return a message with all that was said of it, if it is the answer that streams or one that was cut."""
        if self._answer and message.id == self._answer.id:
            return replace(self._answer, text="".join(self._said))
        return self._cut.get(message.id, message) if message.status is Status.STREAMING else message

    async def _shown(self, opened: Opened) -> Opened:
        branch = [self._latest(message) for message in opened.branch]
        return opened._replace(session=await self._with_model(opened.session), branch=branch)

    async def _with_model(self, session: Session) -> Session:
        if session.model:
            return session
        return replace(session, model=await asyncio.to_thread(self._program.usual_model))

    def _opened(self, session_id: str) -> Opened:
        store = self.store(session_id)
        session, tree = store.session(session_id), store.tree(session_id)
        branch = tree.branch(session.leaf)
        return Opened(session, branch, _variants(branch, tree.children))

    def _lead_to(self, session_id: str, message_id: str, *, below: bool) -> Opened:
        leaf = message_id
        if below:
            tree = self.store(session_id).tree(session_id)
            if all(message.id != message_id for message in tree):
                raise no_such_message(message_id)
            leaf = tree.leaf_below(message_id)
        self._label(session_id, {"leaf": leaf})
        return self._opened(session_id)

    def _label(self, session_id: str, fields: dict[str, Any]) -> Session:
        if not self.is_private(session_id):
            return self._program.store.label(session_id, **fields)
        session = replace(self._private.session(session_id), **fields)
        self._private.update(session)
        return session


def _variants(branch: Iterable[Message], children: Callable[[str | None], list[Message]]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for message in branch:
        siblings = [one.id for one in children(message.parent)]
        if len(siblings) > 1:
            found[message.id] = (siblings.index(message.id) + 1, len(siblings))
    return found
