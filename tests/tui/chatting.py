"""The whole screen over a scripted engine and a store on disk, and waiting for what it shows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import textual.app
import textual.pilot
from textual._wait import wait_for_idle
from textual.pilot import Pilot
from textual.widgets import Static

from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.message import Message, Status
from qwenchat.chat.session import Session
from qwenchat.runtime.program import Program
from qwenchat.tui.app import QwenchatApp, Start
from qwenchat.tui.screens.chat import ChatScreen
from qwenchat.tui.transcript.transcript import Transcript
from tests.fakes.scripted import ScriptedEngine
from tests.tui.screens import click_words, until


@dataclass
class Chatting:
    """A running screen."""

    app: QwenchatApp
    pilot: Pilot[None]
    engine: ScriptedEngine

    @property
    def chat(self) -> ChatScreen:
        return self.app.chat

    @property
    def transcript(self) -> Transcript:
        return self.chat.transcript

    @property
    def messages(self) -> list[Message]:
        return self.transcript.messages

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.messages]

    @property
    def said(self) -> list[str]:
        """What the notices that passed say."""
        return [f"{note.title} {note.message}" for note in self.app._notifications]

    @property
    def notice(self) -> str:
        """The line above the prompt, which is made when there are first words for it."""
        return "".join(str(words.visual) for words in self.chat.query("#notice-words").results(Static))

    async def ask(self, text: str) -> None:
        """Write a question and wait for the end of its answer."""
        before = len(self.engine.requests)
        self.write(text)
        await self.pilot.press("enter")
        await until(lambda: len(self.engine.requests) > before)
        await self.idle()

    def write(self, text: str) -> None:
        self.chat.prompt.write(text)
        self.chat.prompt.area.focus()

    async def click_on(self, words: str) -> None:
        """Click on words of the transcript."""
        await click_words(self.app, self.transcript, words)

    async def idle(self) -> None:
        """Wait until nothing streams and the transcript shows the end of it."""
        await until(lambda: not self.chat.context.chats.running and not self.chat.context.open.view.queue.running)
        await until(lambda: all(message.status is not Status.STREAMING for message in self.messages))
        await self.pilot.pause()

    async def do(self, action: str) -> None:
        await self.chat.run_action(f"screen.{action}")

    def kept(self) -> list[Message]:
        """The branch of the open session as it is on disk, and the questions that wait behind it."""
        store, session_id = self.app.program.store, self.chat.session.id
        waiting = [each.question for each in store.waiting(session_id)]
        return [*store.branch(store.session(session_id).leaf), *waiting]


async def _soon_idle(min_sleep: float = 0.02, max_sleep: float = 0.1) -> None:
    """Wait as Textual does until the program has little to do, and no longer than a tenth of a second.

    Textual waits up to a second, which a slow machine spends while an answer streams: short answers then end before
    `press` returns, and a test of what happens meanwhile has nothing to look at.
    """
    await wait_for_idle(min_sleep, min(max_sleep, 0.1))


@asynccontextmanager
async def chatting(
    *answers: str,
    size: tuple[int, int] = (100, 30),
    start: Start | None = None,
    bugs: bool = False,
    notifications: bool = False,
    make: type[ScriptedEngine] = ScriptedEngine,
    **engine: Any,
) -> AsyncIterator[Chatting]:
    """Run the screen; it is left as a person leaves it. A bug that it tells fails the test, unless `bugs` wants one."""
    scripted = make(answers or ("Hello.",), **engine)

    def new_engine(reference: str, _options: object) -> ScriptedEngine:
        scripted.reference = reference
        return scripted

    app = QwenchatApp(Program.here(), start or Start(model="guide"), new_engine)
    in_app = patch.object(textual.app, "wait_for_idle", _soon_idle)
    in_pilot = patch.object(textual.pilot, "wait_for_idle", _soon_idle)
    try:
        async with app.run_test(size=size, notifications=notifications) as pilot:
            await until(lambda: any(isinstance(screen, ChatScreen) for screen in app.screen_stack))
            await until(lambda: "store" in app.program.__dict__)
            it = Chatting(app, pilot, scripted)
            with in_app, in_pilot:
                yield it
            assert bugs == any("This is a bug" in said for said in it.said)
            await app.chat.leave()
    finally:
        app.program.close()


def kept_session(program: Program, title: str, *messages: Message, **fields: Any) -> Session:
    """Keep a session on disk before the screen opens."""
    now = unix_ms()
    session = Session(id=UUIDv7()(), created=now, updated=now, title=title, model="guide", **fields)
    program.store.create(session)
    for message in messages:
        program.store.add(message)
    return session
