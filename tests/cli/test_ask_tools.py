"""Tools in `qwenchat ask`: who is asked and where, what scripts get, and what a stop or a kill in mid-call leaves."""

import json
import os
import pty
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from qwenchat.chat.events import TurnEnded
from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.message import Message, Status, ToolCall, ToolResult
from qwenchat.chat.turn import Turns
from qwenchat.runtime.chat_service import ChatService
from qwenchat.runtime.events import ChatEvent, ToolAsked, TurnReported
from qwenchat.runtime.program import Program
from qwenchat.runtime.session_tools import SessionTools
from qwenchat.tools.policy import Decision, Leave, PendingCall
from tests.fakes import ggufs
from tests.fakes.commands import ROOT, environment, qwenchat
from tests.fakes.scripted import ScriptedEngine
from tests.tui.screens import until

CALCULATED = '{"expression": "37*41"}'


def caller(path: Path, name: str, arguments: str, answer: str = "So it is.") -> Path:
    """Write a model that says something, calls a tool in Qwen2's own format, and answers once it has the result."""
    call = ["Let me see.", f"✿FUNCTION✿: {name}", "\n✿ARGS✿: ", arguments, "\n✿RESULT✿"]
    after = [":", *answer.partition(" ")] if answer else []  # the prompt with the result ends in `✿RETURN✿:`
    return ggufs.write_chain(path, [piece.encode() for piece in (*call, *after)]).path


@pytest.fixture(scope="session")
def calculating(models: Path) -> Path:
    """A model that calculates, which is allowed without asking."""
    return caller(models / "calculating.gguf", "calculator", CALCULATED)


@pytest.fixture(scope="session")
def listing(models: Path) -> Path:
    """A model that lists files, which is asked about."""
    return caller(models / "listing.gguf", "list_files", '{"folder": ""}')


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that tools may read."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "todo.txt").write_text("Water the flowers.")
    monkeypatch.setenv("QWENCHAT_TOOLS_FOLDERS", str(folder))
    return folder


def test_a_call_that_needs_no_leave(calculating: Path) -> None:
    done = qwenchat("ask", "-m", calculating, "--tools", "--raw", "hi")
    assert (done.returncode, done.stdout) == (0, "Let me see.\n\nSo it is.\n")
    call, result = done.stderr.splitlines()
    assert call == f"Call of calculator: {CALCULATED}"
    assert result.startswith("calculator, 0.") and result.endswith(" s: 37*41 = 1517")


def test_scripts_get_calls_with_their_results(calculating: Path) -> None:
    done = qwenchat("ask", "-m", calculating, "--tools", "--json", "--no-save", "hi")
    answer = json.loads(done.stdout)
    (call,) = answer["tool_calls"]
    assert list(call) == ["id", "name", "arguments", "result", "is_error", "took_ms"]
    assert (call["name"], call["arguments"], call["is_error"]) == ("calculator", json.loads(CALCULATED), False)
    assert call["result"] == "37*41 = 1517" and answer["finish_reason"] == "stop"
    lines = qwenchat("ask", "-m", calculating, "--tools", "--jsonl", "--no-save", "hi").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert "".join(event["text"] for event in events if event["event"] == "delta") == events[-1]["text"]
    assert events[-1]["text"] == "Let me see.\n\nSo it is."
    kinds = [event["event"] for event in events if event["event"] in ("tool_call", "tool_result", "done")]
    assert kinds == ["tool_call", "tool_result", "done"]
    called, returned = (event for event in events if event["event"] in ("tool_call", "tool_result"))
    assert called["id"] == returned["id"] and called["arguments"] == json.loads(CALCULATED)
    assert (returned["name"], returned["result"], returned["is_error"]) == ("calculator", "37*41 = 1517", False)


def test_without_tools_a_call_is_text(calculating: Path) -> None:
    answer = json.loads(qwenchat("ask", "-m", calculating, "--json", "hi").stdout)
    assert "tool_calls" not in answer


