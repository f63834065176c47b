"""The chat service without a screen: sessions that begin, questions that wait, engines that end."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from qwenchat.chat.events import EngineEvent, LoadEvent
from qwenchat.chat.message import Attachment
from qwenchat.chat.ports import Engine, ModelInfo, Request
from qwenchat.chat.session import Session
from qwenchat.errors import Interrupted, NotFound, StoreError
from qwenchat.runtime import session_access
from qwenchat.runtime.events import (
    ChatEvent,
    ConsentNeeded,
    Hold,
    QueueChanged,
    TurnFailed,
    WaitingChanged,
)
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.program import Program
from qwenchat.runtime.session_access import SessionAccess
from qwenchat.sessions.store import Store
from tests.fakes.scripted import ScriptedEngine
from tests.fakes.services import LoadsLater, running, texts
from tests.tui.screens import until


@pytest.fixture
def program(home: Path) -> Iterator[Program]:
    """A program over an empty home."""
    program = Program.here()
    yield program
    program.close()


class SlowDisk:
    """Holds new sessions back until it is told to go on; refuses as many as `full` says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, full: int = 0) -> None:
        self.go_on, self.asked = threading.Event(), threading.Event()
        create = Store.create

        def slowly(store: Store, session: Session) -> None:
            nonlocal full
            self.asked.set()
            assert self.go_on.wait(10)
            if full:
                full -= 1
                raise StoreError("The disk is full.")
            create(store, session)

        monkeypatch.setattr(Store, "create", slowly)


