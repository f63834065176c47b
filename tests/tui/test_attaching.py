"""Files and folders in the prompt: picked behind an `@`, dropped or named; each is a chip that the keys can change."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual import events
from textual.widgets import TextArea

from qwenchat.documents.document import Document
from qwenchat.documents.reader import DocumentReader
from qwenchat.documents.walk import WalkedPath, walk
from qwenchat.tui import path_search
from qwenchat.tui.attached import Attached
from qwenchat.tui.dialogs.attached import AttachedScreen
from qwenchat.tui.dialogs.menu import MenuScreen
from qwenchat.tui.widgets.chips import Chips
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import click, is_open, until


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a few files."""
    folder = tmp_path / "work"
    names = ("notes.txt", "docs/my plan.md", "docs/报告.md", "docs/deep/other.md", "secret/key.txt", "[b]bold.txt")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"text of {name}")
    (folder / ".git").mkdir()
    (folder / ".gitignore").write_text("secret\n")
    monkeypatch.chdir(folder)
    return folder


def chips(it: Chatting) -> str:
    view = it.chat.prompt.chips
    return str(view.render()) if view.display else ""


def listed(it: Chatting) -> list[str]:
    """The lines of the list above the prompt, without the space between name and folder."""
    view = it.chat.prompt.suggestions
    return [" ".join(str(option.prompt).split()) for option in view.options] if view.display else []


async def typed(it: Chatting, text: str) -> None:
    await it.pilot.press(*text)
    await until(lambda: it.chat.prompt.area.text.endswith(text))


def files(it: Chatting) -> list[Attached]:
    return it.chat.prompt.attached


async def attached(it: Chatting, *paths: Path) -> None:
    """Attach and wait until all is read and counted."""
    await it.chat.context.chats.model.load(it.chat.session)
    it.chat.prompt.attach(paths)
    await until(lambda: len(files(it)) == len(paths) and all(each.forecast for each in files(it)))


async def focused(it: Chatting) -> Chips:
    await it.pilot.press("tab")
    await until(lambda: it.chat.prompt.chips.has_focus)
    return it.chat.prompt.chips


# The picker


@pytest.mark.parametrize("key", ["enter", "tab"])
async def test_letters_behind_an_at_sign_find_a_file_and_a_key_takes_it(here: Path, key: str) -> None:
    async with chatting() as it:
        await typed(it, "Read @mypl")
        await until(lambda: listed(it) == ["my plan.md docs/"])
        await it.pilot.press(key)
        await until(lambda: [each.name for each in it.chat.prompt.attachments] == ["my plan.md"])
        assert it.chat.prompt.text == "Read "
        assert listed(it) == []
        await typed(it, "now")
        await it.pilot.press("enter")
        await until(lambda: it.texts)
        await it.idle()
        assert (it.texts[0], it.messages[0].attachments[0].text) == ("Read now", "text of docs/my plan.md")


async def test_the_arrows_choose_and_the_text_around_stays(here: Path) -> None:
    async with chatting() as it:
        await typed(it, "Compare @md and this")
        await it.pilot.press(*["left"] * len(" and this"))
        await typed_nothing(it)
        await until(lambda: len(listed(it)) == 3)
        second = listed(it)[1]
        await it.pilot.press("down", "enter")
        await until(lambda: it.chat.prompt.attachments)
        assert second.startswith(it.chat.prompt.attachments[0].name)
        assert it.chat.prompt.text == "Compare  and this"


async def typed_nothing(it: Chatting) -> None:
    """Type a letter and delete it, so that the list is made for where the caret is."""
    await it.pilot.press("x", "backspace")


async def test_escape_leaves_the_text_and_the_at_sign_opens_nothing_more(here: Path) -> None:
    async with chatting() as it:
        await typed(it, "Ask @no")
        await until(lambda: "notes.txt" in listed(it))
        await it.pilot.press("escape")
        assert (listed(it), it.chat.prompt.text) == ([], "Ask @no")
        await typed(it, "t")
        await it.pilot.pause()
        assert listed(it) == []
        await it.pilot.press("enter")
        await until(lambda: it.texts)
        await it.idle()
        assert it.texts[0] == "Ask @not"
        await typed(it, "@no")
        await until(lambda: "notes.txt" in listed(it))


@pytest.mark.parametrize("text", ["anna@notes", "a.b+c@notes", "/system @notes", "see @ notes", "@@notes"])
async def test_an_at_sign_in_a_word_or_a_command_opens_nothing(here: Path, text: str) -> None:
    async with chatting() as it:
        await typed(it, text)
        await it.pilot.pause()
        assert not any("notes.txt" in line for line in listed(it))


