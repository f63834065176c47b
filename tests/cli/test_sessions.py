"""`qwenchat sessions` as users and as scripts run it."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from qwenchat.chat.message import Attachment, Message, Reasoning, Role, Text, ToolCall, ToolResult, text_parts
from qwenchat.chat.session import Session
from qwenchat.paths import Paths
from qwenchat.sessions.store import Store
from tests.fakes import ggufs
from tests.fakes.commands import ROOT, environment, qwenchat

FIRST, SECOND = "01980000-aaaa-7000-8000-000000000001", "01980000-bbbb-7000-8000-000000000002"
HOSTILE = "\x1b]0;owned\x07\x1b[31m[bold red]not markup[/]\x9b2J"


@pytest.fixture
def kept(home: Path) -> Path:
    """A home with two sessions."""
    store = Store(Paths.find({"QWENCHAT_HOME": str(home)}).database)
    store.create(Session(id=FIRST, created=1_700_000_000_000, updated=1_700_000_000_000, tags=("work",)))
    file = Attachment("a\x1b[0m.txt", "text/plain", b"A")
    store.add(
        Message(
            id="q1",
            session=FIRST,
            parent=None,
            role=Role.USER,
            parts=text_parts(f"What is **C++**? {HOSTILE}"),
            created=1_700_000_000_001,
            attachments=(file,),
        ),
        Message(
            id="a1",
            session=FIRST,
            parent="q1",
            role=Role.ASSISTANT,
            parts=text_parts(f"# Heading\n\n- **one**\n- two\n\n{HOSTILE}"),
            created=1_700_000_000_002,
        ),
    )
    store.create(
        Session(id=SECOND, created=1_700_000_100_000, updated=1_700_000_100_000, title="北京旅行", pinned=True)
    )
    store.add(
        Message(
            id="q2",
            session=SECOND,
            parent=None,
            role=Role.USER,
            parts=text_parts("我想去北京"),
            created=1_700_000_100_000,
        )
    )
    store.close()
    return home


def on_terminal(*words: str, answer: bytes = b"", columns: int = 80) -> tuple[int, str]:
    """Run a command on a terminal and return its exit code and all that it drew."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "qwenchat", *words]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env=environment(COLUMNS=str(columns), TERM="xterm"),
    ) as child:
        os.close(theirs)
        os.write(ours, answer)
        drawn = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            drawn += piece
    os.close(ours)
    return child.returncode, drawn.decode()


def test_list(kept: Path) -> None:
    rows = [line.split("\t") for line in qwenchat("sessions", "list").stdout.splitlines()]
    assert [row[0] for row in rows] == [SECOND, FIRST]
    assert rows[0][1:] == ["2023-11-14T22:15:00.000Z", "1", "", "* 北京旅行"]
    found = json.loads(qwenchat("sessions", "list", "--json", "--tag", "work").stdout)
    assert found["total"] == 1
    assert found["sessions"][0] | {"title": ""} == {
        "id": FIRST,
        "title": "",
        "created": "2023-11-14T22:13:20.000Z",
        "updated": "2023-11-14T22:13:20.002Z",
        "model": "",
        "pinned": False,
        "tags": ["work"],
        "trashed": None,
        "messages": 2,
    }
    assert "1 more" in qwenchat("sessions", "list", "--limit", "1").stderr
    code, drawn = on_terminal("sessions", "list")
    assert code == 0 and "01980000-a " in drawn and SECOND not in drawn


def test_show(kept: Path) -> None:
    plain = qwenchat("sessions", "show", "01980000-a").stdout
    assert "You:\n[file: a[0m.txt]\nWhat is **C++**?" in plain and "# Heading" in plain
    code, drawn = on_terminal("sessions", "show", FIRST)
    assert code == 0
    assert "[bold red]not markup[/]" in drawn and "What is **C++**?" in drawn
    assert "\x1b[1mone" in drawn and "**one**" not in drawn and "# Heading" not in drawn
    for text in (plain, drawn):
        assert "\x1b]0;" not in text and "\x07" not in text and "\x9b" not in text and "\x1b[31m[bold" not in text
    found = json.loads(qwenchat("sessions", "show", FIRST, "--json").stdout)
    assert [message["id"] for message in found["messages"]] == ["q1", "a1"]
    assert found["messages"][0]["attachments"][0]["bytes"] == 1
    assert found["messages"][1]["text"].endswith(HOSTILE)


