"""Calls of tools: who decides about them, and what becomes of everything that can go wrong."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from qwenchat.chat.message import ToolCall, ToolResult
from qwenchat.chat.tools import Toolbox, ToolSpec
from qwenchat.tools.builtin.folders import Folders
from qwenchat.tools.builtin.read_file import ReadFile
from qwenchat.tools.policy import Decision, Leave, PendingCall, Policy
from qwenchat.tools.tool import RESULT_LIMIT, Tool, ToolError
from qwenchat.tools.toolbox import ToolRunner, named


async def echo(arguments: Mapping[str, object]) -> str:
    return json.dumps(arguments)


@dataclass(frozen=True)
class Scripted:
    """A tool that does what the test says."""

    name: str = "echo"
    does: Callable[[Mapping[str, object]], Awaitable[str]] = echo
    writes: bool = False
    schema: str = '{"type": "object"}'

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(name=self.name, description="A tool.", parameters=self.schema)

    async def run(self, arguments: Mapping[str, object]) -> str:
        return await self.does(arguments)


@dataclass
class User:
    """Answers with the same decision, and remembers what was asked."""

    decision: Decision = Decision(Leave.ONCE)  # noqa: RUF009
    asked: list[PendingCall] = field(default_factory=list)

    async def ask(self, pending: PendingCall) -> Decision:
        self.asked.append(pending)
        return self.decision


def runner(tool: Tool, policy: Policy, limit_s: float = 60) -> Toolbox:
    return ToolRunner({tool.spec.name: tool}, policy, limit_s=limit_s)


def call(name: str = "echo", arguments: str = '{"a": 1}') -> ToolCall:
    return ToolCall("c1", name, arguments)


async def test_a_call_is_asked_about_whole_then_run() -> None:
    user = User()
    result = await runner(Scripted(), Policy({}, user.ask)).run(call())
    assert (result.call_id, result.name, result.text, result.is_error) == ("c1", "echo", '{"a": 1}', False)
    assert [pending.call for pending in user.asked] == [call()]


async def test_a_refusal_and_its_reason_are_what_the_model_reads() -> None:
    user = User(Decision(Leave.REFUSED, "not \x1b[31mtoday"))
    result = await runner(Scripted(), Policy({}, user.ask)).run(call())
    assert result.is_error and result.text == "This call was refused: not [31mtoday"


async def test_allowed_for_the_chat_is_asked_once_and_only_for_that_tool() -> None:
    user = User(Decision(Leave.CHAT))
    tools = ToolRunner({"echo": Scripted(), "other": Scripted("other")}, Policy({}, user.ask))
    for name in ("echo", "echo", "other"):
        assert not (await tools.run(call(name))).is_error
    assert [pending.call.name for pending in user.asked] == ["echo", "other"]


async def test_what_was_allowed_for_a_chat_holds_in_its_later_turns_but_not_for_a_tool_that_writes() -> None:
    user, allowed = User(Decision(Leave.CHAT)), set[str]()
    await runner(Scripted(), Policy({}, user.ask, allowed=allowed)).run(call())
    assert allowed == {"echo"}
    await runner(Scripted(), Policy({}, user.ask, allowed=allowed)).run(call())
    assert len(user.asked) == 1
    await runner(Scripted(writes=True), Policy({}, user.ask, allowed=allowed)).run(call())
    assert len(user.asked) == 2
    assert (await runner(Scripted(), Policy({"echo": "deny"}, user.ask, allowed=allowed)).run(call())).is_error


async def test_what_writes_is_asked_every_time_whatever_was_answered_or_set() -> None:
    user = User(Decision(Leave.CHAT))
    tools = runner(Scripted(writes=True), Policy({"echo": "allow"}, user.ask))
    for _ in range(3):
        assert not (await tools.run(call())).is_error
    assert len(user.asked) == 3
    assert Leave.CHAT not in user.asked[0].choices


async def test_rules_allow_and_deny_without_asking_and_what_is_denied_is_not_offered() -> None:
    user = User()
    allowed = runner(Scripted(), Policy({"echo": "allow"}, user.ask))
    assert not (await allowed.run(call())).is_error
    denied = runner(Scripted(), Policy({"echo": "deny"}, user.ask, granted=["echo"]))
    assert not denied.specs and (await denied.run(call())).is_error
    assert not user.asked


async def test_tools_named_for_the_run_are_not_asked_about_even_if_they_write() -> None:
    user = User(Decision(Leave.REFUSED))
    result = await runner(Scripted(writes=True), Policy({}, user.ask, granted=["echo"])).run(call())
    assert not result.is_error and not user.asked


def test_calculating_and_the_time_need_no_leave_unless_the_settings_say_so() -> None:
    assert Policy({"read_file": "allow"}, User().ask).rule("calculator", writes=False) == "allow"
    assert Policy({"calculator": "ask"}, User().ask).rule("calculator", writes=False) == "ask"


async def test_an_unknown_tool_names_those_that_there_are() -> None:
    result = await runner(Scripted(), Policy({}, User().ask)).run(call("ech\x1bo"))
    assert result.is_error and result.text == 'There is no tool named "echo". The tools are: echo.'


@pytest.mark.parametrize(
    "arguments", ["{", "[]", '"a"', "1", "{}}", '{"a": "\\ud800"}', "[" * 100_000, '{"a":' * 9_999]
)
async def test_arguments_that_are_no_object_are_refused_before_anybody_is_asked(arguments: str) -> None:
    user = User()
    result = await runner(Scripted(), Policy({}, user.ask)).run(call(arguments=arguments))
    assert result.is_error and "JSON object" in result.text
    assert not user.asked


SCHEMA = {
    "type": "object",
    "properties": {
        "count": {"type": "integer"},
        "size": {"type": ["number", "null"]},
        "unit": {"enum": ["m", "km"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "where": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
    },
    "required": ["count"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, '"count" is missing'),
        ({"count": 1.5}, '"count" must be of the type integer'),
        ({"count": True}, '"count" must be of the type integer'),
        ({"count": 1, "size": []}, '"size" must be of the type number or null'),
        ({"count": 1, "unit": "mile"}, '"unit" must be one of ["m", "km"]'),
        ({"count": 1, "tags": ["a", 2]}, '"tags"[1] must be of the type string'),
        ({"count": 1, "where": {}}, '"x" is missing'),
        ({"count": 1, "number": 2}, 'there is no "number"; there are: count, size, unit, tags, where'),
    ],
)
async def test_arguments_are_checked_against_the_schema_before_anybody_is_asked(
    arguments: dict[str, object], words: str
) -> None:
    user = User()
    tool = Scripted(schema=json.dumps(SCHEMA))
    result = await runner(tool, Policy({}, user.ask)).run(call(arguments=json.dumps(arguments)))
    assert (result.text, result.is_error) == (f"The arguments do not follow the schema: {words}.", True)
    assert not user.asked


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        (json.dumps(SCHEMA), {"count": "3", "size": None, "unit": "km", "tags": ["a"], "where": {"x": 1}}),
        (json.dumps(SCHEMA), {"count": 3.0, "size": 1.5}),
        *((schema, {"a": [1]}) for schema in ("", "[]", "{", '{"required": [[]]}', '{"properties": 1, "required": 1}')),
        *((schema, {"a": [1]}) for schema in ('{"type": 1}', '{"properties": {"a": {"type": "odd", "items": [1]}}}')),
    ],
)
async def test_what_may_follow_the_schema_is_left_to_the_tool(schema: str, arguments: dict[str, object]) -> None:
    tool = Scripted(schema=schema)
    result = await runner(tool, Policy({"echo": "allow"}, User().ask)).run(call(arguments=json.dumps(arguments)))
    assert not result.is_error and json.loads(result.text) == arguments


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ToolError("No such file."), "No such file."),
        (RuntimeError("boom\x07"), "The tool failed: RuntimeError: boom"),
        (TimeoutError(), "The tool failed: TimeoutError: "),
    ],
)
async def test_whatever_a_tool_raises_is_a_result(error: Exception, words: str) -> None:
    async def fail(_arguments: Mapping[str, object]) -> str:
        raise error

    result = await runner(Scripted(does=fail), Policy({"echo": "allow"}, User().ask)).run(call())
    assert result.is_error and result.text == words


async def test_a_tool_that_does_not_end_is_ended() -> None:
    ended = []

    async def wait(_arguments: Mapping[str, object]) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return ""

    result = await runner(Scripted(does=wait), Policy({"echo": "allow"}, User().ask), limit_s=0.01).run(call())
    assert result.is_error and result.text == "The tool did not finish within 0.01 seconds."
    assert ended


async def test_the_time_that_the_user_takes_does_not_count() -> None:
    async def ask(_pending: PendingCall) -> Decision:
        for _ in range(5):
            await asyncio.sleep(0)
        return Decision(Leave.ONCE)

    assert not (await runner(Scripted(), Policy({}, ask), limit_s=0).run(call())).is_error


@pytest.mark.parametrize("place", ["asking", "running"])
async def test_cancelling_a_call_ends_it_where_it_is(place: str) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(_anything: object) -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    async def ask(pending: PendingCall) -> Decision:
        await wait(pending)
        return Decision(Leave.ONCE)

    policy = Policy({"echo": "ask" if place == "asking" else "allow"}, ask)
    running = asyncio.create_task(runner(Scripted(does=wait), policy).run(call()))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()


async def test_results_are_clean_and_cut() -> None:
    async def much(_arguments: Mapping[str, object]) -> str:
        return "\x1b]0;title\x07" + "好" * (2 * RESULT_LIMIT)

    result: ToolResult = await runner(Scripted(does=much), Policy({"echo": "allow"}, User().ask)).run(call())
    assert result.text.startswith("]0;title好") and len(result.text) < RESULT_LIMIT + 100
    assert result.text.endswith("[The rest of the result is left out: it has 131,080 characters.]")


def test_a_servers_tool_is_named_alike_whichever_other_servers_there_are() -> None:
    alone = named([], {"files": [Scripted("read")]})
    together = named([Scripted("files_read")], {"web": [Scripted("read")], "files": [Scripted("read")]})
    assert list(alone) == ["files__read"] and list(together) == ["files_read", "web__read", "files__read"]


def test_no_server_can_take_the_name_of_another_tool() -> None:
    hostile = [Scripted("calculator"), Scripted("b__c"), Scripted("读 file\n"), Scripted("x" * 99), Scripted("x" * 98)]
    tools = named([Scripted("calculator")], {"a": hostile, "a__b": [Scripted("c"), Scripted("c")]})
    assert len(tools) == 8
    assert all(
        len(name) <= 64 and name.replace("_", "").replace("-", "").isalnum() and name.isascii() for name in tools
    )
    assert {"a__b__c", "a--b__c", "a--b__c_2"} <= tools.keys()
    specs = ToolRunner(tools, Policy({}, User().ask)).specs
    assert [spec.name for spec in specs] == list(tools)


@pytest.mark.parametrize(
    ("path", "opens"),
    [
        ("notes/todo.txt", False),
        ("todo.txt", True),
        ("/home/user/notes/todo.txt", True),
        ("{folder}/todo.txt", False),
    ],
)
async def test_the_user_sees_which_file_a_made_up_path_stands_for(path: str, opens: bool, tmp_path: Path) -> None:
    folder = tmp_path.resolve() / "notes"
    folder.mkdir()
    (folder / "todo.txt").write_text("Milk.")
    user, arguments = User(), json.dumps({"path": path.format(folder=folder)})
    result = await runner(ReadFile(Folders([folder])), Policy({}, user.ask)).run(call("read_file", arguments))
    assert result.text == "Milk."
    assert [each.opens for each in user.asked] == [str(folder / "todo.txt") if opens else ""]


async def test_nobody_is_asked_about_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    user = User()
    tools = runner(ReadFile(Folders([tmp_path])), Policy({}, user.ask))
    assert (await tools.run(call("read_file", '{"path": "../secret.txt"}'))).is_error and not user.asked
