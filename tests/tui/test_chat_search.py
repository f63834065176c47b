"""The search of all chats: what it shows, how it is walked, and the way back."""

import threading

import pytest
from textual.content import Content

from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.runtime.program import Program
from qwenchat.sessions.search import SearchResults, SessionSearch
from qwenchat.tui.actions import Where
from tests.tui.chatting import Chatting, chatting, kept_session
from tests.tui.screens import until

LONG = "Many words come first, so that the match is far behind what a narrow list can show. " * 40


def message(session: str, number: int, text: str, parent: str | None = None) -> Message:
    role = Role.ASSISTANT if parent else Role.USER
    return Message(id=f"m{number}", session=session, parent=parent, role=role, parts=text_parts(text), created=number)


@pytest.fixture
def animals() -> str:
    """Keep two chats that mention a pangolin, and return the id of the one whose answer does."""
    program = Program.here()
    other = kept_session(program, "Zoo").id
    program.store.add(message(other, 3, "Is there a pangolin at the zoo?"))
    session = kept_session(program, "动物 Animals").id
    asked = message(session, 1, "What eats ants?")
    answered = message(session, 2, f"{LONG}A pangolin does. 穿山甲 eats them.\n\nNot every Pangolin.", parent="m1")
    program.store.add(asked, answered)
    program.close()
    return session


def contents(it: Chatting) -> list[Content]:
    return [option.prompt for option in it.chat.sidebar.list.options if isinstance(option.prompt, Content)]


def lines(it: Chatting) -> list[str]:
    return [content.plain for content in contents(it)]


async def found(it: Chatting, words: str) -> None:
    await it.pilot.press("f4", *words)
    await until(lambda: it.chat.sidebar._shown == words)


async def test_each_match_is_shown_with_the_words_around_it(animals: str) -> None:
    async with chatting() as it:
        await found(it, "pangolin")
        shown = "\n".join(lines(it))
        assert "Zoo\n❯ Is there a pangolin" in shown
        assert "动物 Animals\n✦ …" in shown and "A pangolin does" in shown.replace("\n  ", " ")
        width = it.chat.sidebar.list.scrollable_content_region.width
        assert all(len(line) <= width for line in shown.splitlines())
        marked = [content.plain[span.start : span.end] for content in contents(it) for span in content.spans]
        assert "pangolin" in marked


async def test_arrows_and_one_enter_open_a_match_with_its_word_marked(animals: str) -> None:
    async with chatting() as it:
        await found(it, "pangolin")
        ids = [option.id for option in it.chat.sidebar.list.options]
        await it.pilot.press(*["down"] * ids.index(f"{animals} m2"), "enter")
        await until(lambda: it.transcript.finder.words == "pangolin")
        assert it.chat.session.id == animals
        assert it.chat.focusing.place is Where.PROMPT
        await until(lambda: "1/1" in str(it.chat.query_one("#find").border_subtitle))
        rows = [it.transcript.render_line(y).text for y in range(it.transcript.size.height)]
        assert it.transcript.viewport.top
        assert any("A pangolin does" in row for row in rows)
        await it.pilot.press("escape")
        assert (it.transcript.finder.words, it.chat.session.id) == ("", animals)


async def test_every_word_that_matches_is_marked_in_the_opened_chat(animals: str) -> None:
    async with chatting(size=(100, 40)) as it:
        await found(it, "ants pangolin")
        assert lines(it) == ["Nothing found"]
        await it.pilot.press("escape")
        await found(it, "eats 穿山甲 pangolin")
        ids = [option.id for option in it.chat.sidebar.list.options]
        await it.pilot.press(*["down"] * ids.index(f"{animals} m2"), "enter")
        await until(lambda: it.transcript.finder.words)
        palette = it.transcript.column.look.palette
        styles = (palette.found, palette.found_current)
        strips = [it.transcript.render_line(y) for y in range(it.transcript.size.height)]
        marked = {
            segment.text.casefold()
            for strip in strips
            for segment in strip
            if segment.style and any(segment.style.bgcolor == style.bgcolor for style in styles)
        }
        assert marked == {"pangolin", "穿山甲", "eats"}


async def test_enter_that_is_faster_than_the_search_opens_what_it_finds(animals: str) -> None:
    async with chatting() as it:
        await it.pilot.press("f4", *"穿山甲", "enter")
        await until(lambda: it.transcript.finder.words == "穿山甲")
        assert it.chat.session.id == animals


async def test_esc_goes_back_to_where_the_user_was(animals: str) -> None:
    async with chatting(size=(60, 20)) as it:
        it.write("half a question")
        before = it.chat.session.id
        await found(it, "pangolin")
        await it.pilot.press("down", "escape")
        assert it.chat.session.id == before
        assert it.chat.focusing.place is Where.PROMPT and not it.chat.has_class("sidebar")
        await it.pilot.press("!")
        assert it.chat.prompt.text == "half a question!"
        await until(lambda: it.chat.sidebar._found is None)


async def test_the_newest_search_wins(animals: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find, slow = SessionSearch.find, threading.Event()

    def find_slowly(search: SessionSearch, typed: str) -> SearchResults:
        if typed == "pan":
            slow.wait(10)
        return find(search, typed)

    monkeypatch.setattr(SessionSearch, "find", find_slowly)
    async with chatting() as it:
        await it.pilot.press("f4", *"pan")
        it.chat.sidebar._search()
        await it.pilot.press(*"golin zoo")
        await until(lambda: it.chat.sidebar._shown == "pangolin zoo")
        slow.set()
        await it.pilot.pause()
        assert len(lines(it)) == 1 and "Zoo" in lines(it)[0]


async def test_what_was_found_fits_a_list_that_becomes_wider(animals: str) -> None:
    async with chatting(size=(60, 20)) as it:
        await found(it, "pangolin")
        await it.pilot.resize_terminal(100, 30)
        await until(lambda: it.chat.sidebar.size.width < 40)
        width = it.chat.sidebar.list.scrollable_content_region.width
        await until(lambda: all(len(line) <= width for shown in lines(it) for line in shown.splitlines()))
