"""The open session as one value: what changes it, and what its listeners are told."""

from typing import cast

from msgspec.structs import replace

from qwenchat.chat.message import Message, Status
from qwenchat.chat.session import Session
from qwenchat.chat.tree import VariantPlace
from qwenchat.errors import QwenchatError
from qwenchat.runtime.events import QueueChanged, SessionSnapshot, TurnFailed
from qwenchat.runtime.session_access import SessionAccess
from qwenchat.tui.session_view import OpenSession, ViewChange
from tests.tui.screens import answer, question


def snapshot_of(session_id: str, *branch: Message) -> SessionSnapshot:
    session = Session(id=session_id, created=0, updated=0)
    return SessionSnapshot(session=session, branch=list(branch), variants={}, waiting=[])


class Sessions:
    """Stands in for the access to sessions: what `open` reads is set by the test."""

    def __init__(self) -> None:
        self.read = snapshot_of("s")
        self.reads = 0

    def new(self, model: str) -> Session:
        return Session(id="s", created=0, updated=0, model=model)

    def is_private(self, session_id: str) -> bool:
        return session_id == "private"

    async def open(self, session_id: str) -> SessionSnapshot:
        self.reads += 1
        return self.read


def opened() -> tuple[OpenSession, Sessions, list[ViewChange]]:
    sessions, changes = Sessions(), list[ViewChange]()
    session = OpenSession(lambda: cast(SessionAccess, sessions), "7b")
    session.listen(changes.append)
    return session, sessions, changes


def test_it_begins_with_a_new_session_and_reports_no_change_of_it() -> None:
    session, _sessions, changes = opened()
    assert (session.id, session.session.model, session.view.branch) == ("s", "7b", ())
    assert changes == []


async def test_an_answer_begins_below_its_question_without_reading_the_chat_again() -> None:
    session, sessions, changes = opened()
    session.append(question(0))
    await session.begin_answer(question(0), answer(1, status=Status.STREAMING))
    assert [message.id for message in session.view.branch] == ["m0", "m1"]
    assert session.view.streaming == "m1"
    session.replace_message(answer(1))
    assert session.view.streaming == ""
    assert sessions.reads == 0
    assert all(change.branch_changed and not change.switched for change in changes)


async def test_a_fork_leaves_everything_in_view_until_the_question_is_asked_and_its_answer_is_read_again() -> None:
    session, sessions, _changes = opened()
    session.show(snapshot_of("s", question(0), answer(1), question(2), answer(3)))
    assert session.fork_at("m1")
    assert [message.id for message in session.view.branch] == ["m0", "m1", "m2", "m3"]
    assert [message.id for message in session.view.left_behind] == ["m2", "m3"]
    variants = {"m4": VariantPlace(2, 2, 2)}
    sessions.read = replace(snapshot_of("s", question(0), answer(1), question(4)), variants=variants)
    await session.show_forked(question(4))
    assert (session.view.fork, session.view.left_behind, sessions.reads) == ("", (), 1)
    await session.begin_answer(question(4), answer(5, status=Status.STREAMING))
    assert session.view.variants == variants
    assert sessions.reads == 2


def test_a_fork_that_leaves_nothing_behind_is_none_and_one_whose_message_is_gone_ends() -> None:
    session, _sessions, _changes = opened()
    session.show(snapshot_of("s", question(0), answer(1), question(2)))
    assert not session.fork_at("m2")
    assert session.fork_at("m1")
    session.show(snapshot_of("s", question(0), answer(1), question(2), answer(3)))
    assert session.view.fork == "m1"
    session.show(snapshot_of("s", question(0), answer(9)))
    assert session.view.fork == ""


async def test_an_answer_that_is_continued_streams_again() -> None:
    session, sessions, _changes = opened()
    session.show(snapshot_of("s", question(0), answer(1, status=Status.STOPPED)))
    await session.begin_answer(question(0), answer(1, status=Status.STOPPED))
    assert session.view.streaming == "m1"
    assert sessions.reads == 0


def test_a_failure_is_shown_in_its_session_until_it_is_tried_again() -> None:
    session, _sessions, changes = opened()
    failed = TurnFailed("other", QwenchatError("No."), ())
    session.add_failure(failed)
    session.show(snapshot_of("other"))
    session.show_queue(QueueChanged("other", ()))
    assert [change.after.failure for change in changes] == [None, failed, None]
    assert [change.switched for change in changes] == [False, True, False]


def test_the_place_in_the_queue_is_known_and_goes_with_no_other_session() -> None:
    session, _sessions, _changes = opened()
    session.show_queue(QueueChanged("a", ("b", "s")))
    assert (session.view.answering, session.view.answers_ahead) == (True, 2)
    session.show(snapshot_of("a"))
    assert (session.view.answering, session.view.answers_ahead) == (True, 0)
    session.show(snapshot_of("private"))
    assert session.view.private
    assert not session.view.answering


def test_what_is_read_of_another_session_changes_nothing() -> None:
    session, _sessions, changes = opened()
    assert not session.refresh(snapshot_of("other", question(0)))
    session.relabel(snapshot_of("other").session)
    assert changes == []
