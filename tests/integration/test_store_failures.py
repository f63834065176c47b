"""A full disk, a folder that can't be written, a busy, a cut and a noisy file: one clear error, nothing lost."""

import errno
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from qwenchat.chat.message import (
    Attachment,
    Citation,
    Message,
    Reasoning,
    Role,
    Status,
    Text,
    ToolCall,
    ToolResult,
    text_parts,
)
from qwenchat.chat.session import Session, WaitingQuestion
from qwenchat.doctor.storage import database as check_database
from qwenchat.errors import Recovery, RecoveryKind, StoreError
from qwenchat.runtime.program import Program
from qwenchat.sessions.recover import recover
from qwenchat.sessions.salvage import salvage
from qwenchat.sessions.store import Store
from qwenchat.storage.database import Database
from tests.fakes.commands import ROOT, environment
from tests.fakes.stores import database_in, filled, full_answer, question, store_in

FILLER = """
import resource, sys
from pathlib import Path
from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.errors import StoreError
from qwenchat.runtime.program import Program
from qwenchat.sessions.store import Store
store = Store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
stored = 0
try:
    for n in range(1000):
        parent = "q2" if n == 0 else f"m{n - 1:04}"
        parts = text_parts(f"{n} " * 2000)
        store.add(Message(id=f"m{n:04}", session="s", parent=parent, role=Role.USER, parts=parts, created=n))
        stored += 1
except StoreError as error:
    print(stored, len(store.tree("s")), error.message)
"""


