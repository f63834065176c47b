"""`qwenchat tools`: what it lists, what it calls and starts, and the servers that it adds and removes."""

import json
import sys
from pathlib import Path

from tests.fakes.commands import ROOT, qwenchat

SERVER = (sys.executable, str(ROOT / "tests" / "fakes" / "mcp_server.py"))
CALL = ("tools", "test", "calculator")


def servers() -> dict[str, dict[str, object]]:
    return {each["name"]: each for each in json.loads(qwenchat("tools", "list", "--json").stdout)["servers"]}


def test_the_list_says_what_holds_for_each_tool(home: Path) -> None:
    listed = json.loads(qwenchat("tools", "list", "--json").stdout)
    tools = {tool["name"]: tool for tool in listed["tools"]}
    assert list(tools["calculator"]) == ["name", "description", "writes", "policy"]
    assert (tools["calculator"]["policy"], tools["search_chats"]["policy"]) == ("allow", "ask")
    assert not listed["servers"] and not home.exists()
    qwenchat("config", "set", "tools.policy.calculator", "deny")
    assert "calculator\tdeny\t" in qwenchat("tools", "list").stdout


def test_a_tool_is_tried_whatever_models_may_do() -> None:
    qwenchat("config", "set", "tools.policy.calculator", "deny")
    done = qwenchat(*CALL, '{"expression": "2**10"}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "2**10 = 1024\n", "")
    wrong = qwenchat(*CALL, '{"expression": "2**"}', "--json")
    assert wrong.returncode == 2 and json.loads(wrong.stdout)["is_error"] is True
    unknown = qwenchat("tools", "test", "calcluator")
    assert unknown.returncode == 2 and "calculator" in unknown.stderr


def test_a_server_is_added_tried_and_removed() -> None:
    (added,) = json.loads(qwenchat("tools", "add", "--env", "TOKEN=${HOME}", "--json", "notes", *SERVER).stdout)
    assert added["error"] is None and "notes__echo" in [tool["name"] for tool in added["tools"]]
    assert servers()["notes"]["server"] == " ".join(SERVER)
    assert qwenchat("tools", "add", "notes", *SERVER).returncode == 2
    assert qwenchat("tools", "test", "notes__echo", '{"text": "hello"}').stdout == "hello\n"
    assert "notes__echo\task\t" in qwenchat("tools", "test", "notes").stdout
    assert json.loads(qwenchat("tools", "remove", "notes", "--json").stdout)["name"] == "notes"
    assert not servers() and qwenchat("tools", "remove", "notes").returncode == 3


def test_a_server_that_can_not_be_started_is_saved_and_explained() -> None:
    added = qwenchat("tools", "add", "gone", "/no/such/program")
    assert added.returncode == 0 and "gone" in added.stderr and "gone" in servers()
    tried = qwenchat("tools", "test", "gone", "--json")
    assert tried.returncode == 4 and json.loads(tried.stdout)["error"]["code"] == "tool_server"


def test_servers_are_taken_from_another_programs_file(tmp_path: Path) -> None:
    command, *arguments = SERVER
    entries = {"one": {"command": command, "args": arguments}, "two": {"command": "/no/such/program"}}
    file = tmp_path / "claude.json"
    file.write_text(json.dumps({"theme": "dark", "mcpServers": entries}))
    assert qwenchat("tools", "add", "--from", file, "--no-test", "two").returncode == 0
    assert list(servers()) == ["two"]
    assert qwenchat("tools", "add", "--from", file, "--no-test", "three").returncode == 3
    assert qwenchat("tools", "add", "--from", file, "--no-test").returncode == 2  # there is a two already
    qwenchat("tools", "remove", "two")
    assert qwenchat("tools", "add", "--from", file, "--no-test").returncode == 0
    assert list(servers()) == ["one", "two"]


def test_an_entry_of_a_wrong_type_is_named_where_it_is_asked_for(home: Path, tmp_path: Path) -> None:
    own = tmp_path / "claude.json"
    own.write_text(json.dumps({"mcpServers": {"bad": {"command": "x", "env": {"A": 1}}, "good": {"command": "y"}}}))
    reason = '"env.A" must be text in quotation marks, not a number'
    added = qwenchat("tools", "add", "--from", own, "--no-test")
    assert added.returncode == 0 and reason in added.stderr and list(servers()) == ["good"]
    added = qwenchat("tools", "add", "--from", own, "--no-test", "bad")
    assert added.returncode == 2 and reason in added.stderr and str(own) in added.stderr
    own.rename(home / "config/mcp.json")
    tried = qwenchat("tools", "test", "bad")
    assert tried.returncode == 2 and reason in tried.stderr and str(home / "config/mcp.json") in tried.stderr
    assert [server["name"] for server in servers().values()] == ["good", "bad"]


def test_wrong_use_adds_nothing() -> None:
    for words in (("notes",), (), ("--url", "https://a.example", "notes", "uvx"), ("--env", "TOKEN", "notes", "uvx")):
        assert qwenchat("tools", "add", "--no-test", *words).returncode == 2
    assert not servers()