def test_in_a_pipe_a_call_is_refused_unless_it_is_allowed(listing: Path) -> None:
    words = ("ask", "-m", listing, "--json", "--no-save", "hi")
    refused = qwenchat(*words, "--tools")
    assert refused.returncode == 0 and "--allow list_files" in refused.stderr
    (call,) = json.loads(refused.stdout)["tool_calls"]
    assert call["is_error"] and "can't be asked" in call["result"]
    allowed = qwenchat(*words, "--tool", "list_files", "--allow", "list_files")
    qwenchat("config", "set", "tools.policy.list_files", "allow")
    for done in (allowed, qwenchat(*words, "--tools")):
        (call,) = json.loads(done.stdout)["tool_calls"]
        assert "todo.txt" in call["result"] and not call["is_error"], done.stderr


def test_a_tool_that_is_not_offered_is_not_called(listing: Path) -> None:
    done = qwenchat("ask", "-m", listing, "--json", "--no-save", "--tool", "calculator", "hi")
    assert "tool_calls" not in json.loads(done.stdout) or json.loads(done.stdout)["tool_calls"][0]["is_error"]


def test_a_model_that_calls_for_ever_comes_to_an_end(models: Path) -> None:
    path = caller(models / "repeating.gguf", "calculator", CALCULATED, answer="")
    answer = json.loads(qwenchat("ask", "-m", path, "--json", "--tools", "hi").stdout)
    assert 1 <= len(answer["tool_calls"]) <= 8


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--tool", "calcluator"), "calcluator"),
        (("--tools", "--allow", "calcluator"), "calcluator"),
        (("--no-tools", "--allow", "calculator"), "--no-tools"),
        (("--tools", "--complete"), "--complete"),
    ],
)
def test_wrong_use(options: tuple[str, ...], word: str, calculating: Path, home: Path) -> None:
    done = qwenchat("ask", "-m", calculating, *options, "hi")
    assert (done.returncode, done.stdout) == (2, "") and word in done.stderr
    assert not json.loads(qwenchat("sessions", "list", "--json").stdout)["sessions"]


def test_a_session_remembers_that_its_model_may_call(calculating: Path) -> None:
    qwenchat("ask", "-m", calculating, "--tools", "hi")
    assert "tool_calls" in json.loads(qwenchat("ask", "-c", "--json", "hi").stdout)
    assert "tool_calls" not in json.loads(qwenchat("ask", "-c", "--json", "--no-tools", "hi").stdout)
    assert "tool_calls" not in json.loads(qwenchat("ask", "-c", "--json", "hi").stdout)


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, *words: str | Path) -> None:
        self.pid, self._terminal = pty.fork()
        if not self.pid:
            os.environ.update(COLUMNS="80", LINES="20", TERM="xterm-256color")
            os.execve(sys.executable, [sys.executable, "-m", "qwenchat", *map(str, words)], environment())
        self.sent = ""

    def wait_for(self, text: str) -> None:
        """Read until something was written that was not there before."""
        before = self.sent.count(text)
        while self.sent.count(text) == before:
            self.sent += os.read(self._terminal, 4096).decode()

    def type(self, line: str) -> None:
        os.write(self._terminal, line.encode())

    def end(self) -> int:
        """Read all that is still written and return the exit code."""
        try:
            while block := os.read(self._terminal, 4096):
                self.sent += block.decode(errors="replace")
        except OSError:
            pass
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def last_answer() -> Any:
    """Return the answer of the only session."""
    (session,) = json.loads(qwenchat("sessions", "list", "--json").stdout)["sessions"]
    return json.loads(qwenchat("sessions", "show", session["id"], "--json").stdout)["messages"][-1]


@pytest.mark.parametrize(
    ("typed", "result", "is_error"),
    [
        ("y\n", "todo.txt", False),
        ("a\n", "todo.txt", False),
        ("perhaps\ny\n", "todo.txt", False),
        ("n these are mine\n", "these are mine", True),
    ],
)
def test_on_a_terminal_the_user_decides(typed: str, result: str, is_error: bool, listing: Path) -> None:
    terminal = Terminal("ask", "-m", listing, "--tools", "hi")
    for line in typed.splitlines(keepends=True):
        terminal.wait_for("REASON: no > ")
        terminal.type(line)
    assert terminal.end() == 0
    assert 'Call of list_files: {"folder": ""}' in terminal.sent and "So it is." in terminal.sent
    assert terminal.sent.index("Call of") < terminal.sent.index("Allow it?")
    (call,) = last_answer()["tool_calls"]
    assert result in call["result"] and call["is_error"] is is_error


