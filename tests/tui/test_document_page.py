"""The page beside the answer: a key or a click opens it at the passage; it has keys of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.widgets import Static

from qwenchat.chat.message import Attachment, Citation, Message, Role, Text, text_parts
from qwenchat.chat.session import Session
from qwenchat.runtime.program import Program
from qwenchat.tui.app import Start
from qwenchat.tui.transcript.document_view import DocumentView, sections
from qwenchat.tui.widgets.document_panel import DocumentPanel
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import click, until

THEN = 1_768_000_000_000
PAGES = [f"Page {number} of the book.\n" + "Nothing of note.\n" * 40 for number in range(1, 31)]
PAGES[11] = "About birds.\nThe owl\x1b[31m hunts by ear.\n[b]Silent[/b].\n" + "Hawks do not.\n" * 30
BOOK = Attachment("book.pdf", "application/pdf", "\f".join(PAGES).encode(), in_parts=True)
PASSAGE = "The owl\x1b[31m hunts by ear."
START = BOOK.text.index(PASSAGE)
OWL = Citation(number=1, document="book.pdf", digest=BOOK.digest, start=START, text=PASSAGE, page=12, heading="Owls")
LAST = Citation(number=2, document="book.pdf", digest=BOOK.digest, start=len(BOOK.text) - 17, text="Nothing of note.")
GONE = Citation(number=3, document="gone.md", digest="0" * 64, start=9, text="What it said.")


@pytest.fixture(autouse=True)
def _home(home: Path) -> None:
    """Nothing here touches the user's files."""


def store_chat(program: Program) -> None:
    """Store a chat with a document and an answer that cites it."""
    session = Session(id="s1", created=THEN, updated=THEN, title="Birds", model="guide")
    program.store.create(session)
    asked = Message(
        id="q1",
        session="s1",
        parent=None,
        role=Role.USER,
        parts=text_parts("How?"),
        created=THEN,
        attachments=(BOOK,),
    )
    told = Message(
        id="a1",
        session="s1",
        parent="q1",
        role=Role.ASSISTANT,
        parts=(OWL, LAST, GONE, Text("By ear [1], and so on [2, 3].")),
        created=THEN,
        model="guide",
    )
    program.store.add(asked)
    program.store.add(told)


@asynccontextmanager
async def reading(size: tuple[int, int] = (140, 30)) -> AsyncIterator[Chatting]:
    """That chat on the screen."""
    program = Program.here()
    store_chat(program)
    program.close()
    async with chatting(size=size, start=Start(model="guide", session="s1")) as it:
        await until(lambda: len(it.messages) == 2)
        yield it


def panel(it: Chatting) -> DocumentPanel | None:
    return next(iter(it.chat.query(DocumentPanel)), None) if it.chat.has_class("page") else None


def view(it: Chatting) -> DocumentView:
    return it.chat.query_one(DocumentView)


def title(it: Chatting) -> str:
    return str(it.chat.query_one("#document-title", Static).visual)


def rows(it: Chatting) -> list[str]:
    shown = view(it)
    return [shown.render_line(y).text.rstrip() for y in range(shown.size.height)]


async def opened(it: Chatting) -> None:
    await it.pilot.press("f6", "o")
    await until(lambda: panel(it) and view(it).has_focus and "page 12" in title(it))


async def test_a_key_opens_the_passage_and_escape_leads_back() -> None:
    async with reading() as it:
        await opened(it)
        assert title(it) == "[1] book.pdf · page 12 · Owls"
        (passage,) = [row for row in rows(it) if "▌" in row]
        assert passage.strip() == "▌ The owl[31m hunts by ear."
        assert any("[b]Silent[/b]." in row for row in rows(it))
        assert it.transcript.size.width > 40  # it is beside the answer
        await it.pilot.press("escape")
        assert panel(it) is None
        assert it.transcript.has_focus


