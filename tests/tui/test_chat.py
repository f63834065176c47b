"""The chat as a person uses it, over a scripted engine."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Button, Input

from qwenchat.chat.conversation import Message, Role, Session, Status
from qwenchat.errors import CannotLoad, StoreError
from qwenchat.program import Program
from qwenchat.tui.app import Start
from qwenchat.tui.palette import Palette
from tests.tui.chatting import chatting, kept_session
from tests.tui.screens import until

SLOW = 0.02


async def test_a_bug_is_told_and_takes_no_words_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting(bugs=True) as it:
        await it.ask("A")
        session = it.chat.session.id

        async def fails(session_id: str) -> None:
            raise ValueError(session_id)

        with monkeypatch.context() as patched:
            patched.setattr(it.chat.chats.sessions, "open", fails)
            await it.pilot.press(*"half", "ctrl+n")
            await until(lambda: any("This is a bug" in said and "test_chat.py:" in said for said in it.said))
        await it.pilot.press(*" more")
        assert it.chat.prompt.text == "half more"
    program = Program.here()
    assert program.store.session(session).draft == "half more"
    program.close()


async def test_a_question_is_answered_and_kept() -> None:
    async with chatting("It is **blue**.") as it:
        await it.ask("What colour is the sky?")
        assert it.texts == ["What colour is the sky?", "It is **blue**."]
        assert [message.text for message in it.kept()] == it.texts
        assert it.chat.prompt.text == ""
        assert it.chat.session.title == "What colour is the sky?"


async def test_escape_stops_and_keeps_the_text() -> None:
    async with chatting("word " * 500, delay_s=SLOW) as it:
        it.write("Go on")
        await it.pilot.press("enter")
        await until(lambda: "word word" in it.texts[-1])
        await it.pilot.press("escape")
        await it.idle()
        assert it.messages[-1].status is Status.STOPPED
        assert it.messages[-1].text == it.kept()[-1].text
        assert it.messages[-1].text.startswith("word word")


async def test_what_was_stopped_can_be_continued() -> None:
    async with chatting("word " * 500, "and the rest.", delay_s=SLOW) as it:
        it.write("Go on")
        await it.pilot.press("enter")
        await until(lambda: "word" in it.texts[-1])
        await it.pilot.press("escape")
        await it.idle()
        await it.do("carry_on")
        await until(lambda: it.texts[-1].endswith("and the rest."))
        await it.idle()
        assert len(it.messages) == 2
        assert it.texts[-1].startswith("word")


async def test_answering_again_makes_a_variant_and_the_arrows_go_between() -> None:
    async with chatting("First.", "Second.") as it:
        await it.ask("Q")
        await it.pilot.press("ctrl+r")
        await until(lambda: it.texts == ["Q", "Second."])
        await it.idle()
        assert it.transcript.column.shown[1].variant == (2, 2)
        await it.pilot.press("f6")
        await until(lambda: it.transcript.selected is not None)
        it.transcript.select(it.messages[1].id)
        await it.pilot.press("left")
        await until(lambda: it.texts == ["Q", "First."])
        assert [message.text for message in it.kept()] == ["Q", "First."]


async def test_editing_a_question_keeps_the_old_one_beside() -> None:
    async with chatting("First.", "Second.") as it:
        await it.ask("Old")
        await it.do("edit")
        await until(lambda: it.chat.prompt.text == "Old")
        await it.ask("New")
        assert it.texts == ["New", "Second."]
        assert it.transcript.column.shown[0].variant == (2, 2)


async def test_escape_leaves_an_edited_question_as_it_was() -> None:
    async with chatting() as it:
        await it.ask("Old")
        await it.do("edit")
        await until(lambda: it.chat.editing)
        await it.pilot.press("escape")
        assert it.chat.prompt.text == ""
        assert it.chat.editing is None


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


async def test_another_chat_is_no_place_to_edit_the_question() -> None:
    async with chatting() as it:
        await it.ask("Old")
        first = it.chat.session.id
        await it.pilot.press(*"half")
        await it.do("edit")
        await until(lambda: it.chat.editing)
        await it.pilot.press("ctrl+n")
        await until(lambda: it.chat.session.id != first)
        assert it.chat.editing is None
        assert not it.chat.prompt.has_class("editing")
        assert it.chat.prompt.text == ""
        await until(lambda: it.chat.gauge.fill)  # counted without the question
        await it.chat.open_session(first)
        assert it.chat.prompt.text == "half"


async def test_deleting_the_question_that_is_edited_ends_that() -> None:
    async with chatting() as it:
        await it.ask("A")
        await it.ask("B")
        await it.pilot.press(*"half")
        it.transcript.select(it.messages[2].id)
        await it.do("edit")
        await until(lambda: it.chat.editing)
        await it.do("delete")
        await until(lambda: it.texts == ["A", "Hello."])
        assert it.chat.editing is None
        assert it.chat.prompt.text == "half"
        it.chat.gauge.fill = None
        it.chat.recount()
        await until(lambda: it.chat.gauge.fill)


async def test_branching_lets_the_next_question_follow_the_message() -> None:
    async with chatting("One.", "Two.", "Three.") as it:
        await it.ask("A")
        await it.ask("B")
        it.transcript.select(it.messages[1].id)
        await it.do("branch")
        await until(lambda: it.texts == ["A", "One."])
        await it.ask("C")
        assert it.texts == ["A", "One.", "C", "Three."]
        assert it.transcript.column.shown[2].variant == (2, 2)


async def test_a_deleted_message_can_be_taken_back() -> None:
    async with chatting("One.", "Two.") as it:
        await it.ask("A")
        await it.ask("B")
        it.transcript.select(it.messages[2].id)
        await it.do("delete")
        await until(lambda: it.texts == ["A", "One."])
        await it.pilot.press("f8")
        await until(lambda: it.texts == ["A", "One.", "B", "Two."])


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
        drafts = [listed.session.draft for listed in it.app.program.store.shelf.newest()]
        assert sorted(drafts) == ["first", "second"]


async def test_other_chats_wait_their_turn_and_typing_stays_possible() -> None:
    async with chatting("slow " * 100, "Quick.", delay_s=SLOW) as it:
        it.write("First")
        await it.pilot.press("enter")
        await until(lambda: "slow" in it.texts[-1])
        first = it.chat.session.id
        await it.pilot.press("ctrl+n")
        await until(lambda: it.chat.session.id != first)
        it.write("Second")
        await it.pilot.press("enter")
        await until(lambda: "Waits" in it.notice)
        await it.pilot.press(*"typed")
        assert it.chat.prompt.text == "typed"
        await it.chat.chats.stop(first)
        await until(lambda: it.texts == ["Second", "Quick."])
        await it.idle()
        await it.chat.open_session(first)
        assert it.texts[0] == "First"
        assert it.messages[1].status is Status.STOPPED


async def test_a_question_that_waits_follows_the_answer_to_the_one_before() -> None:
    async with chatting("slow " * 100, "A1.", "A2.", delay_s=SLOW) as it:
        it.write("Elsewhere")
        await it.pilot.press("enter")
        await until(lambda: "slow" in it.texts[-1])
        elsewhere = it.chat.session.id
        await it.pilot.press("ctrl+n")
        await until(lambda: it.chat.session.id != elsewhere)
        it.write("First")
        await it.pilot.press("enter")
        await until(lambda: it.texts == ["First"])
        it.write("Second")
        await it.pilot.press("enter")
        await until(lambda: it.texts == ["First", "Second"])
        assert [message.text for message in it.kept()] == it.texts
        await it.chat.chats.stop(elsewhere)
        await until(lambda: it.texts == ["First", "A1.", "Second", "A2."])
        await it.idle()
        assert [message.text for message in it.kept()] == it.texts
        assert [turn.text for turn in it.engine.requests[-1][0][1:]] == ["First", "A1.", "Second"]


async def test_coming_back_in_mid_answer_misses_nothing() -> None:
    words = " ".join(f"w{number}" for number in range(120))
    async with chatting(words, delay_s=0.01) as it:
        it.write("Count")
        await it.pilot.press("enter")
        await until(lambda: "w5" in it.texts[-1])
        first = it.chat.session.id
        await it.chat.open_session(it.chat.chats.sessions.new().id)
        await it.chat.open_session(first)
        await until(lambda: "w40 " in it.texts[-1])
        assert words.startswith(it.texts[-1])
        await it.idle()
        assert it.texts[-1] == words


async def test_a_dead_engine_keeps_the_answer_and_offers_to_go_on() -> None:
    async with chatting("one two three four", "four.", die="three") as it:
        it.write("Count")
        await it.pilot.press("enter")
        await until(lambda: it.messages and it.messages[-1].status is Status.FAILED)
        await until(
            lambda: "Start again" in [str(button.label) for button in it.chat.query("#notice Button").results(Button)]
        )
        assert it.texts[-1] == "one two "
        it.engine.die = ""
        it.chat.query("#notice Button").first(Button).press()
        await until(lambda: it.texts[-1] == "one two four.")
        await it.idle()
        assert it.notice == ""


async def test_a_model_that_fails_to_load_leaves_the_chat_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting("One.") as it:
        await it.ask("A")
        good = it.chat.chats.model._new_engine

        def fails(reference: str, wishes: object) -> object:
            raise CannotLoad("It is damaged.", "Take another.")

        monkeypatch.setattr(it.chat.chats.model, "_new_engine", fails)
        it.chat.use_model("7b")
        await until(lambda: any("It is damaged." in said for said in it.said))
        assert it.chat.session.model == "guide"
        assert it.texts == ["A", "One."]
        monkeypatch.setattr(it.chat.chats.model, "_new_engine", good)
        await it.ask("B")
        assert it.texts[-1] == "One."


async def test_a_private_chat_is_written_nowhere(home: Path) -> None:
    async with chatting("Secret answer.") as it:
        await it.pilot.press("f7")
        await until(lambda: it.chat.chats.sessions.is_private(it.chat.session.id))
        assert "PRIVATE" in str(it.chat.query_one("#header").render())
        await it.ask("Very secret question")
        it.write("a secret draft")
        await it.chat.save_draft()
        assert it.app.program.store.shelf.count() == 0
    found = [file for file in home.rglob("*") if file.is_file() and b"secret" in file.read_bytes().lower()]
    assert found == []


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
        assert any(listed.session.draft == "another" for listed in it.app.program.store.shelf.newest())


async def test_a_sent_question_leaves_no_draft() -> None:
    async with chatting() as it:
        await it.pilot.press(*"Hi")
        await it.chat.save_draft()
        await it.pilot.press("enter")
        await it.idle()
        await until(lambda: it.chat.session.title)
        assert it.app.program.store.session(it.chat.session.id).draft == ""


async def test_the_gauge_counts_question_and_history_exactly() -> None:
    async with chatting("One.") as it:
        await it.ask("A")
        await it.pilot.press(*"four")
        await until(lambda: it.chat.gauge.fill is not None)
        expected = sum(len(text) + 4 for text in ("You are a helpful assistant.", "A", "One.", "four"))
        await until(lambda: it.chat.gauge.fill and it.chat.gauge.fill.used == expected)


async def test_a_line_shows_what_the_model_no_longer_sees() -> None:
    async with chatting("x" * 200, n_ctx=1000) as it:
        for _number in range(5):
            await it.ask("y" * 50)
        await until(lambda: any(shown.boundary for shown in it.transcript.column.shown))


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
        assert it.engine.requests[0][1].temperature == 0.2


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
    asked = Message("q1", session.id, None, Role.USER, "red\x1b[31m\n\tend", 5)
    program.store.add(asked, Message("a1", session.id, "q1", Role.ASSISTANT, "Fine.", 6))
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
        await it.ask("What is in it?")
        assert it.messages[0].attachments[0].text == "remember the milk"
        assert "remember the milk" in it.engine.requests[0][0][-1].text
        assert it.chat.prompt.attachments == ()


async def test_what_can_not_be_kept_comes_back_to_the_prompt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("remember the milk")
    async with chatting() as it:
        it.chat.prompt.attach([file])
        await until(lambda: it.chat.prompt.attachments)

        async def full(*_message: object) -> None:
            raise StoreError("The disk is full.", "Make room.")

        monkeypatch.setattr(it.chat.chats.sessions, "add_question", full)
        await it.pilot.press(*"Hi", "enter")
        await until(lambda: any("disk is full" in said for said in it.said))
        assert it.chat.prompt.text == "Hi"
        assert [attachment.name for attachment in it.chat.prompt.attachments] == ["notes.txt"]


@pytest.mark.parametrize("waits", ["variant", "branch_at", "change", "load"])
async def test_what_ends_after_the_chat_was_left_does_not_bring_it_back(
    waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chatting("One.", "Two.") as it:
        await it.ask("A")
        await it.ask("B")
        first, go, waiting = it.chat.session.id, asyncio.Event(), asyncio.Event()
        owner = it.chat.chats.model if waits == "load" else it.chat.chats.sessions
        real = getattr(owner, waits)

        async def held(*given: object, **fields: object) -> object:
            result = await real(*given, **fields)
            waiting.set()
            await go.wait()
            return result

        monkeypatch.setattr(owner, waits, held)
        message = it.messages[1]
        it.transcript.select(message.id)
        match waits:
            case "variant":
                it.transcript.post_message(it.transcript.VariantChosen(it.transcript, message, 1))
            case "branch_at":
                await it.do("branch")
            case "change":
                it.write("/set temperature 0.2")
                await it.pilot.press("enter")
            case "load":
                it.chat.use_model("guide")
        await waiting.wait()
        await it.pilot.press("ctrl+n")
        await until(lambda: it.chat.session.id != first)
        second = it.chat.session.id
        go.set()
        await until(lambda: not [worker for worker in it.app.workers if worker.group in ("doing", "load")])
        assert it.chat.session.id == second
        assert it.texts == []
        assert "New chat" in str(it.chat.query_one("#header").render())


async def test_the_end_of_an_answer_does_not_bring_a_chat_back_that_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting("word " * 30, delay_s=SLOW) as it:
        it.write("A")
        await it.pilot.press("enter")
        await until(lambda: "word" in it.texts[-1] and it.chat.session.title)
        first, go, waiting = it.chat.session.id, asyncio.Event(), asyncio.Event()
        real = it.chat.chats.sessions.labels

        async def held(session_id: str) -> Session:
            if session_id == first:
                waiting.set()
                await go.wait()
            return await real(session_id)

        monkeypatch.setattr(it.chat.chats.sessions, "labels", held)
        await waiting.wait()
        second = it.chat.chats.sessions.new("guide").id
        it.chat.attempt(it.chat.open_session(second))
        await until(lambda: it.chat.session.id == second)
        go.set()
        await it.idle()
        assert it.chat.session.id == second
        assert it.texts == []


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
        await it.chat.open_session(first)
        assert names() == ["notes.txt"]
        assert "notes.txt" in str(it.chat.query_one("#chips").render())
        await it.ask("What is in it?")
        await it.chat.open_session(it.chat.chats.sessions.new().id)
        await it.chat.open_session(first)
        assert names() == []


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


async def test_search_finds_text_and_jumps_to_the_message() -> None:
    program = Program.here()
    other = kept_session(program, "Animals")
    asked = Message("q1", other.id, None, Role.USER, "What does a pangolin eat? 我爱北京", 5)
    program.store.add(asked, Message("a1", other.id, "q1", Role.ASSISTANT, "Ants.", 6))
    program.close()
    async with chatting() as it:
        await it.pilot.press("f4", *"pangolin")
        await until(
            lambda: it.chat.sidebar.list.option_count and it.chat.sidebar.list.options[0].id == f"{other.id} q1"
        )
        await it.pilot.press("enter", "enter")
        await until(lambda: it.transcript.selected is not None)
        assert it.transcript.selected and it.transcript.selected.id == "q1"


async def test_a_hit_that_no_page_has_shown_is_what_an_action_means() -> None:
    program = Program.here()
    with program.store.together():
        first = kept_session(program, "Animals")
        program.store.add(Message("q1", first.id, None, Role.USER, "What does a pangolin eat?", 5))
        for number in range(150):
            kept_session(program, f"Chat {number}")
    program.close()
    async with chatting() as it:
        await it.ask("Open here")
        await it.pilot.press("f4", *"pangolin")
        await until(lambda: [option.id for option in it.chat.sidebar.list.options] == [f"{first.id} q1"])
        await it.pilot.press("enter")
        await it.do("trash")
        await until(lambda: it.app.program.store.session(first.id).trashed)
        assert it.app.program.store.session(it.chat.session.id).trashed is None


async def test_the_list_is_marked_while_it_still_shows_what_a_search_found() -> None:
    program = Program.here()
    session = kept_session(program, "Animals").id
    program.store.add(Message("q1", session, None, Role.USER, "What does a pangolin eat?", 5))
    program.close()
    async with chatting() as it:
        sidebar = it.chat.sidebar
        await until(lambda: any(option.id == session for option in sidebar.list.options))
        await it.pilot.press("f4", *"pangolin")
        await until(lambda: [option.id for option in sidebar.list.options] == [f"{session} q1"])
        sidebar.query_one(Input).value = ""
        sidebar.mark(session, (session,))  # as when an answer begins before the list is read anew
        await until(lambda: any(option.id == session for option in sidebar.list.options))
        assert "✎" in str(sidebar.list.get_option(session).prompt)


async def test_a_list_that_cannot_be_read_is_told_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting() as it:
        await it.ask("Open here")
        sidebar = it.chat.sidebar
        await until(lambda: sidebar.list.option_count > 1)
        before = [option.id for option in sidebar.list.options]

        def broken(*_what: object) -> None:
            raise StoreError("The disk is gone.", "Put it back.")

        monkeypatch.setattr(sidebar, "_newest", broken)
        monkeypatch.setattr(sidebar, "_find", broken)
        sidebar.reload()
        await until(lambda: len(it.said) == 1)
        await it.pilot.press("f4", *"pangolin")
        await until(lambda: len(it.said) > 1)
        assert all("The disk is gone." in said for said in it.said)
        assert [option.id for option in sidebar.list.options] == before


async def test_the_sidebar_groups_pins_and_pages() -> None:
    program = Program.here()
    with program.store.together():
        for number in range(350):
            kept_session(program, f"Chat {number}", pinned=number == 7)
    program.close()
    async with chatting() as it:
        view = it.chat.sidebar.list
        await until(lambda: view.option_count > 50)
        assert [str(option.prompt).strip() for option in list(view.options)[:3]] == ["Pinned", "Chat 7", "Today"]
        assert view.option_count < 150
        view.focus()
        await it.pilot.press(*["pagedown"] * 5)
        await until(lambda: view.option_count > 150)


async def test_a_chat_goes_to_the_trash_and_comes_back() -> None:
    async with chatting() as it:
        await it.ask("A")
        session = it.chat.session.id
        await it.do("trash")
        await until(lambda: it.chat.session.id != session)
        assert it.app.program.store.session(session).trashed
        await it.do("undo")
        await until(lambda: it.app.program.store.session(session).trashed is None)


async def test_markup_and_control_characters_in_titles_and_models_are_plain_text() -> None:
    program = Program.here()
    session = kept_session(program, "[bold red]x[/] \x1b[31m [@click=app.quit]y")
    program.close()
    async with chatting(start=Start(session=session.id)) as it:
        await until(lambda: it.chat.session.id == session.id)
        assert "[bold red]x[/] [31m [@click=app.quit]y" in str(it.chat.query_one("#header").render())


async def test_find_marks_words_and_escape_ends_it() -> None:
    async with chatting("A needle in the hay.") as it:
        await it.ask("Where?")
        await it.pilot.press("ctrl+f", *"needle")
        await until(lambda: "1 of 1" in it.chat.gauge.activity)
        await it.pilot.press("escape")
        assert not it.chat.has_class("finding")
        assert it.chat.prompt.area.has_focus


@pytest.mark.parametrize("size", [(20, 5), (40, 12), (400, 100)])
async def test_it_works_at_every_size(size: tuple[int, int]) -> None:
    async with chatting("Fine.", size=size) as it:
        await it.ask("A")
        assert it.texts == ["A", "Fine."]
        assert it.transcript.size.height >= 1
        assert it.chat.prompt.area.size.height >= 1


async def test_copying_says_so_and_copies_clean_text() -> None:
    async with chatting("```python\nprint(1)\n```\n\x1b]52;c;x\x07") as it:
        await it.ask("A")
        await it.do("copy_code")
        assert it.app.clipboard.rstrip() == "print(1)"
        await it.do("copy")
        assert "\x1b" not in it.app.clipboard
        await until(lambda: any("OSC 52" in said for said in it.said))


async def test_code_is_saved_and_a_home_that_nobody_has_is_told(tmp_path: Path) -> None:
    async with chatting("```python\nprint(1)\n```") as it:
        await it.ask("A")
        for name in ("~nobody-of-that-name/x.py", str(tmp_path / "x.py")):
            await it.do("save_code")
            await until(lambda: it.app.screen is not it.chat and it.app.screen.query(Input))
            it.app.screen.query_one(Input).value = name
            await it.pilot.press("enter")
            await until(lambda: it.app.screen is it.chat)
        await until(lambda: any("~nobody-of-that-name" in said for said in it.said))
        assert (tmp_path / "x.py").read_text() == "print(1)\n"


async def test_a_file_in_a_home_that_nobody_has_is_refused_with_words() -> None:
    async with chatting() as it:
        it.write("/attach ~nobody-of-that-name/x.txt")
        await it.pilot.press("enter")
        await until(lambda: any("~nobody-of-that-name" in said for said in it.said))


async def test_keys_can_be_changed_and_clashes_are_told(home: Path) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text('[keys]\nnew = "f9"\nhelp = "f9"\n')
    async with chatting() as it:
        await until(lambda: any("f9" in said for said in it.said))
    (home / "config" / "config.toml").write_text('[keys]\nnew = "f9"\n')
    async with chatting() as it:
        await it.ask("A")
        session = it.chat.session.id
        await it.pilot.press("f9")
        await until(lambda: it.chat.session.id != session)


async def test_every_action_is_carried_out_by_the_screen() -> None:
    async with chatting() as it:
        missing = [action.id for action in it.app.actions if not hasattr(it.chat, f"action_{action.id}")]
        assert missing == []
        assert len({action.id for action in it.app.actions}) == len(it.app.actions)


async def test_the_end_of_an_answer_that_loops_warns() -> None:
    async with chatting("the same words again. " * 30) as it:
        await it.ask("A")
        await until(lambda: "repeats itself" in it.notice)


@pytest.mark.parametrize(
    ("action", "screen"),
    [
        ("help", "HelpScreen"),
        ("models", "ModelScreen"),
        ("session_settings", "SessionScreen"),
        ("themes", "ThemeScreen"),
        ("settings", "SettingsScreen"),
        ("export", "ExportScreen"),
        ("rename", "TextScreen"),
    ],
)
async def test_dialogs_open_and_escape_leads_back(action: str, screen: str) -> None:
    async with chatting() as it:
        await it.ask("A")
        await it.do(action)
        await until(lambda: type(it.app.screen).__name__ == screen)
        await it.pilot.pause()
        await it.pilot.press("escape")
        await until(lambda: it.app.screen is it.chat)


async def test_without_a_model_there_is_a_welcome_and_the_first_question_is_kept() -> None:
    async with chatting(start=Start()) as it:
        for _time in range(2):  # at the start, and again at the first question
            await until(lambda: type(it.app.screen).__name__ == "WelcomeScreen")
            await it.pilot.press("escape")
            await until(lambda: it.app.screen is it.chat)
            if not it.chat.prompt.text:
                await it.pilot.press(*"Hello", "enter")
        assert it.chat.prompt.text == "Hello"


async def test_a_chat_gets_another_title() -> None:
    async with chatting() as it:
        await it.ask("A")
        await it.do("rename")
        await until(lambda: it.app.screen is not it.chat)
        await it.pilot.press(*"BC", "enter")
        await until(lambda: it.chat.session.title != "A")
        assert "BC" in it.app.program.store.session(it.chat.session.id).title


async def test_the_model_finds_a_title_once_it_has_nothing_else_to_do() -> None:
    async with chatting("Washing rice") as it:
        await it.do("suggest_title")
        await until(lambda: "Nothing was asked" in " ".join(it.said))
        await it.ask("How often must rice be washed?")
        await it.do("suggest_title")
        await until(lambda: it.chat.session.title == "Washing rice")
        assert it.app.program.store.session(it.chat.session.id).title == "Washing rice"
        assert [message.text for message in it.kept()] == ["How often must rice be washed?", "Washing rice"]


async def test_the_palette_knows_pinyin_initials_and_english_names() -> None:
    async with chatting() as it:
        named = {"New chat": "新建对话", "Models": "模型"}
        it.app.actions = tuple(replace(each, label=named.get(each.label, each.label)) for each in it.app.actions)
        for typed, title in (("xjdh", "新建对话"), ("model", "模型"), ("新建", "新建对话")):
            palette = Palette(it.chat)
            assert title in [str(hit.prompt) async for hit in palette.search(typed)]
