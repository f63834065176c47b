"""`qwenchat ask` beside a program that shares its model: real processes, one model in memory, kills at every end."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes.commands import environment, qwenchat
from tests.fakes.ggufs import Chain
from tests.fakes.sharing import sharing_process

LIMIT_S = 60
Owner = tuple["subprocess.Popen[str]", psutil.Process]


@pytest.fixture
def owner(chain: Chain, tmp_path: Path) -> Iterator[Owner]:
    """A program that shares the chain, with a window of 1024."""
    with sharing_process(chain.path, tmp_path, "n_ctx=1024") as started:
        yield started


@pytest.fixture
def endless_owner(endless: Chain, tmp_path: Path) -> Iterator[Owner]:
    with sharing_process(endless.path, tmp_path, "n_ctx=8192") as started:
        yield started


def asked(path: Path, *words: str) -> dict[str, Any]:
    done = qwenchat("ask", "-m", path, "--json", "hi", *words)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def asking(path: Path, words: str) -> "subprocess.Popen[str]":
    """Start a question; its events come on standard output."""
    command = [sys.executable, "-m", "qwenchat", "ask", "-m", str(path), "--jsonl", words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def until(program: "subprocess.Popen[str]", event: str) -> dict[str, Any]:
    """Read events up to one of this kind."""
    assert program.stdout
    for line in program.stdout:
        found: dict[str, Any] = json.loads(line)
        if found["event"] == event:
            return found
    raise AssertionError(program.communicate())


@pytest.mark.usefixtures("owner")
def test_the_loaded_model_is_used(chain: Chain, home: Path) -> None:
    answer = asked(chain.path)
    assert answer["attached"] is True and answer["text"] == chain.text
    assert answer["context"]["window"] == 1024
    assert not (home / "logs").exists()  # no worker was started


@pytest.mark.usefixtures("owner")
def test_it_is_loaded_here_where_that_is_asked_for(chain: Chain) -> None:
    assert "attached" not in asked(chain.path, "--no-attach")
    assert "attached" not in asked(chain.path, "--ctx", "512")


@pytest.mark.usefixtures("owner")
def test_a_model_that_is_not_here_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    for missing in ("7b", str(tmp_path / "none.gguf")):
        done = qwenchat("ask", "-m", missing, "hi")
        assert done.returncode == 3, done
    assert qwenchat("sessions", "list").stdout == ""


@pytest.mark.usefixtures("owner")
def test_two_at_once_share_one_worker(chain: Chain, home: Path) -> None:
    both = [asking(chain.path, words) for words in ("one", "two")]
    for program in both:
        done = until(program, "done")
        assert done["attached"] and done["text"] == chain.text
        assert program.wait(LIMIT_S) == 0
        program.communicate()
    assert not (home / "logs").exists()


def test_the_owner_is_killed_in_mid_answer(endless_owner: Owner, endless: Chain) -> None:
    program = asking(endless.path, "go")
    begun = until(program, "delta")
    endless_owner[0].kill()
    _out, err = program.communicate(timeout=LIMIT_S)
    assert program.returncode == 6 and "has ended" in err
    shown = qwenchat("sessions", "export", "--all", "-f", "txt", "-o", "-").stdout
    assert begun["text"] and begun["text"] in shown
    after = asked(endless.path, "--max-tokens", "3")
    assert "attached" not in after and after["usage"]["completion_tokens"] == 3
    assert not [*Path(os.environ["QWENCHAT_HOME"], "run").glob("*.sock")]


@pytest.mark.usefixtures("endless_owner")
def test_the_asking_program_is_killed_in_mid_prefill(endless: Chain) -> None:
    program = asking(endless.path, "long " * 1400)
    until(program, "prefill")
    program.kill()
    program.communicate()
    assert asked(endless.path, "--max-tokens", "3")["attached"]  # it would wait without end for an answer without end


def test_serve_shares_its_model_and_leaves_no_socket(chain: Chain) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "qwenchat", "serve", "-m", str(chain.path), "--port", port, "--ctx", "512"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as server:
        assert server.stderr
        assert port in server.stderr.readline()
        answer = asked(chain.path)
        assert answer["attached"] is True and answer["context"]["window"] == 512 and answer["text"] == chain.text
        assert len(psutil.Process(server.pid).children()) == 1
        server.send_signal(signal.SIGTERM)
        assert server.wait(LIMIT_S) == 0
    assert not [*Path(os.environ["QWENCHAT_HOME"], "run").glob("*.sock")]


def test_the_owner_is_suspended(owner: Owner, chain: Chain) -> None:
    owner[0].send_signal(signal.SIGSTOP)
    answer = asked(chain.path)
    assert "attached" not in answer and answer["text"] == chain.text


def test_a_private_chat_leaves_nothing(owner: Owner, chain: Chain, home: Path, tmp_path: Path) -> None:
    secret = "confidential " * 30
    done = qwenchat("ask", "-m", chain.path, "--no-save", "--json", secret)
    assert json.loads(done.stdout)["attached"]
    owner[0].terminate()
    owner[0].wait(LIMIT_S)
    written = [path for folder in (home, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in written if b"confidential" in path.read_bytes()]
    assert not [path for path in written if path.suffix == ".kv"]


def test_doctor_says_what_is_loaded(owner: Owner) -> None:
    checks = json.loads(qwenchat("doctor", "--json").stdout)["checks"]
    found = [check["found"] for check in checks if check["check"] == "shared"]
    assert len(found) == 1 and f"by process {owner[0].pid}" in found[0]
