"""Streams answers into a real store until someone kills it: `python -m tests.fakes.streaming_child DATABASE FOLDER`.

Each line on stdin names a session. For each a process is forked, so that starting one costs next to nothing; it
asks a question, lets the scripted engine answer, and writes what the engine said, with the time, to FOLDER/SESSION.
The parent answers a line with the process's id. Nothing is flushed or closed on the way out.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from qwenchat.chat.events import Delta, EngineEvent
from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.ports import Request
from qwenchat.chat.turn import Turns
from qwenchat.sessions.store import Store
from tests.fakes.scripted import ScriptedEngine

ANSWER = " ".join(f"word{n}词" for n in range(3000))


@dataclass
class ToldEngine(ScriptedEngine):
    """Tells a file what it said and when, before anyone else hears of it."""

    told: int = -1

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        async for event in super().events(request, text, cancelled):
            if isinstance(event, Delta):
                os.write(self.told, f"{time.monotonic()} {len(event.text)}\n".encode())
            yield event


async def stream(database: Path, folder: Path, session: str) -> None:
    told = os.open(folder / session, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    engine = ToldEngine((ANSWER,), delay_s=0.003, told=told, n_ctx=1 << 20)
    turns = Turns(store=Store(database), engine=engine, new_id=UUIDv7(), clock=unix_ms)
    async for _event in turns.ask(session, f"question of {session}"):
        pass


def main() -> None:
    database, folder = map(Path, sys.argv[1:])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        if child := os.fork():
            print(child, flush=True)
            continue
        asyncio.run(stream(database, folder, line.strip()))
        os._exit(0)


if __name__ == "__main__":
    main()
