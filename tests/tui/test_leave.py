"""Leave: calls that the user is asked about, in the transcript, by keys, by the mouse, and in other chats."""

import json
import re
import sys
from pathlib import Path

import pytest

from qwenchat.chat.message import Status, ToolResult
from qwenchat.chat.tools import REFUSED
from qwenchat.runtime.program import Program
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import until

SERVER = Path(__file__).parents[1] / "fakes" / "mcp_server.py"
LIST = 'call:list_files:{"folder":"notes"}'
FETCH = 'call:fetch_page:{"url":"https://example.org/a\\u202eb"}'


@pytest.fixture(autouse=True)
def _tools(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "todo.txt").write_text("Water the flowers.")
    for name, value in (("FOLDERS", str(folder)), ("ENABLED", "true"), ("FETCH", "true")):
        monkeypatch.setenv(f"QWENCHAT_TOOLS_{name}", value)


def rows(it: Chatting) -> list[str]:
    view = it.transcript
    return [row for y in range(view.size.height) if (row := view.render_line(y).text.strip())]


def footer(it: Chatting) -> str:
    return it.chat.footer.render().plain


def results(it: Chatting) -> list[ToolResult]:
    return [part for message in it.messages for part in message.parts if isinstance(part, ToolResult)]


async def begin(it: Chatting, question: str = "Which files are there?") -> None:
    """Ask, and wait until the user is asked about a call."""
    it.write(question)
    await it.pilot.press("enter")
    await until(lambda: it.chat.context.open.view.asked)
    await until(lambda: any("waits for your decision" in row for row in rows(it)))


async def test_the_file_is_named_that_a_made_up_path_stands_for(tmp_path: Path) -> None:
    async with chatting('call:read_file:{"path":"/home/user/notes/todo.txt"}', "Water.") as it:
        await begin(it)
        shown = " ".join(rows(it))
        assert "It opens" in shown and str(tmp_path / "notes") in "".join(rows(it)).replace(" ", "")
        await it.pilot.press("f5")
        await it.idle()
        assert results(it)[0].text == "Water the flowers."


async def test_a_call_is_shown_whole_with_its_choices_and_allowed_once() -> None:
    async with chatting(LIST, "One: todo.txt.", LIST, "Still one.") as it:
        await begin(it)
        shown = rows(it)
        assert "▸ ⚙ list_files · notes · waits for your decision" in shown
        assert '"folder": "notes"' in shown
        assert "May this call run?  allow once  allow in this chat  refuse" in shown
        assert footer(it).startswith("F5 allow once  Shift+F5 allow in this chat  F12 refuse  Esc stop")
        await it.pilot.press("f5")
        await it.idle()
        assert [result.is_error for result in results(it)] == [False]
        assert "todo.txt" in results(it)[0].text
        assert "allow once" not in footer(it) and not any("May this call run?" in row for row in rows(it))
        await begin(it)  # it was allowed once
        await it.pilot.press("escape")
        await it.idle()
        assert it.messages[-1].status is Status.STOPPED
        assert "▸ ⚙ list_files · notes · not carried out" in rows(it)


async def test_a_tool_allowed_in_this_chat_is_not_asked_about_again() -> None:
    async with chatting(LIST, "One.", LIST, "Still one.") as it:
        await begin(it)
        await it.pilot.press("shift+f5")
        await it.idle()
        await it.ask("And now?")
        assert len(results(it)) == 2 and not any(result.is_error for result in results(it))


async def test_a_click_allows_and_typing_goes_on_meanwhile() -> None:
    async with chatting(LIST, "One.") as it:
        await begin(it)
        await it.pilot.press(*"next")
        assert it.chat.prompt.text == "next"
        await it.click_on("allow once")
        await it.idle()
        assert not results(it)[0].is_error
        assert it.chat.prompt.text == "next"


