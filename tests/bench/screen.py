"""The screen: first paint against an empty Textual program, and what it costs the engine while an answer streams.

Run by hand: `python -m tests.bench.screen [MODEL.gguf] [--sessions 20000] [--rounds 7]`. Without a model one of
Qwen2-0.5B's shape is made. Every figure is the median of runs that alternate with those of the peer.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.message import Message, Role, Status, text_parts
from qwenchat.chat.session import Session
from qwenchat.runtime.program import Program
from tests.bench.synthetic import model_file
from tests.fakes.commands import environment, qwenchat
from tests.tui.terminal import ENTER, Terminal

READY = "Ask anything"
EMPTY = f"""
from textual.app import App
from textual.widgets import Footer, TextArea
class Empty(App):
    def compose(self):
        yield TextArea("{READY}")
        yield Footer()
Empty().run()
"""
ANSWER_TOKENS = 256
QUESTION = "Write a long story about the sea"


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill(home / "full", options.sessions)
        rows = first_paint(home, options.sessions, options.rounds)
        model = options.model or model_file(Path(tempfile.gettempdir()) / "qwenchat-bench")
        rows += while_streaming(home, model.absolute(), max(3, options.rounds // 2))
    print("| measure | result | peer | ratio |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def fill(home: Path, count: int) -> None:
    """Keep sessions on disk, each with a question and an answer."""
    program = Program({"QWENCHAT_HOME": str(home)})
    new_id, now = UUIDv7(), unix_ms()
    with program.store.transaction():
        for number in range(count):
            when = now - number * 600_000
            session = Session(id=new_id(), created=when, updated=when, title=f"Chat {number}")
            question = Message(
                id=new_id(),
                session=session.id,
                parent=None,
                role=Role.USER,
                parts=text_parts(f"What is {number}?"),
                created=when,
            )
            program.store.create(session)
            program.store.add(
                question,
                Message(
                    id=new_id(),
                    session=session.id,
                    parent=question.id,
                    role=Role.ASSISTANT,
                    parts=text_parts(f"A number, {number}."),
                    created=when + 1,
                ),
            )
    program.close()


def first_paint(home: Path, sessions: int, rounds: int) -> list[tuple[str, ...]]:
    """Time from starting the process to words on the terminal."""
    empty, fresh, full = [], [], []
    for _round in range(rounds):
        empty.append(paint([sys.executable, "-c", EMPTY], home / "none"))
        fresh.append(paint([sys.executable, "-m", "qwenchat"], home / "none"))
        full.append(paint([sys.executable, "-m", "qwenchat"], home / "full"))
    peer = statistics.median(empty)
    return [
        (
            name,
            f"{statistics.median(times):.2f} s",
            f"{peer:.2f} s (empty Textual)",
            f"{statistics.median(times) / peer:.2f}",
        )
        for name, times in (("first paint", fresh), (f"first paint, {sessions:,} sessions", full))
    ]


def paint(words: list[str], home: Path) -> float:
    """Return the seconds until the program has drawn itself."""
    began = time.perf_counter()
    terminal = Terminal(words, 100, 30, env(home))
    try:
        terminal.shows(READY)
        return time.perf_counter() - began
    finally:
        terminal.close()


def while_streaming(home: Path, model: Path, rounds: int) -> list[tuple[str, ...]]:
    """Decode speed in the screen and without it, and what the interface takes meanwhile."""
    alone, shown, cpu, memory = [], [], [], []
    for number in range(rounds):
        alone.append(ask(home / f"ask{number}", model))
        speed, share, resident = stream(home / f"screen{number}", model)
        shown.append(speed)
        cpu.append(share)
        memory.append(resident)
    here, peer = statistics.median(shown), statistics.median(alone)
    return [
        ("decode in the screen", f"{here:.1f} tokens/s", f"{peer:.1f} tokens/s (`ask`)", f"{here / peer:.2f}"),
        ("interface CPU while streaming", f"{statistics.median(cpu):.0%} of a core", "", ""),
        ("interface memory", f"{statistics.median(memory) / 1e6:.0f} MB", "", ""),
    ]


def ask(home: Path, model: Path) -> float:
    """Return the decode speed without a screen."""
    done = qwenchat(
        "ask", "-m", model, "--json", QUESTION, QWENCHAT_HOME=str(home), QWENCHAT_SAMPLING_MAX_TOKENS=str(ANSWER_TOKENS)
    )
    speed: float = json.loads(done.stdout)["timings"]["decode_tps"]
    return speed


def stream(home: Path, model: Path) -> tuple[float, float, int]:
    """Return decode speed, the interface's share of a core, and its memory in bytes."""
    terminal = Terminal([sys.executable, "-m", "qwenchat", "--model", str(model)], 100, 30, env(home))
    program = Program({"QWENCHAT_HOME": str(home)})
    try:
        terminal.shows(READY)
        interface = psutil.Process(terminal.process.pid)
        terminal.send(QUESTION + ENTER)
        wait(terminal, lambda: bool(answer_of(program)))
        before, began = interface.cpu_times(), time.perf_counter()
        wait(terminal, lambda: answer_of(program)[-1].status is not Status.STREAMING)
        used, took = interface.cpu_times(), time.perf_counter() - began
        answer = answer_of(program)[-1]
        assert answer.timings is not None, answer.error
        share = (used.user + used.system - before.user - before.system) / took
        return answer.timings.decode_tps, share, interface.memory_info().rss
    finally:
        terminal.close()
        program.close()


def answer_of(program: Program) -> list[Message]:
    """Return the answer's branch once its first words are on disk."""
    latest = program.store.listing.latest()
    branch = program.store.branch(latest.leaf) if latest else []
    return branch if branch and branch[-1].role is Role.ASSISTANT and branch[-1].text else []


def wait(terminal: Terminal, state: Callable[[], bool], seconds: float = 120) -> None:
    """Let the program draw until a state is reached."""
    end = time.monotonic() + seconds
    while not state():
        assert time.monotonic() < end, "the state did not come"
        terminal.drain(0.2)


def env(home: Path, answer_tokens: int = ANSWER_TOKENS) -> dict[str, str]:
    """Return the environment of a program in the terminal."""
    more = {"QWENCHAT_HOME": str(home), "QWENCHAT_SAMPLING_MAX_TOKENS": str(answer_tokens)}
    found = environment(TERM="xterm-256color", COLORTERM="truecolor", **more)
    found.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody compiles a program anew at each start
    return found


if __name__ == "__main__":
    main()