async def test_a_draft_and_a_question_may_come_while_the_session_is_being_kept(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions, disk = SessionAccess(program), SlowDisk(monkeypatch)
    session = sessions.new("guide").id
    draft = asyncio.create_task(sessions.change(session, draft="Hel"))
    await asyncio.to_thread(disk.asked.wait, 10)
    title = asyncio.create_task(sessions.change(session, title="Mine"))
    kept = asyncio.create_task(sessions.persist(session))
    assert (await sessions.labels(session)).model == "guide"
    disk.go_on.set()
    await asyncio.gather(draft, title, kept)
    on_disk = program.store.session(session)
    assert (on_disk.draft, on_disk.title, on_disk.model) == ("Hel", "Mine", "guide")
    assert not sessions.is_new(session)


async def test_a_session_that_could_not_be_kept_is_kept_the_next_time(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions, disk = SessionAccess(program), SlowDisk(monkeypatch, full=1)
    disk.go_on.set()
    session = sessions.new("guide").id
    with pytest.raises(StoreError):
        await sessions.persist(session)
    await sessions.persist(session)
    assert program.store.session(session).id == session


async def test_a_session_is_kept_once_though_nobody_waits_for_it_any_more(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions, disk = SessionAccess(program), SlowDisk(monkeypatch)
    session = sessions.new("guide").id
    leaving = asyncio.create_task(sessions.persist(session))
    await asyncio.to_thread(disk.asked.wait, 10)
    leaving.cancel()
    await asyncio.wait([leaving])
    disk.go_on.set()
    await sessions.persist(session)
    assert program.store.session(session).id == session


@dataclass
class Loads(ScriptedEngine):
    """Loads until it is cancelled."""

    loading: bool = False

    async def load(self, progress: Callable[[LoadEvent], object] | None = None) -> ModelInfo:
        self.loading = True
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")


async def test_leaving_ends_a_load_that_no_question_asked_for(program: Program) -> None:
    engine = Loads()
    async with running(program, lambda _reference, _options: engine) as (chats, _told):
        warming = [
            asyncio.create_task(chats.model.load(Session(id="s", created=1, updated=1, model=name)))
            for name in ("a", "b")
        ]
        await until(lambda: engine.loading)
    for each in await asyncio.gather(*warming, return_exceptions=True):
        assert isinstance(each, Interrupted)


async def test_leaving_ends_a_load_whose_engine_is_still_being_made(program: Program) -> None:
    made, go_on = threading.Event(), threading.Event()

    def slowly(_reference: str, _options: LoadOptions) -> Engine:
        made.set()
        assert go_on.wait(10)
        return Loads()

    async with running(program, slowly) as (chats, _told):
        warming = asyncio.create_task(chats.model.load(Session(id="s", created=1, updated=1, model="a")))
        await asyncio.to_thread(made.wait, 10)
        closing = asyncio.create_task(chats.close())
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait_for(closing, 10)
    with pytest.raises(Interrupted):
        await warming


@pytest.mark.parametrize("private", [False, True])
async def test_questions_that_are_asked_during_a_load_follow_the_answers_to_come(
    program: Program, private: bool
) -> None:
    engine = LoadsLater(("A1", "A2", "A3"))
    file = Attachment("notes.txt", "text/plain", b"notes")
    async with running(program, lambda _reference, _options: engine) as (chats, told):
        session = chats.sessions.new("guide", private=private).id
        await asyncio.gather(chats.send(session, "first"), chats.send(session, "second", [file]))
        await chats.send(session, "third")
        assert texts(chats, session) == ["first", "second", "third"]
        engine.loaded.set()
        await until(lambda: told[-1] == QueueChanged("", ()))
        assert texts(chats, session) == ["first", "A1", "second", "A2", "third", "A3"]
        *_earlier, last = [[turn.text for turn in request.turns] for request in engine.requests]
        assert [turn.splitlines()[-1] for turn in last] == ["first", "A1", "second", "A2", "third"]
        assert "notes" in last[2]


def waiting_of(told: list[ChatEvent]) -> WaitingChanged:
    """The last report of what waits."""
    return next(event for event in reversed(told) if isinstance(event, WaitingChanged))


@pytest.mark.parametrize("private", [False, True])
async def test_what_waits_when_an_answer_is_stopped_is_held_and_asked_in_its_order(
    program: Program, private: bool
) -> None:
    engine = LoadsLater(("A1", "A2", "A3"))
    async with running(program, lambda _reference, _options: engine) as (chats, told):
        session = chats.sessions.new("guide", private=private).id
        first, second = await chats.send(session, "first"), await chats.send(session, "second")
        await until(lambda: waiting_of(told).places == {second.id: 1})
        await chats.stop(session)
        engine.loaded.set()
        await until(lambda: told[-1] == QueueChanged("", ()))
        assert waiting_of(told) == WaitingChanged({}, {first.id: Hold.STOPPED, second.id: Hold.STOPPED})
        assert texts(chats, session) == ["first", "second"]
        assert engine.requests == []
        if private:
            chats.regenerate(second)
        else:
            await chats.send(session, "third")
        await until(lambda: told[-1] == QueueChanged("", ()) and not waiting_of(told).holds and not chats.running)
        answered = ["first", "A1", "second", "A2", *([] if private else ["third", "A3"])]
        assert texts(chats, session) == answered


async def test_a_stopped_queue_is_in_the_tree_unanswered_after_a_restart(program: Program) -> None:
    engine = LoadsLater(("A1",))
    async with running(program, lambda _reference, _options: engine) as (chats, _told):
        session = chats.sessions.new("guide").id
        await chats.send(session, "first")
        await chats.send(session, "second")
        await chats.stop(session)
    program.close()
    again = Program(program.environ)
    assert [message.text for message in again.store.branch(again.store.session(session).leaf)] == ["first", "second"]
    assert again.store.waiting(session) == []
    again.close()


async def test_a_waiting_question_is_taken_back_and_the_next_one_follows_what_it_followed(program: Program) -> None:
    engine = LoadsLater(("A1", "A3"))
    async with running(program, lambda _reference, _options: engine) as (chats, told):
        session = chats.sessions.new("guide").id
        await chats.send(session, "first")
        second, third = await chats.send(session, "second"), await chats.send(session, "third")
        taken = await chats.take_back(second)
        assert taken and taken.text == "second"
        assert waiting_of(told).places == {third.id: 1}
        assert await chats.take_back(second) is None
        engine.loaded.set()
        await until(lambda: told[-1] == QueueChanged("", ()) and not chats.running)
        assert texts(chats, session) == ["first", "A1", "third", "A3"]
        assert len(program.store.tree(session)) == 4


async def test_a_question_that_waits_for_its_model_to_load_is_taken_back_too(program: Program) -> None:
    engine = LoadsLater(("A2",))
    async with running(program, lambda _reference, _options: engine) as (chats, told):
        session = chats.sessions.new("guide").id
        first = await chats.send(session, "first")
        await chats.send(session, "second")
        await until(lambda: chats.running)
        taken = await chats.take_back(first)
        assert taken and taken.text == "first"
        engine.loaded.set()
        await until(lambda: told[-1] == QueueChanged("", ()) and not chats.running)
        assert texts(chats, session) == ["second", "A2"]


async def test_questions_without_a_model_are_held_and_sent_once_there_is_one(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ScriptedEngine(("A1", "A2"))
    monkeypatch.setattr(session_access, "opening_model", lambda _program: "")
    async with running(program, lambda _reference, _options: engine) as (chats, told):
        session = chats.sessions.new().id
        first, second = await chats.send(session, "first"), await chats.send(session, "second")
        assert waiting_of(told) == WaitingChanged({}, {first.id: Hold.NO_MODEL, second.id: Hold.NO_MODEL})
        assert [each.text for each in program.store.waiting(session)] == ["first", "second"]
        await chats.ask_without_model()
        assert not chats.running
        await chats.sessions.change(session, model="guide")
        await chats.ask_without_model()
        await until(lambda: texts(chats, session)[-1:] == ["A2"] and not chats.running)
        assert texts(chats, session) == ["first", "A1", "second", "A2"]


@dataclass
class SlowTitles(ScriptedEngine):
    """Answers the second request, which is for a title, when a test says so."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.go_on = asyncio.Event()

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        if len(self.requests) == 2:
            await self.go_on.wait()
        async for event in super().events(request, text, cancelled):
            yield event


async def test_a_question_that_is_stopped_while_a_title_is_made_is_not_asked(program: Program) -> None:
    engine = SlowTitles(("A1", "A title", "never"))
    async with running(program, lambda _reference, _options: engine) as (chats, told):
        first, second = chats.sessions.new("guide").id, chats.sessions.new("guide").id
        await chats.send(first, "first")
        await until(lambda: texts(chats, first)[-1:] == ["A1"] and not chats.running)
        title = asyncio.create_task(chats.title(first))
        await until(lambda: len(engine.requests) == 2)
        await chats.send(second, "second")
        await until(lambda: chats.running == second)
        await chats.stop(second)
        engine.go_on.set()
        assert await title == "A title"
        await until(lambda: not chats.running)
        assert texts(chats, second) == ["second"]
        assert not any(isinstance(event, TurnFailed) for event in told)
        assert len(engine.requests) == 2


async def test_an_edited_question_becomes_a_variant_unless_what_it_follows_is_gone(program: Program) -> None:
    engine = ScriptedEngine(("A1", "A2", "B2"))
    async with running(program, lambda _reference, _options: engine) as (chats, _told):
        session = chats.sessions.new("guide").id
        await chats.send(session, "first")
        await until(lambda: texts(chats, session)[-1:] == ["A1"] and not chats.running)
        await chats.send(session, "second")
        await until(lambda: texts(chats, session)[-1:] == ["A2"] and not chats.running)
        second = program.store.branch(program.store.session(session).leaf)[2]
        await chats.edit(second, "second, in other words")
        await until(lambda: texts(chats, session)[-1:] == ["B2"] and not chats.running)
        assert texts(chats, session) == ["first", "A1", "second, in other words", "B2"]
        assert len(program.store.tree(session).variants(second.id)) == 2
        program.store.trash.remove_message(second.parent or "")
        with pytest.raises(NotFound):
            await chats.edit(second, "once more")
        assert program.store.waiting(session) == []


@dataclass
class SpreadEngine(ScriptedEngine):
    """An engine whose model is spread over peers."""

    peers: str = "10.0.0.2:50052,10.0.0.3:50052"

    async def load(self, progress: Callable[[LoadEvent], object] | None = None) -> ModelInfo:
        return replace(await super().load(progress), host=self.peers, file=f"rpc://{self.peers}#{self.file}")


async def test_a_chat_is_sent_to_peers_once_the_user_has_agreed(program: Program) -> None:
    engine = SpreadEngine(("One.", "Two."))
    async with running(program, lambda _reference, _options: engine) as (chats, told):
        session = chats.sessions.new("7b").id
        await chats.send(session, "Hi")
        await until(lambda: any(isinstance(event, ConsentNeeded) for event in told))
        needed = next(event for event in told if isinstance(event, ConsentNeeded))
        assert (needed.host, engine.requests) == (engine.peers, [])
        chats.ask_with_consent(session, needed.host)
        await until(lambda: len(engine.requests) == 1 and not chats.running)
        answer = (await chats.sessions.open(session)).branch[-1]
        assert (answer.text, answer.host) == ("One.", engine.peers)
    async with running(program, lambda _reference, _options: engine) as (chats, told):  # another start of the program
        await chats.send(session, "And?")
        await until(lambda: len(engine.requests) == 2 and not chats.running)
        assert not any(isinstance(event, ConsentNeeded) for event in told)


async def test_peers_on_this_machine_need_no_consent(program: Program) -> None:
    engine = SpreadEngine(("One.",), peers="127.0.0.1:50052")
    async with running(program, lambda _reference, _options: engine) as (chats, _told):
        await chats.send(chats.sessions.new("7b").id, "Hi")
        await until(lambda: len(engine.requests) == 1 and not chats.running)