def test_ctrl_c_at_the_question_stops_the_answer(listing: Path) -> None:
    terminal = Terminal("ask", "-m", listing, "--tools", "hi")
    terminal.wait_for("REASON: no > ")
    terminal.type("\x03")
    assert terminal.end() == 130
    answer = last_answer()
    (call,) = answer["tool_calls"]
    assert (answer["status"], answer["text"], call["result"]) == ("stopped", "Let me see.", None)


def test_ctrl_c_while_a_tool_of_a_server_runs(models: Path) -> None:
    model = caller(models / "hanging.gguf", "notes__hang", "{}")
    qwenchat("tools", "add", "--no-test", "notes", sys.executable, ROOT / "tests" / "fakes" / "mcp_server.py")
    terminal = Terminal("ask", "-m", model, "--tool", "notes__hang", "--allow", "notes__hang", "hi")
    terminal.wait_for("Call of notes__hang: {}")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert last_answer()["status"] == "stopped"


async def test_a_kill_in_mid_call_leaves_an_answer_that_can_be_continued(listing: Path) -> None:
    terminal = Terminal("ask", "-m", listing, "--tools", "hi")
    terminal.wait_for("REASON: no > ")
    program = Program.here()
    await until(lambda: any(isinstance(part, ToolCall) for part in newest_answer(program).parts))
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.end() == -signal.SIGKILL
    program.close()
    program = Program.here()
    answer = newest_answer(program)
    assert answer.status is Status.INTERRUPTED and isinstance(answer.parts[-1], ToolCall)

    async def agree(_session: object, _pending: PendingCall) -> Decision:
        return Decision(Leave.ONCE)

    tools = SessionTools(program, agree, is_private=lambda _id: False)
    turns = Turns(
        store=program.store,
        engine=ScriptedEngine(("And so it is.",), file=answer.model_file),
        new_id=UUIDv7(),
        clock=unix_ms,
        tools=await tools.use(program.store.session(answer.session)),
    )
    async for _event in turns.continue_answer(answer):
        pass
    continued = program.store.branch(answer.id)[-1]
    assert continued.status is Status.COMPLETE and continued.text.endswith("And so it is.")
    (result,) = (part for part in continued.parts if isinstance(part, ToolResult))
    assert "todo.txt" in result.text and not result.is_error
    program.close()


async def test_a_kill_while_a_tool_runs_ends_its_server_and_the_answer_goes_on_with_the_call(models: Path) -> None:
    model = caller(models / "working.gguf", "notes__work", "{}")
    server = ("tools", "add", "--no-test", "notes", sys.executable, ROOT / "tests/fakes/mcp_server.py", "alone")
    qwenchat(*server)
    terminal = Terminal("ask", "-m", model, "--tool", "notes__work", "hi")
    terminal.wait_for("REASON: no > ")
    terminal.type("y\n")
    running = psutil.Process(terminal.pid)
    await until(lambda: any(each.name() == "sleep" for each in running.children(recursive=True)))
    below = running.children(recursive=True)
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.end() == -signal.SIGKILL
    await until(lambda: not any(each.is_running() for each in below))

    program = Program.here()
    answer = newest_answer(program)
    assert (answer.status, answer.text) == (Status.INTERRUPTED, "Let me see.")
    assert isinstance(answer.parts[-1], ToolCall) and answer.parts[-1].name == "notes__work"
    assert "Tool call: notes__work" in qwenchat("sessions", "show", answer.session).stdout
    qwenchat("tools", "remove", "notes")
    qwenchat(*server, "awake")
    asked: list[str] = []
    ended: list[Message] = []

    def hear(event: ChatEvent) -> None:
        if isinstance(event, ToolAsked):
            asked.append(event.pending.call.name)
            chats.decide(event.pending, Decision(Leave.ONCE))
        elif isinstance(event, TurnReported) and isinstance(event.event, TurnEnded):
            ended.append(event.event.answer)

    chats = ChatService(program, hear)
    chats.continue_answer(answer)
    await until(lambda: ended, 30)
    await chats.close()
    program.close()
    (continued,) = ended
    assert (continued.id, continued.status, continued.text) == (answer.id, Status.COMPLETE, "Let me see.\n\nSo it is.")
    assert [part.text for part in continued.parts if isinstance(part, ToolResult)] == ["done"]
    assert asked == ["notes__work"]


def newest_answer(program: Program) -> Message:
    (listed,) = program.store.listing.newest(1)
    return program.store.branch(listed.session.leaf)[-1]
