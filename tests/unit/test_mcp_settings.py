"""`mcp.json`: what other programs write is read, values are never shown, nothing of others is lost."""

import json
from pathlib import Path

import pytest

from qwenchat.errors import FileError, NotFound, WrongUse
from qwenchat.tools.mcp import settings
from qwenchat.tools.mcp.protocol import ServerFault
from qwenchat.tools.mcp.settings import ServerAddress, ServerCommand, ServerFile, ToolServerSettings

STDIO = {"command": "npx", "args": ["-y", "notes"], "env": {"TOKEN": "s3cr3t-value"}}


def read(folder: Path, text: str | object) -> ServerFile:
    file = folder / "mcp.json"
    file.write_text(text if isinstance(text, str) else json.dumps(text))
    return settings.load(file)


@pytest.mark.parametrize("key", ["mcpServers", "servers"])
def test_files_of_other_programs_are_read(tmp_path: Path, key: str) -> None:
    remote = {"type": "http", "url": "https://x.example/mcp?key=1", "headers": {"A": "b"}, "disabled": True}
    entries = {"notes": {**STDIO, "type": "stdio", "alwaysAllow": ["x"], "timeout": 5}, "Wiki (new)": remote}
    (tmp_path / "found.json").write_text(json.dumps({"other": 1, key: entries}))
    found = settings.found_in(tmp_path / "found.json")
    assert not found.problems
    notes, wiki = found.servers["notes"], found.servers["Wiki (new)"]
    assert (notes.command, notes.args, notes.shown) == ("npx", ("-y", "notes"), "npx -y notes")
    assert (wiki.disabled, wiki.is_elsewhere, wiki.shown) == (True, True, "https://x.example/mcp")


def test_comments_and_last_commas_are_read_and_strings_stay(tmp_path: Path) -> None:
    text = """\ufeff{ // servers
        "mcpServers": { /* mine, } */
            "a": {"command": "x", "args": ["http://h//p", "/* no */", ",]", "\\"//\\\\",],},
        }, }"""
    assert read(tmp_path, text).servers["a"].args == ("http://h//p", "/* no */", ",]", '"//\\')


@pytest.mark.parametrize("words", ["/*", '"', ", ", "{", "// x\n", "/**/", '\\"', '"\\'])
def test_hostile_files_are_refused_quickly(tmp_path: Path, words: str) -> None:
    try:
        assert not read(tmp_path, words * 400_001).servers
    except WrongUse as error:
        assert "is not JSON" in error.message


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({}, "it needs a command or a url"),
        ({"command": "x", "url": "http://h/"}, "it needs a command or a url"),
        ({"command": ["x"]}, '"command" must be text in quotation marks, not a list'),
        ({"command": "x", "args": "-y s3cr3t"}, '"args" must be a list, not a text'),
        ({"command": "x", "args": ["-y", 3]}, '"args[1]" must be text in quotation marks, not a number'),
        ({"command": "x", "env": {"A": 8080}}, '"env.A" must be text in quotation marks, not a number'),
        ({"command": "x", "env": "A=s3cr3t"}, '"env" must be a group of settings, not a text'),
        ({"url": "http://h/", "headers": {"A": None}}, '"headers.A" must be text in quotation marks, not null'),
        ({"command": "x", "disabled": "yes"}, '"disabled" can be true or false, but not a text'),
        ({"command": "x\0"}, "it contains the character NUL"),
        ({"command": "x", "env": {"A=B": "c"}}, "the name of a variable is empty or contains ="),
        ({"url": "ftp://h/"}, "its URL is not valid"),
        ({"url": "http://[${HOST}"}, "its URL is not valid"),
        ({"type": "sse", "url": "http://h/sse"}, "servers of the type sse are not supported"),
        (7, "it must be a group of settings, not a number"),
    ],
)
def test_an_entry_that_cannot_be_used_spoils_no_other(tmp_path: Path, entry: object, reason: str) -> None:
    found = read(tmp_path, {"mcpServers": {"bad\x1b": STDIO, "worse": entry, "good": STDIO}})
    assert list(found.servers) == ["good"]
    assert found.problems["worse"].startswith(reason)
    assert "can't be shown" in found.problems["bad"]


