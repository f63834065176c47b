"""`qwenchat engines`, and what other commands do with models elsewhere, against a real llama-server."""

import json
import os
import pty
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qwenchat.cli.main import main
from qwenchat.runtime.program import Program
from tests.fakes import ggufs
from tests.fakes.llama_server import LlamaServer, llama_server

KEY = "sk-very-secret"
HERE, ELSEWHERE = "127.0.0.1", "127.1"
"""Two names of this machine, of which the program knows only the first to be this machine."""


@pytest.fixture(scope="module")
def server(chain: ggufs.Chain) -> Iterator[LlamaServer]:
    with llama_server(chain.path, alias="spoken", key=KEY) as running:
        yield running


@pytest.fixture
def lab(server: LlamaServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The host of an engine `lab` that the program takes for another machine."""
    host = f"{ELSEWHERE}:{server.port}"
    settings = home / "config" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[engines.lab]\nurl = 'http://{host}'\nkey_env = 'LAB_KEY'\n")
    monkeypatch.setenv("LAB_KEY", KEY)
    return host


def dead_url() -> str:
    """Return a URL where nothing listens."""
    with socket.socket() as unused:
        unused.bind((HERE, 0))
        return f"http://{HERE}:{unused.getsockname()[1]}"


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed."""
        return json.loads(self.out)


@dataclass
class Shell:
    """Runs commands in this process, which is quicker than starting one for each."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, *words: str | Path, typed: str = "", **variables: str) -> Done:
        """Run a command; where something is `typed`, standard input is a terminal."""
        ours, theirs = pty.openpty()
        os.write(ours, typed.encode())
        with (
            self.monkeypatch.context() as patch,
            os.fdopen(theirs) as terminal,
            Path(os.devnull).open(encoding="utf-8") as nothing,
        ):
            patch.setattr(sys, "stdin", terminal if typed else nothing)
            for name, value in variables.items():
                patch.setenv(name, value)
            code = main([*map(str, words)])
        os.close(ours)
        captured = self.capsys.readouterr()
        return Done(code, captured.out, captured.err)

    def refuses(self, *words: str | Path, code: int, naming: tuple[str, ...], **variables: str) -> str:
        """Run a command that has to fail with one line that says what and one that says what to do; return them."""
        done = self(*words, **variables)
        assert (done.code, done.out, len(done.err.splitlines())) == (code, "", 2), done
        assert all(name in done.err for name in naming), done.err
        return done.err


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(capsys, monkeypatch)


def test_an_engine_is_added_listed_tested_and_removed(
    server: LlamaServer, home: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    added = shell("engines", "add", "lab", f"HTTP://{HERE}:{server.port}/", "--key-env", "LAB_KEY")
    assert (added.code, added.out) == (0, "@lab/spoken\n"), added
    assert "llama-server" in added.err
    host, key = f"{HERE}:{server.port}", {"from": "environment", "name": "LAB_KEY", "set": True}
    assert shell("engines", "list", "--json").json == [
        {"name": "lab", "url": f"http://{host}", "host": host, "kind": None, "key": key, "context": 0},
    ]
    report = shell("engines", "test", "lab", "--json").json
    assert (report["reachable"], report["kind"], report["tested"]) == (True, "llama-server", "spoken")
    assert (report["context"], report["error"], report["lacks"]) == (4096, None, [])
    assert report["capabilities"]["token_ids"] is True
    assert report["ttft_s"] > 0
    text = shell("engines", "test", "@lab/spoken").out
    assert "@lab/spoken\t" in text and "tokens/s" in text
    shell.refuses("engines", "add", "lab", "http://other", "--no-test", code=2, naming=("lab",))
    assert shell("engines", "remove", "lab").code == 0
    assert shell("engines", "list").out == ""
    stored = [file.read_bytes() for file in home.rglob("*") if file.is_file()]
    assert not any(KEY.encode() in content for content in stored)


def test_an_engine_that_does_not_answer_is_saved_and_reported(shell: Shell) -> None:
    url = dead_url()
    host = url.removeprefix("http://")
    added = shell("engines", "add", "dead", url, "--json")
    assert (added.code, added.json["reachable"], added.json["models"]) == (0, False, [])
    assert added.json["error"]["code"] == "remote_unreachable"
    shell.refuses("engines", "test", "dead", code=4, naming=(host,))
    listed = shell("models", "list", "--json")
    assert (listed.code, listed.json) == (0, [])
    assert len(listed.err.splitlines()) == 1 and host in listed.err
    assert shell("models", "list", "--json", "--local").err == ""


@pytest.mark.parametrize(
    ("name", "url", "words"),
    [
        ("Lab", "http://box", "Lab"),
        ("lab", "http://me:secret@box", "password"),
        ("lab", "box:8080", "box:8080"),
    ],
)
def test_a_wrong_engine_is_not_saved(name: str, url: str, words: str, home: Path, shell: Shell) -> None:
    assert "secret" not in shell.refuses("engines", "add", name, url, code=2, naming=(words,))
    assert not (home / "config" / "config.toml").exists()


def test_models_elsewhere_stand_beside_local_ones(lab: str, chain: ggufs.Chain, shell: Shell) -> None:
    rows = shell("models", "list", "--json", QWENCHAT_HUB_FOLDERS=str(chain.path.parent)).json
    assert rows[-1]["model"] == "@lab/spoken"
    assert set(rows[0]) == set(rows[-1])
    assert (rows[0]["engine"], rows[0]["host"]) == ("", "")
    assert (rows[-1]["engine"], rows[-1]["host"], rows[-1]["context"]) == ("lab", lab, 4096)
    info = shell("models", "info", "@lab", "--json").json
    assert (info["model"], info["host"], info["kind"]) == ("@lab/spoken", lab, "llama-server")
    shell.refuses("models", "info", "@lab/none", code=3, naming=("none", "spoken"))
    shell.refuses("models", "info", "@other/x", code=3, naming=("other", "lab"))
    for command in ("pull", "verify", "remove", "fit"):
        shell.refuses("models", command, "@lab/spoken", code=2, naming=("runs elsewhere",))


def test_an_answer_from_elsewhere_says_so_and_teaches_nothing_about_this_machine(
    lab: str, chain: ggufs.Chain, home: Path, shell: Shell
) -> None:
    answer = shell("ask", "-m", "@lab/spoken", "--json", "你好").json
    assert answer["text"] == chain.text
    assert (answer["model"], answer["engine"], answer["host"]) == ("@lab/spoken", "lab", lab)
    session = answer["session"]
    shown = shell("sessions", "show", session, "--json").json
    assert [message.get("host") for message in shown["messages"]] == [None, lab]
    assert f"({lab})" in shell("sessions", "show", session).out
    for form in ("md", "txt", "html", "json"):
        exported = shell("sessions", "export", session, "-f", form).out
        assert lab in exported and KEY not in exported, form
    assert not list(home.rglob("measured.json"))
    wrong = ("ask", "-m", "@lab", "--threads", "2", "--gpu-layers", "0", "hi")
    shell.refuses(*wrong, code=2, naming=("--threads", "--gpu-layers"))


def test_a_chat_is_sent_to_another_machine_only_with_consent(lab: str, chain: ggufs.Chain, shell: Shell) -> None:
    model = {"QWENCHAT_MODEL_DEFAULT": "@lab/spoken"}
    shell.refuses("ask", "hi", code=2, naming=(lab, "-m @lab/spoken"), **model)
    assert shell("ask", "--json", "hi", typed="n\n", **model).code == 130
    assert shell("sessions", "list").out == ""
    agreed = shell("ask", "--json", "hi", typed="y\n", **model)
    assert (agreed.code, agreed.json["host"]) == (0, lab)
    again = shell("ask", "--session", agreed.json["session"], "--json", "and again")
    assert (again.code, again.err.splitlines()[0]) == (0, f"@lab/spoken answers on {lab}.")
    local = shell("ask", "-m", chain.path, "--json", "--max-tokens", "1", "hi").json["session"]
    shell.refuses("sessions", "rename", local, "--suggest", "-m", "@none/x", code=3, naming=("none",))
    named = shell("ask", "--session", local, "-m", "@lab/spoken", "--json", "hi")
    assert named.json["host"] == lab


def test_a_model_that_a_server_lacks_is_not_the_one_used_last(lab: str, shell: Shell) -> None:
    used = Program.here().model_folders.used
    assert shell("ask", "-m", "@lab/spoken", "hi").code == 0
    shell.refuses("ask", "-m", "@lab/nope", "hi", code=3, naming=("nope",))
    assert used.references()[:1] == ["@lab/spoken"]


def test_offline_no_other_machine_is_asked(lab: str, server: LlamaServer, shell: Shell) -> None:
    for refused in (("ask", "-m", "@lab/spoken", "hi"), ("engines", "test", "lab")):
        shell.refuses(*refused, code=4, naming=(lab, "offline"), QWENCHAT_HUB_OFFLINE="true")
    default = {"QWENCHAT_MODEL_DEFAULT": "@lab/spoken", "QWENCHAT_HUB_OFFLINE": "true"}
    shell.refuses("ask", "hi", code=4, naming=(lab, "offline"), **default)
    words = ("ask", "-m", "@lab/spoken", "--json", "--max-tokens", "1", "hi")
    answer = shell(*words, QWENCHAT_HUB_OFFLINE="true", QWENCHAT_ENGINES_LAB_URL=server.url).json
    assert answer["host"] == server.url.removeprefix("http://")


def test_a_key_that_is_wrong_or_missing_is_explained_and_never_shown(lab: str, shell: Shell) -> None:
    for key in ("wrong-key", ""):
        assert "wrong-key" not in shell.refuses("engines", "test", "lab", code=4, naming=("key",), LAB_KEY=key)
    report = shell("doctor", LAB_KEY="").out
    line = next(line for line in report.splitlines() if "engine lab" in line)
    assert line.startswith("warning") and "LAB_KEY" in line and "not set" in line
    assert lab not in report
    assert KEY not in shell("doctor").out
    assert "stay offline" in next(
        line for line in shell("doctor", QWENCHAT_HUB_OFFLINE="true").out.splitlines() if "engine lab" in line
    )


def test_a_key_that_crosses_the_internet_unencrypted_is_warned_of(shell: Shell) -> None:
    words = ("engines", "add", "far", "http://llm.example.com", "--no-test")
    assert "unencrypted" in shell(*words, "--key-env", "FAR_KEY").err
    assert "unencrypted" not in shell("engines", "add", "near", "http://10.0.0.5", "--no-test", "--key-env", "K").err
