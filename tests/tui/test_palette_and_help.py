"""What the command palette finds, and what F1 shows."""

import re
import threading
from pathlib import Path

import pytest
from textual.command import Hit
from textual.widgets import Input, OptionList, Select

from qwenchat.i18n import use_language
from qwenchat.runtime.program import Program
from qwenchat.tui import palette as palette_module
from qwenchat.tui import slash_commands
from qwenchat.tui.actions import actions, fixed_keys, key_names, places
from qwenchat.tui.dialogs import open as screens
from qwenchat.tui.dialogs.session import SessionScreen
from qwenchat.tui.dialogs.settings import SettingRow, SettingsScreen
from qwenchat.tui.dialogs.small import HelpScreen
from qwenchat.tui.palette import ActionProvider, ChatPalette, PaletteLine, ThingProvider
from qwenchat.tui.prompt_library import PromptLibrary
from qwenchat.tui.screens.chat import ChatScreen
from tests.fakes.ggufs import write_model
from tests.tui.chatting import Chatting, chatting, kept_session
from tests.tui.dialogs import DialogApp
from tests.tui.screens import is_open, until


async def hits(it: Chatting, typed: str) -> dict[str, Hit]:
    """What the palette shows for words, by title."""
    found: dict[str, Hit] = {}
    for kind in (ActionProvider, ThingProvider):
        provider = kind(it.chat)
        await provider.startup()
        found |= {str(hit.prompt): hit async for hit in provider.search(typed) if isinstance(hit, Hit)}
    return found


async def test_the_palette_finds_chats_by_their_titles() -> None:
    program = Program.here()
    other = kept_session(program, "北京旅行 [b]plan").id
    program.close()
    async with chatting() as it:
        for typed in ("旅行", "bjlx", "plan"):
            hit = (await hits(it, typed))["Chat: 北京旅行 [b]plan"]
        hit.command()
        await until(lambda: it.chat.session.id == other)


async def test_the_palette_speaks_chinese_where_nothing_is_found() -> None:
    use_language("zh_CN")
    async with chatting() as it:
        await it.pilot.press("ctrl+p")
        await until(lambda: is_open(it.app, ChatPalette))
        palette = it.app.screen
        assert not re.search("[A-Za-z]", palette.query_one(Input).placeholder)
        await it.pilot.press(*"qqzz")
        await until(lambda: [str(each.prompt) for each in palette.query_one(OptionList).options] == ["没有找到。"])
        await it.pilot.press("escape")


async def test_what_is_typed_while_the_palette_still_reads_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    may_read, read = threading.Event(), palette_module._thing_lines

    def late(screen: ChatScreen) -> list[PaletteLine]:
        assert may_read.wait(60)
        return read(screen)

    monkeypatch.setattr(palette_module, "_thing_lines", late)
    async with chatting() as it:
        await until(lambda: "paper" in it.app.available_themes)
        await it.pilot.press("ctrl+p")
        await until(lambda: is_open(it.app, ChatPalette))
        listed = it.app.screen.query_one(OptionList)
        await it.pilot.press(*"paper")
        may_read.set()
        await until(lambda: any("Theme: Paper" in str(each.prompt) for each in listed.options))
        await it.pilot.press("escape")


async def test_the_palette_finds_and_applies_a_theme() -> None:
    async with chatting() as it:
        await until(lambda: "paper" in it.app.available_themes)
        await (await hits(it, "paper"))["Theme: Paper"].command()
        assert it.app.theme == "paper"


async def test_the_palette_leads_to_a_setting() -> None:
    async with chatting() as it:
        found = await hits(it, "reduced_motion")
        next(hit for title, hit in found.items() if title.startswith("Settings: ")).command()
        await until(lambda: is_open(it.app, SettingsScreen) and isinstance(it.app.focused, Input | Select))
        assert it.app.focused
        row = next(node for node in it.app.focused.ancestors if isinstance(node, SettingRow))
        assert row.key == "reduced_motion"


