"""If llama-cpp-python is missing or broken, `ask` names the command that repairs it and everything else works."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.fakes.commands import ROOT, environment, qwenchat
from tests.tui.terminal import CTRL_Q, ENTER, qwenchat_in_terminal

BROKEN = {
    "half there": {"__init__.py": "raise ImportError('this package is broken')"},
    "no library": {"__init__.py": "", "llama_cpp.py": "raise OSError('libllama.so: cannot open shared object file')"},
    "other version": {"__init__.py": "", "llama_cpp.py": ""},
    "other processor": {"__init__.py": "", "llama_cpp.py": "import os; os.kill(os.getpid(), 4)"},
}
LINE = "CMAKE_ARGS=-DLLAVA_BUILD=OFF "


def broken(how: str, folder: Path) -> str:
    """Make a broken binding and return the PYTHONPATH that puts it before the real one."""
    package = folder / "shim" / "llama_cpp"
    package.mkdir(parents=True)
    for name, text in BROKEN[how].items():
        (package / name).write_text(text)
    return f"{ROOT}{os.pathsep}{package.parent}"


@pytest.mark.parametrize("how", BROKEN)
def test_asking_says_what_to_run(how: str, tiny: Path, tmp_path: Path) -> None:
    done = qwenchat("ask", "-m", tiny, "hello", PYTHONPATH=broken(how, tmp_path))
    assert (done.returncode, done.stdout) == (5, "")
    what, line = done.stderr.splitlines()
    assert what.startswith("error: llama-cpp-python can't be used: ")
    assert LINE in line and line.endswith(" --force-reinstall --no-cache-dir llama-cpp-python")


def test_models_and_sessions_work(tiny: Path, tmp_path: Path) -> None:
    path = broken("no library", tmp_path)
    assert qwenchat("ask", "-m", tiny, "kept though not answered", PYTHONPATH=path).returncode == 5
    listed = json.loads(qwenchat("sessions", "list", "--json", PYTHONPATH=path).stdout)
    assert [session["title"] for session in listed["sessions"]] == ["kept though not answered"]
    assert "kept though not answered" in qwenchat("sessions", "export", "--all", "-f", "md", PYTHONPATH=path).stdout
    for words in (["models", "info", tiny], ["models", "fit", tiny], ["models", "list"], ["config", "show"]):
        assert qwenchat(*words, PYTHONPATH=path).returncode == 0


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="needs a virtual environment to leave the binding out of")
def test_where_it_was_never_installed(tiny: Path, tmp_path: Path) -> None:
    everything_else = tmp_path / "packages"
    everything_else.mkdir()
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if not package.name.startswith("llama_cpp"):
            (everything_else / package.name).symlink_to(package)
    python = Path(sys.base_prefix) / "bin" / "python3"
    env = environment(PYTHONPATH=f"{ROOT}{os.pathsep}{everything_else}")
    done = subprocess.run(
        [python, "-m", "qwenchat", "ask", "-m", tiny, "hello"], capture_output=True, text=True, env=env, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        5,
        "error: llama-cpp-python can't be used: llama-cpp-python is not installed.",
    )


def test_the_screen_says_what_to_run(tiny: Path, tmp_path: Path) -> None:
    with qwenchat_in_terminal("--model", tiny, PYTHONPATH=broken("no library", tmp_path)) as terminal:
        terminal.shows("Ask anything")
        terminal.send("hello" + ENTER)
        terminal.until(lambda text: LINE.strip() in "".join(text.split()) or LINE in text)
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
