"""A model is shown by its name wherever it stands, a file's like any other; which model opens a chat."""

from collections.abc import Coroutine
from pathlib import Path
from threading import Event

import pytest
from textual.widgets import Input

from qwenchat import config
from qwenchat.runtime.model_choice import opening_model
from qwenchat.runtime.program import Program
from qwenchat.tui.app import Start
from qwenchat.tui.dialogs.session import SessionScreen
from qwenchat.tui.model_names import ModelNames
from qwenchat.tui.widgets.prose import Prose
from tests.fakes.ggufs import write_model
from tests.tui.chatting import Chatting, chatting, kept_session
from tests.tui.screens import click, is_open, until, words_on

NAME = "Qwen2.5 Coder 0.5B Instruct · f32"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "secret folder"
    folder.mkdir()
    return write_model(folder / "m-q4_k_m.gguf", name="Qwen2.5 Coder 0.5B Instruct")


def in_system_prompt(it: Chatting) -> bool:
    return it.app.focused is not None and it.app.focused.id == "system"


async def test_a_file_is_shown_by_the_name_in_its_header_and_never_by_its_path(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    async with chatting("Hello.", start=Start(model=str(file)), size=(120, 36)) as it:
        monkeypatch.setattr(it.app, "copy_to_clipboard", copied.append)
        await until(lambda: it.chat.header.model == NAME)
        await it.ask("Hi")
        await until(lambda: words_on(it.app).count(f"✦ {NAME}") == 2)  # the header and the answer
        await it.do("copy_chat")
        assert f"**{NAME}**" in copied[0]
        await it.do("session_settings")
        await until(lambda: is_open(it.app, SessionScreen) and isinstance(it.app.focused, Input))
        assert it.app.screen.query_one("#model", Input).value == NAME
        await it.pilot.press("enter")
        await until(lambda: it.app.screen is it.chat)
        assert it.chat.session.model == str(file)
        assert "secret" not in words_on(it.app) + "".join(copied) + "".join(it.said)


async def test_a_name_is_read_once_in_a_thread_and_the_file_name_stands_for_it_until_then() -> None:
    may_read, asked = Event(), list[str]()
    running, changed = list[Coroutine[object, object, object]](), list[str]()

    def read(reference: str) -> str:
        may_read.wait()
        asked.append(reference)
        return "Good\x1b[2J name"

    names = ModelNames(read, running.append, host_of=str)
    names.listen(lambda: changed.append("now"))
    path = "/home/someone/x y.gguf"
    assert names(path) == names(path) == "x y.gguf" and len(running) == 1
    assert (names("7b:q4_k_m"), names("me/mine:q8_0"), names("")) == ("7b:q4_k_m", "me/mine:q8_0", "")
    assert names("C:\\models\\m.gguf") == "m.gguf" and names("file:///a/%FF.gguf") == "%FF.gguf"
    for other in running[1:]:
        other.close()
    may_read.set()
    await running[0]
    assert asked == [path] and changed == ["now"] and names(path) == "Good[2J name"


def test_peers_of_a_loaded_model_are_its_host() -> None:
    names, changed = ModelNames(str, lambda _work: None, host_of=str), list[str]()
    names.listen(lambda: changed.append("now"))
    for peers in ("", "10.0.0.2:50052", "10.0.0.2:50052", ""):
        names.note_peers("72b", peers)
        assert names.host("72b") == peers
    assert len(changed) == 2


async def test_a_named_model_counts_with_a_session_that_is_resumed(file: Path) -> None:
    program = Program.here()
    session = kept_session(program, "Older")
    program.close()
    async with chatting("Hello.", start=Start(model=str(file), session=session.id)) as it:
        await until(lambda: (it.chat.session.id, it.chat.session.model) == (session.id, str(file)))
        assert it.app.program.store.session(session.id).model == str(file)


def test_a_chat_opens_with_the_model_that_was_used_last_and_is_still_here(file: Path) -> None:
    program = Program.here()
    used = program.model_folders.used
    assert opening_model(program) == ""
    used.add("guide")
    assert opening_model(program) == "guide"  # there is nothing else
    used.add(str(file))
    used.add(str(file.with_name("gone.gguf")))
    used.add("guide")
    assert opening_model(program) == str(file)


async def test_statistics_say_which_window_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting("Hello.", yarn_factor=2.5) as it:
        await it.ask("Hi")
        await it.do("stats")
        await until(lambda: it.app.screen.query(".value"))
        values = [str(words.content) for words in it.app.screen.query(".value").results(Prose)]
        assert any("extended 2.5 times" in value for value in values)


async def test_a_chat_with_its_own_system_prompt_says_so_and_opens_it(home: Path) -> None:
    async with chatting("Hello.") as it:
        assert "system prompt" not in words_on(it.app)
        changed = await it.chat.context.chats.sessions.change(it.chat.session.id, system="Be brief.")
        it.chat.context.open.relabel(changed)
        await until(lambda: "system prompt" in words_on(it.app))
        changed = await it.chat.context.chats.sessions.change(it.chat.session.id, title="A long title " * 8)
        it.chat.context.open.relabel(changed)
        await until(lambda: "A long title" in words_on(it.app))
        assert "guide  system prompt" in words_on(it.app) and "…" in words_on(it.app)
        at = str(it.chat.header.render()).index("system prompt")
        await click(it.app, it.chat.header, offset=(at + 2, 0))
        await until(lambda: is_open(it.app, SessionScreen) and in_system_prompt(it))
        await it.pilot.press("escape")
        it.write("/system")
        await it.pilot.press("enter")
        await until(lambda: is_open(it.app, SessionScreen) and in_system_prompt(it))


@pytest.mark.parametrize("start", [Start(model="guide", theme="nowhere"), Start(model="guide")])
async def test_a_theme_that_is_not_there_is_not_accepted_silently(home: Path, start: Start) -> None:
    settings = Program.here().paths.settings
    config.put(settings, "theme", "paper")
    settings.write_text(settings.read_text("utf-8").replace("paper", "nowhere"), "utf-8")
    async with chatting("Hello.", start=start) as it:
        await until(lambda: any('No theme named "nowhere"' in said for said in it.said))
