"""Tools in chats without a screen: what is offered, who is asked, what a chat remembers, what a stop leaves."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from qwenchat.chat.events import TurnEnded
from qwenchat.chat.message import Message, Status, ToolCall, ToolResult
from qwenchat.chat.session import Session
from qwenchat.errors import WrongUse
from qwenchat.runtime.chat_service import ChatService
from qwenchat.runtime.events import ChatEvent, ToolAsked, ToolDecided, TurnReported
from qwenchat.runtime.program import Program
from qwenchat.runtime.session_tools import SessionTools
from qwenchat.tools.policy import Decision, Leave, PendingCall
from tests.fakes.scripted import ScriptedEngine
from tests.tui.screens import until

SERVER = Path(__file__).parents[1] / "fakes" / "mcp_server.py"
LIST = "call:list_files:{}"


@pytest.fixture
def program(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    """A program whose settings name a folder for tools."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "todo.txt").write_text("Water the flowers.")
    monkeypatch.setenv("QWENCHAT_TOOLS_FOLDERS", str(folder))
    monkeypatch.setenv("QWENCHAT_TOOLS_ENABLED", "true")
    program = Program.here()
    yield program
    program.close()


class Chat:
    """A chat service with what it reported."""

    def __init__(self, program: Program, engine: ScriptedEngine) -> None:
        self.chats = ChatService(program, self.hear, lambda _model, _options: engine)
        self.decide: Callable[[PendingCall], Decision | None] = lambda pending: Decision(Leave.ONCE)
        """Decides about each call that is asked about; None lets it wait."""
        self.asked: list[PendingCall] = []
        self.decided: list[PendingCall] = []
        self.ended: list[Message] = []

    def hear(self, event: ChatEvent) -> None:
        if isinstance(event, TurnReported) and isinstance(event.event, TurnEnded):
            self.ended.append(event.event.answer)
        if isinstance(event, ToolDecided):
            self.decided.append(event.pending)
        if isinstance(event, ToolAsked):
            self.asked.append(event.pending)
            if decision := self.decide(event.pending):
                self.chats.decide(event.pending, decision)

    async def answer(self, session_id: str, question: str = "Which files are there?") -> Message:
        """Ask, and return the answer once it has ended."""
        await self.chats.send(session_id, question)
        return await self.next_answer()

    async def next_answer(self) -> Message:
        """Return the answer that ends next."""
        await until(lambda: self.ended)
        return self.ended.pop()


async def agree(_session: object, _pending: PendingCall) -> Decision:
    return Decision(Leave.ONCE)


@asynccontextmanager
async def chat_with(program: Program, engine: ScriptedEngine) -> AsyncIterator[Chat]:
    chat = Chat(program, engine)
    yield chat
    await asyncio.wait_for(chat.chats.close(), 10)


def results(answer: Message) -> list[ToolResult]:
    return [part for part in answer.parts if isinstance(part, ToolResult)]


async def test_a_tool_that_is_allowed_for_the_chat_is_asked_about_once(program: Program) -> None:
    engine = ScriptedEngine((LIST, "There is a list."))
    async with chat_with(program, engine) as chat:
        chat.decide = lambda pending: Decision(Leave.CHAT)
        session, other = (chat.chats.sessions.new("model").id for _ in range(2))
        answer = await chat.answer(session)
        assert answer.status is Status.COMPLETE and answer.text == "There is a list."
        assert "todo.txt" in results(answer)[0].text and not results(answer)[0].is_error
        assert [pending.call.name for pending in chat.asked] == ["list_files"] and chat.decided == chat.asked
        assert "todo.txt" in results(await chat.answer(session))[0].text
        assert len(chat.asked) == 1
        await chat.answer(other)
        assert len(chat.asked) == 2 and chat.chats.asked is None


async def test_the_model_reads_why_a_call_was_refused(program: Program) -> None:
    engine = ScriptedEngine((LIST, "I may not look."))
    async with chat_with(program, engine) as chat:
        chat.decide = lambda pending: Decision(Leave.REFUSED, "These are private.")
        answer = await chat.answer(chat.chats.sessions.new("model").id)
        assert results(answer)[0].is_error and "These are private." in results(answer)[0].text
        assert answer.text == "I may not look."


