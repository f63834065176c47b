"""The whole program in a terminal below a long chat: opening it, streaming into it, typing beside it, its memory.

    python -m tests.bench.program

The store, the list of chats, the gauge, the drafts and the terminal are the real ones; the engine recites 50 words a
second, so that only the interface is measured. Run it with nothing else beside it. Prints a Markdown table.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from msgspec.structs import replace

from qwenchat.chat.ids import unix_ms
from qwenchat.chat.message import Status
from qwenchat.chat.session import Session
from qwenchat.runtime.program import Program
from tests.bench.screen import READY, answer_of, env
from tests.bench.transcript import messages
from tests.tui.terminal import ENTER, Terminal

A_SECOND = 50
WORDS = 2000
KEYS = [chr(code) for code in range(0x410, 0x450)] + [chr(code) for code in range(0x3B1, 0x3C9)]
"""Letters that nothing else on the screen has."""
PROGRAM = f"""
import sys
from tests.fakes.scripted import ScriptedEngine
from qwenchat.i18n import use_language
from qwenchat.runtime.program import Program
from qwenchat.tui.app import QwenchatApp, Start
from tests.bench.transcript import SAMPLE
use_language()
text = " ".join((SAMPLE * 40).split(" ")[:{WORDS}])
engine = ScriptedEngine([text], delay_s={1 / A_SECOND}, n_ctx=1 << 22)
QwenchatApp(Program.here(), Start(model="guide", session=sys.argv[1]), lambda _model, _options: engine).run()
"""


def main() -> None:
    """Measure and print."""
    print("| messages | open, beside an empty chat | interface CPU at 50 words/s | key to echo, p50 / p99 | memory |")
    print("|---|---|---|---|---|")
    for count in (1000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            empty, full = keep(home, 0), keep(home, count)
            opened = statistics.median(opening(home, full, count) - opening(home, empty, 0) for _round in range(5))
            share, echoes, resident = streaming(home, full, count)
        p50, p99 = (statistics.quantiles(echoes, n=100, method="inclusive")[at] * 1000 for at in (49, 98))
        taken = f"{share:.0%} of a core | {p50:.0f} / {p99:.0f} ms | {resident / 1e6:.0f} MB"
        print(f"| {count:,} | {opened:.2f} s | {taken} |")


def keep(home: Path, count: int) -> str:
    """Keep a chat of so many messages, every other one long, and return its id."""
    program = Program({"QWENCHAT_HOME": str(home)})
    now, name = unix_ms(), f"chat-{count}"
    with program.store.transaction():
        program.store.create(Session(id=name, created=now, updated=now, title=name, model="guide"))
        for message in messages(count):
            parent = message.parent and f"{name}-{message.parent}"
            program.store.add(replace(message, id=f"{name}-{message.id}", session=name, parent=parent))
    program.close()
    return name


def start(home: Path, session: str) -> Terminal:
    """Start the program in a terminal."""
    return Terminal([sys.executable, "-c", PROGRAM, session], 100, 30, env(home, answer_tokens=20 * WORDS))


def opening(home: Path, session: str, count: int) -> float:
    """Return the seconds from starting the program to the end of the chat on the terminal."""
    began = time.perf_counter()
    terminal = start(home, session)
    try:
        terminal.writes(READY if not count else f"{count - 1}\x1b")
        return time.perf_counter() - began
    finally:
        terminal.close()


def streaming(home: Path, session: str, count: int) -> tuple[float, list[float], int]:
    """Return the interface's share of a core, seconds from keys to their echo, and its memory in bytes."""
    terminal = start(home, session)
    try:
        terminal.shows(str(count - 1))
        interface = psutil.Process(terminal.process.pid)
        terminal.send("Go on" + ENTER)
        terminal.drain(3)
        before, began = interface.cpu_times(), time.perf_counter()
        terminal.drain(15)
        used, took = interface.cpu_times(), time.perf_counter() - began
        echoes = []
        for key in KEYS:
            pressed = time.perf_counter()
            terminal.send(key)
            terminal.writes(key)
            echoes.append(time.perf_counter() - pressed)
            terminal.drain(0.1)
        assert is_streaming(home), "the answer ended while it was measured"
        share = (used.user + used.system - before.user - before.system) / took
        return share, echoes, interface.memory_info().rss
    finally:
        terminal.close()


def is_streaming(home: Path) -> bool:
    """Whether the latest chat's answer is still coming."""
    program = Program({"QWENCHAT_HOME": str(home)})
    try:
        return answer_of(program)[-1].status is Status.STREAMING
    finally:
        program.close()


if __name__ == "__main__":
    main()
