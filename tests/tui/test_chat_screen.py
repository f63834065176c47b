"""What holds for the screen as a whole: sizes, keys, dialogs, palette, copying, and bugs."""

from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from textual.widgets import Input

from qwenchat.runtime.program import Program
from qwenchat.tui.actions import Where
from qwenchat.tui.app import Start
from qwenchat.tui.dialogs.model import WelcomeScreen
from qwenchat.tui.dialogs.small import TextScreen
from qwenchat.tui.dialogs.theme import ThemeScreen
from qwenchat.tui.palette import ActionProvider, action_lines
from qwenchat.tui.transcript.document_view import DocumentView
from tests.tui.chatting import chatting, kept_session
from tests.tui.screens import click, is_open, until


async def test_a_bug_is_told_and_takes_no_words_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting(bugs=True) as it:
        await it.ask("A")
        session = it.chat.session.id

        async def fails(session_id: str) -> None:
            raise ValueError(session_id)

        with monkeypatch.context() as patched:
            patched.setattr(it.chat.context.chats.sessions, "open", fails)
            await it.pilot.press(*"half", "ctrl+n")
            await until(lambda: any("This is a bug" in said and f"{Path(__file__).name}:" in said for said in it.said))
        await it.pilot.press(*" more")
        assert it.chat.prompt.text == "half more"
    program = Program.here()
    assert program.store.session(session).draft == "half more"
    program.close()


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
        await until(lambda: "1/1" in it.chat.gauge.activity)
        await it.pilot.press("escape")
        assert not it.chat.has_class("finding")
        assert it.chat.prompt.area.has_focus


async def test_every_action_is_carried_out_by_something() -> None:
    async with chatting() as it:
        owned = [action.id for action in it.app.actions if not action.run]
        assert [name for name in owned if not hasattr(it.chat, f"action_{name}")] == []


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
        await until(lambda: any("Copied (" in said for said in it.said))


async def test_code_is_saved_and_a_home_that_nobody_has_is_told(tmp_path: Path) -> None:
    async with chatting("```python\nprint(1)\n```") as it:
        await it.ask("A")
        for name in ("~nobody-of-that-name/x.py", str(tmp_path / "x.py")):
            await it.do("save_code")
            await until(lambda: is_open(it.app, TextScreen))
            it.app.screen.query_one(Input).value = name
            await it.pilot.press("enter")
            await until(lambda: it.app.screen is it.chat)
        await until(lambda: any("~nobody-of-that-name" in said for said in it.said))
        assert (tmp_path / "x.py").read_text() == "print(1)\n"


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


async def test_a_theme_stays_for_this_run_where_the_settings_cannot_be_written(home: Path) -> None:
    async with chatting() as it:
        await until(lambda: "paper" in it.app.available_themes)
        (home / "config").mkdir(parents=True, exist_ok=True)
        (home / "config" / "config.toml").write_text("[model")
        await it.do("themes")
        await until(lambda: is_open(it.app, ThemeScreen))
        await it.app.screen.dismiss("paper")
        await until(lambda: any("not valid TOML" in said for said in it.said))
        assert it.app.theme == "paper"
        assert it.app.is_running


async def test_the_palette_shows_the_keys_that_work(home: Path) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text('[keys]\nnew = "f9"\nhelp = ""\n')
    async with chatting() as it:
        shown = {line.title: line.help for line in action_lines(it.chat)}
        assert shown["New chat"] == "Start a new chat  [F9]"
        assert shown["Help"] == "Show all keys and commands  [F1]"
        assert shown["Statistics"] == "Words, tokens and speed of this chat"


@pytest.mark.parametrize(
    ("width", "words", "screen"),
    [(120, "F1 help", "HelpScreen"), (120, "Ctrl+P", "ChatPalette"), (20, "Ctrl+P", "ChatPalette")],
)
async def test_help_and_palette_are_opened_by_mouse(width: int, words: str, screen: str) -> None:
    async with chatting(size=(width, 20)) as it:
        await it.ask("A")
        footer = it.chat.footer
        row = footer.render_line(0).text
        assert cell_len(row) == footer.content_size.width
        at = cell_len(row.partition(words)[0]) + footer.styles.padding.left
        await click(it.app, footer, offset=(at, 0))
        await until(lambda: type(it.app.screen).__name__ == screen)


async def test_every_action_is_carried_out_by_the_screen() -> None:
    async with chatting() as it:
        chat = it.chat
        parts = {
            Where.PROMPT: chat.prompt.area,
            Where.CHIP: chat.prompt.chips,
            Where.MESSAGE: it.transcript,
            Where.PAGE: DocumentView(lambda: None),
            Where.LIST: chat.sidebar.list,
        }
        missing = [
            action.id
            for action in it.app.actions
            for part, name in [(parts[action.where], action.run) if action.run else (chat, action.id)]
            if not hasattr(part, f"action_{name.partition('(')[0]}")
        ]
        assert missing == []
        assert len({action.id for action in it.app.actions}) == len(it.app.actions)


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
        for typed in ("Hello", ""):  # the welcome comes at the start, and again with the first question
            await until(lambda: is_open(it.app, WelcomeScreen))
            await it.pilot.press("escape")
            await until(lambda: it.app.screen is it.chat)
            if typed:
                await it.pilot.press(*typed, "enter")
        assert it.texts == ["Hello"] and it.chat.prompt.text == ""
        assert [message.text for message in it.kept()] == ["Hello"]


async def test_the_palette_knows_pinyin_initials_and_english_names() -> None:
    async with chatting() as it:
        named = {"New chat": "新建对话", "Models": "模型"}
        it.chat.actions = tuple(replace(each, label=named.get(each.label, each.label)) for each in it.chat.actions)
        for typed, title in (("xjdh", "新建对话"), ("model", "模型"), ("新建", "新建对话")):
            palette = ActionProvider(it.chat)
            assert title in [str(hit.prompt) async for hit in palette.search(typed)]
