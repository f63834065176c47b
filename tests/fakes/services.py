"""The chat service as it runs behind a screen, and what its tests look at."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from qwenchat.chat.events import LoadEvent
from qwenchat.chat.ports import ModelInfo
from qwenchat.runtime.chat_service import ChatService
from qwenchat.runtime.events import ChatEvent
from qwenchat.runtime.model_manager import EngineFactory
from qwenchat.runtime.program import Program
from tests.fakes.scripted import ScriptedEngine


@asynccontextmanager
async def running(program: Program, new_engine: EngineFactory) -> AsyncIterator[tuple[ChatService, list[ChatEvent]]]:
    """What runs behind a screen, and what it tells."""
    told: list[ChatEvent] = []
    chats = ChatService(program, told.append, new_engine)
    yield chats, told
    await asyncio.wait_for(chats.close(), 10)


def texts(chats: ChatService, session: str) -> list[str]:
    """Return what a session says: the branch being read, then what waits behind it."""
    store = chats.sessions.store(session)
    branch = store.branch(store.session(session).leaf)
    return [message.text for message in branch] + [waiting.text for waiting in store.waiting(session)]


@dataclass
class LoadsLater(ScriptedEngine):
    """Is loaded when a test says so."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.loaded = asyncio.Event()

    async def load(self, progress: Callable[[LoadEvent], object] | None = None) -> ModelInfo:
        await self.loaded.wait()
        return await super().load(progress)
