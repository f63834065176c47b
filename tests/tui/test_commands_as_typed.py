"""Lines that begin with a slash: questions stay questions, and what can be completed is shown, walked and taken."""

import sys
from functools import partial
from pathlib import Path

import pytest
from textual.widgets import TextArea

from qwenchat.runtime.program import Program
from qwenchat.tui.dialogs.session import SessionScreen
from qwenchat.tui.prompt_library import PromptLibrary
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import is_open, until
from tests.tui.terminal import CTRL_Q, qwenchat_in_terminal


def listed(it: Chatting) -> list[str]:
    """The lines of the list above the prompt."""
    view = it.chat.prompt.suggestions
    return [str(option.prompt) for option in view.options] if view.display else []


def shows(it: Chatting, words: str) -> bool:
    return any(words in line for line in listed(it))


@pytest.mark.parametrize(
    "question",
    [
        "/quit smoking, how?",
        "/set theory basics",
        "/etc 里有什么？",
        "/clear my mind",
        "/show me how",
        "/help me, please",
    ],
)
async def test_a_question_that_begins_with_a_slash_is_asked_whole(question: str) -> None:
    async with chatting() as it:
        await it.ask(question)
        assert it.texts[0] == question
        assert it.engine.requests[-1].turns[-1].text == question


async def test_a_system_prompt_is_shown_before_it_is_one() -> None:
    async with chatting() as it:
        it.write("/system design interview tips")
        await it.pilot.press("enter")
        await until(lambda: is_open(it.app, SessionScreen) and it.app.screen.query("#system"))
        assert it.app.screen.query_one("#system", TextArea).text == "design interview tips"
        await it.pilot.press("escape")
        await until(lambda: it.app.screen is it.chat)
        assert it.chat.session.system == ""
        await it.pilot.press("up")
        assert it.chat.prompt.text == "/system design interview tips"


@pytest.mark.parametrize(
    "typed", ["/set temprature 0.7", "/set temperature hot", "/find nothing of the kind", "/modle 7b"]
)
async def test_a_command_that_is_wrong_stays_in_the_prompt(typed: str) -> None:
    async with chatting() as it:
        it.write(typed)
        await it.pilot.pause()
        await it.pilot.press("escape", "enter")
        await until(lambda: it.said)
        assert it.chat.prompt.text == typed
        assert it.messages == []


async def test_what_was_entered_comes_back_with_up() -> None:
    async with chatting() as it:
        await it.ask("A")
        it.write("/set temperature 0.2")
        await it.pilot.press("enter")
        await until(lambda: it.chat.session.sampling.temperature == 0.2)
        await it.pilot.press("up")
        assert it.chat.prompt.text == "/set temperature 0.2"
        await it.pilot.press("escape", "up")
        assert it.chat.prompt.text == "A"


async def test_the_list_is_walked_by_arrows_and_taken_by_tab_and_enter() -> None:
    async with chatting() as it:
        await it.pilot.press("/")
        await until(lambda: len(listed(it)) >= 14)
        await it.pilot.press("up")
        assert it.chat.prompt.suggestions.current and it.chat.prompt.suggestions.current.label == "/quit"
        await it.pilot.press("down", "down", "down", "down", "down", "tab")
        assert it.chat.prompt.text == "/set "
        await until(lambda: any("temperature" in line for line in listed(it)))
        await it.pilot.press(*"top", "down", "enter")
        assert it.chat.prompt.text == "/set top-k "
        await it.pilot.press(*"40")
        await it.pilot.press("enter")
        await until(lambda: it.chat.session.sampling.top_k == 40)
        await it.pilot.press(*"/set ")
        await until(lambda: any("top-k" in line and "40" in line for line in listed(it)))


async def test_models_prompts_and_paths_are_completed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("remember the milk")
    program = Program.here()
    PromptLibrary(program.paths.config / "prompts").save("Tutor", "Explain step by step.")
    program.close()
    async with chatting() as it:
        it.write("/model ")
        await until(lambda: any("7b" in line for line in listed(it)))
        it.write("/system T")
        await until(lambda: any("Explain step by step." in line for line in listed(it)))
        await it.pilot.press("enter")
        await until(lambda: is_open(it.app, SessionScreen) and it.app.screen.query("#system"))
        assert it.app.screen.query_one("#system", TextArea).text == "Explain step by step."
        await it.pilot.press("escape")
        await until(lambda: it.app.screen is it.chat)
        it.write(f"/attach {tmp_path}/no")
        await until(lambda: any("notes.txt" in line for line in listed(it)))
        await it.pilot.press("tab", "enter")
        await until(lambda: [each.name for each in it.chat.prompt.attachments] == ["notes.txt"])


@pytest.mark.parametrize(
    ("command", "ends"), [("/model ", "mine.gguf"), ("/compare ", "mine.gguf"), ("/import ", "chats.jsonl")]
)
async def test_files_of_the_kind_that_a_command_takes_are_completed(tmp_path: Path, command: str, ends: str) -> None:
    folder = tmp_path / "files"
    (folder / "deeper").mkdir(parents=True)
    for name in ("mine.gguf", "chats.jsonl", "notes.txt"):
        (folder / name).touch()
    async with chatting() as it:
        it.write(f"{command}{folder}/")
        await until(lambda: shows(it, ends) and shows(it, "deeper/"))
        assert len(listed(it)) == 2


async def test_what_enter_does_is_shown() -> None:
    async with chatting() as it:
        for typed, words in (
            ("/quit smoking, how?", "send this as a question"),
            ("/system Be brief.", "open the chat settings"),
            ("/modle 7b", "/model"),
        ):
            it.write(typed)
            await until(partial(shows, it, words))
        await it.pilot.press("escape")
        assert listed(it) == []


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 12), (20, 5)])
def test_the_list_hides_neither_what_is_typed_nor_its_last_command(tiny: Path, columns: int, rows: int) -> None:
    with qwenchat_in_terminal("--model", tiny, columns=columns, rows=rows) as terminal:
        terminal.shows("Enter" if rows > 5 else "Ask")
        terminal.send("/")
        terminal.shows("/new")
        terminal.send("\x1b[A")
        terminal.until(lambda text: "/quit" in text and any(line.strip(" │") == "/" for line in text.splitlines()))
        terminal.send("\x15")
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
