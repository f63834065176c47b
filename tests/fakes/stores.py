"""Stores on disk and values to put into them, for the tests of sessions."""

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from qwenchat.chat.message import Attachment, FinishReason, Message, Role, Status, Timings, Usage, text_parts
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.sessions.store import Store


def database_in(folder: Path) -> Path:
    """Return where a store of this folder keeps its database."""
    return folder / "data" / "sessions.db"


def store_in(folder: Path, **options: float) -> Store:
    """Open a store that gives up on a busy database quickly."""
    return Store(database_in(folder), busy_s=options.get("busy_s", 0.2))


def question(message_id: str, text: str, parent: str | None = None, *, session: str = "s", created: int = 1) -> Message:
    return Message(
        id=message_id, session=session, parent=parent, role=Role.USER, parts=text_parts(text), created=created
    )


def full_answer(message_id: str, text: str, parent: str, *, session: str = "s") -> Message:
    """Return an answer with every field set."""
    return Message(
        id=message_id,
        session=session,
        parent=parent,
        role=Role.ASSISTANT,
        parts=text_parts(text, (0, 151_645, 2**32 - 1)),
        created=2,
        status=Status.TRUNCATED,
        finished=3,
        model="7b:q4_k_m",
        model_file="f" * 32,
        sampling=Sampling(temperature=0.5, top_k=0, seed=7, stop=("END",)),
        finish_reason=FinishReason.LENGTH,
        usage=Usage(10, 5, 3),
        timings=Timings(load_s=0.1, decode_tps=33.3),
        error="a reason",
    )


def full_session(session_id: str = "s") -> Session:
    """Return a session with every field set."""
    return Session(
        id=session_id,
        created=1,
        updated=2,
        title="A title 标题",
        model="7b",
        system="Be brief.",
        sampling=Sampling(top_p=0.5),
        context=8192,
        tools=True,
        collections=("papers", "论文"),
        level=2,
        pinned=True,
        tags=("work", "中文"),
        draft="half a que",
        trashed=None,
    )


def filled(store: Store) -> None:
    """Keep a session `s` with two variants of an answer, a file with the question, and everything set."""
    file = Attachment("notes.txt", "text/plain", b"\x00\xffnotes")
    store.create(full_session())
    asked = question("q1", "How does C++ differ? 我爱北京")
    store.add(replace(asked, attachments=(file, Attachment("same.txt", "text/x", file.data))))
    store.add(full_answer("a1", "It has classes.", "q1"))
    store.add(full_answer("a2", "It has templates.", "q1"), question("q2", "Thanks", "a2", created=5))


def fake_clock(start: int = 1_000) -> Callable[[], int]:
    """Return a clock that goes on by one millisecond at each look."""
    ticks = iter(range(start, 1_000_000_000))
    return lambda: next(ticks)