def test_disk_full(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk's; the child sets it for itself alone."""
    store = store_in(tmp_path)
    filled(store)
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", FILLER, database_in(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        check=True,
    )
    stored, seen, message = done.stdout.split(" ", 2)
    assert int(stored) > 2 and "sessions.db failed" in message
    assert int(seen) == int(stored) + 4
    store = store_in(tmp_path)
    assert len(store.tree("s")) == int(stored) + 4
    store.add(question("after", "There is room again", "q2"))
    assert [hit.message for hit in store.search.find('"room again"').hits] == ["after"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_database_full(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    with store._database.write() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(StoreError, match="full"):
        store.add(question("big", "x y z " * 20_000, "q2"))
    assert len(store.tree("s")) == 4


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user whom the file system can refuse: the tests may run as root."""
    own = os.geteuid()
    if own == 0:
        with tempfile.TemporaryDirectory() as name:  # what is imported only now may lie where nobody else may read
            store = store_in(Path(name))
            filled(store)
            store.close()
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(own)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that any user can reach."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(folder, 65534, -1)
        yield folder
        folder.chmod(0o755)


def test_read_only_folder(reachable: Path) -> None:
    with nobody():
        reachable.chmod(0o555)
        with pytest.raises(StoreError) as none_yet:
            store_in(reachable)
        reachable.chmod(0o755)
        store = store_in(reachable)
        filled(store)
        store.close()
        database_in(reachable).chmod(0o400)
        (reachable / "data").chmod(0o500)
        readable = store_in(reachable)
        assert len(readable.tree("s")) == 4
        with pytest.raises(StoreError) as no_more:
            readable.label("s", title="x")
        with pytest.raises(StoreError), readable.streaming("s"):
            pass
        readable.close()
        (reachable / "data").chmod(0o700)
        database_in(reachable).chmod(0o600)
        assert len(store_in(reachable).tree("s")) == 4
    for error in (none_yet.value, no_more.value):
        assert "QWENCHAT_HOME" in error.hint


def test_another_writer_is_waited_for_and_reported(tmp_path: Path) -> None:
    store = store_in(tmp_path, busy_s=0.1)
    filled(store)
    other = sqlite3.connect(database_in(tmp_path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="Another program"):
        store.add(question("late", "?", "q2"))
    assert len(store.tree("s")) == 4
    other.execute("COMMIT")
    store.add(question("late", "?", "q2"))
    assert len(store.tree("s")) == 5
    other.close()


def large(folder: Path) -> Store:
    """Return a store of some 400 messages, long ones and one with a file among them."""
    store = store_in(folder)
    for session in range(20):
        store.create(Session(id=f"s{session}", created=session, updated=session, title=f"Title {session}", tags=("t",)))
        parent = None
        for n in range(0, 20, 2):
            asked, answer = f"q{session}-{n}", f"a{session}-{n}"
            file = (Attachment("f", "text/plain", b"file" * 5000),) if n == 4 else ()
            store.add(
                Message(
                    id=asked,
                    session=f"s{session}",
                    parent=parent,
                    role=Role.USER,
                    parts=text_parts(f"asked {n} " * 50),
                    created=n,
                    attachments=file,
                ),
                full_answer(answer, f"answered {n} 回答 " * (2000 if n == 8 else 40), asked, session=f"s{session}"),
            )
            parent = answer
    return store


def noise(data: bytearray, start: int, end: int, seed: int = 1) -> None:
    data[start:end] = random.Random(seed).randbytes(end - start)


def cut_in_half(data: bytearray) -> None:
    del data[len(data) // 2 :]


def lose_the_header(data: bytearray) -> None:
    noise(data, 0, 8192)


def scatter_noise(data: bytearray) -> None:
    for n, place in enumerate(random.Random(7).sample(range(len(data) - 3000), 10)):
        noise(data, place, place + 3000, n)


def lose_everything(data: bytearray) -> None:
    noise(data, 0, len(data))


@pytest.mark.parametrize(
    ("damage", "sessions", "messages"),
    [(cut_in_half, 8, 150), (lose_the_header, 20, 400), (scatter_noise, 15, 300), (lose_everything, 0, 0)],
)
def test_damage_is_reported_and_recovered(
    tmp_path: Path, damage: Callable[[bytearray], None], sessions: int, messages: int
) -> None:
    whole = large(tmp_path)
    before = {message.id: message for n in range(20) for message in whole.tree(f"s{n}")}
    whole.close()
    file = database_in(tmp_path)
    data = bytearray(file.read_bytes())
    damage(data)
    file.write_bytes(data)
    with pytest.raises(StoreError) as failure:
        store = store_in(tmp_path)
        for n in range(20):
            store.tree(f"s{n}")
            store.session(f"s{n}")
        store.search.find("answered")
    assert Recovery(RecoveryKind.RECOVER_STORE) in failure.value.recoveries

    result = recover(file)
    assert result is not None
    assert result.damaged.read_bytes() == data
    assert (result.sessions, result.messages) >= (sessions, messages)
    assert file.stat().st_mode & 0o777 == 0o600
    store = store_in(tmp_path)
    assert store.listing.count() == result.sessions
    equal = 0
    for entry in store.listing.newest(100):
        for message in store.tree(entry.session.id):
            assert message.id in before
            equal += message == before[message.id]
        assert store.branch(entry.session.leaf) or not entry.messages
    assert equal >= messages * 0.8
    assert bool(store.search.find("asked").hits) == bool(messages)
    assert recover(file) is None
    store.close()


@pytest.mark.parametrize(
    ("whole", "torn"),
    [
        (b"It has templates.", b"It has \xffemplates."),
        (b'"usage":{', b'"usage":['),
        (b'["', b"[["),
        (b'["papers', b'{"papers'),
        (b" begins", b" beg\xffns"),
    ],
    ids=str,
)
def test_damage_inside_a_value_is_reported_and_recovered(tmp_path: Path, whole: bytes, torn: bytes) -> None:
    store = store_in(tmp_path)
    filled(store)
    store.add(replace(full_answer("open", "It", "q2"), status=Status.STREAMING))
    store.append("open", [Text(" begins")])
    store.close()
    file = database_in(tmp_path)
    data = file.read_bytes()
    assert whole in data
    file.write_bytes(data.replace(whole, torn, 1))
    with pytest.raises(StoreError, match="damaged"):
        store = store_in(tmp_path)
        store.session("s")
        store.tree("s")
    result = recover(file)
    assert result and result.sessions == 1
    store = store_in(tmp_path)
    assert store.session("s").id == "s" and len(store.tree("s")) == result.messages
    assert recover(file) is None
    store.close()


@pytest.mark.parametrize("failing", ["sessions.db", "sessions.db.recovering"])
def test_a_recovery_that_fails_changes_nothing(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path)
    filled(store)
    store.close()
    file = database_in(tmp_path)
    file.write_bytes(file.read_bytes().replace(b'["papers', b'{"papers', 1))
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}

    rename = Path.rename

    def fails(path: Path, target: Path) -> Path:
        if path.name == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    with monkeypatch.context() as patched, pytest.raises(StoreError, match="Input/output error"):
        patched.setattr(Path, "rename", fails)
        recover(file)
    assert {path.name: path.read_bytes() for path in file.parent.iterdir() if path.name in before} == before
    assert not list(file.parent.glob("*.recovering*"))
    assert recover(file)


def test_a_whole_database_is_left_alone(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    store.close()
    before = database_in(tmp_path).read_bytes()
    assert recover(database_in(tmp_path)) is None
    assert recover(tmp_path / "nothing.db") is None
    assert database_in(tmp_path).read_bytes() == before


def test_salvage_reads_every_row_of_a_whole_database(tmp_path: Path) -> None:
    """Also what only the WAL has, values of every kind, and rows that go on over many pages."""
    file = tmp_path / "any.db"
    plain = sqlite3.connect(file, isolation_level=None)
    plain.executescript(
        "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, v, w)"
    )
    chance = random.Random(3)
    values = [None, 0, 1, -1, 127, -32768, 1 << 20, 1 << 30, -(1 << 40), 1 << 60, 0.5, "", "字" * 500, b"", b"x" * 9000]
    for n in range(1, 400):
        plain.execute("INSERT INTO t VALUES (?, ?, ?)", (n * n, chance.choice(values), chance.choice(values)))
    plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    plain.execute("UPDATE t SET v = 'changed' WHERE n % 2")
    wanted = {n: (v, w) for n, v, w in plain.execute("SELECT * FROM t")}
    saved = {row.n: row.values[1:] for row in salvage(file) if len(row.values) == 3 and row.complete}
    assert saved == wanted
    plain.close()


def test_an_answer_that_was_streaming_is_recovered(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.create(Session(id="s", created=1, updated=1))
    store.add(
        question("q", "?"),
        Message(
            id="a",
            session="s",
            parent="q",
            role=Role.ASSISTANT,
            parts=text_parts(""),
            created=2,
            status=Status.STREAMING,
        ),
    )
    store.append("a", [Text("half an ", (1,))])
    store.append("a", [Text("answer", (2,))])
    store.close()
    file = database_in(tmp_path)
    data = bytearray(file.read_bytes())
    lose_the_header(data)
    file.write_bytes(data)
    assert recover(file)
    answer = store_in(tmp_path).branch("a")[-1]
    assert (answer.text, answer.token_ids, answer.status) == ("half an answer", (1, 2), Status.INTERRUPTED)


PARTS = (
    Citation(number=1, document="时间.pdf", digest="d" * 64, start=70, text="Clocks show it.", page=3, heading="Noon"),
    Reasoning("Let me look.", (1, 2)),
    Text("A moment.", (3,)),
    ToolCall("c1", "clock", "{}", (4, 5)),
    ToolResult("c1", "clock", "12:00", took_ms=9),
    Text("It is noon.", (6, 7)),
)


def in_parts(folder: Path) -> Path:
    """Fill a database with an answer in parts, one that streams, and a waiting question with a file; return it."""
    store = store_in(folder)
    filled(store)
    store.add(replace(full_answer("whole", "", "q2"), parts=PARTS))
    store.add(question("q3", "And then?", "whole"))
    store.add(replace(full_answer("open", "", "q3"), parts=(), status=Status.STREAMING))
    store.append("open", [Reasoning("Hm", (1,)), ToolCall("c2", "clock", "{}")])
    file = Attachment("notes.txt", "text/plain", b"carried along", in_parts=True)
    store.enqueue(
        WaitingQuestion(id="w1", session="s", follows="q3", text="What else?", created=9, attachments=(file,))
    )
    store.enqueue(WaitingQuestion(id="w2", session="s", follows="w1", text="Well?", created=10))
    store.close()
    return database_in(folder)


def test_parts_and_waiting_questions_are_recovered(tmp_path: Path) -> None:
    file = in_parts(tmp_path)
    data = bytearray(file.read_bytes())
    lose_the_header(data)
    file.write_bytes(data)
    assert recover(file)
    store = store_in(tmp_path)
    tree = store.tree("s")
    assert tree["whole"] == replace(full_answer("whole", "", "q2"), parts=PARTS)
    assert tree["open"].parts == (Reasoning("Hm", (1,)), ToolCall("c2", "clock", "{}"))
    assert tree["open"].status is Status.INTERRUPTED
    asked = tree.branch(store.session("s").leaf)[-2:]
    assert [(message.id, message.parent, message.text) for message in asked] == [
        ("w1", "open", "What else?"),
        ("w2", "w1", "Well?"),
    ]
    assert (asked[0].attachments[0].data, asked[0].attachments[0].in_parts) == (b"carried along", True)
    assert (store.session("s").collections, store.session("s").level) == (("papers", "论文"), 2)
    assert [hit.message for hit in store.search.find("noon").hits] == ["whole"]
    assert recover(file) is None
    store.close()


@pytest.mark.parametrize(
    ("whole", "torn", "text"),
    [
        (b"Clocks show", b"Clocks \xffhow", "A moment.\n\nIt is noon."),
        (b'"start":70', b'"start":x0', "A moment.\n\nIt is noon."),
        (b"Let me look.", b"Let me \xffook.", "A moment.\n\nIt is noon."),
        (b'"clock","took_ms"', b'"clock","took_msx', "A moment.\n\nIt is noon."),
        (b"It is noon.", b"It is \xffoon.", "A moment.\n\nIt is \ufffdoon."),
        (b'{"id":"c2"', b'["id":"c2"', "A moment.\n\nIt is noon."),
        (b"What else?", b"What \xfflse?", "A moment.\n\nIt is noon."),
    ],
    ids=str,
)
def test_damage_inside_a_part_is_reported_and_recovered(tmp_path: Path, whole: bytes, torn: bytes, text: str) -> None:
    file = in_parts(tmp_path)
    data = file.read_bytes()
    assert whole in data
    file.write_bytes(data.replace(whole, torn))
    with pytest.raises(StoreError, match="damaged"):
        store_in(tmp_path).tree("s")
    assert recover(file)
    store = store_in(tmp_path)
    assert store.tree("s")["whole"].text == text
    assert {"open", "w1", "w2"} <= {message.id for message in store.tree("s")}
    assert recover(file) is None
    store.close()


def test_an_answer_that_lost_a_text_gets_it_back_from_its_row(tmp_path: Path) -> None:
    file = in_parts(tmp_path)
    database = Database(file)
    with database.write() as connection:
        connection.execute("DELETE FROM parts WHERE text = 'A moment.'")
    database.close()
    data = bytearray(file.read_bytes())
    lose_the_header(data)
    file.write_bytes(data)
    assert recover(file)
    (answer,) = [message for message in store_in(tmp_path).tree("s") if message.id == "whole"]
    assert answer.parts == (*PARTS[:2], PARTS[3], PARTS[4], Text("A moment.\n\nIt is noon."))


@pytest.mark.parametrize("gone", [False, True])
def test_changes_beside_an_empty_database_are_recovered(tmp_path: Path, gone: bool) -> None:
    store = store_in(tmp_path)
    filled(store)
    file = database_in(tmp_path)
    beside = file.with_name(file.name + "-wal")
    changes = beside.read_bytes()
    store.close()
    file.write_bytes(b"")
    if gone:
        file.unlink()
    beside.write_bytes(changes)
    for _round in range(2):
        with pytest.raises(StoreError, match="damaged") as failure:
            store_in(tmp_path)
        assert Recovery(RecoveryKind.RECOVER_STORE) in failure.value.recoveries
        with pytest.raises(StoreError, match="damaged"):
            list(check_database(Program({"QWENCHAT_HOME": str(tmp_path)})))
    assert beside.read_bytes() == changes
    result = recover(file)
    assert result is not None and (result.sessions, result.messages, result.attachments) == (1, 4, 2)
    assert result.damaged.read_bytes() == b""
    assert result.damaged.with_name(result.damaged.name + "-wal").read_bytes() == changes
    assert [message.id for message in store_in(tmp_path).branch("q2")] == ["q1", "a2", "q2"]
