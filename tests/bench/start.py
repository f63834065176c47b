"""How long the command line takes to begin its work: `ask` until its worker opens the model's file, `--version`.

    python -m tests.bench.start MODEL.gguf [--rounds 9]

Beside them stands an interpreter that does nothing, in turns. Prints a Markdown table of medians. Linux only: its /proc
tells which files a process has open.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.fakes.commands import environment

_PROGRAM = [sys.executable, "-m", "qwenchat"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    model = options.model.resolve()
    ask = [*_PROGRAM, "ask", "-m", str(model), "--no-attach", "--max-tokens", "1", "hi"]
    seconds: dict[str, list[float]] = {}
    for _round in range(options.rounds):
        for name, command, opened in (
            ("`python -c pass`, to its end", [sys.executable, "-c", "pass"], None),
            ("`qwenchat --version`, to its end", [*_PROGRAM, "--version"], None),
            ("`ask`, until the worker opens the model", ask, model),
        ):
            with tempfile.TemporaryDirectory() as home:
                seconds.setdefault(name, []).append(until(command, opened, home))
    print("| | median, s | fastest, s |\n|---|---|---|")
    for name, taken in seconds.items():
        print(f"| {name} | {statistics.median(taken):.3f} | {min(taken):.3f} |")


def until(command: list[str], opened: Path | None, home: str) -> float:
    """Return the seconds from the start of a command until a process of its own opens a file, or until its end."""
    env = environment(QWENCHAT_HOME=home)
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody compiles a program anew at each start
    began = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=env) as program:
        taken = 0.0
        while opened and not taken:
            assert program.poll() is None, command
            children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
            taken = (time.perf_counter() - began) * any(has_open(child, opened) for child in children)
            time.sleep(0.002)
    return taken or time.perf_counter() - began


def has_open(process: str, file: Path) -> bool:
    """Whether a process has a file open."""
    with suppress(OSError):  # it has just ended, or closed one
        return any(entry.readlink() == file for entry in Path(f"/proc/{process}/fd").iterdir())
    return False


if __name__ == "__main__":
    main()
