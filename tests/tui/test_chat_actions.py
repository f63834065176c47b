"""What can be done with a message and with a chat in the list, by the keys that do it, on the screen and on disk."""

import os
import shlex
import sys
from pathlib import Path

import pytest
from textual.containers import Horizontal
from textual.widgets import Button, Input

from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.chat.session import Session
from qwenchat.runtime.program import Program
from qwenchat.tui.app import Start
from qwenchat.tui.dialogs.export import ExportScreen
from qwenchat.tui.dialogs.small import TextScreen
from qwenchat.tui.widgets.prose import Prose
from tests.tui.chatting import Chatting, chatting, kept_session
from tests.tui.screens import is_open, until
from tests.tui.terminal import CTRL_Q, qwenchat_in_terminal


@pytest.fixture
def fishes() -> Session:
    """A chat on disk, older than what the test writes."""
    program = Program.here()
    session = kept_session(program, "Fishes", tags=("sea",))
    asked = Message(
        id="q1", session=session.id, parent=None, role=Role.USER, parts=text_parts("What do carps eat?"), created=5
    )
    program.store.add(
        asked,
        Message(id="a1", session=session.id, parent="q1", role=Role.ASSISTANT, parts=text_parts("Plants."), created=6),
    )
    program.store.label(session.id, leaf="a1")
    program.close()
    return session


async def in_list(it: Chatting, session: str) -> None:
    """Go to a chat in the list without opening it."""
    view = it.chat.sidebar.list
    await until(lambda: any(option.id == session for option in view.options))
    view.focus()
    view.highlighted = view.get_option_index(session)
    await until(lambda: view.has_focus and view.session_id == session)


def listed(it: Chatting) -> list[str]:
    return [str(option.prompt).strip() for option in it.chat.sidebar.list.options]


def kept(it: Chatting, session: str) -> Session:
    return it.app.program.store.session(session)


async def test_the_selected_message_is_quoted_below_what_is_written() -> None:
    async with chatting("One\n\ntwo.", "Other.") as it:
        await it.ask("A")
        await it.ask("B")
        it.write("About this")
        it.transcript.focus()
        it.transcript.select(it.messages[1].id)
        await it.pilot.press("q")
        await until(lambda: it.chat.prompt.area.has_focus)
        assert it.chat.prompt.text == "About this\n\n> One\n> \n> two.\n\n"
        await it.pilot.press(*"why")
        assert it.chat.prompt.text.endswith("> two.\n\nwhy")


async def test_without_a_selection_the_last_answer_is_quoted_and_a_hostile_one_sends_nothing() -> None:
    async with chatting("red\x1b[31m\x07 end") as it:
        await it.do("quote")
        assert it.chat.prompt.text == ""
        await it.ask("A")
        await it.do("quote")
        assert it.chat.prompt.text == "> red[31m end\n\n"


async def test_the_whole_chat_is_copied_as_markdown() -> None:
    async with chatting("It is **blue**.", "Yes.") as it:
        await it.ask("Sky?")
        await it.ask("Sure?")
        await it.do("copy_chat")
        await until(lambda: any("Copied" in said for said in it.said))
        parts = ["**You**\n\nSky?", "**guide**\n\nIt is **blue**.", "**You**\n\nSure?", "**guide**\n\nYes."]
        assert it.app.clipboard == "\n\n---\n\n".join(parts)


def statistics(it: Chatting) -> str:
    """What the dialog of statistics says, a line for each row; empty where it is not open."""
    rows = it.app.screen.query(".row").results(Horizontal)
    return "\n".join(" ".join(str(words.content) for words in row.query(Prose)) for row in rows)


async def test_statistics_tell_messages_words_tokens_and_the_model() -> None:
    async with chatting("Four", "Fives", n_ctx=4096) as it:
        await it.do("stats")
        await until(lambda: "0 questions, 0 answers" in statistics(it) and "0 tokens" in statistics(it))
        await it.pilot.press("escape")
        await until(lambda: it.app.screen is it.chat)
        await it.ask("A")
        await it.ask("还有呢 B")
        it.write("/stats")
        await it.pilot.press("enter")
        await until(lambda: "2 questions, 2 answers" in statistics(it))
        assert "You wrote 3 Chinese characters, 2 words" in statistics(it)
        assert "The model wrote 2 words\n9 tokens generated" in statistics(it)
        assert "Reading time less than a minute" in statistics(it)
        assert "Context window 4,096 tokens" in statistics(it) and "YaRN" not in statistics(it)
        assert len(it.messages) == 4


async def test_a_pinned_chat_stands_on_top_until_it_is_pinned_no_longer(fishes: Session) -> None:
    async with chatting() as it:
        await it.ask("Newer")
        await in_list(it, fishes.id)
        await it.pilot.press("p")
        await until(lambda: listed(it)[:2] == ["Pinned", "Fishes #sea"])
        assert kept(it, fishes.id).pinned
        assert it.chat.sidebar.list.session_id == fishes.id
        assert it.chat.prompt.area.has_focus
        await in_list(it, fishes.id)
        await it.pilot.press("p")
        await until(lambda: "Pinned" not in listed(it))
        assert not kept(it, fishes.id).pinned
        assert not kept(it, it.chat.session.id).pinned


