"""The chat service where something fails: what is held, what is tried again, and what a bug does."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from qwenchat.chat.events import Delta, EngineEvent, LoadEvent, PartGrew, WaitingToRetry
from qwenchat.chat.message import Role, Status
from qwenchat.chat.ports import Engine, Mode, ModelInfo, Request, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.errors import CannotLoad, Recovery, RecoveryKind, RemoteBroken
from qwenchat.runtime.events import (
    BugFound,
    ModelWaiting,
    QueueChanged,
    TurnFailed,
    TurnReported,
)
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.program import Program
from tests.fakes.scripted import ScriptedEngine
from tests.fakes.services import LoadsLater, running, texts
from tests.tui.screens import until


@pytest.fixture
def program(home: Path) -> Iterator[Program]:
    """A program over an empty home."""
    program = Program.here()
    yield program
    program.close()


async def test_starting_again_in_one_chat_leaves_the_answer_of_another(program: Program) -> None:
    engine = ScriptedEngine(("one die", "slow " * 40, "two."), delay_s=0.01, die="die")
    async with running(program, lambda _reference, _options: engine) as (chats, told):
        failed, other = chats.sessions.new("guide").id, chats.sessions.new("guide").id
        await chats.send(failed, "Count")
        await until(lambda: any(isinstance(event, TurnFailed) for event in told))
        await chats.send(other, "Go on")
        await until(
            lambda: any(isinstance(event, TurnReported) and isinstance(event.event, PartGrew) for event in told[-1:])
        )
        await chats.retry(failed, Recovery(RecoveryKind.START_AGAIN))
        assert chats.running == other
        await until(lambda: told[-1] == QueueChanged("", ()))
        store = program.store
        assert store.branch(store.session(other).leaf)[-1].status is Status.COMPLETE
        assert store.branch(store.session(failed).leaf)[-1].text == "one two."


async def test_a_second_answer_whose_load_failed_is_tried_again_and_the_first_one_stays(program: Program) -> None:
    engine, refused = ScriptedEngine(("A1", "A2", "A3")), list[bool]()
    smaller = Recovery(RecoveryKind.SMALLER_CONTEXT, 4096)

    def refuse_once(_reference: str, options: LoadOptions) -> Engine:
        if options.ctx == 2048 and not refused:
            refused.append(True)
            raise CannotLoad("It does not fit.", "Take a smaller context.", recoveries=(smaller,))
        return engine

    async with running(program, refuse_once) as (chats, told):
        session = chats.sessions.new("guide").id
        question = await chats.send(session, "first")
        await until(lambda: texts(chats, session) == ["first", "A1"] and told[-1] == QueueChanged("", ()))
        await chats.sessions.change(session, context=2048)
        chats.regenerate(question)
        await until(lambda: refused and not chats.running)
        assert texts(chats, session) == ["first", "A1"]
        await chats.retry(session, smaller)
        await until(lambda: texts(chats, session) == ["first", "A2"] and told[-1] == QueueChanged("", ()))
        first, second = (each.text for each in program.store.tree(session) if each.role is Role.ASSISTANT)
        assert (first, second) == ("A1", "A2")


async def test_a_second_answer_that_failed_is_not_asked_for_once_the_user_asks_something_else(program: Program) -> None:
    engine, refused = ScriptedEngine(("A1", "A2")), list[bool]()

    def refuse_once(_reference: str, options: LoadOptions) -> Engine:
        if options.ctx == 2048 and not refused:
            refused.append(True)
            raise CannotLoad("It does not fit.", recoveries=(Recovery(RecoveryKind.SMALLER_CONTEXT, 4096),))
        return engine

    async with running(program, refuse_once) as (chats, told):
        session = chats.sessions.new("guide").id
        question = await chats.send(session, "first")
        await until(lambda: texts(chats, session) == ["first", "A1"] and told[-1] == QueueChanged("", ()))
        await chats.sessions.change(session, context=2048)
        chats.regenerate(question)
        await until(lambda: refused and not chats.running)
        await chats.send(session, "second")
        await until(lambda: texts(chats, session)[-1:] == ["A2"] and told[-1] == QueueChanged("", ()))
        assert texts(chats, session) == ["first", "A1", "second", "A2"]


async def test_a_bug_is_reported_with_what_it_was(program: Program) -> None:
    class Odd(ScriptedEngine):
        async def count(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> TokenCounts:
            raise ZeroDivisionError("odd")

    async with running(program, lambda _reference, _options: Odd()) as (chats, told):
        session = chats.sessions.new("guide").id
        await chats.send(session, "first")
        await until(lambda: any(isinstance(event, BugFound) for event in told))
        (found,) = (event for event in told if isinstance(event, BugFound))
        assert isinstance(found.bug, ZeroDivisionError) and not chats.running


@dataclass
class BusyServer(ScriptedEngine):
    """Waits for a server while it loads, and breaks off the first answer as a server does."""

    loads: int = 0

    async def load(self, progress: Callable[[LoadEvent], object] | None = None) -> ModelInfo:
        self.loads += 1
        if progress and self.loads == 1:
            progress(WaitingToRetry(reason="It is busy.", wait_s=0.5, attempt=2, attempts=4))
        return await super().load(progress)

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        if len(self.requests) == 1:
            yield Delta("one ", (1,))
            recoveries = (Recovery(RecoveryKind.ASK_AGAIN, name="lab"), Recovery(RecoveryKind.SET_KEY, name="lab"))
            raise RemoteBroken("The connection broke.", recoveries=recoveries)
        async for event in super().events(request, text, cancelled):
            yield event


async def test_asking_again_after_a_server_broke_off_continues_with_the_same_engine(program: Program) -> None:
    engine, made = BusyServer(("", "two.")), list[str]()

    def make(reference: str, _options: LoadOptions) -> Engine:
        made.append(reference)
        return engine

    async with running(program, make) as (chats, told):
        session = chats.sessions.new("guide").id
        await chats.send(session, "Count")
        await until(lambda: any(isinstance(event, TurnFailed) for event in told) and not chats.running)
        assert [event.waiting.attempt for event in told if isinstance(event, ModelWaiting)] == [2]
        [failed] = [event for event in told if isinstance(event, TurnFailed)]
        assert [recovery.kind for recovery in failed.recoveries] == [RecoveryKind.ASK_AGAIN]  # what a button can do
        told.clear()
        await chats.retry(session, failed.recoveries[0])
        await until(lambda: told[-1:] == [QueueChanged("", ())])
        answer = program.store.branch(program.store.session(session).leaf)[-1]
        assert (answer.text, answer.status) == ("one two.", Status.COMPLETE)
        assert made == ["guide"] and engine.requests[1].mode is Mode.CONTINUE


async def test_what_waits_behind_a_failed_load_is_answered_after_it(program: Program) -> None:
    engine, wished, go_on = LoadsLater(("A1", "A2")), [], threading.Event()
    smaller = Recovery(RecoveryKind.SMALLER_CONTEXT, 4096)

    def once(_reference: str, wishes: LoadOptions) -> Engine:
        wished.append(wishes.ctx)
        assert go_on.wait(10)
        if len(wished) == 1:
            raise CannotLoad("It does not fit.", "Take a smaller context.", recoveries=(smaller,))
        return engine

    engine.loaded.set()
    async with running(program, once) as (chats, told):
        session = chats.sessions.new("guide").id
        await asyncio.gather(chats.send(session, "first"), chats.send(session, "second"))
        go_on.set()
        await until(lambda: told[-1] == QueueChanged("", ()))
        assert [type(event) for event in told].count(TurnFailed) == 1
        await chats.retry(session, smaller)
        await until(lambda: texts(chats, session)[-1:] == ["A2"] and told[-1] == QueueChanged("", ()))
        assert texts(chats, session) == ["first", "A1", "second", "A2"]
        assert wished[0] is None and wished[1]


async def test_a_question_whose_load_failed_is_tried_again_and_not_an_older_failure(program: Program) -> None:
    engine, refused = ScriptedEngine(("one die", "A2"), die="die"), list[bool]()
    smaller = Recovery(RecoveryKind.SMALLER_CONTEXT, 4096)

    def refuse_once(_reference: str, options: LoadOptions) -> Engine:
        if options.ctx == 2048 and not refused:
            refused.append(True)
            raise CannotLoad("It does not fit.", "Take a smaller context.", recoveries=(smaller,))
        return engine

    async with running(program, refuse_once) as (chats, told):
        session = chats.sessions.new("guide").id
        await chats.send(session, "first")
        await until(lambda: any(isinstance(event, TurnFailed) for event in told) and not chats.running)
        await chats.sessions.change(session, context=2048)
        await chats.send(session, "second")
        await until(lambda: refused and not chats.running)
        await chats.retry(session, smaller)
        await until(lambda: texts(chats, session)[-1:] == ["A2"] and not chats.running)
        assert texts(chats, session) == ["first", "one ", "second", "A2"]
        assert len(engine.requests) == 2


async def test_a_held_question_that_is_asked_again_is_answered_once(program: Program) -> None:
    engine = LoadsLater(("one die", "A2", "A3"), die="die")
    async with running(program, lambda _reference, _options: engine) as (chats, told):
        session = chats.sessions.new("guide").id
        await chats.send(session, "first")
        second = await chats.send(session, "second")
        await chats.send(session, "third")
        engine.loaded.set()
        await until(lambda: any(isinstance(event, TurnFailed) for event in told) and told[-1] == QueueChanged("", ()))
        chats.regenerate(second)
        await until(lambda: texts(chats, session)[-1:] == ["A3"] and told[-1] == QueueChanged("", ()))
        assert texts(chats, session) == ["first", "one ", "second", "A2", "third", "A3"]
        assert len(engine.requests) == 3
