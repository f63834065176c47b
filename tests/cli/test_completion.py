"""Shells complete commands, options and values, quickly and without a trace; the manual page is that of today."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.manpage import page
from qwenchat import __version__
from qwenchat.chat.session import Session
from qwenchat.paths import Paths
from qwenchat.sessions.store import Store
from tests.fakes.commands import ROOT, environment, qwenchat

KEPT, TRASHED = "01980000-aaaa-7000-8000-000000000001", "01980000-bbbb-7000-8000-000000000002"
HEAVY = ("textual", "llama_cpp", "huggingface_hub", "rich", "jinja2", "httpx2")


@pytest.fixture
def kept(home: Path) -> None:
    store = Store(Paths.find({"QWENCHAT_HOME": str(home)}).database)
    store.create(Session(id=KEPT, created=1, updated=1, title="Rain,\x1b[31m\nsnow: $(touch x) `y`"))
    store.create(Session(id=TRASHED, created=2, updated=2, title="Gone", trashed=3))
    store.close()


def offered(line: str) -> dict[str, str]:
    """Return what is offered, with explanations, where the cursor stands at the end of a line."""
    script = (
        "import json, sys\nfrom qwenchat.cli.main import main\n"
        "try:\n    main()\nfinally:\n"
        f"    print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr)"
    )
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    asked = environment(_QWENCHAT_COMPLETE="zsh_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=asked, check=False)
    assert (done.returncode, json.loads(done.stderr)) == (0, [])
    lines = done.stdout.splitlines()
    return {value.replace("\\:", ":"): text for value, text in zip(lines[1::3], lines[2::3], strict=True)}


def test_commands_and_options_with_their_help(home: Path) -> None:
    commands = offered("qwenchat ")
    assert list(commands) == [
        "ask",
        "bench",
        "completion",
        "config",
        "docs",
        "doctor",
        "engines",
        "models",
        "needle",
        "serve",
        "sessions",
        "tools",
        "web",
    ]
    assert commands["sessions"] == "Find, read, rename and delete sessions."
    assert offered("qwenchat ask --no-s") == {"--no-save": "Do not save this session."}
    assert set(offered("qwenchat sessions r")) == {"recover", "rename", "restore"}
    assert not home.exists()


@pytest.mark.parametrize("begun", ["/models/q", "./q", "~/q"])
@pytest.mark.parametrize("command", ["", "ask ", "bench "])
def test_a_model_that_begins_as_a_path_is_left_to_the_shell(begun: str, command: str) -> None:
    asked = environment(_QWENCHAT_COMPLETE="bash_complete", COMP_LINE=f"qwenchat {command}-m {begun}")
    done = subprocess.run([sys.executable, "-m", "qwenchat"], capture_output=True, text=True, env=asked, check=False)
    assert done.stdout == f"file,{begun}\n"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("qwenchat ask -m 5", {"57b-a14b"}),
        ("qwenchat models pull 7b:q4", {"7b:q4_0", "7b:q4_k_m"}),
        ("qwenchat models pull qwq", {"qwq-32b"}),
        ("qwenchat models pull r1-7b:q4", {"r1-7b:q4_k_m"}),
        ("qwenchat models fit math", {"math", "math-1.5b", "math-7b", "math-72b"}),
        ("qwenchat models catalog q", {"qwen2", "qwen2.5", "qwen2.5-1m", "qwen2-math", "qwq"}),
        ("qwenchat models pull --from h", {"hf", "hf-mirror"}),
        ("qwenchat --theme p", {"paper", "plum"}),
        ("qwenchat config get sampling.top", {"sampling.top_p", "sampling.top_k"}),
        ("qwenchat config set model.kv_type ", {"auto", "f16", "q8_0"}),
        ("qwenchat config set theme m", {"mist"}),
        ("qwenchat config set no.such ", set()),
        ("qwenchat completion ", {"bash", "zsh", "fish"}),
        ("qwenchat sessions show ", set()),
    ],
)
def test_values(line: str, wanted: set[str], home: Path) -> None:
    assert set(offered(line)) == wanted
    assert not home.exists()


def remember_models_of_box(home: Path) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text("[engines.box]\nurl = 'http://10.0.0.7:11434'\n")
    (home / "cache").mkdir()
    known = {"box": {"url": "http://10.0.0.7:11434", "dialect": "ollama", "models": [{"id": "qwen2:72b"}]}}
    (home / "cache" / "engines.json").write_text(json.dumps(known))


def test_engines_and_their_models_of_an_earlier_run(home: Path) -> None:
    remember_models_of_box(home)
    assert offered("qwenchat ask -m @") == {"@box/qwen2:72b": "10.0.0.7:11434"}
    assert offered("qwenchat engines test ") == {"box": "http://10.0.0.7:11434"}
    assert "engines.box.url" in offered("qwenchat config get engines.")
    assert set(offered("qwenchat config set engines.box.kind v")) == {"vllm"}


def test_collections_with_their_paths(home: Path) -> None:
    (home / "data").mkdir(parents=True)
    stored = {"version": 1, "collections": {"papers": ["/srv/papers\x1b[31m"], "books": ["/srv/books"]}}
    (home / "data" / "collections.json").write_text(json.dumps(stored))
    for command in ("list", "update", "remove", "add --collection"):
        assert offered(f"qwenchat docs {command} p") == {"papers": "/srv/papers[31m"}
    assert [file.name for file in (home / "data").iterdir()] == ["collections.json"]


def test_sessions_with_clean_titles(kept: None) -> None:
    title = "Rain,[31m snow: $(touch x) `y`"
    for line in ("qwenchat sessions show ", "qwenchat ask --session 0198", "qwenchat --session "):
        assert offered(line) == {KEPT: title}
    assert offered("qwenchat sessions restore ") == {TRASHED: "Gone"}
    assert offered("qwenchat sessions show x") == {}


def test_a_damaged_database_and_wrong_settings_offer_nothing(home: Path) -> None:
    paths = Paths.find({"QWENCHAT_HOME": str(home)})
    for file in (paths.database, paths.settings):
        file.parent.mkdir(parents=True)
        file.write_text("neither a database nor settings = ")
    assert offered("qwenchat sessions show ") == {}
    assert "7b" in offered("qwenchat ask -m ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_says_where_to_put_it(shell: str) -> None:
    done = qwenchat("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    head = [line for line in done.stdout.splitlines()[:3] if line.startswith("#")]
    assert any(f"qwenchat completion {shell} > " in line for line in head)
    assert shell != "zsh" or head[0] == "#compdef qwenchat"
    assert qwenchat("completion", "tcsh").returncode == 2


ASK = {
    "bash": """
        source ./script
        COMP_LINE='qwenchat sess' COMP_POINT=13
        _qwenchat_completion qwenchat
        printf '%s\\n' "${COMPREPLY[@]}" """,
    "zsh": """
        compdef() { }  # what only a line editor can do says here what it was given
        _describe() { print -l ${completions_with_descriptions%%:*} }
        source ./script
        words=(qwenchat sess) CURRENT=2
        _qwenchat_completion""",
    "fish": """
        source ./script
        complete --do-complete 'qwenchat sess' | string split --fields 1 \\t""",
}


def with_command(folder: Path, shell: str = "bash") -> dict[str, str]:
    """Put the script for a shell into a folder, and return an environment in which `qwenchat` is a command."""
    command = folder / "bin" / "qwenchat"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m qwenchat "$@"\n')
    command.chmod(0o755)
    (folder / "script").write_text(qwenchat("completion", shell).stdout)
    return environment(PATH=f"{command.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("shell", ASK)
def test_the_script_works_in_its_shell(shell: str, tmp_path: Path) -> None:
    if not (found := shutil.which(shell)):
        pytest.skip(f"{shell} is not installed")
    env = with_command(tmp_path, shell)
    done = subprocess.run([found, "-c", ASK[shell]], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["sessions"], "")


@pytest.mark.parametrize(
    ("typed", "reply"),
    [
        ("ask -m 7b:q4_k", "q4_k_m"),
        ("ask -m @bo", "@box/qwen2:72b"),
        ("ask -m @box/qwen2:7", "72b"),
        ("ask 'a b' -m @bo", "@box/qwen2:72b"),
    ],
)
def test_bash_replaces_what_follows_a_colon(typed: str, reply: str, home: Path, tmp_path: Path) -> None:
    remember_models_of_box(home)
    env = with_command(tmp_path)
    line = f"qwenchat {typed}"
    script = """
        source ./script
        COMP_WORDBREAKS=$' \\t\\n"\\'@><=;|&(:'  # as a bash with a line editor has it
        COMP_LINE="$1" COMP_POINT=${#1}
        _qwenchat_completion qwenchat
        echo "${COMPREPLY[@]}" """
    command = ["bash", "-c", script, "bash", line]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (reply, "")


def test_the_manual_page_is_that_of_today() -> None:
    committed = (ROOT / "man" / "qwenchat.1").read_text("utf-8")
    assert committed == page(), "run `make man`"
    assert f"qwenchat {__version__}" in committed
    for command in ("ask", "models pull", "sessions export", "doctor", "bench", "completion"):
        assert f".SS qwenchat {command}" in committed


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed")
def test_man_reads_the_page_without_a_complaint() -> None:
    done = subprocess.run(
        ["man", "--warnings=w", "-l", ROOT / "man" / "qwenchat.1"],
        capture_output=True,
        text=True,
        env=environment(MANWIDTH="80", PAGER="cat"),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "owner/repo:q4_k_m" in done.stdout


def test_the_module_runs_as_a_program() -> None:
    assert qwenchat("--version").stdout == f"qwenchat {__version__}\n"