async def test_tags_are_changed_as_one_line_of_words(fishes: Session) -> None:
    async with chatting() as it:
        await in_list(it, fishes.id)
        await it.pilot.press("#")
        await until(lambda: is_open(it.app, TextScreen))
        await until(lambda: it.app.screen.query(Input))
        assert it.app.screen.query_one(Input).value == "sea"
        it.app.screen.query_one(Input).value = "#sea, 鱼， sea, salt  food"
        await it.pilot.press("enter")
        await until(lambda: any(line.endswith("Fishes #sea #鱼 #salt food") for line in listed(it)))
        assert kept(it, fishes.id).tags == ("sea", "鱼", "salt food")
        await in_list(it, fishes.id)
        await it.pilot.press("#")
        await until(lambda: is_open(it.app, TextScreen))
        await it.pilot.press("x", "escape")
        await until(lambda: it.app.screen is it.chat)
        assert kept(it, fishes.id).tags == ("sea", "鱼", "salt food")


async def test_a_duplicate_opens_and_what_is_asked_there_leaves_the_original_alone(fishes: Session) -> None:
    async with chatting("Snails.") as it:
        await in_list(it, fishes.id)
        await it.pilot.press("+")
        await until(lambda: any("Fishes (copy) #sea" in line for line in listed(it)))
        await until(lambda: it.texts == ["What do carps eat?", "Plants."])
        copy = it.chat.session
        assert copy.id != fishes.id and copy.title == "Fishes (copy)"
        await it.ask("And else?")
        store = it.app.program.store
        assert [message.text for message in it.kept()] == ["What do carps eat?", "Plants.", "And else?", "Snails."]
        assert [message.id for message in store.branch(store.session(fishes.id).leaf)] == ["q1", "a1"]


@pytest.mark.parametrize("begin", ["new", "new_private"])
async def test_there_is_nothing_to_duplicate_of_a_chat_that_is_not_kept(begin: str) -> None:
    async with chatting() as it:
        first = it.chat.session.id
        await it.do(begin)
        await until(lambda: it.chat.session.id != first)
        before = it.chat.session.id
        await it.do("duplicate")
        await until(lambda: not [worker for worker in it.app.workers if worker.group == "doing"])
        assert it.chat.session.id == before
        assert it.app.program.store.listing.count() == 0


async def test_the_chat_under_the_cursor_is_exported_not_the_open_one(
    fishes: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with chatting() as it:
        await it.ask("Open here")
        await in_list(it, fishes.id)
        await it.pilot.press("x")
        await until(lambda: is_open(it.app, ExportScreen) and it.app.screen.query_one(Input).value)
        it.app.screen.query_one("#write", Button).press()
        await until(lambda: it.app.screen is it.chat)
        assert "Plants." in (tmp_path / "Fishes.md").read_text("utf-8")


async def test_a_chat_that_went_to_the_trash_from_the_list_comes_back_to_it(fishes: Session) -> None:
    async with chatting() as it:
        await it.ask("Open here")
        opened = it.chat.session.id
        await in_list(it, fishes.id)
        await it.pilot.press("delete")
        await until(lambda: not any("Fishes" in line for line in listed(it)))
        assert kept(it, fishes.id).trashed
        assert it.chat.session.id == opened
        await in_list(it, opened)
        await it.pilot.press("u")
        await until(lambda: any("Fishes" in line for line in listed(it)))
        assert kept(it, fishes.id).trashed is None
        await in_list(it, opened)
        await it.pilot.press("u")
        await until(lambda: "Nothing to undo" in " ".join(it.said[-1:]))


async def test_a_deleted_message_comes_back_with_what_followed_it(fishes: Session) -> None:
    async with chatting("Snails.", start=Start(session=fishes.id)) as it:
        await until(lambda: len(it.messages) == 2)
        await it.ask("And else?")
        it.transcript.focus()
        it.transcript.select("a1")
        await it.pilot.press("d")
        await until(lambda: it.texts == ["What do carps eat?"])
        assert [message.text for message in it.kept()] == ["What do carps eat?"]
        await it.pilot.press("f6", "u")
        await until(lambda: len(it.texts) == 4)
        assert it.transcript.selected and it.transcript.selected.id == "a1"
        assert [message.text for message in it.kept()] == ["What do carps eat?", "Plants.", "And else?", "Snails."]


async def test_deletions_are_taken_back_last_first() -> None:
    async with chatting("One.", "Two.") as it:
        await it.ask("A")
        await it.ask("B")
        session = it.chat.session.id
        it.transcript.select(it.messages[2].id)
        await it.do("delete")
        await until(lambda: it.texts == ["A", "One."])
        await it.do("trash")
        await until(lambda: it.chat.session.id != session)
        await it.pilot.press("f8")
        await until(lambda: kept(it, session).trashed is None)
        await until(lambda: "Restored" in " ".join(it.said[-1:]))
        await it.pilot.press("f8")
        await until(lambda: it.texts == ["A", "One.", "B", "Two."])
        assert it.chat.session.id == session


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_the_editor_has_the_terminal_and_what_it_leaves_is_the_question(tiny: Path, tmp_path: Path) -> None:
    editor = tmp_path / "my editor"
    editor.write_text('#!/bin/sh\nclear\necho "The editor is here."\nread -r line\necho " and $line, 标题" >>"$1"\n')
    editor.chmod(0o755)
    with qwenchat_in_terminal("--model", tiny, VISUAL="", EDITOR=shlex.quote(os.fspath(editor))) as terminal:
        terminal.shows("Ask anything")
        terminal.send("half")
        terminal.shows("half")
        terminal.send("\x07")
        terminal.until(lambda text: "The editor is here." in text and "Ask anything" not in text)
        terminal.send("more\n")
        terminal.until(lambda text: "Ask anything" in text and "half and more, 标题" in text)
        terminal.send("!")
        terminal.shows("标题!")
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