@pytest.mark.parametrize("before", ["", "请看", "(", "one\n", "看，"])
async def test_it_opens_behind_chinese_a_bracket_and_at_the_start(here: Path, before: str) -> None:
    async with chatting() as it:
        it.write(before)
        await it.pilot.press("@", "n", "o", "t")
        await until(lambda: listed(it) == ["notes.txt"])


async def test_an_at_sign_alone_is_sent_by_enter(here: Path) -> None:
    async with chatting() as it:
        await typed(it, "meet @")
        await until(lambda: "docs/" in listed(it))
        await it.pilot.press("enter")
        await until(lambda: it.texts[:1] == ["meet @"])


async def test_enter_before_the_list_is_there_takes_the_first_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def held(folder: Path) -> Iterator[WalkedPath]:
        assert go_on.wait(10)
        return walk(folder)

    monkeypatch.setattr(path_search, "walk", held)
    async with chatting() as it:
        await it.pilot.press(*"@notes", "enter")
        await it.pilot.pause()
        assert it.messages == []
        go_on.set()
        await until(lambda: [each.name for each in it.chat.prompt.attachments] == ["notes.txt"])
        assert it.chat.prompt.text == ""


@pytest.mark.parametrize(
    ("typed_path", "first"),
    [
        ("@bg", "报告.md docs/"),
        ("@报", "报告.md docs/"),
        ('@"my pl', "my plan.md docs/"),
        ("@deep/", "other.md docs/deep/"),
        ("@docs/d", "deep/ docs/"),
    ],
)
async def test_chinese_names_pinyin_spaces_and_folders(here: Path, typed_path: str, first: str) -> None:
    async with chatting() as it:
        it.write(typed_path[:-1])
        await it.pilot.press(typed_path[-1])
        await until(lambda: listed(it)[:1] == [first])


