"""What is written in the prompt: drafts, files, commands, and the count of tokens."""

import asyncio
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual import events

from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.documents.document import Document
from qwenchat.documents.reader import DocumentReader
from qwenchat.errors import StoreError
from qwenchat.runtime.program import Program
from qwenchat.tui.app import Start
from tests.tui.chatting import Chatting, chatting, kept_session
from tests.tui.screens import click, until


async def test_a_draft_waits_while_a_question_is_edited() -> None:
    async with chatting("One.", "Two.") as it:
        await it.ask("Old")
        session = it.chat.session.id
        await it.pilot.press(*"half")
        await it.do("edit")
        await until(lambda: it.chat.prompt.text == "Old")
        await it.pilot.press("escape")
        assert it.chat.prompt.text == "half"
        await it.do("edit")
        await until(lambda: it.chat.prompt.text == "Old")
        await it.pilot.press("!", "enter")
        await until(lambda: it.texts == ["Old!", "Two."])
        assert it.chat.prompt.text == "half"
        await it.do("edit")
        await until(lambda: it.chat.prompt.text == "Old!")
    program = Program.here()
    assert program.store.session(session).draft == "half"
    program.close()


async def test_a_message_that_comes_back_in_another_chat_brings_that_chats_draft() -> None:
    async with chatting("One.", "Two.") as it:
        await it.ask("A")
        await it.ask("B")
        first = it.chat.session.id
        await it.pilot.press(*"first")
        it.transcript.select(it.messages[2].id)
        await it.do("delete")
        await until(lambda: it.texts == ["A", "One."])
        await it.pilot.press("ctrl+n")
        await until(lambda: it.chat.session.id != first)
        await it.pilot.press(*"second", "f8")
        await until(lambda: it.texts == ["A", "One.", "B", "Two."])
        assert it.chat.session.id == first
        assert it.chat.prompt.text == "first"
        drafts = [listed.session.draft for listed in it.app.program.store.listing.newest()]
        assert sorted(drafts) == ["first", "second"]


async def test_a_draft_is_kept_for_its_chat_across_restarts() -> None:
    async with chatting() as it:
        await it.ask("A")
        session = it.chat.session.id
        await it.pilot.press(*"half")
        await it.pilot.press("ctrl+n")
        await until(lambda: it.chat.session.id != session)
        assert it.chat.prompt.text == ""
        await it.pilot.press(*"another")
    async with chatting(start=Start(session=session)) as it:
        await until(lambda: it.chat.prompt.text == "half")
        assert any(listed.session.draft == "another" for listed in it.app.program.store.listing.newest())


async def test_a_sent_question_leaves_no_draft() -> None:
    async with chatting() as it:
        await it.pilot.press(*"Hi")
        await it.chat.drafts.save()
        await it.pilot.press("enter")
        await it.idle()
        await until(lambda: it.chat.session.title)
        assert it.app.program.store.session(it.chat.session.id).draft == ""


async def test_the_gauge_counts_question_and_history_exactly() -> None:
    async with chatting("One.") as it:
        await it.ask("A")
        await it.pilot.press(*"four")
        await until(lambda: it.chat.gauge.usage is not None)
        expected = sum(len(text) + 4 for text in ("You are a helpful assistant.", "A", "One.", "four"))
        await until(lambda: it.chat.gauge.usage and it.chat.gauge.usage.used == expected)


def line(it: Chatting) -> str | None:
    """Return the text of the message above which the line stands; empty below the last one, None for no line."""
    layouts = it.transcript.column.layouts
    if layouts and layouts[-1].frame.boundary_below:
        return ""
    return next((layout.message.text for layout in layouts if layout.frame.boundary), None)


async def begin(it: Chatting, text: str) -> None:
    """Ask a question and wait until the model is asked."""
    before = len(it.engine.requests)
    it.write(text)
    await it.pilot.press("enter")
    await until(lambda: len(it.engine.requests) > before)


def first_sent(it: Chatting) -> str:
    """Return the first words of the chat that the model got with its last question."""
    return next(turn.text for turn in it.engine.requests[-1].turns if turn.role != "system")


