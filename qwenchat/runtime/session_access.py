"""Sessions wherever they are: on disk, private in memory, or new and not stored yet.

Every call to a store runs in a thread. Every session returned has a model: its own, else this machine's default.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import structs

from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.memory import MemoryStore, no_such_message
from qwenchat.chat.message import Message, Status
from qwenchat.chat.ports import ModelInfo, SessionStore
from qwenchat.chat.session import Session, WaitingQuestion
from qwenchat.chat.tree import Branch
from qwenchat.models.reference import remote_in
from qwenchat.net.addresses import is_loopback
from qwenchat.runtime.events import SessionSnapshot
from qwenchat.runtime.model_choice import opening_model
from qwenchat.runtime.program import Program


class SessionAccess:
    """All sessions. Methods raise NotFound and StoreError."""

    def __init__(self, program: Program, live: Callable[[Message], Message] = lambda message: message) -> None:
        """`live` returns a message whose answer is streaming with all that has been generated so far."""
        self.new_id = UUIDv7()
        self._program, self._live = program, live
        self._private = MemoryStore()
        self._private_ids: set[str] = set()
        self._unsaved: dict[str, Session] = {}
        self._unsaved_lock = asyncio.Lock()
        """Held while one of those is changed or stored."""
        self._stored_lock = asyncio.Lock()
        """Held while one on disk is changed or read, so that the last change is the one that stays and is read."""
        self._agreed: set[tuple[str, str]] = set()
        """Sessions with the hosts that the user agreed to, as far as that is known already."""

    def is_private(self, session_id: str) -> bool:
        """Say whether a session is written nowhere."""
        return session_id in self._private_ids

    def is_new(self, session_id: str) -> bool:
        """Say whether nothing of a session is on disk yet."""
        return session_id in self._unsaved

    def is_read_only(self, session_id: str) -> bool:
        """Say whether nothing of a session can be saved, although it is not private."""
        return not self.is_private(session_id) and self._program.store.is_read_only

    def store(self, session_id: str) -> SessionStore:
        """Return the store that a session is in."""
        return self._private if session_id in self._private_ids else self._program.store

    def new(self, model: str = "", *, private: bool = False) -> Session:
        """Return a new session; it is stored with its first question or its first draft."""
        now = unix_ms()
        session = Session(id=self.new_id(), created=now, updated=now, model=model, system=self._program.settings.system)
        if private:
            self._private_ids.add(session.id)
        self._unsaved[session.id] = session
        return session

    async def open(self, session_id: str) -> SessionSnapshot:
        """Return a session as it is read now. Raises NotFound."""
        if session_id in self._unsaved:
            session = await self._with_model(self._unsaved[session_id])
            return SessionSnapshot(session=session, branch=[], variants={}, waiting=[])
        async with self._stored_lock:
            snapshot = await asyncio.to_thread(self._snapshot, session_id)
        return await self._shown(snapshot)

    async def labels(self, session_id: str) -> Session:
        """Return a session without its messages. Raises NotFound."""
        if session_id in self._unsaved:
            return await self._with_model(self._unsaved[session_id])
        return await self._with_model(await asyncio.to_thread(self.store(session_id).session, session_id))

    async def change(self, session_id: str, **fields: Any) -> Session:
        """Change some of a session's fields, such as `title`, `model`, `sampling`, `draft`."""
        if await self._change_unsaved(session_id, fields):
            if fields.get("draft") and not self.is_private(session_id):
                await self.persist(session_id)
            return await self.labels(session_id)
        async with self._stored_lock:
            changed = await asyncio.to_thread(self._label, session_id, fields)
        return await self._with_model(changed)

    async def show(self, session_id: str, message_id: str) -> SessionSnapshot:
        """Read the branch through a message, down to where it was written to last. Raises NotFound."""
        return await self._shown(await asyncio.to_thread(self._lead_to, session_id, message_id))

    async def host_to_confirm(self, session_id: str, model: str = "") -> str:
        """Return the host that the user must agree to before anything of a session is sent to it; empty for none.

        `model` answers instead of the session's. `RemoteEngines.host_to_confirm` is the rule.
        """
        model = model or (await self.labels(session_id)).model
        if not remote_in(model):
            return ""
        remote = self._program.remote_engines
        if (session_id, host := remote.host_of(model)) in self._agreed:
            return ""
        messages = [] if session_id in self._unsaved else await asyncio.to_thread(self._messages, session_id)
        if to_confirm := remote.host_to_confirm(model, messages):
            return to_confirm
        self.agree(session_id, host)
        return ""

    async def peers_to_confirm(self, session_id: str, info: ModelInfo) -> str:
        """Return the peers of a loaded model that the user must agree to, as to a host; empty for none."""
        peers = "" if remote_in(info.reference) else info.host
        if all(is_loopback(peer.rpartition(":")[0]) for peer in peers.split(",") if peer):
            return ""
        if (session_id, peers) in self._agreed:
            return ""
        messages = [] if session_id in self._unsaved else await asyncio.to_thread(self._messages, session_id)
        return "" if any(message.host == peers for message in messages) else peers

    def agree(self, session_id: str, host: str) -> None:
        """Record that the user agreed to send a session to a host."""
        self._agreed.add((session_id, host))

    async def branches(self, session_id: str) -> list[Branch]:
        """Return all branches of a session, the one that was written to last first."""
        if session_id in self._unsaved:
            return []
        tree = await asyncio.to_thread(self.store(session_id).tree, session_id)
        return tree.branches()

    async def variants(self, message: Message) -> list[Message]:
        """Read a message and its siblings, oldest first."""
        tree = await asyncio.to_thread(self.store(message.session).tree, message.session)
        return [self._live(each) if each.status is Status.STREAMING else each for each in tree.variants(message.id)]

    async def variant(self, message: Message, step: int) -> SessionSnapshot:
        """Read the branch through the sibling of a message that is `step` away."""
        siblings = await self.variants(message)
        at = next(number for number, one in enumerate(siblings) if one.id == message.id)
        return await self.show(message.session, siblings[max(0, min(at + step, len(siblings) - 1))].id)

    async def recover(self) -> None:
        """Open the store: answers of programs that died are marked as interrupted."""
        await asyncio.to_thread(lambda: self._program.store)

    async def persist(self, session_id: str) -> None:
        """Store a session that is new; where that fails it stays new."""
        if session_id in self._unsaved:
            await asyncio.shield(self._persist(session_id))  # the thread goes on writing when the caller is cancelled

    async def waiting(self, session_id: str) -> list[WaitingQuestion]:
        """Return the questions of a session that wait, oldest first."""
        return await asyncio.to_thread(self.store(session_id).waiting, session_id)

    async def withdraw(self, session_id: str) -> None:
        """Move the questions of a session that wait into its tree, unanswered."""
        if session_id not in self._unsaved:
            await asyncio.to_thread(self.store(session_id).withdraw, session_id)

    async def _persist(self, session_id: str) -> None:
        async with self._unsaved_lock:
            if session := self._unsaved.get(session_id):
                await asyncio.to_thread(self.store(session_id).create, session)
                del self._unsaved[session_id]

    async def _change_unsaved(self, session_id: str, fields: dict[str, Any]) -> bool:
        """Change a session that is new, if it still is."""
        if session_id not in self._unsaved:
            return False
        async with self._unsaved_lock:
            if session := self._unsaved.get(session_id):
                self._unsaved[session_id] = structs.replace(session, **fields)
            return session is not None

    async def _shown(self, snapshot: SessionSnapshot) -> SessionSnapshot:
        branch = [self._live(each) if each.status is Status.STREAMING else each for each in snapshot.branch]
        return structs.replace(snapshot, session=await self._with_model(snapshot.session), branch=branch)

    async def _with_model(self, session: Session) -> Session:
        if session.model:
            return session
        return structs.replace(session, model=await asyncio.to_thread(opening_model, self._program))

    def _messages(self, session_id: str) -> list[Message]:
        return list(self.store(session_id).tree(session_id))

    def _snapshot(self, session_id: str) -> SessionSnapshot:
        store = self.store(session_id)
        session, tree, waiting = store.session(session_id), store.tree(session_id), store.waiting(session_id)
        branch = tree.branch(session.leaf)
        waiting = _newest_chain(waiting)
        if waiting:  # they stand behind what they were asked after, if that is in the branch being read
            follows = waiting[0].follows
            if follows is None or follows not in tree or any(message.id == follows for message in branch):
                branch = tree.branch(tree.place_for(follows, session.leaf))
            else:
                waiting = []
        return SessionSnapshot(session=session, branch=branch, variants=tree.places(branch), waiting=waiting)

    def _lead_to(self, session_id: str, message_id: str) -> SessionSnapshot:
        tree = self.store(session_id).tree(session_id)
        if message_id not in tree:
            raise no_such_message(message_id)
        self._label(session_id, {"leaf": tree.leaf_below(message_id)})
        return self._snapshot(session_id)

    def _label(self, session_id: str, fields: dict[str, Any]) -> Session:
        if not self.is_private(session_id):
            return self._program.store.label(session_id, **fields)
        session = structs.replace(self._private.session(session_id), **fields)
        self._private.update(session)
        return session


def _newest_chain(waiting: Sequence[WaitingQuestion]) -> list[WaitingQuestion]:
    """Return the question that was asked last and those that it was asked after, oldest first."""
    by_id = {each.id: each for each in waiting}
    chain = [waiting[-1]] if waiting else []
    while chain and (before := by_id.get(chain[0].follows or "")):
        chain.insert(0, before)
    return chain
