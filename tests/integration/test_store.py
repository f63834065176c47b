"""The store returns from the disk exactly what was given to it."""

import stat
import threading
import weakref
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.message import (
    Attachment,
    Citation,
    FinishReason,
    Message,
    Reasoning,
    Role,
    Status,
    Text,
    Timings,
    ToolCall,
    ToolResult,
    Usage,
    text_parts,
)
from qwenchat.chat.ports import SessionStore
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.chat.turn import Turns
from qwenchat.errors import NotFound, StoreError, WrongUse
from qwenchat.sessions.store import Store
from tests.fakes.scripted import ScriptedEngine
from tests.fakes.stores import database_in, fake_clock, filled, full_answer, full_session, question, store_in


def test_everything_is_stored(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    store.close()
    store = store_in(tmp_path)
    assert store.session("s") == replace(full_session(), leaf="q2", updated=5)
    asked, answer, thanks = store.branch("q2")
    assert asked.attachments[0] == Attachment("notes.txt", "text/plain", b"\x00\xffnotes")
    assert answer == full_answer("a2", "It has templates.", "q1")
    assert thanks == question("q2", "Thanks", "a2", created=5)
    assert [message.id for message in store.tree("s").variants("a2")] == ["a1", "a2"]
    assert store.tree("s")["q1"].attachments == asked.attachments
    assert store.branch(None) == store.branch("unknown") == []
    store.close()


def test_a_message_that_is_in_memory_is_not_read_again(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    branch = store.branch("q2")
    assert all(again is before for again, before in zip(store.branch("q2"), branch, strict=True))
    assert store.tree("s")["a2"] is branch[1]
    answer = weakref.ref(branch[1])
    del branch
    assert answer() is None
    assert store.branch("q2")[1] == full_answer("a2", "It has templates.", "q1")


def test_what_another_program_has_changed_is_read_again(tmp_path: Path) -> None:
    store, other = store_in(tmp_path), store_in(tmp_path)
    answer = streaming_answer(store)
    store.append("a", [Text("One")])
    store.amend(replace(answer, status=Status.STOPPED, finished=5))
    asked, stopped = store.branch("a")
    with other.streaming("s"):
        other.amend(replace(stopped, status=Status.STREAMING, finished=None))
        other.append("a", [Text(" two")])
        assert store.branch("a")[1].text == "One two"
        other.amend(replace(stopped, status=Status.STOPPED, finished=6))
    assert [store.branch("a")[0] is asked, store.branch("a")[1].text] == [True, "One two"]


texts = st.text(st.characters(codec="utf-8"), max_size=30)
times = st.integers(0, 2**53)
seconds = st.floats(0, 1e9, allow_nan=False)
samplings = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_k=st.none() | st.integers(0, 100),
    seed=st.none() | st.integers(0, 2**32 - 2),
    stop=st.lists(texts, max_size=2).map(tuple),
    schema=st.none() | texts,
)
token_ids = st.lists(st.integers(0, 2**32 - 1), max_size=20).map(tuple)
parts_of_any_kind = st.lists(
    st.one_of(
        st.builds(Text, texts, token_ids).filter(lambda part: part != Text("")),
        st.builds(Reasoning, texts, token_ids),
        st.builds(ToolCall, texts, texts, texts, token_ids),
        st.builds(ToolResult, texts, texts, texts, st.booleans(), times),
        st.builds(
            Citation,
            number=times,
            document=texts,
            digest=texts,
            start=times,
            text=texts,
            page=st.none() | times,
            heading=texts,
        ),
    ),
    max_size=4,
).map(tuple)
messages = st.builds(
    Message,
    id=st.just("m"),
    session=st.just("s"),
    parent=st.none(),
    role=st.just(Role.ASSISTANT),
    parts=parts_of_any_kind,
    created=times,
    status=st.sampled_from([status for status in Status if status is not Status.STREAMING]),
    finished=st.none() | times,
    model=texts,
    model_file=texts,
    sampling=st.none() | samplings,
    finish_reason=st.none() | st.sampled_from(FinishReason),
    usage=st.none() | st.builds(Usage, times, times, times),
    timings=st.none() | st.builds(Timings, seconds, seconds, seconds),
    attachments=st.lists(st.builds(Attachment, texts, texts, st.binary(max_size=50), st.booleans()), max_size=3).map(
        tuple
    ),
    error=texts,
    summarises=times,
)
sessions = st.builds(
    Session,
    id=st.just("s"),
    created=times,
    updated=times,
    title=texts,
    model=texts,
    system=texts,
    sampling=samplings,
    collections=st.lists(texts, max_size=2).map(tuple),
    level=st.none() | st.integers(1, 3),
    leaf=st.none() | texts,
    pinned=st.booleans(),
    tags=st.lists(texts, max_size=3).map(tuple),
    draft=texts,
    trashed=st.none() | times,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(session=sessions, message=messages)
def test_any_session_and_message_come_back_equal(tmp_path: Path, session: Session, message: Message) -> None:
    store = store_in(tmp_path)
    store.create(session)
    assert store.session("s") == session
    store.add(message)
    assert store.branch("m") == [message] == list(store.tree("s"))
    store.trash.delete_forever("s")
    with pytest.raises(NotFound):
        store.session("s")
    store.close()


def test_text_that_is_not_utf8_is_replaced(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.create(Session(id="s", created=1, updated=1, title="a\ud800b"))
    store.add(question("q", "x\udc00\0y"))
    assert store.session("s").title == "a\ufffdb"
    assert store.branch("q")[0].text == "x\ufffd\0y"


def test_an_answer_grows_and_is_searched_when_it_ends(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.create(Session(id="s", created=1, updated=1))
    answer = Message(
        id="a", session="s", parent="q", role=Role.ASSISTANT, parts=text_parts(""), created=2, status=Status.STREAMING
    )
    store.add(question("q", "Say something"), answer)
    store.append("a", [Text("marvel", (1, 2))])
    store.append("a", [Text("lous", (3,))])
    assert store.branch("a")[-1] == replace(answer, parts=(Text("marvellous", (1, 2, 3)),))
    assert not store.search.find("marvellous").hits
    store.amend(replace(answer, status=Status.STOPPED))
    assert store.search.find("marvellous").hits
    store.amend(replace(answer, status=Status.STREAMING))
    store.append("a", [Text(" indeed", (4,))])
    store.amend(replace(answer, status=Status.COMPLETE, finished=9))
    assert store.branch("a")[-1].text == "marvellous indeed"
    assert store.branch("a")[-1].token_ids == (1, 2, 3, 4)
    assert [hit.message for hit in store.search.find('"marvellous indeed"').hits] == ["a"]
    with pytest.raises(NotFound):
        store.append("a", [Text("too late", (5,))])


CALL = ToolCall("c1", "clock", '{"zone": "UTC"}', (7, 8))
RESULT = ToolResult("c1", "clock", "12:00", took_ms=3)


def streaming_answer(store: Store) -> Message:
    """Store a session `s` with a question and return the empty answer to it, which is stored too."""
    store.create(Session(id="s", created=1, updated=1))
    answer = Message(id="a", session="s", parent="q", role=Role.ASSISTANT, parts=(), created=2, status=Status.STREAMING)
    store.add(question("q", "What time is it?"), answer)
    return answer


def test_an_answer_grows_by_parts_of_every_kind(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    answer = streaming_answer(store)
    cited = [Citation(number=n, document="时.pdf", digest="d", start=n, text="Noon.", page=n) for n in (1, 2)]
    store.append("a", cited)
    store.append("a", [Reasoning("I must", (1,)), Reasoning(" look", (2,))])
    store.append("a", [Reasoning(" at it.", (3,)), CALL, RESULT])
    store.append("a", [Text("It is", (4,))])
    store.append("a", [Text(" noon.", (5,))])
    parts = (*cited, Reasoning("I must look at it.", (1, 2, 3)), CALL, RESULT, Text("It is noon.", (4, 5)))
    assert store.branch("a")[-1].parts == parts
    store.amend(replace(answer, status=Status.STOPPED))
    assert store.branch("a")[-1].parts == parts == store.tree("s")["a"].parts
    assert (store.branch("a")[-1].text, store.branch("a")[-1].token_ids) == ("It is noon.", (1, 2, 3, 7, 8, 4, 5))
    assert [hit.message for hit in store.search.find("noon").hits] == ["a"]
    store.amend(replace(answer, status=Status.STREAMING))
    store.append("a", [Text(" Or so.", (6,)), CALL])
    grown = (*parts[:5], Text("It is noon. Or so.", (4, 5, 6)), CALL)
    assert store.branch("a")[-1].parts == grown
    store.close()
    store = store_in(tmp_path)
    assert (store.branch("a")[-1].parts, store.branch("a")[-1].status) == (grown, Status.INTERRUPTED)
    store.trash.delete_forever("s")
    with store._database.read() as connection:
        assert not connection.execute("SELECT n FROM parts UNION SELECT n FROM pieces").fetchall()


def test_tokens_stand_for_a_part_only_where_all_of_them_are_known(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    answer = streaming_answer(store)
    store.append("a", [Text("known", (1,))])
    store.append("a", [Text(" unknown")])
    assert store.branch("a")[-1].parts == (Text("known unknown"),)
    store.amend(replace(answer, status=Status.COMPLETE))
    assert store.branch("a")[-1].parts == (Text("known unknown"),)


def test_the_first_question_gives_the_title(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.create(Session(id="s", created=1, updated=1))
    store.add(question("q", "\nWhy  is it so?\nTell me", created=7))
    assert (store.session("s").title, store.session("s").updated) == ("Why is it so?", 7)
    store.label("s", title="Mine")
    store.add(question("q2", "Another", "q"))
    assert store.session("s").title == "Mine"
    assert [hit.title for hit in store.search.find("mine").hits] == ["Mine"]
    assert not [hit for hit in store.search.find("why").hits if hit.message is None]


def test_a_message_needs_its_session_and_its_parent(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with pytest.raises(NotFound):
        store.add(question("q", "Hi"))
    store.create(Session(id="s", created=1, updated=1))
    with pytest.raises(NotFound):
        store.add(question("q", "Hi"), question("r", "Hi", "nowhere"))
    assert len(store.tree("s")) == 0
    store.create(Session(id="other", created=1, updated=1))
    store.add(replace(question("theirs", "Hi"), session="other"))
    with pytest.raises(NotFound):
        store.add(question("q", "Hi", "theirs"))
    with pytest.raises(StoreError):
        store.create(Session(id="s", created=1, updated=1))
    with pytest.raises(NotFound):
        store.update(Session(id="t", created=1, updated=1))


def test_together_is_all_or_nothing(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with pytest.raises(RuntimeError), store.transaction():
        store.create(Session(id="s", created=1, updated=1))
        store.add(question("q", "Hi"))
        assert len(store.tree("s")) == 1
        raise RuntimeError
    assert store.listing.count() == 0
    with store.transaction():
        store.create(Session(id="s", created=1, updated=1))
        store.add(question("q", "Hi"))
    assert store.listing.newest()[0].messages == 1


async def test_turns_run_the_same_as_in_memory(tmp_path: Path) -> None:
    async def play(store: SessionStore) -> list[Message]:
        ids = iter(f"m{n:02}" for n in range(100))
        store.create(Session(id="s", created=0, updated=0))
        engine = ScriptedEngine(["one two", "three", "four", " five"])
        turns = Turns(store=store, engine=engine, new_id=lambda: next(ids), clock=fake_clock())
        for _round in range(2):
            async for _event in turns.ask("s", "Hi", [Attachment("a", "b", b"c")]):
                pass
        asked, answer = store.branch("m01")
        async for _event in turns.regenerate(asked):
            pass
        async for _event in turns.continue_answer(answer):
            pass
        return [replace(message, timings=None) for message in store.tree("s")]

    assert await play(store_in(tmp_path)) == await play(MemoryStore())


def test_the_newest_come_first_by_pages(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for n in range(7):
        tags = ("even",) if n % 2 == 0 else ()
        store.create(Session(id=f"s{n}", created=n, updated=n, pinned=n == 2, tags=tags, title=str(n)))
    store.trash.put("s5")
    assert [entry.session.id for entry in store.listing.newest(3)] == ["s2", "s6", "s4"]
    assert [entry.session.id for entry in store.listing.newest(3, 3)] == ["s3", "s1", "s0"]
    assert [entry.session.id for entry in store.listing.newest(trashed=True)] == ["s5"]
    assert [entry.session.id for entry in store.listing.newest(tag="even")] == ["s2", "s6", "s4", "s0"]
    assert (store.listing.count(), store.listing.count(trashed=True), store.listing.count(tag="even")) == (6, 1, 4)
    assert store.listing.tags() == {"even": 4}
    latest = store.listing.latest()
    assert latest is not None and latest.id == "s6"


def test_ids_by_prefix(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert store.listing.latest() is None
    for session_id in ("0198aaaa-1111", "0198aaaa-1122", "0198bbbb-2222", "0198bbbb"):
        store.create(Session(id=session_id, created=1, updated=1))
    assert store.listing.resolve("0198AAAA-112") == "0198aaaa-1122"
    assert store.listing.resolve("0198bbbb") == "0198bbbb"
    with pytest.raises(WrongUse, match="0198aaaa-1122"):
        store.listing.resolve("0198aaaa")
    for unknown in ("7", "", "%", "0198aaaa-1111-9", "'"):
        with pytest.raises(NotFound):
            store.listing.resolve(unknown)
    assert store.listing.short("0198aaaa-1111") == "0198aaaa-111"
    assert store.listing.short("0198bbbb-2222") == "0198bbbb-"


def test_duplicate_shares_files_and_nothing_else(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    copy = store.duplicate("s")
    assert store.session(copy.id) == copy
    assert [message.text for message in store.branch(copy.leaf)] == [message.text for message in store.branch("q2")]
    assert len(store.tree(copy.id)) == 4 and copy.leaf != "q2"
    assert store.branch(copy.leaf)[0].attachments == store.branch("q2")[0].attachments
    store.trash.delete_forever("s")
    assert store.branch(copy.leaf)[0].attachments[0].data == b"\x00\xffnotes"
    assert {hit.session for hit in store.search.find("templates").hits} == {copy.id}


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    with store.streaming("s"):
        for path in (tmp_path / "data").rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_threads_read_and_write_at_once(tmp_path: Path) -> None:
    store = store_in(tmp_path, busy_s=30)
    store.create(Session(id="s", created=1, updated=1))
    failures: list[Exception] = []

    def work(n: int) -> None:
        try:
            for round_ in range(15):
                store.add(question(f"m{n}-{round_}", f"words {n}"))
                assert store.branch(f"m{n}-{round_}") and store.search.find("words").hits
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(store.tree("s")) == 90
    store.close()
    store.close()


def test_one_turn_a_session(tmp_path: Path) -> None:
    store, other = store_in(tmp_path), Store(database_in(tmp_path))
    store.create(Session(id="../s", created=1, updated=1))
    with store.streaming("../s"):
        for second in (store, other):
            with pytest.raises(StoreError), second.streaming("../s"):
                pass
        with other.streaming("t"):
            pass
    with other.streaming("../s"):
        pass
    assert not list((tmp_path / "data" / "locks").iterdir())
