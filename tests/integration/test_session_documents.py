"""Documents in chats without a screen: what is indexed and where, what an answer is made from, what a chat leaves."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from qwenchat.chat.events import TurnEnded
from qwenchat.chat.message import Attachment, Message, ToolResult
from qwenchat.chat.session import Session
from qwenchat.documents.document import Document
from qwenchat.documents.index import chat_owner, collection_owner
from qwenchat.documents.levels.choice import Speed
from qwenchat.errors import NotFound, Recovery, RecoveryKind
from qwenchat.runtime.chat_service import ChatService
from qwenchat.runtime.events import ChatEvent, TurnReported
from qwenchat.runtime.program import Program
from tests.fakes.scripted import ScriptedEngine
from tests.tui.screens import until

PAGES = (
    "# Harbour\n\nThe lighthouse of Kestrel Bay has 214 steps.",
    "The baker's name is Odile Marchand.",
    "猫头鹰在夜里捕猎。",
)
BOOK = Attachment("bay.pdf", "application/pdf", "\f".join(PAGES).encode(), in_parts=True)
KEYWORDS = '{"keywords_en": ["lighthouse"]}'


@pytest.fixture
def program(home: Path) -> Iterator[Program]:
    program = Program.here()
    yield program
    program.close()


class Chat:
    """A chat service that reads by level 1, with the answers that ended."""

    def __init__(self, program: Program, *answers: str) -> None:
        self.engine = ScriptedEngine([text for answer in answers for text in (KEYWORDS, answer)], n_ctx=1 << 16)
        self.chats = ChatService(program, self.hear, lambda _model, _options: self.engine)
        self.ended: list[Message] = []

    def hear(self, event: ChatEvent) -> None:
        if isinstance(event, TurnReported) and isinstance(event.event, TurnEnded):
            self.ended.append(event.event.answer)

    async def new(self, *, private: bool = False, collections: tuple[str, ...] = ()) -> Session:
        session = self.chats.sessions.new("model", private=private)
        return await self.chats.sessions.change(session.id, level=1, collections=collections)

    async def answer(self, session: Session, question: str, *files: Attachment) -> Message:
        await self.chats.send(session.id, question, files)
        await until(lambda: self.ended)
        return self.ended.pop()


@asynccontextmanager
async def chat_with(program: Program, *answers: str) -> AsyncIterator[Chat]:
    chat = Chat(program, *answers)
    yield chat
    await chat.chats.close()


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_document_is_read_shown_and_deleted_with_its_chat(program: Program) -> None:
    async with chat_with(program, "It has 214 steps [1].") as chat:
        session = await chat.new()
        answer = await chat.answer(session, "How many steps has the lighthouse?", BOOK)
        assert answer.text == "It has 214 steps [1]."
        first = answer.citations[0]
        assert (first.number, first.document, first.page, first.digest) == (1, "bay.pdf", 1, BOOK.digest)
        assert "214 steps" in first.text and first.heading == "Harbour"
        assert "214 steps" in chat.engine.requests[-1].turns[-1].text
        store, documents = chat.chats.sessions.store(session.id), chat.chats.documents
        page = await documents.page_of(store, session, structs.replace(first, start=BOOK.text.index("baker")))
        assert (page.number, page.text) == (2, PAGES[1])
        assert await documents.text_of(store, session, BOOK.digest) == BOOK.text
        assert [(each.name, each.pages) for each in documents.known(session)] == [("bay.pdf", 3)]
        program.documents.drop(chat_owner(session.id))  # as if the chat had been imported
        assert (await documents.page_of(store, session, first)).text == PAGES[0]
        with pytest.raises(NotFound):
            await documents.page_of(store, session, structs.replace(first, digest="0" * 64))
        program.store.trash.delete_forever(session.id)
        assert program.documents.owners() == []
    assert b"Kestrel" not in written(program.paths.data)


async def test_a_private_chat_leaves_nothing_on_disk(program: Program) -> None:
    program.documents.add(collection_owner("birds"), [Document(name="o.txt", media_type="text/plain", text=PAGES[2])])
    async with chat_with(program, "214 [1].", "猫头鹰 [1]。") as chat:
        session = await chat.new(private=True, collections=("birds",))
        answer = await chat.answer(session, "How many steps has the lighthouse?", BOOK)
        assert "214 steps" in "".join(each.text for each in answer.citations)
        answer = await chat.answer(session, "谁在夜里捕猎？")
        assert "o.txt" in {each.document for each in answer.citations}
        names = {each.name for each in chat.chats.documents.known(session)}
        assert names == {"bay.pdf", "o.txt"}
    assert b"Kestrel" not in written(program.paths.data)
    assert program.documents.owners() == [collection_owner("birds")]


async def test_a_branch_reads_its_own_documents(program: Program) -> None:
    async with chat_with(program, "One.", "Two.") as chat:
        session = await chat.new()
        await chat.answer(session, "How many steps has the lighthouse?", BOOK)
        first = (await chat.chats.sessions.open(session.id)).branch[0]
        chat.engine.answers = ["No document."]
        await chat.chats.sessions.change(session.id, leaf=None)
        again = await chat.chats.edit(structs.replace(first, attachments=()), "How many steps?")
        await until(lambda: chat.ended)
        assert chat.ended.pop().citations == () and again.attachments == ()


async def test_an_answer_that_failed_before_its_first_word_is_tried_with_the_passages_that_it_has(
    program: Program,
) -> None:
    async with chat_with(program, "DIE") as chat:
        chat.engine.die = "DIE"
        chat.engine.capabilities = structs.replace(chat.engine.capabilities, continue_answer=False)
        session = await chat.new()
        failed = await chat.answer(session, "How many steps has the lighthouse?", BOOK)
        assert failed.citations == failed.parts and failed.parts
        chat.engine.answers, asked = ["It has 214."], len(chat.engine.requests)
        await chat.chats.retry(session.id, Recovery(RecoveryKind.START_AGAIN))
        await until(lambda: chat.ended)
        again = chat.ended.pop()
        assert (again.id, again.citations, again.text) == (failed.id, failed.citations, "It has 214.")
        assert len(chat.engine.requests) == asked + 1  # nothing was looked for again


async def test_collections_are_read_with_the_chat(program: Program) -> None:
    text = "The ferry to Skarholm leaves at dawn."
    program.documents.add(collection_owner("travel"), [Document(name="f.txt", media_type="text/plain", text=text)])
    async with chat_with(program, "At dawn [1].") as chat:
        session = await chat.new(collections=("travel", "gone"))
        answer = await chat.answer(session, "When does the ferry leave?")
        assert [(each.document, each.text) for each in answer.citations] == [("f.txt", text)]


async def test_a_chat_without_documents_opens_no_index(program: Program) -> None:
    async with chat_with(program) as chat:
        chat.engine.answers = ["Hello."]
        session = await chat.new()
        assert (await chat.answer(session, "Hi")).citations == ()
        assert chat.chats.documents.known(session) == []
    assert not program.paths.documents.exists()


async def test_the_model_may_search_where_a_chat_has_documents(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QWENCHAT_TOOLS_ENABLED", "true")
    program = Program.here()
    async with chat_with(program, "Some steps.") as chat:
        session = await chat.new()
        assert "search_documents" not in {each.name for each in await chat.chats.tools.specs(session)}
        assert "search_documents" not in {*await chat.chats.tools.own(session), *await chat.chats.tools.all(session)}
        assert "search_documents" in await chat.chats.tools.all()
        await chat.answer(session, "How many steps has the lighthouse?", BOOK)
        assert "search_documents" in {each.name for each in await chat.chats.tools.specs(session)}
        assert "search_documents" in await chat.chats.tools.own(session)
        chat.engine.answers = [KEYWORDS, 'call:search_documents:{"words":"baker"}', "Odile."]
        chat.engine.requests.clear()
        answer = await chat.answer(session, "Who bakes?")
        [result] = [part for part in answer.parts if isinstance(part, ToolResult)]
        assert "bay.pdf" in result.text and "Odile Marchand" in result.text and not result.is_error
    program.close()


async def test_what_is_predicted_for_documents(program: Program) -> None:
    small = Attachment("a.txt", "text/plain", b"a" * 20_000)
    large = Attachment("b.txt", "text/plain", b"b " * 15_000)
    huge = Attachment("c.txt", "text/plain", b"word " * 300_000)
    speed = Speed(prefill_tps=100.0, decode_tps=10.0)
    async with chat_with(program) as chat:
        session = await chat.new()
        model = chat.chats.model
        assert await model.count_documents(session, [small]) is None  # not loaded
        assert await model.forecast(session, "Why?", [], speed) is None
        await model.load(session)
        counts = [await model.count_documents(session, [each]) for each in (small, large, huge)]
        both = await model.count_documents(session, [small, large])
        assert all(counts) and both and both.tokens == sum(each.tokens for each in counts[:2] if each)
        found = await model.forecast(session, "Why?", [(each, None) for each in counts if each], speed)
        assert found and [each.fits_well for each in found] == [True, False, False]
        assert [each.fits for each in found] == [True, True, False]
        assert [each.is_exact for each in found] == [True, True, False]
        assert found[0].tokens == 20_000 + len("a.txt\n```\n\n```") + 4
        assert found[1].room == found[0].room - found[0].tokens
        assert found[0].whole_s == found[0].tokens / 100 and set(found[0].level_s) == {1, 2, 3}
        again = await model.forecast(
            session, "Why?", [(each, at == 0 or None) for at, each in enumerate(counts[:2]) if each], None
        )
        assert again and again[1].fits_well and again[1].whole_s is None and not again[1].level_s
