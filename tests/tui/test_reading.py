"""Reading documents for an answer: its progress, what was found, reading less, pausing; and the documents of a chat."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from textual.widgets import Button, OptionList, Select, Static

from qwenchat.chat.events import Reading
from qwenchat.chat.message import Attachment, Citation, Message, Status
from qwenchat.chat.ports import Engine
from qwenchat.documents.levels.choice import Speed
from qwenchat.runtime.session_documents import SessionDocuments, SessionSources
from qwenchat.tui.dialogs.collections import CollectionsScreen
from qwenchat.tui.dialogs.documents import DocumentsScreen
from qwenchat.tui.widgets.document_panel import DocumentPanel
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import is_open, until

BOOK = Attachment("book.pdf", "application/pdf", b"One\fTwo owls.\fThree", in_parts=True)
OWLS = Citation(number=1, document="book.pdf", digest=BOOK.digest, start=4, text="Two owls.", page=2)


@pytest.fixture(autouse=True)
def _home(home: Path) -> None:
    """Nothing here touches the user's files."""


class SlowSources:
    """Reads until it is told to go on; level 1 finds at once."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.levels: list[int | None] = []

    async def find(
        self, of: SessionSources, _engine: Engine, _branch: Sequence[Message], _room: int
    ) -> AsyncGenerator[Reading | Citation, None]:
        level = of._session.level
        self.levels.append(level)
        if level != 1:
            yield Reading(2, 0, 0, 0)
            yield Reading(2, 0, 1_954, 720)
            yield Reading(2, 120, 1_954, 680, 8, "Two\x1b[31m [b]owls[/b] hunt.")
            await self.go_on.wait()
        yield OWLS


@asynccontextmanager
async def reading() -> AsyncIterator[tuple[Chatting, SlowSources]]:
    sources = SlowSources()

    async def find(
        of: SessionSources, engine: Engine, branch: Sequence[Message], room: int
    ) -> AsyncGenerator[Reading | Citation, None]:
        async for each in sources.find(of, engine, branch, room):
            yield each

    with patch.object(SessionSources, "find", find):
        async with chatting("By ear [1].", size=(130, 30), notifications=True) as it:
            it.write("How?")
            it.chat.asking.submit("How?", (BOOK,))
            await until(lambda: "reading part 120" in it.chat.gauge.activity)
            yield it, sources


def rows(it: Chatting) -> str:
    view = it.transcript
    return "\n".join(view.render_line(y).text.rstrip() for y in range(view.size.height))


async def test_the_line_below_says_how_far_reading_is_and_the_answer_what_was_found() -> None:
    async with reading() as (it, sources):
        assert it.chat.gauge.activity == "reading part 120 of 1,954 · 8 found · 11:20 left · Esc pauses"
        await until(lambda: "Found so far: Two[31m [b]owls[/b] hunt.  only search" in rows(it))
        assert it.chat.header.render().plain.endswith("docs")
        sources.go_on.set()
        await it.idle()
        assert it.texts[-1] == "By ear [1]."
        assert "Found so far" not in rows(it)
        assert "▸ Sources: 1 book.pdf p. 2" in rows(it)


async def test_reading_pauses_and_continue_goes_on_in_the_same_answer() -> None:
    async with reading() as (it, sources):
        await it.pilot.press("escape")
        await until(lambda: it.messages[-1].status is Status.STOPPED)
        await until(lambda: any("Reading is paused" in said for said in it.said))
        paused = it.messages[-1].id
        sources.go_on.set()
        await it.pilot.press("f6", "c")
        await until(lambda: it.texts[-1] == "By ear [1].")
        await it.idle()
        assert it.messages[-1].id == paused
        assert it.transcript.column.layouts[-1].variant.count == 1


async def test_less_can_be_read_while_it_reads() -> None:
    async with reading() as (it, sources):
        await it.do("read_less")
        await until(lambda: it.texts[-1] == "By ear [1].")
        await it.idle()
        assert sources.levels == [None, 1]
        assert it.chat.session.level == 1
        assert len(it.messages) == 2


# The documents of a chat


def lines(it: Chatting) -> list[str]:
    if not it.app.screen.query(OptionList):
        return []
    listed = it.app.screen.query_one(OptionList)
    return [" ".join(str(listed.get_option_at_index(at).prompt).split()) for at in range(listed.option_count)]


async def opened(it: Chatting) -> None:
    it.write("/docs")
    await it.pilot.press("enter")
    await until(lambda: isinstance(it.app.screen, DocumentsScreen) and it.app.screen._is_read)


async def test_a_chat_lists_its_documents_and_shows_one_of_them() -> None:
    async with reading() as (it, sources):
        sources.go_on.set()
        await it.idle()
        await opened(it)
        (line,) = lines(it)
        assert line.startswith("book.pdf 3 pages ≈ ")
        await it.pilot.press("enter")
        await until(lambda: it.chat.has_class("page"))
        await until(
            lambda: "Two owls." in "".join(it.chat.query_one(DocumentPanel).view.render_line(y).text for y in range(8))
        )


async def test_the_levels_say_how_long_they_take() -> None:
    with patch.object(SessionDocuments, "speed", lambda _of, _file: Speed(prefill_tps=100, decode_tps=10)):
        async with reading() as (it, sources):
            sources.go_on.set()
            await it.idle()
            await opened(it)
            about = it.app.screen.query_one("#about-level", Static)
            assert "Time until the answer begins, about: 1 · 0:07, 2 · 0:07, 3 · 2:11" in str(about.visual)
            it.app.screen.query_one("#level", Select).value = 2
            await until(lambda: str(about.visual).startswith("The model judges every part"))
            await it.pilot.press("escape")
            await until(lambda: it.chat.session.level == 2)


async def test_collections_are_made_used_and_removed(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "owls.md").write_text("# Owls\n\nThey hunt by ear.\n")
    async with chatting(size=(110, 36)) as it:
        await opened(it)
        assert lines(it) == []
        it.app.screen.query_one("#collections", Button).press()
        await until(lambda: is_open(it.app, CollectionsScreen))
        await it.pilot.press("enter")
        await until(lambda: it.app.screen.query("Input"))
        await it.pilot.press(*str(tmp_path / "notes"), "enter")
        await until(lambda: "Name of the collection" in str(it.app.screen.query_one(".heading", Static).visual))
        await it.pilot.press("enter")
        await until(lambda: any(line.startswith("documents 1 document ≈ ") for line in lines(it)))
        await it.pilot.press("escape")
        await until(lambda: isinstance(it.app.screen, DocumentsScreen) and it.app.screen._is_read)
        assert lines(it)[0].startswith("[ ] documents 1 document")
        it.app.screen.query_one(OptionList).focus()
        await it.pilot.press("enter")
        await until(lambda: lines(it)[0].startswith("[x] documents") and lines(it)[1].startswith("owls.md"))
        it.app.screen.query_one("#level", Select).value = 2
        await it.pilot.pause()
        await it.pilot.press("escape")
        await until(lambda: it.chat.session.collections == ("documents",))
        assert it.chat.session.level == 2
        await until(lambda: it.chat.header.render().plain.endswith("docs"))
        await it.do("collections")
        await until(lambda: is_open(it.app, CollectionsScreen) and lines(it))
        await it.pilot.press("delete")
        await until(lambda: it.app.screen.query("#yes"))
        it.app.screen.query_one("#yes", Button).press()
        await until(lambda: is_open(it.app, CollectionsScreen) and not lines(it))
        assert (tmp_path / "notes" / "owls.md").exists()
        await it.pilot.press("escape")