async def test_the_palette_finds_models_and_prompts(home: Path) -> None:
    program = Program.here()
    program.paths.models.mkdir(parents=True)
    write_model(program.paths.models / "some-model-q4_0.gguf")
    PromptLibrary(program.paths.config / "prompts").save("Pirate", "Speak like a [b]pirate[/b].")
    async with chatting() as it:
        assert any(title.startswith("Model: ") for title in await hits(it, "some-model"))
        hit = (await hits(it, "pirate"))["System prompt: Pirate"]
        hit.command()
        await until(lambda: is_open(it.app, SessionScreen))


@pytest.mark.parametrize(
    ("language", "typed", "action"),
    [
        ("en", "导出", "Export"),
        ("en", "dcdq", "Export"),
        ("en", "keys and commands", "Help"),
        ("zh_CN", "export this", "导出"),
        ("zh_CN", "dcdq", "导出"),
        ("zh_CN", "find text", "查找"),
    ],
)
async def test_actions_are_found_by_the_words_of_their_lines_in_both_languages(
    language: str, typed: str, action: str
) -> None:
    use_language(language)
    async with chatting() as it:
        assert action in await hits(it, typed)


async def test_words_come_before_scattered_letters_and_actions_before_other_things() -> None:
    async with chatting() as it:
        found = await hits(it, "theme")
        best = sorted(found, key=lambda title: -found[title].score)
        assert best[0] == "Theme" and all(title.startswith("Theme: ") for title in best[1:5])
        scattered = await hits(it, "tme")
        assert scattered["Theme"].score < found["Theme"].score


async def test_an_action_on_messages_works_from_the_palette() -> None:
    async with chatting() as it:
        await it.ask("A question")
        await (await hits(it, "Previous message"))["Previous message"].command()
        await until(lambda: it.transcript.selected)


def help_rows() -> list[tuple[str, str, str]]:
    screen = screens.help_for(actions(), {"new": "f9,ctrl+pageup"}, slash_commands.commands())
    assert isinstance(screen, HelpScreen)
    return screen._actions


def test_help_has_every_action_and_command_with_keys_as_keyboards_name_them() -> None:
    rows = {(place, words): key for place, key, words in help_rows()}
    for action in actions():
        if action.id != "new":
            expected = ", ".join(key_names(action.keys))
            assert rows[places()[action.where], f"{action.label}: {action.help}"] == expected
    assert rows["Anywhere", "New chat: Start a new chat"] == "F9, Ctrl+PgUp"
    assert {f"/{name}" for name in slash_commands.commands()} <= set(rows.values())
    shown = {key for keys in rows.values() for key in keys.split(", ")}
    assert {"Enter", "Ctrl+J", "↑", "↓", "j", "k", "n", "N", "PgUp", "PgDn", "Tab", "Esc", "Ctrl+P", "Ctrl+B"} <= shown
    assert {"Shift+F10", "Ctrl+←", "Space", "Home", "Delete"} <= shown
    assert not [key for key in shown if re.search(r"ctrl|escape|page|f22|_", key)]


async def test_the_fixed_keys_of_writing_are_those_that_the_prompt_binds() -> None:
    async with chatting() as it:
        bound = {key for key, _binding in it.chat.prompt.area._bindings}
        writing = [each for each in fixed_keys() if each.place == "Writing"]
        assert writing and all(key in bound for each in writing for key in each.keys.split(","))


@pytest.mark.parametrize("size", [(20, 5), (46, 20), (80, 24), (120, 60)])
async def test_help_uses_the_height_and_cuts_no_word(size: tuple[int, int]) -> None:
    app = DialogApp(HelpScreen(help_rows()))
    async with app.run_test(size=size) as pilot:
        await until(lambda: "Anywhere" in app.words)
        assert app.screen.query_one(".frame").size.height >= size[1] - 2
        if size == (80, 24):  # words that go on below stand below their beginning
            rows = app.words.splitlines()
            at = next(number for number, row in enumerate(rows) if "Palette:" in row)
            begins = re.search(r"│ +", rows[at + 1])
            assert begins and begins.end() == rows[at].index("Palette:")
        assert "…" not in app.words.replace(app.words.splitlines()[-1], "") or size[0] < 46
        await pilot.press(*"pgup")
        await until(lambda: "PgUp" in app.words and "Anywhere" in app.words and "Ctrl+N" not in app.words)
