"""The chat service where something fails: what is held, what is tried again, and what a bug does."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from qwenchat.chat.events import PartGrew
from qwenchat.chat.message import Role, Status
from qwenchat.chat.ports import Engine, Mode, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.errors import CannotLoad, Recovery, RecoveryKind
from qwenchat.runtime.events import (
    BugFound,
    QueueChanged,
    TurnFailed,
    TurnReported,
)
from qwenchat.runtime.load_planner import LoadOptions
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