@pytest.mark.parametrize("system", ["", "Be kind. " * 10])
async def test_a_line_shows_what_the_model_no_longer_sees(system: str) -> None:
    async with chatting(*(f"{n}" * 200 for n in range(4)), "4 " * 100, n_ctx=1000, delay_s=0.03) as it:
        await it.chat.context.chats.sessions.change(it.chat.session.id, system=system)
        for number in range(5):
            await begin(it, f"Q{number} " + "y" * 50)
            if number == 4:  # while it streams, the line is that of its own prompt
                await until(lambda: line(it) == first_sent(it))
                await it.pilot.press(*"more")
                await until(lambda: it.chat.gauge.usage is not None)
                assert line(it) == first_sent(it)
            await it.idle()
        it.chat.prompt.write("")
        plan = await it.chat.context.chats.model.plan(it.chat.session, it.messages, "")
        assert plan
        shown = next(message.text for message in it.messages if message.id == plan.first_seen)
        await until(lambda: line(it) == shown)
        assert it.texts.index(shown) >= it.texts.index(first_sent(it))
        session = it.chat.session.id
        await it.do("new")
        await until(lambda: it.texts == [])
        await it.chat.navigation.open(session)
        await until(lambda: line(it) == shown)
        await it.chat.context.open.reload()
        assert line(it) == shown  # at once, too
        it.write("z" * 600)
        await until(lambda: line(it) == "")
        it.write("z" * 2000)  # it can't be asked
        await until(lambda: line(it) == shown)


async def test_an_unknown_command_sends_nothing_and_two_slashes_send_one() -> None:
    async with chatting() as it:
        it.write("/nonsense")
        await it.pilot.press("enter")
        await until(lambda: any("/nonsense" in said for said in it.said))
        assert it.messages == []
        assert it.chat.prompt.text == "/nonsense"
        await it.ask("//etc is a folder")
        assert it.texts[0] == "/etc is a folder"


async def test_a_command_sets_sampling_of_the_chat() -> None:
    async with chatting() as it:
        it.write("/set temperature 0.2")
        await it.pilot.press("enter")
        await until(lambda: it.chat.session.sampling.temperature == 0.2)
        await it.ask("A")
        assert it.engine.requests[0].sampling.temperature == 0.2


async def test_tab_completes_a_command() -> None:
    async with chatting() as it:
        await it.pilot.press(*"/att", "tab")
        await until(lambda: it.chat.prompt.text == "/attach ")


async def test_a_paste_of_many_lines_stays_whole_and_loses_control_characters() -> None:
    async with chatting() as it:
        text = "\r\n".join(f"line {number}" for number in range(300)) + "\x1b[31m"
        it.chat.prompt.area.post_message(events.Paste(text))
        await until(lambda: "line 299" in it.chat.prompt.text)
        assert it.chat.prompt.text == "\n".join(f"line {number}" for number in range(300)) + "[31m"
        assert it.messages == []


async def test_an_imported_chat_sends_the_terminal_nothing_through_the_prompt() -> None:
    program = Program.here()
    session = kept_session(program, "Imported", draft="a\x1b]52;c;x\x07\n\tb")
    asked = Message(
        id="q1", session=session.id, parent=None, role=Role.USER, parts=text_parts("red\x1b[31m\n\tend"), created=5
    )
    program.store.add(
        asked,
        Message(id="a1", session=session.id, parent="q1", role=Role.ASSISTANT, parts=text_parts("Fine."), created=6),
    )
    program.store.label(session.id, leaf="a1")
    program.close()
    async with chatting(start=Start(session=session.id)) as it:
        await until(lambda: it.chat.prompt.text == "a]52;c;x\n\tb")
        it.chat.prompt.area.move_cursor((0, 0))
        await it.pilot.press("up")
        assert it.chat.prompt.text == "red[31m\n\tend"
        it.write("")
        await it.do("edit")
        await until(lambda: it.chat.prompt.text == "red[31m\n\tend")


async def test_a_dropped_file_becomes_a_chip_and_goes_along(tmp_path: Path) -> None:
    file = tmp_path / "my notes.txt"
    file.write_text("remember the milk")
    async with chatting() as it:
        it.chat.prompt.area.post_message(events.Paste(f"'{file}' "))
        await until(lambda: it.chat.prompt.attachments)
        chips = it.chat.query_one("#chips")
        await until(lambda: chips.region.height and "token" in str(chips.render()))
        cross = cell_len(str(chips.render()).partition("✕")[0]) + 1
        await click(it.app, chips, offset=(cross, 0))
        await until(lambda: not it.chat.prompt.attachments)
        it.chat.prompt.area.post_message(events.Paste(f"'{file}' "))
        await until(lambda: it.chat.prompt.attachments)
        await it.ask("What is in it?")
        assert it.messages[0].attachments[0].text == "remember the milk"
        assert "remember the milk" in it.engine.requests[0].turns[-1].text
        assert it.chat.prompt.attachments == []


