"""The program in locales that are not UTF-8: words, file names and output, and odd values of variables."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.chat.session import Session
from qwenchat.paths import expand_home, file_name
from qwenchat.runtime.program import Program
from tests.fakes.commands import environment, qwenchat

ASCII: dict[str, Any] = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale in which Python takes neither words nor file names for UTF-8."""
TITLE = "你好 ☕ мир"


@pytest.fixture
def session() -> str:
    store = Program.here().store
    store.create(Session(id="0123", created=1, updated=2, title=TITLE))
    store.add(Message(id="m", session="0123", role=Role.USER, parent=None, created=1, parts=text_parts("为什么？")))
    store.close()
    return "0123"


def output(*words: str, **more: str) -> bytes:
    command = [sys.executable, "-m", "qwenchat", *words]
    return subprocess.run(command, env=environment(**more), stdout=subprocess.PIPE, check=True).stdout


def test_words_of_the_command_line_are_read_in_any_locale(session: str) -> None:
    assert qwenchat("sessions", "rename", session, "早上好", **ASCII).returncode == 0
    assert "为什么？" in qwenchat("sessions", "search", "为什么", LC_ALL="C").stdout
    assert "早上好" in qwenchat("sessions", "show", session, **ASCII).stdout


def test_files_are_named_after_titles_in_any_locale(session: str, tmp_path: Path) -> None:
    done = qwenchat("sessions", "export", session, "-o", f"{tmp_path}/出/", **ASCII)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in (tmp_path / "出").iterdir()] == [f"{TITLE}.md"]


def test_a_name_that_the_locale_can_not_write_is_written_in_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsencode", lambda name: name.encode("latin-1"))
    monkeypatch.setattr(os, "fsdecode", lambda name: name.decode("latin-1"))
    assert file_name("café") == "café"
    assert os.fsencode(file_name(TITLE)) == TITLE.encode()
    assert os.fsencode(str(expand_home(f"/{TITLE}"))) == f"/{TITLE}".encode()


def test_output_is_in_the_encoding_that_is_asked_for(session: str) -> None:
    gbk: dict[str, Any] = {"PYTHONIOENCODING": "gbk"}
    listed = output("sessions", "list", **gbk).decode("gbk")
    assert TITLE.replace("☕", "?") in listed
    text = output("sessions", "list", "--json", **gbk)
    assert text.isascii() and TITLE in str(json.loads(text))
    assert TITLE in output("sessions", "export", session, **gbk).decode("utf-8")  # a file, wherever it goes


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HF_ENDPOINT", "http://127.0.0.1:99999"),
        ("HF_ENDPOINT", "hub.example"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "abc"),
        ("all_proxy", "socks4://me:secret@127.0.0.1:1"),
    ],
)
def test_a_variable_with_a_wrong_value_is_named(variable: str, value: str) -> None:
    more: dict[str, Any] = {"HF_ENDPOINT": "http://127.0.0.1:1", variable: value}
    done = qwenchat("models", "pull", "0.5b:q4_k_m", **more)
    assert done.returncode == 2
    assert variable in done.stderr and "secret" not in done.stderr
    assert len(done.stderr.splitlines()) == 2
