"""Runs `qwenchat` as a user would: in a process of its own, with its exit code and both streams."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment in which the package is found from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def qwenchat(*words: str | Path, stdin: bytes = b"", **more: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "qwenchat", *map(str, words)],
        input=stdin,
        capture_output=True,
        timeout=120,
        env=environment(**more),
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