async def test_what_can_not_be_kept_comes_back_to_the_prompt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("remember the milk")
    async with chatting() as it:
        it.chat.prompt.attach([file])
        await until(lambda: it.chat.prompt.attachments)

        def full(*_question: object) -> None:
            raise StoreError("The disk is full.", "Make room.")

        monkeypatch.setattr(it.app.program.store, "enqueue", full)
        await it.pilot.press(*"Hi", "enter")
        await until(lambda: any("disk is full" in said for said in it.said))
        assert it.chat.prompt.text == "Hi"
        assert [attachment.name for attachment in it.chat.prompt.attachments] == ["notes.txt"]


async def test_files_wait_in_the_prompt_of_their_chat(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("remember the milk")
    async with chatting() as it:

        def names() -> list[str]:
            return [attachment.name for attachment in it.chat.prompt.attachments]

        await it.ask("A")
        first = it.chat.session.id
        it.chat.prompt.attach([file])
        await until(names)
        await it.pilot.press("ctrl+n")
        await until(lambda: it.chat.session.id != first)
        assert names() == []
        await it.chat.navigation.open(first)
        assert names() == ["notes.txt"]
        assert "notes.txt" in str(it.chat.query_one("#chips").render())
        await it.ask("What is in it?")
        await it.chat.navigation.open(it.chat.context.chats.sessions.new().id)
        await it.chat.navigation.open(first)
        assert names() == []


async def test_a_file_that_is_still_being_read_goes_to_its_chat(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(_reader: DocumentReader, _path: Path, name: str) -> Document:
        reading.set()
        await go_on.wait()
        return Document(name=name, media_type="text/plain", text="remember the milk")

    monkeypatch.setattr(DocumentReader, "read", slowly)
    async with chatting() as it:
        await it.ask("A")
        first = it.chat.session.id
        it.chat.prompt.attach([tmp_path / "notes.txt"])
        await until(reading.is_set)
        await it.chat.navigation.open(it.chat.context.chats.sessions.new().id)
        go_on.set()
        await it.app.workers.wait_for_complete([one for one in it.app.workers if one.group == "attach"])
        assert it.chat.prompt.attachments == []
        await it.chat.navigation.open(first)
        assert [attachment.name for attachment in it.chat.prompt.attachments] == ["notes.txt"]


async def test_up_and_down_go_through_earlier_questions() -> None:
    async with chatting() as it:
        await it.ask("one")
        await it.ask("two")
        await it.pilot.press(*"now", "up")
        assert it.chat.prompt.text == "two"
        await it.pilot.press("up")
        assert it.chat.prompt.text == "one"
        await it.pilot.press("down", "down")
        assert it.chat.prompt.text == "now"


async def test_ctrl_j_begins_a_line_and_the_prompt_grows() -> None:
    async with chatting(size=(100, 30)) as it:
        await it.pilot.press("a", "ctrl+j", "b", "ctrl+j", "c")
        assert it.chat.prompt.text == "a\nb\nc"
        await until(lambda: it.chat.prompt.area.size.height == 3)
        it.write("\n" * 50)
        await until(lambda: 3 < it.chat.prompt.area.size.height <= 10)


async def test_a_file_in_a_home_that_nobody_has_is_refused_with_words() -> None:
    async with chatting() as it:
        it.write("/attach ~nobody-of-that-name/x.txt")
        await it.pilot.press("enter")
        await until(lambda: any("~nobody-of-that-name" in said for said in it.said))


async def test_a_question_that_can_not_fit_comes_back_to_the_prompt() -> None:
    async with chatting("One.", n_ctx=1024) as it:
        await it.ask("A")
        it.write("q" * 2000)
        await it.pilot.press("enter")
        await until(lambda: bool(it.chat.query("#notice-words")) and "question is too long" in it.notice)
        await until(lambda: it.chat.prompt.text == "q" * 2000)
        assert it.texts == ["A", "One."] == [message.text for message in it.kept()]
        await until(lambda: it.app.program.store.session(it.chat.session.id).draft == "q" * 2000)
        await it.ask("short")
        assert it.texts == ["A", "One.", "short", "One."]


async def test_the_guide_never_sees_earlier_messages_and_no_line_says_so_each_time() -> None:
    async with chatting(reads_history=False) as it:
        await it.ask("A")
        await it.ask("B")
        await it.pilot.press(*"C")
        model, session = it.chat.context.chats.model, it.chat.session
        plan = await model.plan(session, it.messages, "C")
        assert plan and plan.trimmed == 4
        await until(lambda: it.chat.gauge.usage is not None and it.chat.gauge.usage.used == plan.used)
        assert line(it) is None