def test_show_folds_reasoning_and_tool_calls(home: Path) -> None:
    store = Store(Paths.find({"QWENCHAT_HOME": str(home)}).database)
    store.create(Session(id=FIRST, created=1, updated=1))
    parts = (
        Reasoning("First\x1b[2J **this**,\nthen that."),
        ToolCall("c", "clock", '{"zone": "UTC"}'),
        ToolResult("c", "clock", "12:00"),
        Text("It is *noon*."),
    )
    store.add(Message(id="a", session=FIRST, parent=None, role=Role.ASSISTANT, parts=parts, created=2))
    store.close()
    folded = (
        "[Reasoning · 30 characters]\n\n[Tool call: clock · 15 characters]\n\n[Result of clock · 5 characters]\n\nIt"
    )
    assert folded in qwenchat("sessions", "show", FIRST).stdout
    full = qwenchat("sessions", "show", FIRST, "--full").stdout
    assert "[Reasoning]\n\n    First[2J **this**,\n    then that.\n\n[Tool call: clock]\n\n    {" in full
    assert full.endswith("\n\n    12:00\n\nIt is *noon*.\n")
    for options, shown in (((), "[Reasoning · 30 characters]"), (("--full",), "First[2J **this**,")):
        code, drawn = on_terminal("sessions", "show", FIRST, *options)
        assert code == 0 and shown in drawn and "\x1b[2J" not in drawn
    found = json.loads(qwenchat("sessions", "show", FIRST, "--json").stdout)
    assert found["messages"][0]["reasoning"].endswith("then that.")


@pytest.mark.parametrize("columns", [80, 40, 16])
def test_show_cuts_no_cell_and_begins_no_line_with_punctuation(home: Path, columns: int) -> None:
    store = Store(Paths.find({"QWENCHAT_HOME": str(home)}).database)
    store.create(Session(id=FIRST, created=1, updated=1, title="一个很长的标题，用来看它怎样换行。"))
    asked = "请用表格说明注意力机制的三个部分，每个部分一行。" * 3
    cell = "当前词想知道什么，与每一个键相比较，得到一个分数。"
    table = f"| 部分 | 说明 | 例 | 数 |\n|--|--|--|--|\n| 查询 | {cell} | 甲 | 1 |"
    store.add(Message(id="q", session=FIRST, parent=None, role=Role.USER, parts=text_parts(asked), created=2))
    store.add(Message(id="a", session=FIRST, parent="q", role=Role.ASSISTANT, parts=text_parts(table), created=3))
    store.close()
    code, drawn = on_terminal("sessions", "show", FIRST, columns=columns)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in drawn.splitlines()]
    assert code == 0 and "…" not in drawn
    assert all(cell_len(line) <= columns for line in lines)
    assert not any(re.match(r"[ │]*[，。]", line) for line in lines)
    assert ("部分: 查询" in lines) == (columns == 16)
    assert "".join(lines).count("得") == 1 and set(cell) <= set(drawn)


def test_show_draws_html_and_entities_as_text(home: Path) -> None:
    store = Store(Paths.find({"QWENCHAT_HOME": str(home)}).database)
    store.create(Session(id=FIRST, created=1, updated=1))
    said = "Use <b>bold</b>: List<String>, &#x202e;turned\n\n<div>\nin a block\n</div>\n\n#include <stdio.h>"
    store.add(Message(id="a", session=FIRST, parent=None, role=Role.ASSISTANT, parts=text_parts(said), created=2))
    store.close()
    _code, drawn = on_terminal("sessions", "show", FIRST)
    for part in ("<b>bold</b>", "List<String>", "in a block", "<stdio.h>"):
        assert part in drawn
    assert "\u202e" not in drawn


def test_search(kept: Path) -> None:
    found = json.loads(qwenchat("sessions", "search", "c++", "role:user", "--json").stdout)
    (hit,) = found["hits"]
    (start, end), text = hit["marks"][0], hit["excerpt"]
    assert (hit["message"], text[start:end]) == ("q1", "C++")
    rows = [line.split("\t") for line in qwenchat("sessions", "search", "北京").stdout.splitlines()]
    assert [row[:3] for row in rows] == [[SECOND, "", "title"], [SECOND, "q2", "user"]]
    code, drawn = on_terminal("sessions", "search", "北京")
    assert code == 0 and "\x1b[1;33m北京" in drawn
    nothing = qwenchat("sessions", "search", "NEAR( AND *")
    assert (nothing.returncode, nothing.stdout) == (0, "") and "Nothing" in nothing.stderr
    assert qwenchat("sessions", "search", "is what").stdout == ""  # the shell's quotes make a phrase
    assert qwenchat("sessions", "search", "is", "what").stdout