async def test_a_click_on_a_mark_opens_its_source() -> None:
    async with reading() as it:
        shown = it.transcript
        await until(lambda: "[2, 3]" in " ".join(shown.render_line(y).text for y in range(shown.size.height)))
        y = next(y for y in range(shown.size.height) if "[2, 3]" in shown.render_line(y).text)
        x = shown.render_line(y).text.index("2, 3]")
        await click(it.app, shown, offset=(x, y))
        await until(lambda: panel(it) and "[2] book.pdf · page 30" in title(it))
        assert "▌" in rows(it)[-1] + rows(it)[-2]


async def test_pages_before_and_after_are_turned_and_scrolled_and_the_title_follows() -> None:
    async with reading() as it:
        await opened(it)
        await it.pilot.press("l")
        await until(lambda: "page 13" in title(it))
        assert "Owls" not in title(it)
        await it.pilot.press("h", "h")
        await until(lambda: "page 11" in title(it))
        await it.pilot.press("G")
        await until(lambda: "page 30" in title(it))
        await it.pilot.press("g")
        await until(lambda: "page 1" in title(it).split(" · "))
        await it.pilot.press("pagedown", "pagedown")
        await until(lambda: "page 2" in title(it).split(" · "))


async def test_words_are_found_in_the_document_and_the_first_escape_ends_that() -> None:
    async with reading() as it:
        await opened(it)
        await it.pilot.press("slash")
        await until(lambda: it.chat.query_one("#document-find").has_focus)
        await it.pilot.press(*"Page 2", "enter")
        await until(lambda: "page 20" in title(it) and "2/11" in title(it))
        await it.pilot.press("n")
        await until(lambda: "page 21" in title(it))
        await it.pilot.press("N", "N")
        await until(lambda: "page 2" in title(it).split(" · "))
        await it.pilot.press("escape")
        assert panel(it) and view(it).finder.words == ""
        await it.pilot.press("escape")
        assert panel(it) is None


async def test_the_next_source_follows_and_a_document_that_is_gone_leaves_its_passage() -> None:
    async with reading() as it:
        await opened(it)
        await it.pilot.press("s")
        await until(lambda: "[2] book.pdf · page 30" in title(it))
        await it.pilot.press("s")
        await until(lambda: title(it) == "[3] gone.md")
        assert any("What it said." in row for row in rows(it))
        assert any("no longer in the index" in said for said in it.said)
        await it.pilot.press("S", "S")
        await until(lambda: "[1] book.pdf" in title(it))


async def test_a_narrow_screen_shows_the_page_alone_and_a_letter_that_is_no_command_leads_to_the_prompt() -> None:
    async with reading(size=(60, 20)) as it:
        await opened(it)
        assert not it.transcript.is_on_screen
        assert view(it).size.width > 50
        await it.pilot.press("x")
        await until(lambda: it.chat.prompt.text == "x")
        assert panel(it) is None


async def test_f6_leads_to_the_page_and_on() -> None:
    async with reading(size=(120, 30)) as it:
        await opened(it)
        assert not it.chat.has_class("sidebar")  # it made room
        await it.pilot.press("f6")
        assert it.chat.prompt.area.has_focus
        await it.pilot.press("f6", "f6")
        assert view(it).has_focus
        await it.pilot.press("escape")
        assert it.chat.has_class("sidebar")


async def test_an_answer_without_sources_says_so() -> None:
    async with chatting("Hello.", notifications=True) as it:
        await it.ask("Hi")
        await it.pilot.press("f6", "o")
        await until(lambda: any("no sources" in said for said in it.said))


def test_sections_are_the_whole_text_and_mark_the_passage_across_them() -> None:
    text = "a" * 9_000 + "\n" + "b" * 100 + "\f\f" + "c" * 10
    found = list(sections(text, 8_990, 9_104))
    assert [each.page for each in found] == [1, 1, 1, 2, 3]
    assert "".join(each.text for each in found) == text.replace("\f", "")
    assert "".join(each.text[slice(*each.marked)] for each in found) == text[8_990:9_101] + text[9_103:9_104]
    assert [each.begins_page for each in found] == [True, False, False, True, True]