def test_variables_are_replaced_when_a_server_is_started() -> None:
    server = ToolServerSettings(
        command="${HOME}/x", args=("${env:A}$B", "${C:-d e}", "$${A}"), env={"T": "Bearer ${A}"}
    )
    environ = {"HOME": "/h", "A": "${B}", "B": "never"}
    assert server.target(environ) == ServerCommand(
        command="/h/x", args=("${B}$B", "d e", "$${B}"), env={"T": "Bearer ${B}"}
    )
    address = ToolServerSettings(url="https://${HOST}/mcp", headers={"A": "${A}"}).target(
        {"HOST": "h.example", "A": "x"}
    )
    assert address == ServerAddress(url="https://h.example/mcp", headers={"A": "x"})
    for url in ("https://${MISSING}/", "https://${input:x}/", "${HOST}"):
        with pytest.raises(ServerFault):
            ToolServerSettings(url=url).target({"HOST": "not a url"})


def test_no_value_is_shown_and_no_secret_stays_in_the_words_of_a_server() -> None:
    server = ToolServerSettings(
        url="https://me:pw@h.example/mcp?key=s3cr3t-value", headers={"A": "Bearer s3cr3t-value"}
    )
    target = server.target({})
    assert "s3cr3t" not in repr(server) + repr(target) + server.shown
    assert "pw" not in repr(server) + repr(target) + server.shown
    assert target.without_secrets("got 'Bearer s3cr3t-value' and s3cr3t-value") == "got '***' and ***"
    assert ToolServerSettings(url="${WHERE}/mcp").shown == "${WHERE}/mcp"
    command = ToolServerSettings(command="x", env={"T": "s3cr3t-value", "DEBUG": "1"}).target({})
    assert command.without_secrets("1 s3cr3t-value 1") == "1 *** 1"


def test_a_server_is_written_beside_what_others_wrote(tmp_path: Path) -> None:
    file = tmp_path / "config/mcp.json"
    settings.put(file, "notes", ToolServerSettings(command="x", args=("y",)))
    assert json.loads(file.read_text()) == {"mcpServers": {"notes": {"command": "x", "args": ["y"]}}}
    assert file.stat().st_mode & 0o777 == 0o600
    kept = {"a": 1, "servers": {"notes": {"command": "z"}, "b": {"command": "b", "timeout": 3}}}
    file.write_text(json.dumps(kept))
    settings.put(file, "notes", ToolServerSettings(url="https://h.example/mcp"))
    assert settings.load(file).servers["notes"].url
    settings.put(file, "notes", None)
    settings.put(file, "never there", None)
    assert json.loads(file.read_text()) == {
        "a": 1,
        "servers": {"b": {"command": "b", "timeout": 3}},
        "mcpServers": {},
    }


def test_nothing_is_written_where_something_would_be_lost_or_wrong(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    for text, server in (
        ('{"mcpServers": {}} // mine', STDIO),
        ("[]", STDIO),
        ('{"mcpServers": []}', STDIO),
        ("{}", {}),
        ("{}", {"url": "x"}),
    ):
        file.write_text(text)
        with pytest.raises(WrongUse):
            settings.put(file, "a", ToolServerSettings(**server))
        assert file.read_text() == text


def test_files_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    assert settings.load(tmp_path / "missing.json") == ServerFile({})
    with pytest.raises(FileError, match=r"missing\.json can't be read"):
        settings.found_in(tmp_path / "missing.json")
    with pytest.raises(FileError, match="can't be read"):
        settings.load(tmp_path)
    (tmp_path / "a.json").write_bytes(b"\xff\xff")
    with pytest.raises(FileError, match="not UTF-8"):
        settings.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(NotFound, match="no tool servers"):
        settings.found_in(tmp_path / "a.json")
