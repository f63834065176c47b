"""The root: fast, honest about bugs, and with the same two-line errors everywhere."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from qwenchat import __version__
from qwenchat.errors import ExitCode
from tests.fakes import ggufs
from tests.fakes.commands import environment, qwenchat

HEAVY = ("textual", "llama_cpp", "huggingface_hub", "rich", "jinja2", "mcp", "pydantic")


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["--help"],
        ["ask", "--help"],
        ["bench", "--help"],
        ["needle", "--help"],
        ["doctor", "--help"],
        ["completion", "zsh"],
        ["config", "show"],
    ],
)
def test_light_commands_import_nothing_heavy(words: list[str]) -> None:
    script = (
        "import sys\nfrom qwenchat.cli.main import main\n"
        f"code = main({words!r})\nprint([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"


def test_version() -> None:
    assert qwenchat("--version").stdout == f"qwenchat {__version__}\n"


@pytest.mark.parametrize(
    ("words", "variable"),
    [
        (["sessions", "list"], "QWENCHAT_HOME"),
        (["models", "list"], "QWENCHAT_HUB_FOLDER"),
        (["models", "list"], "HF_HUB_CACHE"),
        (["models", "pull", "0.5b"], "QWENCHAT_HUB_SOURCE"),
    ],
)
def test_a_home_folder_that_does_not_exist_is_reported(words: list[str], variable: str) -> None:
    private: dict[str, Any] = {variable: "~nobody-of-that-name/x"}
    done = qwenchat(*words, **private)
    assert done.returncode == ExitCode.FILE
    assert (
        done.stderr
        == "error: The home folder in ~nobody-of-that-name/x can't be found.\nWrite the full path, without ~.\n"
    )


def test_nothing_is_created_on_disk_until_it_is_needed(home: Path) -> None:
    for words in (["--version"], ["--help"], ["config", "path"], ["config", "show"]):
        assert qwenchat(*words).returncode == 0
    assert not home.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["ask", "--nonsense"],
        ["ask", "--ctx", "x", "hi"],
        ["config", "get"],
        ["ask", "--threads", "5000", "hi"],
        ["ask", "--gpu-layers", "9" * 30, "hi"],
        ["sessions", "list", "--limit", "9" * 30],
        ["sessions", "search", "x", "--offset", str(2**63)],
    ],
)
def test_wrong_use_exits_with_2(words: list[str]) -> None:
    done = qwenchat(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Error:" in done.stderr


def test_config_round_trip(home: Path) -> None:
    path = Path(qwenchat("config", "path").stdout.strip())
    assert path.is_relative_to(home)
    assert qwenchat("config", "set", "model.context", "8192").returncode == 0
    assert qwenchat("config", "get", "model.context").stdout == "8192\n"
    assert json.loads(qwenchat("config", "show", "--json").stdout)["model"]["context"] == 8192
    assert path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0
    done = qwenchat("config", "set", "model.context", "many")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2)
    assert qwenchat("config", "get", "no.such").returncode == 2


def test_invalid_settings_can_be_found_and_corrected() -> None:
    path = Path(qwenchat("config", "path").stdout.strip())
    path.parent.mkdir(parents=True)
    path.write_text('theme = "ink"\n[model]\ncontext = "many"\n', "utf-8")
    for words in (["sessions", "list"], ["config", "show"], ["config", "set", "theme", "paper"]):
        done = qwenchat(*words)
        assert done.returncode == 2
        assert "model.context" in done.stderr
    assert qwenchat("config", "path").stdout.strip() == str(path)
    assert qwenchat("config", "set", "model.context", "4096").returncode == 0
    assert qwenchat("sessions", "list").returncode == 0


def test_a_bug_says_so_and_debug_shows_where(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom qwenchat.cli import main\nfrom qwenchat.runtime.program import Program\n"
        "Program.here = classmethod(lambda cls: 1 / 0)\nsys.exit(main.main(sys.argv[1:]))"
    )
    for words, trace in ((["config", "path"], False), (["--debug", "config", "path"], True)):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, env=environment(), check=False
        )
        assert done.returncode == 1
        assert "bug" in done.stderr
        assert ("Traceback" in done.stderr) is trace


@pytest.mark.parametrize(
    ("streams", "code"), [(">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 8), ("<&- 2>&-", 0)]
)
@pytest.mark.parametrize("words", ["config show", "--help", "--version"])
def test_streams_that_cannot_be_written(words: str, streams: str, code: int) -> None:
    shell = ["sh", "-c", f'exec "$0" -m qwenchat {words} {streams}', sys.executable]
    done = subprocess.run(shell, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == (2 if code else 0)


@pytest.mark.parametrize(
    ("words", "stdin", "code"),
    [
        ("", "<&-", 2),
        ("sessions delete --forever x", "<&-", 3),
        ("sessions import -", "<&-", 8),
        ("-m 7b ask hi", "</dev/null", 2),
        ("-c ask hi", "</dev/null", 2),
        ("--inline sessions list", "</dev/null", 2),
        ("sessions show '\xff'", "</dev/null", 3),
        ("ask --session '\xff' hi", "</dev/null", 3),
        ("sessions list --tag '\xe9'", "</dev/null", 0),
    ],
)
def test_odd_arguments_and_no_standard_input_are_not_bugs(words: str, stdin: str, code: int) -> None:
    shell = [b"sh", b"-c", f'exec "$0" -m qwenchat {words} {stdin}'.encode("latin-1"), sys.executable.encode()]
    done = subprocess.run(shell, capture_output=True, env=environment(), check=False)
    assert done.returncode == code, done.stderr.decode()


def test_wrong_use_is_not_reported_to_stdout_where_stderr_is_closed() -> None:
    shell = ["sh", "-c", 'exec "$0" -m qwenchat sessions list --no-such-option 2>&-', sys.executable]
    done = subprocess.run(shell, stdout=subprocess.PIPE, text=True, env=environment(), check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_closed_pipe_is_no_error(endless: ggufs.Chain) -> None:
    asking = subprocess.Popen(
        [sys.executable, "-m", "qwenchat", "ask", "-m", str(endless.path), "hi"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert asking.stdout and asking.stderr
    asking.stdout.read(10)
    asking.stdout.close()
    assert asking.stderr.read() == b""
    assert asking.wait(timeout=60) == 0


def test_help_in_chinese_is_broken_where_chinese_may_be() -> None:
    script = (
        "import click\nfrom qwenchat.cli import main\nfrom qwenchat.i18n import use_language\n"
        "def show(command, parent):\n"
        "    context = command.context_class(command, info_name=command.name, parent=parent)\n"
        "    print(command.get_help(context))\n"
        "    for name in command.list_commands(context) if isinstance(command, click.Group) else ():\n"
        "        show(command.get_command(context, name), context)\n"
        "use_language('zh_CN')\nshow(main.localised(main.root), None)\n"
    )
    for columns in (52, 80):
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env=environment(COLUMNS=str(columns), LC_ALL="C.UTF-8"),
            check=True,
        )
        lines = done.stdout.splitlines()
        assert len(lines) > 250
        assert [line for line in lines if line.lstrip().startswith(tuple("，。、；：！？）》”"))] == []
        assert [line for line in lines if line.endswith(tuple("（《“(["))] == []
        assert [line for line in lines if cell_len(line) > columns and " " in line.strip()] == []