async def test_a_refusal_has_a_reason_that_the_model_reads() -> None:
    async with chatting(LIST, "Then not.") as it:
        await begin(it)
        await it.pilot.press("f12")
        await until(lambda: not it.chat.is_active)
        await it.pilot.press("escape")  # thought better of
        await until(lambda: it.chat.is_active)
        assert it.chat.context.open.view.asked
        await it.pilot.press("f12")
        await until(lambda: not it.chat.is_active)
        await it.pilot.press(*"private", "enter")
        await it.idle()
        assert results(it)[0].text == REFUSED + "private"
        assert "▸ ⚙ list_files · notes · refused" in rows(it)


async def test_what_sends_is_never_allowed_for_a_chat_and_hides_nothing() -> None:
    async with chatting(FETCH, "Then not.") as it:
        await begin(it)
        shown = rows(it)
        assert '"url": "https://example.org/a\\u202eb"' in shown
        assert "It sends or changes something: may it run?  allow once  refuse" in shown
        assert "this chat" not in footer(it)
        await it.pilot.press("shift+f5")
        assert it.chat.context.open.view.asked
        await it.pilot.press("escape")
        await it.idle()


async def test_several_calls_wait_in_order() -> None:
    async with chatting(f"{LIST} {LIST}", "Two.") as it:
        await begin(it)
        assert "▸ ⚙ 2 calls: list_files · waits for your decision" in rows(it)
        first = it.chat.context.open.view.asked
        await it.pilot.press("f5")
        await until(lambda: it.chat.context.open.view.asked not in (first, None))
        await it.pilot.press("f5")
        await it.idle()
        assert [result.is_error for result in results(it)] == [False, False]


async def test_a_chat_in_the_background_that_asks_is_marked_and_reported() -> None:
    async with chatting(LIST, "One.", notifications=True) as it:
        await begin(it)
        asking = it.chat.session.id
        await it.do("new")
        await until(lambda: it.chat.session.id != asking)
        assert "allow once" not in footer(it)
        await until(
            lambda: any(
                str(it.chat.sidebar.list.get_option_at_index(at).prompt).startswith("? ")
                for at in range(it.chat.sidebar.list.option_count)
            )
        )
        await it.pilot.press("f5")
        assert any("No tool waits" in said for said in it.said)
        await it.chat.navigation.open(asking)
        await until(lambda: it.chat.context.open.view.asked)
        await it.pilot.press("f5")
        await it.idle()
        assert not results(it)[0].is_error


def seconds(it: Chatting) -> int:
    """How long a call has run as it is shown; -1 where none runs."""
    running = re.search(r"running, (\d+) s", "\n".join(rows(it)))
    return int(running[1]) if running else -1


async def test_the_seconds_of_a_call_go_on_while_another_chat_is_open() -> None:
    program = Program.here()
    program.paths.tool_servers.parent.mkdir(parents=True, exist_ok=True)
    servers = {"notes": {"command": sys.executable, "args": [str(SERVER)]}}
    program.paths.tool_servers.write_text(json.dumps({"mcpServers": servers}))
    program.close()
    async with chatting("call:notes__hang:{}", "One.") as it:
        await begin(it)
        calling = it.chat.session.id
        await it.pilot.press("f5")
        await until(lambda: seconds(it) > 0)
        await it.do("new")
        await until(lambda: it.chat.session.id != calling)
        await it.chat.navigation.open(calling)
        await until(lambda: seconds(it) >= 0)
        assert seconds(it) > 0
        await it.pilot.press("escape")
        await it.idle()


async def test_a_call_in_another_chat_is_reported_when_it_comes() -> None:
    async with chatting(LIST, "One.", delay_s=0.3, notifications=True) as it:
        it.write("Which files are there?")
        await it.pilot.press("enter")
        await until(lambda: it.engine.requests)
        await it.do("new")
        await until(lambda: any("A tool in another chat waits" in said for said in it.said))
        assert it.chat.context.open.view.asked is None
