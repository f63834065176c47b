"""The tools of a chat: on or off, what holds for each of them, and their folders."""

import json
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.widgets import Button, Input, OptionList, Static

from qwenchat.runtime.program import Program
from qwenchat.tui.app import Start
from qwenchat.tui.dialogs.tools import ToolsScreen
from tests.fakes.scripted import ALL_OF_LOCAL
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import is_open, until

SERVER = Path(__file__).parents[1] / "fakes" / "mcp_server.py"


@pytest.fixture(autouse=True)
def _home(home: Path) -> None:
    """Nothing here touches the user's files."""


async def opened(it: Chatting) -> ToolsScreen:
    it.write("/tools")
    await it.pilot.press("enter")
    await until(lambda: is_open(it.app, ToolsScreen) and it.app.screen.query_one(OptionList).option_count)
    screen = it.app.screen
    assert isinstance(screen, ToolsScreen)
    return screen


def lines(screen: ToolsScreen) -> list[str]:
    listed = screen.query_one(OptionList)
    return [" ".join(str(listed.get_option_at_index(at).prompt).split()) for at in range(listed.option_count)]


def words(screen: ToolsScreen, id: str) -> str:
    return str(screen.query_one(f"#{id}", Static).visual)


def header(it: Chatting) -> str:
    return it.chat.header.render().plain


async def test_tools_are_switched_on_in_one_chat_and_the_header_shows_it() -> None:
    async with chatting(start=Start(model="7b")) as it:
        assert not header(it).endswith("tools")
        screen = await opened(it)
        assert words(screen, "state") == "Off in this chat."
        screen.query_one("#toggle", Button).press()
        await until(lambda: words(screen, "state").startswith("On in this chat"))
        await it.pilot.press("escape")
        await until(lambda: header(it).endswith("tools"))
        assert it.chat.session.tools is True
        first = it.chat.session.id
        await it.do("new")
        await until(lambda: it.chat.session.id != first)
        assert not header(it).endswith("tools")
        await it.do("toggle_tools")
        await until(lambda: header(it).endswith("tools"))
        await it.do("toggle_tools")
        await until(lambda: it.chat.session.tools is False)


async def test_the_header_promises_no_tools_that_the_model_can_not_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENCHAT_TOOLS_ENABLED", "true")
    async with chatting() as it:
        await until(lambda: header(it).endswith("guide"))  # which calls none
    async with chatting(start=Start(model="7b"), capabilities=replace(ALL_OF_LOCAL, tools=False)) as it:
        await until(lambda: header(it).endswith("tools"))
        await it.ask("Hi")
        await until(lambda: not header(it).endswith("tools"))
    async with chatting(start=Start(model="7b")) as it:
        await it.ask("Hi")
        assert header(it).endswith("tools")


async def test_own_tools_are_there_while_a_server_starts() -> None:
    program = Program.here()
    servers = {"notes": {"command": sys.executable, "args": [str(SERVER), "silent"]}}
    program.paths.tool_servers.parent.mkdir(parents=True, exist_ok=True)
    program.paths.tool_servers.write_text(json.dumps({"mcpServers": servers}))
    program.close()
    async with chatting() as it:
        screen = await opened(it)
        assert "calculator allowed" in lines(screen)
        await until(lambda: words(screen, "servers") == "Tool servers\nnotes: starting…")
        await it.pilot.press("enter")
        await until(lambda: lines(screen)[0].split()[1] != "allowed")
        await it.pilot.press("escape")


async def test_enter_changes_what_happens_when_a_tool_is_called() -> None:
    async with chatting() as it:
        screen = await opened(it)
        assert "calculator allowed" in lines(screen)
        await until(lambda: words(screen, "about").startswith("The model is told: "))
        listed = screen.query_one(OptionList)
        listed.highlighted = lines(screen).index("calculator allowed")
        await it.pilot.press("enter")
        await until(lambda: "calculator denied" in lines(screen))
        assert it.app.program.settings.tools.policy == {"calculator": "deny"}
        await it.pilot.press("enter")
        await until(lambda: "calculator asks" in lines(screen))
        await it.pilot.press("enter")
        await until(lambda: "calculator allowed" in lines(screen))


async def test_what_sends_is_asked_about_or_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENCHAT_TOOLS_FETCH", "true")
    async with chatting() as it:
        screen = await opened(it)
        listed, asks = screen.query_one(OptionList), "fetch_page asks sends or changes something"
        listed.highlighted = lines(screen).index(asks)
        await it.pilot.press("enter")
        await until(lambda: "fetch_page denied sends or changes something" in lines(screen))
        await it.pilot.press("enter")
        await until(lambda: asks in lines(screen))


async def test_folders_are_named_and_their_tools_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    async with chatting() as it:
        screen = await opened(it)
        assert words(screen, "folders") == "Folders: none, so the model can read no files"
        for typed in ("notes", str(folder)):
            screen.query_one("#choose-folders", Button).press()
            await until(lambda: it.app.screen.query(Input))
            it.app.screen.query_one(Input).value = typed
            await it.pilot.press("enter")
            await until(lambda: it.app.screen is screen)
            await until(lambda: words(screen, "about-tools") or str(folder) in words(screen, "folders"))
            if typed != str(folder):
                assert it.app.program.settings.tools.folders == ()
        await until(lambda: it.app.program.settings.tools.folders == (str(folder),))
        await until(lambda: "read_file asks" in lines(screen))


async def test_tool_servers_say_whether_they_answer_and_are_restarted() -> None:
    program = Program.here()
    servers = {"notes": {"command": sys.executable, "args": [str(SERVER)]}, "broken": {"command": "/no/such/program"}}
    program.paths.tool_servers.parent.mkdir(parents=True, exist_ok=True)
    program.paths.tool_servers.write_text(json.dumps({"mcpServers": servers}))
    program.close()
    async with chatting() as it:
        screen = await opened(it)
        await until(lambda: "✗ broken: " in words(screen, "servers"))
        assert "\nnotes: " in words(screen, "servers")
        assert any(line.startswith("notes__") for line in lines(screen))
        servers["broken"] = servers["notes"]
        it.app.program.paths.tool_servers.write_text(json.dumps({"mcpServers": servers}))
        screen.query_one("#restart", Button).press()
        await until(lambda: "✗" not in words(screen, "servers"))
        assert "\nbroken: " in words(screen, "servers")
