"""`qwenchat doctor`: every line is true, the next command repairs what failed, and the report has nothing private."""

import io
import json
import os
import re
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyte
import pytest
from rich.cells import cell_len

from qwenchat.chat.session import Session
from qwenchat.cli.doctor import write
from qwenchat.cli.output import Output, shell_advice
from qwenchat.doctor import machine
from qwenchat.doctor.engine import features
from qwenchat.doctor.finding import Finding, ok
from qwenchat.doctor.report import PrivateNames, examine
from qwenchat.doctor.terminal import read_answers
from qwenchat.errors import ExitCode
from qwenchat.paths import Paths
from qwenchat.runtime.program import Program
from qwenchat.sessions.store import Store
from tests.cli.test_broken_binding import LINE, broken
from tests.fakes.commands import ROOT, environment, qwenchat
from tests.fakes.ggufs import write_model
from tests.fakes.standin_hub import StandIn

CHECKS = [
    "python",
    "terminal",
    "encoding",
    "widths",
    "clipboard",
    "shift-enter",
    "cores",
    "memory",
    "disk",
    "llama.cpp",
    "build",
    "accelerator",
    "rpc",
    "folders",
    "settings",
    "store",
    "models",
    "hub",
]
TITLE = "A private title"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the models of the machine that runs the tests."""
    for name in ("LLAMA_CACHE", "OLLAMA_MODELS"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


def examined(*words: str, code: int = 0, **env: Any) -> dict[str, dict[str, Any]]:
    """Return the findings of the doctor by check."""
    done = qwenchat("doctor", "--json", *words, **env)
    assert (done.returncode, done.stderr) == (code, "")
    return {found["check"]: found for found in json.loads(done.stdout)["checks"]}


def carry_out(command: str) -> None:
    """Run the next command, as a user would."""
    shim = f'qwenchat() {{ "{sys.executable}" -m qwenchat "$@"; }}\n'
    subprocess.run(["sh", "-c", shim + command], check=True, cwd=ROOT, env=environment(), capture_output=True)


def with_model(home: Path) -> None:
    folder = home / "data" / "models"
    folder.mkdir(parents=True, mode=0o700)
    home.joinpath("data").chmod(0o700)
    write_model(folder / "my-secret-plan.gguf")


def with_session(home: Path) -> Path:
    file = Paths.find({"QWENCHAT_HOME": str(home)}).database
    store = Store(file)
    store.create(Session(id="s", created=1, updated=1, title=TITLE))
    store.close()
    return file


def test_the_password_of_an_invalid_proxy_stays_private(home: Path) -> None:
    proxy: dict[str, Any] = {
        "HTTPS_PROXY": "http://user:Secret#1@proxy:8080",
        "HF_HUB_OFFLINE": "",
        "HF_ENDPOINT": "https://hub.example",
    }
    done = qwenchat("doctor", "--online", **proxy)
    assert "The proxy in HTTPS_PROXY can't be used" in done.stdout
    assert "Secret" not in done.stdout + done.stderr
    done = qwenchat("models", "pull", "Qwen/Qwen2-0.5B-Instruct-GGUF", "--from", "hf", **proxy)
    assert "The proxy in HTTPS_PROXY can't be used" in done.stderr
    assert "Secret" not in done.stdout + done.stderr


def test_a_home_with_a_path_that_is_too_long() -> None:
    done = qwenchat("doctor", QWENCHAT_HOME="/" + "a" * 5000)
    assert done.returncode in (ExitCode.USAGE, ExitCode.FILE)
    assert "report this" not in done.stdout and "File name too long" in done.stdout


def test_a_check_that_raises_is_reported_by_the_type_of_its_error_only(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_program: Program) -> list[Finding]:
        raise LookupError("Secret")

    monkeypatch.setattr(machine, "memory", fail)
    found = {finding.check: finding for finding in examine(Program.here(), shell_advice, online=False)}
    assert "LookupError" in found["memory"].found
    assert "Secret" not in str(found)
    assert found["hub"].exit_code is ExitCode.DONE


def test_every_line_on_a_machine_where_everything_works(home: Path) -> None:
    with_model(home)
    with_session(home)
    found = examined()
    assert list(found) == CHECKS
    assert {check for check, line in found.items() if line["state"] == "failed"} == set()
    assert found["store"]["found"].endswith("sessions: 1, messages: 0")
    assert found["models"]["found"] == "1 installed"
    assert re.search(r"AVX2|OpenMP", found["build"]["found"])
    assert all(bool(line["next"]) == (line["state"] != "ok") for line in found.values())


def test_checks_create_nothing(home: Path) -> None:
    found = examined()
    assert not home.exists()
    assert found["models"]["next"] == "qwenchat models fit"


def test_the_report_has_nothing_private(home: Path, tmp_path: Path) -> None:
    person = tmp_path / "person" / "ada"
    person.mkdir(parents=True)
    with_model(home)
    with_session(home)
    private: dict[str, Any] = {
        "HOME": str(person),
        "LOGNAME": "ada",
        "QWENCHAT_HUB_SOURCE": "https://mirror.internal.example/ada",
        "HF_TOKEN": "hf_" + "s" * 30,
    }
    for place in (str(home), str(person / "stick"), "/media/ada/stick"):
        done = qwenchat("doctor", QWENCHAT_HOME=place, **private)
        for secret in ("ada/", str(person), "internal", "hf_s", TITLE, "secret", socket.gethostname()):
            assert secret not in done.stdout, secret
    assert "$USER/stick" in done.stdout
    assert done.stdout.startswith("qwenchat ") and "\x1b" not in done.stdout


def test_private_names_are_hidden_and_words_are_not() -> None:
    private = PrivateNames(("/home/python", "/data/home/python"), "python", "box")
    assert private.hide("/home/python/.venv/bin/python -m x") == "~/.venv/bin/$USER -m x"
    assert private.hide("python at /home/python, /home/pythonic, box, boxes, box.lan") == (
        "python at ~, /home/pythonic, $HOSTNAME, boxes, $HOSTNAME.lan"
    )
    assert PrivateNames(("/",), "", "localhost").hide("/tmp/localhost") == "/tmp/localhost"


@pytest.mark.parametrize("text", ["[model]\ncontext = 'many'\n", "[mode]\n", "not TOML"])
def test_invalid_settings_are_one_line_and_everything_else_is_checked(text: str, home: Path) -> None:
    file = Paths.find({"QWENCHAT_HOME": str(home)}).settings
    file.parent.mkdir(parents=True, mode=0o700)
    file.write_text(text)
    found = examined(code=2)
    assert list(found) == CHECKS
    assert found["settings"]["state"] == "failed" and found["settings"]["next"]
    assert found["llama.cpp"]["state"] == "ok"


def test_a_theme_and_a_model_that_do_not_exist(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QWENCHAT_MODEL_THREADS")
    with_model(home)
    for setting, value in (("theme", "paper"), ("model.default", "72b"), ("model.threads", "512")):
        assert qwenchat("config", "set", setting, value).returncode == 0
    settings = Program.here().paths.settings
    settings.write_text(settings.read_text("utf-8").replace("paper", "nosuch"), "utf-8")
    found = examined()
    for check in ("settings", "models", "cores"):
        assert found[check]["state"] == "warning"
        carry_out(found[check]["next"])
    assert {examined()[check]["state"] for check in ("settings", "models", "cores")} == {"ok"}


def test_a_damaged_database_and_the_command_that_repairs_it(home: Path) -> None:
    file = with_session(home)
    data = bytearray(file.read_bytes())
    data[8192:16384] = b"\xff" * 8192
    file.write_bytes(data)
    found = examined(code=7)
    assert found["store"]["next"] == "qwenchat sessions recover"
    carry_out(found["store"]["next"])
    assert examined()["store"]["state"] == "ok"


def test_open_folders_and_the_command_that_closes_them(home: Path) -> None:
    with_session(home)
    (home / "data").chmod(0o755)
    found = examined()
    assert found["folders"]["state"] == "warning"
    carry_out(found["folders"]["next"])
    assert examined()["folders"]["state"] == "ok"


def test_a_file_instead_of_a_folder(home: Path) -> None:
    home.mkdir()
    (home / "cache").write_text("")
    found = examined(code=8)
    assert found["folders"]["state"] == "failed"
    carry_out(found["folders"]["next"])
    assert examined()["folders"]["state"] == "ok"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(home: Path) -> None:
    with_session(home)
    (home / "data").chmod(0o500)
    found = examined(code=8)
    carry_out(found["folders"]["next"])
    assert examined()["folders"]["state"] == "ok"


def test_a_broken_binding(tmp_path: Path) -> None:
    found = examined(code=5, PYTHONPATH=broken("no library", tmp_path))
    assert LINE in found["llama.cpp"]["next"]
    assert "cannot open shared object file" in found["llama.cpp"]["found"]
    assert found["hub"]["state"] == "ok"


def test_the_features_of_a_build_are_read_from_llama_cpps_list() -> None:
    text = "CUDA : ARCHS = 890 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | OPENMP = 1 | "
    assert features(text) == {"ARCHS", "USE_GRAPHS", "SSE3", "AVX2", "OPENMP"}


def test_the_hub_is_contacted_only_with_online(monkeypatch: pytest.MonkeyPatch) -> None:
    with StandIn() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.put("Qwen/Qwen2-0.5B-Instruct-GGUF", "x.gguf", b"x")
        assert examined()["hub"]["state"] == "ok" and hub.log == []
        assert examined("--online", HF_HUB_OFFLINE="1")["hub"]["state"] == "ok" and hub.log == []
        assert "with 1 files" in examined("--online")["hub"]["found"] and hub.log
    line = examined("--online", code=4)["hub"]
    assert line["state"] == "failed" and line["next"] and "127.0.0.1" not in line["found"] + line["next"]


class Emulated:
    """A doctor in a terminal that answers queries, or none."""

    def __init__(self, *, answers: bool, **env: str) -> None:
        ours, theirs = os.openpty()
        screen = _Answering(120, 40, ours) if answers else pyte.Screen(120, 40)
        stream = pyte.ByteStream(screen)
        words = [sys.executable, "-m", "qwenchat", "doctor"]
        with subprocess.Popen(
            words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment(**env), cwd=ROOT
        ) as child:
            os.close(theirs)
            while True:
                try:
                    assert select.select([ours], [], [], 60)[0], "nothing comes"
                    piece = os.read(ours, 65536)
                except OSError:  # the other side is closed
                    break
                if not piece:
                    break
                stream.feed(piece)
        os.close(ours)
        self.lines = [line.rstrip() for line in screen.display]
        self.code = child.returncode

    def line(self, title: str) -> str:
        return next(line for line in self.lines if f"  {title}: " in line)


class _Answering(pyte.Screen):
    def __init__(self, columns: int, lines: int, master: int) -> None:
        self._master = master
        super().__init__(columns, lines)

    def write_process_input(self, data: str) -> None:
        os.write(self._master, data.encode())


def test_a_terminal_reports_the_widths_of_characters() -> None:
    shown = Emulated(answers=True, TERM="xterm-256color", COLORTERM="")
    assert shown.code == 0 and shown.lines[0].startswith("qwenchat ")
    assert shown.line("widths").replace(" ", "").endswith("widths:中2,🐼2,─1")
    assert shown.line("Shift+Enter").startswith("warning")
    assert shown.line("terminal").endswith("colours: 256")


def test_a_terminal_that_answers_nothing_causes_no_wait() -> None:
    shown = Emulated(answers=False, TERM="dumb", COLORTERM="")
    assert shown.line("widths").endswith("unknown: this is not a terminal, or it does not respond")
    assert shown.line("terminal").startswith("warning")


def test_answers_of_terminals() -> None:
    said = read_answers(b"\x1b[1;3R\x1b[1;3R\x1b[1;2R\x1b[?1u\x1b[?62;4;52c")
    assert said and said.widths == {"中": 2, "🐼": 2, "─": 1} and said.distinguishes_keys and said.clipboard
    plain = read_answers(b"\x1b[1;3R\x1b[?6c")
    assert plain and plain.widths == {} and not plain.distinguishes_keys and not plain.clipboard
    assert read_answers(b"typed meanwhile") is None


class OnTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_line_is_broken_where_it_may_be_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("NO_COLOR", "1")
    found = ok("cores", "核心", "两个用于计算；逻辑核心两个，亲和性允许两个。")
    terminal, pipe = OnTerminal(), io.StringIO()
    write(Output(terminal, terminal, colour=False), found)
    write(Output(pipe, pipe, colour=False), found)
    lines = terminal.getvalue().splitlines()
    assert len(pipe.getvalue().splitlines()) == 1 and len(lines) > 1
    assert all(cell_len(line) <= 30 for line in lines)
    assert all(re.match(r" {9}[^，。；：]", line) for line in lines[1:])
