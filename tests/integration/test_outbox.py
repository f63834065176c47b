"""Waiting questions are on disk, are not messages before their turn, and survive the program that would ask them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.message import Attachment, Status
from qwenchat.chat.ports import SessionStore
from qwenchat.chat.session import Session, WaitingQuestion
from qwenchat.errors import NotFound
from qwenchat.sessions.store import Store
from tests.fakes.commands import ROOT, environment
from tests.fakes.stores import database_in, filled, full_answer, question, store_in

FILE = Attachment("notes.txt", "text/plain", b"notes that wait")


def waiting(name: str, follows: str | None, *, session: str = "s", created: int = 9) -> WaitingQuestion:
    return WaitingQuestion(
        id=name, session=session, follows=follows, text=f"{name}?", created=created, attachments=(FILE,)
    )


def branch(store: SessionStore) -> list[str]:
    return [message.id for message in store.branch(store.session("s").leaf)]


@pytest.fixture(params=[True, False], ids=["on disk", "in memory"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> SessionStore:
    store: SessionStore = store_in(tmp_path) if request.param else MemoryStore()
    store.create(Session(id="s", created=1, updated=1))
    return store


def test_a_question_waits_and_enters_the_tree_when_its_turn_comes(store: SessionStore) -> None:
    store.add(question("q1", "What?"))
    first, second = waiting("w1", "q1"), waiting("w2", "w1")
    store.enqueue(first)
    store.enqueue(second)
    assert store.waiting("s") == [first, second] and not store.waiting("t")
    assert branch(store) == ["q1"]
    store.add(full_answer("a1", "That.", "q1"))
    entered = first.below(store.tree("s").place_for(first.follows, "a1"))
    store.add(entered)
    assert store.waiting("s") == [second]
    assert branch(store) == ["q1", "a1", "w1"]
    assert store.tree("s")["w1"] == replace(entered, attachments=(FILE,))


def test_a_first_question_gives_its_title_when_it_is_asked(store: SessionStore) -> None:
    store.enqueue(waiting("w1", None))
    assert store.session("s").title == ""
    store.add(waiting("w1", None).question)
    assert store.session("s").title == "w1?"


def test_a_question_waits_in_a_session_that_there_is(store: SessionStore) -> None:
    with pytest.raises(NotFound):
        store.enqueue(waiting("w1", None, session="t"))


def test_withdrawn_questions_are_in_the_tree_without_answers(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    store.create(Session(id="t", created=1, updated=1))
    for each in (waiting("w1", "q2"), waiting("w2", "w1"), waiting("other", None, session="t")):
        store.enqueue(each)
    assert [(each.id, each.parent) for each in store.withdraw("s")] == [("w1", "q2"), ("w2", "w1")]
    assert branch(store) == ["q1", "a2", "q2", "w1", "w2"]
    assert not store.waiting("s") and [each.id for each in store.waiting("t")] == ["other"]
    assert store.withdraw("s") == []
    assert [hit.message for hit in store.search.find("w2").hits] == ["w2"]


def test_another_store_leaves_them_alone_until_this_one_is_closed(tmp_path: Path) -> None:
    first = store_in(tmp_path)
    filled(first)
    first.enqueue(waiting("w1", "q2"))
    second = store_in(tmp_path)
    assert second.settle() == 0
    assert not second.waiting("s") and not second.withdraw("s") and branch(second)[-1] == "q2"
    assert [each.id for each in first.waiting("s")] == ["w1"]
    second.enqueue(waiting("w2", "q2", created=11))
    first.close()
    second.settle()
    assert branch(first) == branch(second) == ["q1", "a2", "q2", "w1"]
    assert second.tree("s")["w1"].attachments == (FILE,)
    assert [each.id for each in second.waiting("s")] == ["w2"]
    second.close()
    assert not list((tmp_path / "data" / "locks").iterdir())


def test_those_left_behind_follow_the_answer_that_was_streaming(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    store.add(replace(full_answer("a3", "", "q2"), parts=(), status=Status.STREAMING))
    for each in (waiting("w1", "q2"), waiting("w2", "w1"), waiting("w3", "gone")):
        store.enqueue(each)
    store.close()
    store = store_in(tmp_path)
    assert branch(store) == ["q1", "a2", "q2", "a3", "w1", "w2", "w3"]
    assert store.tree("s")["a3"].status is Status.INTERRUPTED
    store.close()


def test_one_that_is_a_message_already_is_dropped(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    store.enqueue(waiting("q1", "q2"))
    store.close()
    store = store_in(tmp_path)
    assert branch(store) == ["q1", "a2", "q2"]
    with store._database.read() as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


ASKER = """
import sys
from pathlib import Path
from qwenchat.chat.session import WaitingQuestion
from qwenchat.sessions.store import Store
store = Store(Path(sys.argv[1]))
for n in range(3):
    follows = f"w{n - 1}" if n else "q2"
    store.enqueue(WaitingQuestion(id=f"w{n}", session="s", follows=follows, text=f"{n}?", created=9 + n))
print("asked", flush=True)
sys.stdin.read()
"""


def test_those_of_a_killed_program_are_not_lost(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    with subprocess.Popen(
        [sys.executable, "-c", ASKER, database_in(tmp_path)],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as asker:
        assert asker.stdout and asker.stdout.readline() == b"asked\n"
        store.settle()
        assert branch(store) == ["q1", "a2", "q2"]
        os.kill(asker.pid, signal.SIGKILL)
    store.close()
    store = Store(database_in(tmp_path))
    assert branch(store) == ["q1", "a2", "q2", "w0", "w1", "w2"]
    assert not list((tmp_path / "data" / "locks").iterdir())


def test_a_deleted_session_deletes_its_waiting_questions(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    store.create(Session(id="t", created=1, updated=1))
    store.add(question("t1", "?", session="t"))
    store.enqueue(waiting("w1", "q2"))
    store.enqueue(waiting("w2", "t1", session="t"))
    store.trash.put("s")
    assert [each.id for each in store.waiting("s")] == ["w1"]
    store.trash.delete_forever("s")
    assert not store.waiting("s")
    assert store.waiting("t")[0].attachments == (FILE,)
    store.trash.delete_forever("t")
    with store._database.read() as connection:
        assert not connection.execute("SELECT n FROM blobs UNION SELECT n FROM outbox_files").fetchall()
