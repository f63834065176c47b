"""Runs `qwenchat` as a user would: in a process of its own, with its exit code and both streams."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def without_privileges() -> list[str]:
    """Return a command that runs another one, for which the modes of files count although it is run by root."""
    return ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.geteuid() == 0 else []


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment in which the package is found from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def qwenchat(
    *words: str | Path, stdin: bytes = b"", by: Sequence[str] = (), **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end; `by` is a command that runs it."""
    done = subprocess.run(
        [*by, sys.executable, "-m", "qwenchat", *map(str, words)],
        input=stdin,
        capture_output=True,
        timeout=120,
        env=environment(**more),
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
