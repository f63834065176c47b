"""What is typed is never swallowed: letters are commands only where the focus was led to by a key."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.widgets import Button, Input, TextArea

from qwenchat.chat.message import Message, Status
from qwenchat.runtime.chat_service import ChatService
from qwenchat.runtime.program import Program
from qwenchat.tui.actions import Where, actions
from qwenchat.tui.dialogs.session import SessionScreen
from qwenchat.tui.dialogs.small import TextScreen
from tests.tui.chatting import chatting, kept_session
from tests.tui.screens import click, is_open, until
from tests.tui.terminal import CTRL_Q, qwenchat_in_terminal


async def test_after_a_click_on_a_message_what_is_typed_is_text() -> None:
    async with chatting("It is blue.") as it:
        await it.ask("Sky?")
        await it.click_on("blue")
        assert it.transcript.selected == it.messages[1]
        await it.pilot.press(*"explain it")
        assert it.chat.prompt.text == "explain it"
        assert it.chat.drafts.editing is None


async def test_after_a_question_an_action_is_about_it_and_no_longer_about_what_was_clicked() -> None:
    async with chatting("It is blue.", "Yes.", "Surely.") as it:
        await it.ask("Sky?")
        await it.click_on("blue")
        await it.ask("Sure?")
        await it.pilot.press("ctrl+r")
        await until(lambda: it.texts == ["Sky?", "It is blue.", "Sure?", "Surely."])


async def test_after_a_click_in_the_list_what_is_typed_is_text() -> None:
    program = Program.here()
    session = kept_session(program, "Fishes")
    program.close()
    async with chatting() as it:
        view = it.chat.sidebar.list
        await until(lambda: any(option.id == session.id for option in view.options))
        await click(it.app, view, offset=(4, 1))
        await until(lambda: it.chat.session.id == session.id)
        await it.pilot.press(*"px")
        assert it.chat.prompt.text == "px"
        kept = it.app.program.store.session(session.id)
        assert not kept.pinned and kept.trashed is None
        await click(it.app, view, offset=(4, 0))  # a heading
        await it.pilot.press("d")
        assert it.chat.prompt.text == "pxd"


async def test_after_an_action_on_a_message_the_prompt_has_the_focus() -> None:
    async with chatting("One.", "Two.", "Three.") as it:
        await it.ask("A")
        await it.pilot.press("f6")
        assert it.transcript.has_focus
        await it.pilot.press(*"rest")
        await it.idle()
        assert it.texts == ["A", "Two."]
        assert it.chat.prompt.text == "est"


async def test_a_letter_that_is_no_command_goes_to_the_prompt_and_so_does_a_paste() -> None:
    async with chatting("One.") as it:
        await it.ask("A")
        await it.pilot.press("f6", *"What")
        assert it.chat.prompt.text == "What"
        await it.pilot.press("f6", "您")
        assert it.chat.prompt.text == "What您"
        await it.pilot.press("f6")
        it.app.post_message(events.Paste(" pasted"))
        await until(lambda: it.chat.prompt.text == "What您 pasted")
        assert it.chat.prompt.area.has_focus


async def test_f6_goes_through_the_parts_and_the_footer_shows_their_keys() -> None:
    def footer() -> str:
        return it.chat.footer.render_line(0).text

    async with chatting("One.", size=(120, 30)) as it:
        await it.ask("A")
        assert "Enter send" in footer() and "F6 to messages" in footer()
        await it.pilot.press("f6")
        assert "r answer again" in footer() and "Esc back" in footer()
        assert "y copy" in it.transcript.render_line(3).text  # the keys of the selected answer
        await it.pilot.press("f6")
        assert it.chat.sidebar.list.has_focus
        assert "p pin" in footer() and "Enter open" in footer()
        await it.pilot.press("f6")
        assert it.chat.prompt.area.has_focus
        assert "y copy" not in it.transcript.render_line(3).text


async def test_enter_pressed_twice_at_once_asks_once() -> None:
    async with chatting("It is blue.") as it:
        it.chat.prompt.write("Sky?")
        for _press in range(2):
            it.app.post_message(events.Key("enter", None))
        await until(lambda: it.texts == ["Sky?", "It is blue."] and not it.chat.prompt.text)
        await it.ask("Sure?")
        assert it.texts.count("Sky?") == 1


@pytest.mark.parametrize(("key", "field"), [("f4", "#sidebar Input"), ("ctrl+f", "#find")])
@pytest.mark.parametrize("size", [(120, 30), (60, 20)])
async def test_what_is_typed_right_after_the_key_of_a_search_stands_in_it(
    key: str, field: str, size: tuple[int, int]
) -> None:
    async with chatting("It is blue.", size=size) as it:
        await it.ask("Sky?")
        for pressed in (key, *"pump"):
            it.app.post_message(events.Key(pressed, pressed if len(pressed) == 1 else None))
        await until(lambda: any(each.value == "pump" for each in it.chat.query(field).results(Input)))
        assert not it.chat.prompt.text


@pytest.mark.parametrize("key", ["f1", "ctrl+o", "ctrl+p"])
async def test_what_is_typed_right_after_the_key_of_a_dialog_stands_in_its_filter(key: str) -> None:
    async with chatting(size=(100, 30)) as it:
        for pressed in (key, *"pump"):
            it.app.post_message(events.Key(pressed, pressed if len(pressed) == 1 else None))
        await until(lambda: any(field.value == "pump" for field in it.app.screen.query(Input)))
        assert it.app.screen is not it.chat and not it.chat.prompt.text


async def test_what_is_typed_right_after_a_dialog_opens_stands_in_the_field_where_it_begins() -> None:
    async with chatting(size=(100, 40)) as it:
        it.chat.session_actions.open_settings(at_system=True)
        for letter in "abc":
            it.app.post_message(events.Key(letter, letter))
        await until(lambda: is_open(it.app, SessionScreen))
        await until(lambda: it.app.screen.query_one("#system", TextArea).text == "abc")
        assert not it.app.screen.query_one("#title", Input).value


async def test_a_dialog_gives_its_result_though_what_opened_it_is_gone() -> None:
    async with chatting() as it:
        opening, results = TextScreen("First"), list[str | None]()

        def exchange() -> None:
            _closing = opening.dismiss(None)
            it.chat.context.ask(TextScreen("Second", "words"), results.append)

        await it.app.push_screen(opening)
        opening.call_later(exchange)
        await until(lambda: is_open(it.app, TextScreen) and it.app.screen is not opening)
        await it.pilot.press("enter")
        await until(lambda: results == ["words"])


async def test_a_key_that_comes_while_work_opens_a_dialog_is_for_the_dialog() -> None:
    async with chatting() as it:
        asked: list[str | None] = []

        async def ask() -> None:
            for letter in "ab":
                it.app.post_message(events.Key(letter, letter))
            asked.append(await it.chat.context.result_of(TextScreen("A title")))

        it.chat.context.run(ask())
        await until(lambda: is_open(it.app, TextScreen))
        await it.pilot.press("enter")
        await until(lambda: asked == ["ab"])
        assert not it.chat.prompt.text


async def test_a_question_that_is_just_being_stored_is_not_lost_by_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    may_store, store = asyncio.Event(), ChatService.send

    async def send(*words: Any, **fields: Any) -> Message:
        await may_store.wait()
        return await store(*words, **fields)

    monkeypatch.setattr(ChatService, "send", send)
    async with chatting("It is blue.") as it:
        it.chat.prompt.write("Sky?")
        await it.pilot.press("enter")
        await until(lambda: not it.chat.prompt.text)
        session = it.chat.session.id
        leaving = asyncio.create_task(it.app.action_quit())
        asyncio.get_running_loop().call_later(0.05, may_store.set)
        await leaving
    program = Program.here()
    stored = program.store.session(session)
    asked = [each.text for each in program.store.branch(stored.leaf)]
    asked += [each.text for each in program.store.waiting(session)]
    assert asked[:1] == ["Sky?"]
    program.close()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_what_is_typed_faster_than_it_is_drawn_comes_in_its_order(tiny: Path) -> None:
    with qwenchat_in_terminal("--model", tiny) as terminal:
        terminal.shows("Ask anything")
        terminal.send("abd\x7fc\x15/ex\x7fit\x01\x1b[3~")
        terminal.shows("│ eit ")
        terminal.send("\x1b[17~What")  # F6, and a word of whose letters some are commands
        terminal.shows("Whateit")
        terminal.send(CTRL_Q)
        assert terminal.end() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_key_of_the_prompt_counts_though_the_next_one_leads_away(tiny: Path) -> None:
    with qwenchat_in_terminal("--model", tiny, columns=120) as terminal:
        terminal.shows("Ask anything")
        terminal.send("\x02abcd")  # Ctrl+B hides the list
        terminal.shows("abcd")
        terminal.send("\x7f\x02")  # Backspace; then the list is shown and gets the focus
        terminal.until(lambda text: "abc" in text and "abcd" not in text)
        terminal.send(CTRL_Q)
        assert terminal.end() == 0


def test_a_letter_means_one_thing_wherever_it_is_a_command() -> None:
    labels: dict[str, set[str]] = {}
    for action in actions():
        for key in action.keys.split(","):
            if len(key) == 1 and action.where in (Where.MESSAGE, Where.LIST):
                labels.setdefault(key, set()).add(action.label.split()[0])
    assert {key: words for key, words in labels.items() if len(words) > 1} == {}


@pytest.mark.parametrize("place", ["prompt", "list", "search", "messages"])
async def test_pages_are_turned_wherever_the_focus_is(place: str) -> None:
    async with chatting("line\n\n" * 100, size=(100, 24)) as it:
        await it.ask("A")
        view = it.transcript
        widget = {
            "prompt": it.chat.prompt.area,
            "list": it.chat.sidebar.list,
            "search": it.chat.query_one("#session-search"),
            "messages": view,
        }[place]
        it.chat.set_focus(widget)
        end = view.scroll_y
        await it.pilot.press("pageup")
        assert view.scroll_y < end
        await it.pilot.press("ctrl+home")
        assert view.scroll_y == 0
        assert "Ctrl+End" in view.render_line(view.size.height - 1).text
        await it.pilot.press("pagedown")
        assert view.scroll_y > 0
        await it.pilot.press("ctrl+end")
        assert view.scroll_y == view.max_scroll_y
        assert widget.has_focus


async def test_the_wheel_scrolls_the_messages_over_the_prompt_too() -> None:
    async with chatting("line\n\n" * 100, size=(100, 24)) as it:
        await it.ask("A")
        end = it.transcript.scroll_y
        at = it.chat.prompt.area.region.offset
        it.app.post_message(events.MouseScrollUp(None, at.x, at.y, 0, 0, 0, False, False, False, at.x, at.y))
        await until(lambda: it.transcript.scroll_y < end)


async def test_after_going_to_the_beginning_the_next_step_goes_on_from_there() -> None:
    async with chatting("line\n\n" * 30) as it:
        for text in "ABC":
            await it.ask(text)
        await it.pilot.press("f6", "g", "j")
        assert it.transcript.selected == it.messages[1]
        await it.pilot.press("ctrl+end", "k")
        assert it.transcript.selected == it.messages[5]


async def test_tab_leaves_the_prompt_for_an_offer_alone() -> None:
    async with chatting() as it:
        await it.pilot.press(*"half", "tab", *"way")
        assert it.chat.prompt.text == "halfway"
        it.chat.notice.show("It failed.", ("Restart the model",))
        await until(lambda: it.chat.notice.query(Button))
        await it.pilot.press("tab")
        assert isinstance(it.app.focused, Button)
        await it.pilot.press(*"!?")
        assert it.chat.prompt.text == "halfway!?"


async def test_while_it_answers_the_way_to_stop_is_shown_and_then_the_way_to_go_on() -> None:
    def is_shown() -> bool:
        return it.chat.footer.display

    async with chatting("one " * 500, "and the end.", delay_s=0.05, size=(60, 12)) as it:
        it.write("Count")
        await it.pilot.press("enter")
        await until(lambda: it.texts and it.texts[-1].startswith("one"))
        assert is_shown()
        assert it.chat.footer.render_line(0).text.strip().startswith("Esc stop")
        await it.pilot.press("escape")
        await until(lambda: it.messages[-1].status is Status.STOPPED)
        await it.idle()
        assert not is_shown()  # a low screen has one line, which is the gauge's
        stopped = it.texts[-1]
        await it.click_on("continue")
        await until(lambda: it.texts and it.texts[-1] == stopped + "and the end.")
        assert it.chat.prompt.area.has_focus
