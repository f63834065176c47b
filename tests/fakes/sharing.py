"""Programs that share a model, in this process or in one of their own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psutil

from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.local.sharing import sharing
from qwenchat.models import gguf
from qwenchat.paths import Paths
from tests.fakes.commands import environment
from tests.fakes.engines import engine


class Alone:
    """A program with one engine, whose requests wait in the engine alone."""

    def __init__(self, made: LocalEngine) -> None:
        self.engine = made

    def turn(self) -> AbstractAsyncContextManager[object]:
        return nullcontext()


@asynccontextmanager
async def shared_engine(path: Path, folder: Path, **plan: Any) -> AsyncIterator[LocalEngine]:
    """Share a loaded model in the runtime folder of the environment; `plan` changes how it is loaded."""
    plan = {"identity": gguf.identity(path), **plan}
    async with engine(path, folder, **plan) as made:
        await made.load()
        async with sharing(Paths.find(os.environ).runtime, Alone(made)) as is_possible:
            assert is_possible
            yield made


@contextmanager
def sharing_process(
    path: Path, folder: Path, *options: str
) -> "Iterator[tuple[subprocess.Popen[str], psutil.Process]]":
    """Run such a program in a process of its own; yields it and its worker."""
    words = [sys.executable, "-m", "tests.fakes.sharing", str(path), str(folder), *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment()) as program:
        try:
            assert program.stdout
            yield program, psutil.Process(int(program.stdout.readline()))
        finally:
            program.kill()


async def _main(path: Path, folder: Path, *options: str) -> None:
    plan = {name: int(value) for name, _equals, value in (option.partition("=") for option in options)}
    async with shared_engine(path, folder, **plan) as made:
        print(made.worker_pid, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