def test_rename_and_tags(kept: Path) -> None:
    assert qwenchat("sessions", "rename", "01980000-a", "New", "title").returncode == 0
    assert "New title" in qwenchat("sessions", "list").stdout
    assert qwenchat("sessions", "tags").stdout == "work\t1\n"
    done = qwenchat("sessions", "tags", FIRST, "--add", "play", "--add", "中文", "--remove", "work")
    assert done.stdout == "play\n中文\n"
    assert json.loads(qwenchat("sessions", "tags", "--json").stdout) == {"play": 1, "中文": 1}
    assert qwenchat("sessions", "tags", "--add", "x").returncode == 2


def test_a_model_suggests_the_title(kept: Path, models: Path) -> None:
    lost = qwenchat("sessions", "rename", SECOND, "--suggest")
    assert lost.returncode == 3 and "No model" in lost.stderr
    model = ggufs.write_chain(models / "title.gguf", '"Travels in China".\nsaid.').path
    shown = qwenchat("sessions", "show", SECOND, "--json").stdout
    done = qwenchat("sessions", "rename", "01980000-b", "--suggest", "-m", model)
    assert (done.returncode, done.stdout) == (0, "Travels in China\n"), done.stderr
    assert json.loads(qwenchat("sessions", "show", SECOND, "--json").stdout) == json.loads(shown) | {
        "title": "Travels in China"
    }
    assert not list(kept.rglob("*.kv"))
    for words in ((), ("A title", "--suggest"), ("A title", "-m", model)):
        assert qwenchat("sessions", "rename", SECOND, *words).returncode == 2
    again = qwenchat("sessions", "rename", SECOND, "--suggest")  # the file that was named is now one of the models here
    assert (again.returncode, again.stdout) == (0, "Travels in China\n"), again.stderr


def test_delete_and_restore(kept: Path) -> None:
    deleted = qwenchat("sessions", "delete", FIRST[:-2])
    assert deleted.returncode == 0 and f"`qwenchat sessions restore {FIRST}`" in deleted.stderr
    assert FIRST not in qwenchat("sessions", "list").stdout
    assert FIRST in qwenchat("sessions", "list", "--trash").stdout
    restored = qwenchat("sessions", "restore", FIRST)
    assert restored.returncode == 0 and "1 session restored." in restored.stderr
    refused = qwenchat("sessions", "delete", "--forever", FIRST)
    assert refused.returncode == 2 and "--yes" in refused.stderr
    code, drawn = on_terminal("sessions", "delete", "--forever", FIRST, answer=b"n\n")
    assert code == 130 and "forever?" in drawn
    assert FIRST in qwenchat("sessions", "list").stdout
    code, _drawn = on_terminal("sessions", "delete", "--forever", FIRST, answer=b"y\n")
    assert code == 0 and FIRST not in qwenchat("sessions", "list").stdout
    qwenchat("sessions", "delete", SECOND)
    assert qwenchat("sessions", "delete", "--forever", "--trash", "--yes").returncode == 0
    assert qwenchat("sessions", "list", "--trash").stdout == ""
    assert qwenchat("sessions", "delete", "--trash").returncode == 2


def test_the_trash_is_emptied_by_a_setting(kept: Path) -> None:
    store = Store(Paths.find({"QWENCHAT_HOME": str(kept)}).database, clock=lambda: 1_700_000_000_000)
    store.trash.put(FIRST)
    store.close()
    assert FIRST in qwenchat("sessions", "list", "--trash").stdout
    assert qwenchat("config", "set", "sessions.empty_trash_after_days", "30").returncode == 0
    assert qwenchat("sessions", "list", "--trash").stdout == ""
    assert SECOND in qwenchat("sessions", "list").stdout


def test_ids_that_name_no_session_or_several(kept: Path) -> None:
    unknown = qwenchat("sessions", "show", "7")
    assert unknown.returncode == 3 and len(unknown.stderr.splitlines()) == 2
    several = qwenchat("sessions", "show", "0198")
    assert several.returncode == 2 and FIRST in several.stderr and SECOND in several.stderr


def test_a_damaged_database(kept: Path) -> None:
    assert "not damaged" in qwenchat("sessions", "recover").stderr
    file = Paths.find({"QWENCHAT_HOME": str(kept)}).database
    data = bytearray(file.read_bytes())
    data[:4096] = b"noise" * 819 + b"!"
    file.write_bytes(data)
    failed = qwenchat("sessions", "list")
    assert failed.returncode == 7 and "qwenchat sessions recover" in failed.stderr
    saved = json.loads(qwenchat("sessions", "recover", "--json").stdout)
    assert (saved["sessions"], saved["messages"], saved["attachments"]) == (2, 3, 1)
    assert Path(saved["damaged"]).read_bytes() == data
    assert FIRST in qwenchat("sessions", "list").stdout