async def test_paths_anywhere_and_what_git_ignores(here: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far.txt").write_text("far")
    async with chatting() as it:
        it.write(f"@{tmp_path.as_posix()}/f")
        await it.pilot.press("a")
        await until(lambda: listed(it) and listed(it)[0].startswith("far.txt"))
        assert listed(it)[0].endswith("/elsewhere/")
        it.write("@ke")
        await it.pilot.press("y")
        await until(lambda: any("No file below" in line for line in listed(it)))


async def test_a_hostile_name_is_drawn_as_text(here: Path) -> None:
    if os.name == "posix":
        (here / "evil\x1b[31m\n@x.txt").write_text("x")
    async with chatting() as it:
        await typed(it, "@bold")
        await until(lambda: listed(it) == ["[b]bold.txt"])
        await it.pilot.press("tab")
        await until(lambda: "[b]bold.txt" in chips(it))
        await typed(it, "@evil")
        await until(lambda: listed(it) == ["evil[31m @x.txt"])
        await it.pilot.press("tab")
        await until(lambda: "evil[31m @x.txt" in chips(it))


async def test_a_picked_folder_is_attached_whole_as_one_chip(here: Path) -> None:
    async with chatting() as it:
        await typed(it, "@docs")
        await until(lambda: "docs/" in listed(it))
        await it.pilot.press("enter")
        await until(lambda: "docs (3 files)" in chips(it))
        names = [each.name for each in it.chat.prompt.attachments]
        assert names == ["docs/my plan.md", "docs/报告.md", "docs/deep/other.md"]
        assert all(each.in_parts for each in it.chat.prompt.attachments)
        assert any("docs (3 files)" in said for said in it.said)
        await typed(it, "Sum up")
        await it.pilot.press("enter")
        await until(lambda: it.texts)
        await it.idle()
        assert len(it.messages[0].attachments) == 3
        shown = "".join(it.transcript.render_line(y).text for y in range(it.transcript.size.height))
        assert "[docs (3 files)]" in shown and "in parts" in shown


# Chips


async def test_the_chip_says_the_size_and_how_it_is_read_and_keys_change_it(here: Path) -> None:
    async with chatting(n_ctx=4096) as it:
        await attached(it, here / "notes.txt")
        tokens = len("notes.txt\n```\ntext of notes.txt\n```") + 4
        await until(lambda: f"notes.txt · {tokens} tokens · whole" in chips(it))
        view = await focused(it)
        await it.pilot.press("space")
        await until(lambda: "in parts" in chips(it))
        assert it.chat.prompt.attachments[0].in_parts
        await it.pilot.press("space")
        await until(lambda: "whole" in chips(it))
        await it.pilot.press("enter")
        await until(lambda: is_open(it.app, AttachedScreen))
        assert it.app.screen.query_one(TextArea).text == "text of notes.txt"
        await it.pilot.press("escape")
        await until(lambda: view.has_focus)
        await it.pilot.press("d")
        await until(lambda: it.chat.prompt.area.has_focus)
        assert (it.chat.prompt.attached, chips(it)) == ([], "")


async def test_what_does_not_fit_is_read_in_parts_and_can_not_be_switched(here: Path) -> None:
    (here / "book.txt").write_text("word " * 1000)
    (here / "half.txt").write_text("word " * 500)
    async with chatting(n_ctx=4096) as it:
        await attached(it, here / "book.txt")
        await until(lambda: "in parts" in chips(it))
        await focused(it)
        await it.pilot.press("space")
        await until(lambda: any("can't be read whole" in said for said in it.said))
        assert "in parts" in chips(it)
        await it.pilot.press("backspace")
        await attached(it, here / "half.txt")
        await until(lambda: "in parts" in chips(it))  # it would take more than half of what is free
        await focused(it)
        await it.pilot.press("space")
        await until(lambda: "whole" in chips(it))


async def test_a_right_click_and_a_menu_do_the_same(here: Path) -> None:
    async with chatting() as it:
        await attached(it, here / "notes.txt", here / "docs" / "报告.md")
        await click(it.app, "#chips", offset=(4, 0), button=3)
        await until(lambda: is_open(it.app, MenuScreen))
        await it.pilot.press("d")
        await until(lambda: [each.name for each in it.chat.prompt.attachments] == ["报告.md"])
        assert it.chat.prompt.chips.has_focus
        await it.pilot.press("shift+f10")
        await until(lambda: is_open(it.app, MenuScreen))
        await it.pilot.press("space")
        await until(lambda: it.app.screen is it.chat and it.chat.prompt.attachments[0].in_parts)


async def test_a_menu_stays_about_its_chip_when_another_file_comes(here: Path) -> None:
    async with chatting() as it:
        await attached(it, here / "notes.txt")
        await click(it.app, "#chips", offset=(4, 0), button=3)
        await until(lambda: is_open(it.app, MenuScreen))
        it.chat.prompt.attach([here / "docs" / "报告.md"])
        await until(lambda: len(it.chat.prompt.attachments) == 2)
        await it.pilot.press("d")
        await until(lambda: [each.name for each in it.chat.prompt.attachments] == ["报告.md"])


async def test_a_chip_is_there_at_once_and_can_be_taken_away_while_it_is_read(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(_reader: DocumentReader, path: Path, name: str) -> Document:
        reading.set()
        await go_on.wait()
        return Document(name=name, media_type="text/plain", text="late")

    monkeypatch.setattr(DocumentReader, "read", slowly)
    async with chatting() as it:
        it.chat.prompt.attach([here / "notes.txt"])
        await until(lambda: "notes.txt · reading…" in chips(it))
        await typed(it, "Hi")
        await it.pilot.press("enter")
        await until(lambda: any("still being read" in said for said in it.said))
        assert (it.messages, it.chat.prompt.text) == ([], "Hi")
        await until(reading.is_set)
        await focused(it)
        await it.pilot.press("delete")
        await until(lambda: chips(it) == "")
        go_on.set()
        await it.pilot.press("escape", "enter")
        await until(lambda: it.texts)
        await it.idle()
        assert it.messages[0].attachments == ()


async def test_a_file_that_can_not_be_read_leaves_no_chip_and_says_why(here: Path) -> None:
    (here / "a.bin").write_bytes(b"\0\1")
    async with chatting() as it:
        it.chat.prompt.attach([here / "a.bin", here / "gone.txt"])
        await until(lambda: any("is not a text file. Convert" in said for said in it.said))
        await until(lambda: any("gone.txt can't be read" in said for said in it.said))
        assert chips(it) == ""


async def test_many_files_take_few_lines_and_all_can_be_reached(here: Path) -> None:
    paths = [here / f"file number {number}.txt" for number in range(30)]
    for path in paths:
        path.write_text(path.name)
    async with chatting(size=(60, 24)) as it:
        await attached(it, *paths)
        await until(lambda: "30 attachments" in chips(it))
        view = await focused(it)
        assert view.size.height == 4
        assert "file number 29.txt" in chips(it)
        await it.pilot.press(*["left"] * 29)
        await until(lambda: "file number 0.txt" in chips(it))


async def test_dropped_folders_and_files_are_attached_but_not_behind_a_command(here: Path) -> None:
    async with chatting() as it:
        it.chat.prompt.area.post_message(events.Paste(f"'{here / 'docs'}' {here / 'notes.txt'}"))
        await until(lambda: "docs (3 files)" in chips(it) and "notes.txt" in chips(it))
        it.write("/export ")
        it.chat.prompt.area.post_message(events.Paste(f"{here / 'notes.txt'}"))
        await until(lambda: it.chat.prompt.text == f"/export {here / 'notes.txt'}")
        it.write("")
        it.chat.prompt.area.post_message(events.Paste("/"))
        await until(lambda: it.chat.prompt.text == "/")


async def test_the_way_of_reading_waits_with_the_draft_and_stays_with_the_question(here: Path) -> None:
    async with chatting() as it:
        await it.ask("A")
        first = it.chat.session.id
        await attached(it, here / "notes.txt")
        await focused(it)
        await it.pilot.press("space", "escape", "ctrl+n")
        await until(lambda: it.chat.session.id != first)
        assert chips(it) == ""
        await it.chat.navigation.open(first)
        await until(lambda: "in parts" in chips(it))
        await it.ask("B")
        assert it.messages[2].attachments[0].in_parts


async def test_an_edited_question_shows_its_files_which_can_be_changed(here: Path) -> None:
    async with chatting() as it:
        it.chat.prompt.attach([here / "docs", here / "notes.txt"])
        await until(lambda: len(it.chat.prompt.attachments) == 4)
        await it.ask("Old")
        await attached(it, here / "[b]bold.txt")
        await it.pilot.press(*"half")
        await it.do("edit")
        await until(lambda: "docs (3 files)" in chips(it) and "notes.txt" in chips(it))
        assert "bold" not in chips(it)
        await focused(it)
        await it.pilot.press("right", "d", "escape", "!", "enter")
        await until(lambda: it.texts[:1] == ["Old!"])
        await it.idle()
        assert [each.name for each in it.messages[0].attachments] == [
            "docs/my plan.md",
            "docs/报告.md",
            "docs/deep/other.md",
        ]
        assert "bold" in chips(it) and it.chat.prompt.text == "half"
        await it.do("edit")
        await until(lambda: "docs" in chips(it))
        await it.pilot.press("escape")
        await until(lambda: "bold" in chips(it) and "docs" not in chips(it))


async def test_a_private_chat_attaches_too(here: Path) -> None:
    async with chatting() as it:
        await it.pilot.press("f7")
        await until(lambda: it.chat.context.open.view.private)
        await typed(it, "@notes")
        await until(lambda: "notes.txt" in listed(it))
        await it.pilot.press("enter")
        await until(lambda: it.chat.prompt.attachments)
        await it.ask("What?")
        assert "text of notes.txt" in it.engine.requests[0].turns[-1].text


async def test_a_command_names_a_folder_with_spaces(here: Path) -> None:
    (here / "docs").rename(here / "my docs")
    async with chatting() as it:
        it.write("/attach my docs")
        await it.pilot.press("escape", "enter")
        await until(lambda: "my docs (3 files)" in chips(it))
        assert it.chat.prompt.text == ""


@pytest.mark.parametrize("typed", ["/attach docs", "/attach ./docs/", "/attach do"])
async def test_enter_attaches_the_folder_that_a_command_names_not_what_is_in_it(here: Path, typed: str) -> None:
    async with chatting() as it:
        it.write(typed)
        await until(lambda: any(line.startswith("./docs/") for line in listed(it)))
        await it.pilot.press("enter")
        if typed.endswith("do"):
            assert it.chat.prompt.text == "/attach ./docs/"
            await until(lambda: "./docs/deep/" in listed(it))
            await it.pilot.press("enter")
        await until(lambda: "docs (3 files)" in chips(it))
        assert it.chat.prompt.text == ""


async def test_a_bug_in_reading_leaves_no_chip(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(_reader: DocumentReader, _path: Path, _name: str) -> Document:
        raise RuntimeError("a bug")

    monkeypatch.setattr(DocumentReader, "read", fails)
    async with chatting(bugs=True) as it:
        it.chat.prompt.attach([here / "notes.txt"])
        await until(lambda: any("This is a bug" in said for said in it.said))
        assert chips(it) == ""