async def test_a_stop_while_a_call_is_asked_about(program: Program) -> None:
    engine = ScriptedEngine((f"Let me look. {LIST}", "There is a list."))
    async with chat_with(program, engine) as chat:
        chat.decide = lambda pending: None
        session = chat.chats.sessions.new("model").id
        await chat.chats.send(session, "Which files are there?")
        await until(lambda: chat.chats.asked is not None)
        await chat.chats.stop(session)
        answer = await chat.next_answer()
        assert chat.decided == chat.asked and chat.chats.asked is None
        chat.chats.decide(chat.asked[0], Decision(Leave.ONCE))  # too late, and harmless
        assert answer.status is Status.STOPPED and not results(answer)
        assert [part.name for part in answer.parts if isinstance(part, ToolCall)] == ["list_files"]
        chat.decide = lambda pending: Decision(Leave.ONCE)
        chat.chats.continue_answer(answer)
        answer = await chat.next_answer()
        assert answer.status is Status.COMPLETE and "todo.txt" in results(answer)[0].text
        assert len(chat.asked) == 2


async def test_a_chat_says_whether_its_model_may_call(program: Program) -> None:
    engine = ScriptedEngine(("Hello.",))
    async with chat_with(program, engine) as chat:
        session = chat.chats.sessions.new("model").id
        await chat.answer(session)
        offered = engine.requests[0].turns[0].tools
        assert {"calculator", "date_time", "list_files", "search_chats"} <= {tool.name for tool in offered}
        plan = await chat.chats.model.plan(await chat.chats.sessions.labels(session), [], "Hi")
        assert plan and plan.turns[0].tools == offered
        await chat.chats.sessions.change(session, tools=False)
        assert program.store.session(session).tools is False
        await chat.answer(session)
        assert not any(turn.tools for turn in engine.requests[1].turns)


async def test_a_private_chat_calls_tools_and_writes_nothing(program: Program) -> None:
    engine = ScriptedEngine((LIST, "There is a list."))
    async with chat_with(program, engine) as chat:
        answer = await chat.answer(chat.chats.sessions.new("model", private=True).id)
        assert "todo.txt" in results(answer)[0].text
        assert not program.store.listing.newest(10)


async def test_other_chats_are_found_by_a_tool(program: Program) -> None:
    engine = ScriptedEngine(("Orchids.", 'call:search_chats:{"words":"orchids"}', "Yes."))
    async with chat_with(program, engine) as chat:
        await chat.answer(chat.chats.sessions.new("model").id, "What grows here?")
        answer = await chat.answer(chat.chats.sessions.new("model").id, "Did we speak of orchids?")
        assert "What grows here?" in results(answer)[0].text
        assert "Did we speak" not in results(answer)[0].text


async def test_names_that_no_tool_has_are_refused(program: Program) -> None:
    tools, session = SessionTools(program, agree, is_private=lambda _id: False), Session(id="s", created=0, updated=0)
    for more in ({"only": ("calcluator",)}, {"granted": ("calcluator",)}):
        with pytest.raises(WrongUse) as refused:
            await tools.use(session, **more)
        assert "calcluator" in refused.value.message and "calculator" in refused.value.hint


async def test_a_server_that_does_not_start_holds_up_nothing_else(program: Program) -> None:
    program.paths.tool_servers.parent.mkdir(parents=True, exist_ok=True)
    servers: dict[str, dict[str, object]] = {"slow": {"command": sys.executable, "args": [str(SERVER), "silent"]}}
    program.paths.tool_servers.write_text(json.dumps({"mcpServers": servers}))
    tools = SessionTools(program, agree, is_private=lambda _id: False)
    starting = asyncio.create_task(tools.all())
    await until(psutil.Process().children)
    servers["slow"]["disabled"] = True
    program.paths.tool_servers.write_text(json.dumps({"mcpServers": servers}))
    async with asyncio.timeout(10):  # a server may take a minute for its first answer
        assert "calculator" in await tools.all()
        assert "calculator" in await starting
        await tools.close()
