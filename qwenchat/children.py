"""Starts this package's modules in child processes, whatever the folder and the environment of the program are."""

import asyncio
import os
import sys
from pathlib import Path

import qwenchat


async def start_module(
    module: str, *arguments: str, errors: int = asyncio.subprocess.PIPE
) -> asyncio.subprocess.Process:
    """Start a module in a child process with pipes; `errors` is the descriptor of its standard error."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # import nothing from the working folder
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        env=child_environment(),
        process_group=0,  # Ctrl-C in a terminal is for the parent, from the child's first moment on
    )


def child_environment() -> dict[str, str]:
    """Return the environment in which a child process imports this same package."""
    package_parent = str(Path(qwenchat.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "GGML_NO_BACKTRACE": "1"}
