"""Conversations for the tests of export and import: made by hand, made at random, and a store that keeps them."""

from collections.abc import Sequence

from hypothesis import strategies as st
from msgspec import structs

from qwenchat.chat.memory import no_such_session
from qwenchat.chat.message import (
    Attachment,
    Citation,
    FinishReason,
    Message,
    Part,
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
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.sessions import exporters
from qwenchat.sessions.archive import MAX_TIME, Archive, normal

NASTY = (
    "\0",
    "\x1b[31m\x1b]52;c;aGk=\x07",
    "\u202egnp.exe\u202c",
    "مرحبا",
    "👩‍👩‍👧‍👦🇨🇳",
    "你好,**注意:**请看",
    "```python\nprint(1)",
    "~~~~\n```\n# not a turn",
    "\n---\n",
    "\n...\n",
    "\n# You\n",
    "\nYou\n===\n",
    "<script>alert(1)</script>",
    "<!-- ",
    "<pre>",
    "</style></title>",
    "[x](javascript:alert(1))",
    "![x](http://example.com/x.png)",
    "<img src=x onerror=alert(1)>",
    "&lt;&#0;",
    "\r\n\x85\u2028\x7f\ufffe",
    "{{ x }} %s \\u0041 \\",
    '"quoted"',
    "'; DROP TABLE messages; --",
    "$x_1$ \\(a_b\\) $5",
    "\ttab   ",
    "> quoted\n> ```",
    "- a\n  - b\n\n    ```\n",
    "huge " * 400,
)


def texts() -> st.SearchStrategy[str]:
    """Any text, nasty pieces among it; no lone surrogates, which no store can keep."""
    piece = st.one_of(st.sampled_from(NASTY), st.text(max_size=12))
    return st.lists(piece, max_size=5).map("".join)


def optional(values: st.SearchStrategy[int]) -> st.SearchStrategy[int | None]:
    return st.one_of(st.none(), values)


TIMES = st.integers(0, MAX_TIME - 1)
COUNTS = st.integers(0, 2**40)
SECONDS = st.floats(0, 1e6, allow_nan=False)


@st.composite
def samplings(draw: st.DrawFn) -> Sampling:
    return Sampling(
        temperature=draw(st.one_of(st.none(), st.floats(0, 2))),
        top_p=draw(st.one_of(st.none(), st.floats(0, 1))),
        top_k=draw(optional(st.integers(0, 1000))),
        seed=draw(optional(st.integers(0, 2**32 - 2))),
        max_tokens=draw(optional(st.integers(1, 2**31 - 1))),
        stop=tuple(draw(st.lists(texts().filter(bool), max_size=2))),
        schema=draw(st.one_of(st.none(), texts())),
    )


TOKENS = st.lists(st.integers(0, 151_935), max_size=5).map(tuple)


def answer_parts() -> st.SearchStrategy[tuple[Part, ...]]:
    """The parts of any answer: one text, or reasoning, tools and texts that say something."""
    some = texts().filter(str.strip)
    part = st.one_of(
        st.builds(Text, some, TOKENS),
        st.builds(Reasoning, texts(), TOKENS),
        st.builds(ToolCall, texts(), texts(), texts(), TOKENS),
        st.builds(ToolResult, texts(), texts(), texts(), st.booleans(), COUNTS),
        st.builds(
            Citation,
            number=COUNTS,
            document=texts(),
            digest=texts(),
            start=COUNTS,
            text=texts(),
            page=optional(COUNTS),
            heading=texts(),
        ),
    )
    return st.one_of(st.builds(text_parts, texts(), TOKENS), st.lists(part, max_size=5).map(tuple))


@st.composite
def messages(draw: st.DrawFn, number: int, session: str) -> Message:
    role = draw(st.sampled_from(Role))
    attachment = st.builds(Attachment, texts(), texts(), st.binary(max_size=40), st.booleans())
    return Message(
        id=f"{session}-{number}",
        session=session,
        parent=draw(st.sampled_from([None, *(f"{session}-{before}" for before in range(number))])),
        role=role,
        parts=draw(answer_parts()) if role is Role.ASSISTANT else text_parts(draw(texts()), draw(TOKENS)),
        created=draw(TIMES),
        status=draw(st.sampled_from(Status)),
        finished=draw(optional(TIMES)),
        model=draw(texts()),
        model_file=draw(texts()),
        sampling=draw(st.one_of(st.none(), samplings())),
        finish_reason=draw(st.one_of(st.none(), st.sampled_from(FinishReason))),
        usage=draw(
            st.one_of(
                st.none(), st.builds(Usage, COUNTS, COUNTS, COUNTS, drafted_by=st.sampled_from(["", "Qwen2 0.5B"]))
            )
        ),
        timings=draw(st.one_of(st.none(), st.builds(Timings, *[SECONDS] * 6))),
        attachments=tuple(draw(st.lists(attachment, max_size=2))),
        error=draw(texts()),
        summarises=draw(COUNTS) if role is Role.USER else 0,
    )


@st.composite
def archives(draw: st.DrawFn, name: str = "s") -> Archive:
    """Any conversation that the program can make: any tree, any text, any leaf."""
    made = [draw(messages(number, name)) for number in range(draw(st.integers(0, 6)))]
    session = Session(
        id=name,
        created=draw(TIMES),
        updated=draw(TIMES),
        title=draw(texts()),
        model=draw(texts()),
        system=draw(texts()),
        sampling=draw(samplings()),
        context=draw(optional(st.integers(1, 2**31 - 1))),
        collections=tuple(draw(st.lists(texts(), max_size=2))),
        level=draw(optional(st.integers(1, 3))),
        leaf=draw(st.sampled_from([None, *(message.id for message in made)])),
        pinned=draw(st.booleans()),
        tags=tuple(draw(st.lists(texts(), max_size=2))),
        draft=draw(texts()),
        trashed=draw(optional(TIMES)),
    )
    return Archive(session, tuple(made))


def talk(*words: str, session: str = "s1", title: str = "Talk", system: str = "") -> Archive:
    """A conversation without branches: questions and answers in turn."""
    made: list[Message] = []
    for number, text in enumerate(words):
        role = Role.ASSISTANT if number % 2 else Role.USER
        model = "7b:q4_k_m" if number % 2 else ""
        parent = made[-1].id if made else None
        made.append(
            Message(
                id=f"{session}-{number}",
                session=session,
                parent=parent,
                role=role,
                parts=text_parts(text),
                created=1_750_000_000_000 + number,
                model=model,
            )
        )
    leaf = made[-1].id if made else None
    return Archive(
        Session(
            id=session, created=1_750_000_000_000, updated=1_750_000_060_000, title=title, system=system, leaf=leaf
        ),
        tuple(made),
    )


def branching() -> Archive:
    """A question answered twice, then asked in other words; the second answer of the first is being read."""
    first = talk("Q one", "A one", title="Tree")
    question, answer = first.messages
    again = structs.replace(
        answer, id="s1-again", parts=text_parts("A two"), created=answer.created + 1, status=Status.STOPPED
    )
    edited = structs.replace(question, id="s1-edit", parts=text_parts("Q two"), created=question.created + 9)
    below = structs.replace(
        answer, id="s1-below", parent=edited.id, parts=text_parts("A three"), created=question.created + 10
    )
    session = structs.replace(first.session, leaf=again.id)
    return Archive(session, (question, answer, again, edited, below))


def with_file(archive: Archive, name: str, data: bytes, media_type: str = "text/plain") -> Archive:
    """The conversation with a file attached to its first question."""
    first, *others = archive.messages
    return structs.replace(
        archive, messages=(structs.replace(first, attachments=(Attachment(name, media_type, data),)), *others)
    )


def exported(name: str, *given: Archive, all_branches: bool = False) -> str:
    """What a format writes for these conversations."""
    return "".join(exporters.named(name).write(map(normal, given), all_branches))


class MemoryArchives:
    """A store as export and import see it: `archive.ArchiveStore` and the look-ups of the command line."""

    def __init__(self, *archives: Archive) -> None:
        self.archives: dict[str, Archive] = {}
        self.add_archives(archives)

    def archive(self, session_id: str) -> Archive:
        try:
            return self.archives[session_id]
        except KeyError:
            raise no_such_session(session_id) from None

    def add_archives(self, archives: Sequence[Archive]) -> int:
        changed = 0
        for archive in archives:
            there = self.archives.get(archive.session.id)
            known = {message.id for message in there.messages} if there else set()
            new = tuple(message for message in archive.messages if message.id not in known)
            if there is None or new:
                session = structs.replace(there.session, leaf=archive.session.leaf) if there else archive.session
                before = there.messages if there else ()
                self.archives[session.id] = Archive(session, (*before, *new))
                changed += 1
        return changed

    def find(self, prefix: str) -> Session:
        found = [archive.session for name, archive in self.archives.items() if name.startswith(prefix)]
        if len(found) != 1:
            raise no_such_session(prefix)
        return found[0]

    def sessions(self) -> list[Session]:
        return [archive.session for archive in self.archives.values() if archive.session.trashed is None]
