"""Deletion can be undone until something is deleted forever; then nothing of it is left."""

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from qwenchat.chat.events import TurnStarted
from qwenchat.chat.message import Attachment, Message, Reasoning, Role, Status, Text, text_parts
from qwenchat.chat.session import Session, WaitingQuestion
from qwenchat.chat.turn import Turns
from qwenchat.errors import NotFound, StoreError
from qwenchat.runtime.program import Program
from qwenchat.sessions import trash
from qwenchat.sessions.store import Store
from qwenchat.storage.migrate import safety_copies, safety_copy
from tests.fakes.archives import talk
from tests.fakes.scripted import ScriptedEngine
from tests.fakes.stores import database_in, fake_clock, filled, full_answer, question, store_in


def test_trash_and_back(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    store.trash.put("s")
    assert store.session("s").trashed is not None
    assert not store.listing.newest() and not store.search.find("templates").hits
    assert store.search.find("templates", trashed=True).hits
    store.trash.restore("s")
    assert store.session("s").trashed is None
    assert store.search.find("templates").hits
    for action in (store.trash.put, store.trash.restore, store.trash.delete_forever):
        with pytest.raises(NotFound):
            action("unknown")


def test_forever_leaves_nothing(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    store.create(Session(id="t", created=1, updated=1))
    store.add(question("t1", "Keep templates", session="t"))
    store.add(replace(full_answer("a3", "", "q2"), parts=(Reasoning("Secret thought"), Text("They are templates."))))
    file = Attachment("secret.txt", "text/plain", b"secret file")
    store.enqueue(
        WaitingQuestion(id="w", session="s", follows="q2", text="Secret question", created=9, attachments=(file,))
    )
    store.trash.delete_forever("s")
    assert [hit.session for hit in store.search.find("templates").hits if hit.message] == ["t"]
    store.close()
    with sqlite3.connect(database_in(tmp_path)) as plain:
        assert (
            plain.execute("SELECT n FROM attachments UNION SELECT n FROM blobs UNION SELECT n FROM pieces").fetchall()
            == plain.execute(
                "SELECT n FROM parts UNION SELECT n FROM outbox UNION SELECT n FROM outbox_files"
            ).fetchall()
            == []
        )
        assert plain.execute("SELECT count(*) FROM messages").fetchone() == (1,)
        plain.execute("INSERT INTO words (words) VALUES ('integrity-check')")
        plain.execute("INSERT INTO reasoning (reasoning) VALUES ('integrity-check')")
    data = database_in(tmp_path).read_bytes()
    assert b"It has classes." not in data and b"\x00\xffnotes" not in data
    assert not any(words in data for words in (b"Secret thought", b"Secret question", b"secret file"))
    assert b"Keep templates" in data


@pytest.mark.parametrize("emptied", [True, False])
def test_no_word_of_what_was_deleted_forever_stays_in_any_file(tmp_path: Path, emptied: bool) -> None:
    store = store_in(tmp_path)
    for number in range(40):
        store.create(Session(id=f"t{number}", created=1, updated=1, title=f"Other title {number}"))
        store.add(question(f"q{number}", f"Something else, number {number}", session=f"t{number}"))
    store.create(Session(id="s", created=1, updated=1, title="qzxtitle"))
    store.add(question("q", "jvwquestion and 乒乓", session="s"))
    store.add(replace(full_answer("a", "", "q"), session="s", parts=(Reasoning("xkvthought"), Text("zqvanswer"))))
    hidden = ("qzxtitle", "jvwquest", "xkvthought", "zqvansw", "乒乓")
    assert [word for word in hidden if word.encode() not in contents(tmp_path)] == []
    if emptied:
        store.trash.put("s")
        store.trash.empty(2**53)
    else:
        store.trash.delete_forever("s")
    assert [word for word in hidden if word.encode() in contents(tmp_path)] == []
    assert len(store.search.find("something", 100, 0).hits) == 40
    store.trash.remove_message("q1")
    store.trash.empty(2**53)
    assert len(store.search.find("something", 100, 0).hits) == 39


def contents(folder: Path) -> bytes:
    """All bytes of the database and of the files that SQLite writes beside it."""
    return b"".join(file.read_bytes() for file in folder.rglob("*.db*"))


def test_many_are_copied_before(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for n in range(12):
        store.create(Session(id=f"s{n}", created=n, updated=n, title=str(n)))
    store.trash.delete_forever("s0")
    assert not safety_copies(database_in(tmp_path))
    for _round in range(3):
        store.trash.delete_forever(*(entry.session.id for entry in store.listing.newest()))
        for n in range(12):
            store.create(Session(id=f"s{n}", created=n, updated=n, title=str(n)))
    copies = safety_copies(database_in(tmp_path))
    assert len(copies) == 2
    with sqlite3.connect(copies[-1]) as plain:
        assert plain.execute("SELECT count(*) FROM sessions").fetchone() == (12,)


def test_one_message_and_what_hangs_below(tmp_path: Path) -> None:
    store = Store(database_in(tmp_path), clock=fake_clock())
    filled(store)
    assert store.trash.remove_message("a2") == "a1"
    assert [message.id for message in store.tree("s")] == ["q1", "a1"]
    assert store.branch("q2") == [] and store.session("s").leaf == "a1"
    assert not store.search.find("thanks").hits
    assert store.listing.newest()[0].messages == 2
    store.trash.restore_message("a2")
    assert len(store.tree("s")) == 4 and len(store.branch("q2")) == 3
    assert store.trash.remove_message("q2") is not None
    assert store.trash.remove_message("a1") == store.session("s").leaf
    assert store.trash.remove_message("q1") is None
    with pytest.raises(NotFound):
        store.trash.remove_message("q1")
    with pytest.raises(NotFound):
        store.trash.restore_message("a1")  # what it followed is gone
    for last in ("q1", "a1"):
        assert store.trash.last_message("s") == last
        store.trash.restore_message(last)
    assert [message.id for message in store.tree("s")] == ["q1", "a1", "a2"]


def test_emptying_after_a_time(tmp_path: Path) -> None:
    store = Store(database_in(tmp_path), clock=fake_clock(100))
    filled(store)
    store.create(Session(id="old", created=1, updated=1))
    store.create(Session(id="new", created=1, updated=1))
    store.trash.remove_message("a2")
    store.trash.put("old")
    store.trash.put("new")
    assert store.trash.empty(100) == []
    assert store.trash.empty(102) == ["old"]
    assert [entry.session.id for entry in store.listing.newest(trashed=True)] == ["new"]
    with pytest.raises(NotFound):
        store.trash.restore_message("a2")
    assert [message.id for message in store.tree("s")] == ["q1", "a1"]


@pytest.mark.parametrize("restored", [True, False])
def test_emptying_while_another_program_has_the_trash_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    """The other program comes while the safety copy is made."""
    store, other = store_in(tmp_path), Store(database_in(tmp_path))
    for n in range(12):
        store.create(Session(id=f"s{n}", created=n, updated=n, trashed=n, title=str(n)))

    def meanwhile(file: Path, why: str) -> Path:
        if restored:
            other.trash.restore("s3", "s4")
        else:
            for n in range(12):
                other.trash.delete_forever(f"s{n}")
        return safety_copy(file, why)

    monkeypatch.setattr(trash, "safety_copy", meanwhile)
    gone = store.trash.empty(100)
    assert gone == ([f"s{n}" for n in range(12) if n not in (3, 4)] if restored else [])
    assert {session.id for session in store.sessions()} == ({"s3", "s4"} if restored else set())
    assert not store.listing.count(trashed=True)


def test_what_streams_is_emptied_another_time(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for name in ("s", "t"):
        store.create(Session(id=name, created=1, updated=1))
    with store.streaming("s"):
        store.add(
            question("q", "?"),
            Message(
                id="a",
                session="s",
                parent="q",
                role=Role.ASSISTANT,
                parts=text_parts(""),
                created=1,
                status=Status.STREAMING,
            ),
        )
        for name in ("s", "t"):
            store.label(name, trashed=5)
        assert store.trash.empty(100) == ["t"]
        store.append("a", [Text("still here", (1,))])
    assert store.trash.empty(100) == ["s"]


def test_the_store_opens_where_the_trash_can_not_be_emptied(tmp_path: Path) -> None:
    store = store_in(tmp_path / "home")
    for n in range(12):
        store.create(Session(id=f"s{n}", created=n, updated=n, trashed=n, title=str(n)))
    store.close()
    (tmp_path / "home" / "data" / "copies").write_text("in the place of the folder for copies")
    for days in ("30", str(10**15)):
        program = Program({"QWENCHAT_HOME": str(tmp_path / "home"), "QWENCHAT_SESSIONS_EMPTY_TRASH_AFTER_DAYS": days})
        assert program.store.listing.count(trashed=True) == 12
        program.close()


def test_not_under_a_turn(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.create(Session(id="s", created=1, updated=1))
    with store.streaming("s"):
        store.add(
            question("q", "?"),
            Message(
                id="a",
                session="s",
                parent="q",
                role=Role.ASSISTANT,
                parts=text_parts(""),
                created=1,
                status=Status.STREAMING,
            ),
        )
        with pytest.raises(StoreError):
            store.trash.delete_forever("s")
    store.trash.delete_forever("s")


def test_a_long_session_is_deleted_too(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.create(Session(id="s", created=1, updated=1))
    store.add(*(question(f"m{n:05}", "x", f"m{n - 1:05}" if n else None) for n in range(3000)))
    assert len(store.branch("m02999")) == 3000
    assert store.trash.remove_message("m00001") == "m00000"
    store.trash.delete_forever("s")
    assert store.listing.count() == 0


def test_an_imported_session_that_has_grown_opens_at_its_new_end(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.add_archives([talk("One", "Two")])
    store.label("s1", title="Mine")
    store.add_archives([talk("One", "Two", "Three", "Four")])
    session = store.session("s1")
    assert (session.title, session.leaf) == ("Mine", "s1-3")


def test_an_imported_session_continued_here_stays_open_here(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.add_archives([talk("One", "Two")])
    store.add(question("own", "And here?", "s1-1", session="s1"))
    assert store.add_archives([talk("One", "Two", "Three", "Four")]) == 1
    assert store.session("s1").leaf == "own"
    assert len(store.branch("s1-3")) == 4


def grown_below_a_deleted_message(folder: Path) -> Store:
    """Return a store in which a message was deleted, and an import then brought what follows it."""
    store = Store(database_in(folder), clock=fake_clock(100))
    store.add_archives([talk("One", "Two")])
    assert store.trash.remove_message("s1-1") == "s1-0"
    assert store.add_archives([talk("One", "Two", "Three", "Four")]) == 1
    return store


def test_what_came_below_a_deleted_message_outlives_it(tmp_path: Path) -> None:
    store = grown_below_a_deleted_message(tmp_path)
    for _round in range(2):
        assert [message.id for message in store.tree("s1")] == ["s1-0", "s1-2", "s1-3"]
        assert [message.id for message in store.branch("s1-3")] == ["s1-2", "s1-3"]
        assert store.trash.empty(1000) == []
    with pytest.raises(NotFound):
        store.trash.restore_message("s1-1")


def test_messages_below_a_deleted_one_return_to_their_parent_when_it_is_restored(tmp_path: Path) -> None:
    store = grown_below_a_deleted_message(tmp_path)
    assert store.trash.empty(50) == []
    store.trash.restore_message("s1-1")
    assert [message.id for message in store.branch("s1-3")] == ["s1-0", "s1-1", "s1-2", "s1-3"]


async def test_no_turn_begins_below_a_deleted_message(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    asked, answer, later = store.branch("q2")
    store.trash.remove_message("q1")
    before = store.session("s")
    turns = Turns(store=store, engine=ScriptedEngine(["never"]), new_id=lambda: "new", clock=fake_clock())
    for turn in (turns.regenerate(asked), turns.regenerate(later), turns.continue_answer(answer)):
        with pytest.raises(NotFound):
            await anext(turn)
    with pytest.raises(NotFound):
        store.add(question("new", "?", "a2"))
    assert not len(store.tree("s")) and store.session("s") == before


@pytest.mark.parametrize("file", ["", "another model"])
async def test_an_answer_without_its_question_can_be_continued(tmp_path: Path, file: str) -> None:
    store = store_in(tmp_path)
    store.add_archives([talk("One")])
    store.trash.remove_message("s1-0")
    store.add_archives([talk("One", "Two")])
    (alone,) = store.branch("s1-1")
    engine = ScriptedEngine([" and a half"], file=file)
    turns = Turns(store=store, engine=engine, new_id=lambda: "beside", clock=fake_clock())
    seen = [event async for event in turns.continue_answer(alone)]
    assert isinstance(seen[0], TurnStarted) and seen[0].question == alone
    (carried,) = store.branch("beside" if file else "s1-1")
    assert (carried.text, carried.status) == ("Two and a half", Status.COMPLETE)
