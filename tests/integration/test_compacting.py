"""Compaction as the chat service does it: a branch beside the old one, or nothing at all."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from qwenchat.chat.events import LoadEvent
from qwenchat.chat.message import Message, Role, Status
from qwenchat.chat.ports import ModelInfo
from qwenchat.errors import StoreError
from qwenchat.runtime.chat_service import ChatService
from qwenchat.runtime.events import ChatEvent, Compacted, ConsentNeeded, NotCompacted, SummaryGrew, TurnFailed
from qwenchat.runtime.program import Program
from tests.fakes.scripted import ScriptedEngine
from tests.fakes.services import running, texts
from tests.tui.screens import until

LONG = "x" * 300


@pytest.fixture
def program(home: Path) -> Iterator[Program]:
    """A program over an empty home."""
    program = Program.here()
    yield program
    program.close()


async def chat(chats: ChatService, *, private: bool = False, questions: int = 4) -> str:
    """Return a session with so many turns of 600 tokens."""
    session = chats.sessions.new("guide", private=private).id
    for number in range(questions):
        await chats.send(session, f"{number} {LONG}")
    await until(lambda: not chats.running and len(branch(chats, session)) == 2 * questions)
    return session


def branch(chats: ChatService, session: str) -> list[Message]:
    store = chats.sessions.store(session)
    return store.branch(store.session(session).leaf)


def engine(summary: str = "They said x.") -> ScriptedEngine:
    return ScriptedEngine([LONG, LONG, LONG, LONG, summary], n_ctx=4096)


async def compact(chats: ChatService, session: str, told: list[ChatEvent], again: Message | None = None) -> ChatEvent:
    """Compact a session and return what ended that."""
    told.clear()
    chats.compact(session, again=again)
    await until(lambda: not chats.running and any(isinstance(each, _ENDS) for each in told))
    return next(each for each in told if isinstance(each, _ENDS))


_ENDS = (Compacted, NotCompacted, TurnFailed)


@pytest.mark.parametrize("private", [False, True])
async def test_a_summary_begins_a_branch_beside_the_old_one(program: Program, *, private: bool) -> None:
    answering = engine()
    async with running(program, lambda _reference, _options: answering) as (chats, told):
        session = await chat(chats, private=private)
        old, title = branch(chats, session), chats.sessions.store(session).session(session).title
        ended = await compact(chats, session, told)
        new = branch(chats, session)
        assert isinstance(ended, Compacted) and ended.summary == new[0] and ended.before == old[0].id
        assert any(isinstance(each, SummaryGrew) for each in told)
        assert (new[0].text, new[0].summarises, new[0].role) == ("They said x.", 4, Role.USER)
        assert [each.text for each in new[1:]] == [each.text for each in old[4:]]
        assert [(each.created, each.timings, each.token_ids) for each in new[1:]] == [
            (each.created, each.timings, each.token_ids) for each in old[4:]
        ]
        assert chats.sessions.store(session).session(session).title == title
        assert await chats.compactions.original(new[0]) == old[:4]
        back = await chats.sessions.show(session, old[0].id)
        assert back.branch == old and back.variants[old[0].id].count == 2
        await chats.sessions.show(session, new[0].id)
        assert branch(chats, session) == new
        await chats.send(session, "And now?")
        await until(lambda: len(answering.requests) == 6 and not chats.running)
        assert answering.requests[-1].turns[0].text.endswith("They said x.")
        assert len(answering.requests[-1].turns) == len(new) + 1


async def test_a_chat_that_fits_well_is_left_alone(program: Program) -> None:
    async with running(program, lambda _reference, _options: engine()) as (chats, told):
        session = await chat(chats, questions=2)
        old = branch(chats, session)
        assert isinstance(await compact(chats, session, told), NotCompacted)
        assert branch(chats, session) == old


async def test_an_empty_summary_leaves_nothing_behind(program: Program) -> None:
    async with running(program, lambda _reference, _options: engine("")) as (chats, told):
        session = await chat(chats)
        before = list(chats.sessions.store(session).tree(session))
        ended = await compact(chats, session, told)
        assert isinstance(ended, NotCompacted) and "no summary" in ended.error.message
        assert list(chats.sessions.store(session).tree(session)) == before


async def test_a_dead_engine_leaves_nothing_behind_and_it_can_be_tried_again(program: Program) -> None:
    answering = engine("They die here.")
    answering.die = "die"
    async with running(program, lambda _reference, _options: answering) as (chats, told):
        session = await chat(chats)
        before = list(chats.sessions.store(session).tree(session))
        failed = await compact(chats, session, told)
        assert isinstance(failed, TurnFailed)
        assert list(chats.sessions.store(session).tree(session)) == before
        answering.answers = ["They said x."]
        told.clear()
        await chats.retry(session, failed.recoveries[0])
        await until(lambda: any(isinstance(each, Compacted) for each in told))
        assert branch(chats, session)[0].text == "They said x."


async def test_stopping_leaves_nothing_behind_and_holds_what_waits(program: Program) -> None:
    answering = engine("word " * 500)
    async with running(program, lambda _reference, _options: answering) as (chats, told):
        session = await chat(chats)
        before = list(chats.sessions.store(session).tree(session))
        answering.delay_s = 0.01
        chats.compact(session)
        await until(lambda: any(isinstance(each, SummaryGrew) for each in told))
        await chats.send(session, "Wait.")
        await chats.stop(session)
        await until(lambda: not chats.running)
        assert answering.is_cancelled and list(chats.sessions.store(session).tree(session)) == before
        assert texts(chats, session)[-1] == "Wait."
        assert not any(isinstance(each, Compacted | NotCompacted | TurnFailed) for each in told)


async def test_a_question_that_waited_follows_the_new_branch(program: Program) -> None:
    answering = engine()
    async with running(program, lambda _reference, _options: answering) as (chats, told):
        session = await chat(chats)
        answering.delay_s = 0.01
        chats.compact(session)
        await until(lambda: any(isinstance(each, SummaryGrew) for each in told))
        await chats.send(session, "And then?")
        await chats.send(session, "And after that?")
        answering.delay_s = 0
        await until(lambda: not chats.running)
        said = [each.text for each in branch(chats, session)]
        assert said[0] == "They said x." and said[-4::2] == ["And then?", "And after that?"]


@pytest.mark.parametrize("place", [0, -2])
async def test_what_another_program_deletes_meanwhile_does_not_come_back(program: Program, place: int) -> None:
    answering = engine("word " * 100)
    async with running(program, lambda _reference, _options: answering) as (chats, told):
        session = await chat(chats)
        gone = branch(chats, session)[place:]
        answering.delay_s = 0.01
        chats.compact(session)
        await until(lambda: any(isinstance(each, SummaryGrew) for each in told))
        program.store.trash.remove_message(gone[0].id)
        left = branch(chats, session)
        answering.delay_s = 0
        await until(lambda: not chats.running and any(isinstance(each, _ENDS) for each in told))
        assert any(isinstance(each, NotCompacted) for each in told)
        assert branch(chats, session) == left


@dataclass
class SpreadLater(ScriptedEngine):
    """Is spread over a peer once a test says so."""

    peer: str = ""

    async def load(self, progress: Callable[[LoadEvent], object] | None = None) -> ModelInfo:
        return replace(await super().load(progress), host=self.peer)


async def test_a_chat_is_summarised_on_another_machine_once_the_user_has_agreed(program: Program) -> None:
    answering = SpreadLater([LONG, LONG, LONG, LONG, "They said x."], n_ctx=4096)
    async with running(program, lambda _reference, _options: answering) as (chats, told):
        session = await chat(chats)
        old, answering.peer = branch(chats, session), "10.0.0.2:50052"
        chats.compact(session)
        await until(lambda: any(isinstance(each, ConsentNeeded) for each in told))
        assert len(answering.requests) == 4 and branch(chats, session) == old
        chats.ask_with_consent(session, answering.peer)
        await until(lambda: any(isinstance(each, Compacted) for each in told))
        assert branch(chats, session)[0].summarises == 4


async def test_a_summary_is_edited_and_made_again_as_a_sibling(program: Program) -> None:
    answering = engine()
    async with running(program, lambda _reference, _options: answering) as (chats, told):
        session = await chat(chats)
        await compact(chats, session, told)
        first, asked = branch(chats, session), len(answering.requests)
        await chats.edit_summary(first[0], "They said y.")
        edited = branch(chats, session)
        assert (edited[0].text, edited[0].summarises) == ("They said y.", 4) and len(answering.requests) == asked
        assert [each.text for each in edited[1:]] == [each.text for each in first[1:]]
        answering.answers = ["They said z."]
        await compact(chats, session, told, again=edited[0])
        again = branch(chats, session)
        assert [each.text for each in again] == ["They said z.", *(each.text for each in first[1:])]
        assert [each.text for each in await chats.sessions.variants(again[0])] == [
            f"0 {LONG}",
            "They said x.",
            "They said y.",
            "They said z.",
        ]
        assert answering.requests[-1].turns[0].text == answering.requests[4].turns[0].text


async def test_a_summary_whose_messages_were_deleted_is_not_made_again(program: Program) -> None:
    async with running(program, lambda _reference, _options: engine()) as (chats, told):
        session = await chat(chats)
        first = branch(chats, session)[0]
        await compact(chats, session, told)
        await asyncio.to_thread(program.store.trash.remove_message, first.id)
        ended = await compact(chats, session, told, again=branch(chats, session)[0])
        assert isinstance(ended, NotCompacted) and "deleted" in ended.error.message


async def test_a_summary_is_not_edited_while_the_chat_is_answered(program: Program) -> None:
    answering = engine()
    async with running(program, lambda _reference, _options: answering) as (chats, told):
        session = await chat(chats)
        await compact(chats, session, told)
        summary = branch(chats, session)[0]
        answering.delay_s = 0.01
        answering.answers = ["word " * 500]
        await chats.send(session, "Go on.")
        await until(lambda: branch(chats, session)[-1].status is Status.STREAMING)
        with pytest.raises(StoreError):
            await chats.edit_summary(summary, "Otherwise.")
