"""What the transcript costs: opening, streaming, typing beside it, memory, resizing. Prints a Markdown table.

Run by hand: `python -m tests.bench.transcript`. Each figure comes from a fresh process with a headless terminal of
120x40; a Textual program that is empty but for a TextArea is measured in the same run.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles

import psutil
from textual import events
from textual.app import App, ComposeResult
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widgets import TextArea

from qwenchat.chat.message import Message, Role, Status, Text, text_parts
from qwenchat.tui.transcript.streaming import StreamedPiece
from qwenchat.tui.transcript.transcript import Transcript

SAMPLE = "\n\n".join([(Path(__file__).parents[1] / "tui" / "sample.md").read_text("utf-8")] * 4)
SIZE = (120, 40)


class Timed(Transcript):
    """Notes how long each taking in of streamed text and each painting takes, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.flushes: list[float] = []
        self.paints: list[float] = []

    def _draw_streamed(self, pieces: Mapping[str, Sequence[StreamedPiece]]) -> None:
        began = time.perf_counter()
        super()._draw_streamed(pieces)
        self.flushes.append(time.perf_counter() - began)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Time the painting of lines."""
        began = time.perf_counter()
        strips = super().render_lines(crop)
        self.paints.append(time.perf_counter() - began)
        return strips


class Screen(App[None]):
    """A transcript above a prompt, or the prompt alone."""

    CSS = "TextArea { height: 5; } Timed { height: 1fr; }"

    def __init__(self, *, with_transcript: bool = True) -> None:
        super().__init__()
        self._with = with_transcript

    def compose(self) -> ComposeResult:
        """Build the screen."""
        if self._with:
            yield Timed()
        yield TextArea()

    @property
    def transcript(self) -> Timed:
        """The transcript."""
        return self.query_one(Timed)


def messages(count: int) -> list[Message]:
    """Return a branch of questions and long answers, every text an object of its own."""
    out: list[Message] = []
    for number in range(count):
        role = Role.ASSISTANT if number % 2 else Role.USER
        text = f"{SAMPLE}\n\n{number}" if number % 2 else f"Question {number}: what about it? 第{number}个问题。"
        parent = out[-1].id if out else None
        out.append(
            Message(
                id=f"m{number}",
                session="s",
                parent=parent,
                role=role,
                parts=text_parts(text),
                created=number * 1000,
                model="7b:q4_k_m",
            )
        )
    return out


async def drawn(app: App[None]) -> None:
    """Wait until everything that is due has been painted."""
    done = asyncio.Event()
    app.screen.call_after_refresh(done.set)
    await done.wait()


async def opening(count: int) -> dict[str, float]:
    """Return seconds from `load` to painted, memory in MB then and after reading around, seconds to resize."""
    branch = messages(count)
    app = Screen()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        before = psutil.Process().memory_info().rss
        began = time.perf_counter()
        app.transcript.load(branch)
        await drawn(app)
        opened = time.perf_counter() - began
        for part in range(200):
            app.transcript.viewport.go_to(app.transcript.column.total * part // 200)
            await drawn(app)
        app.transcript.follow()
        await drawn(app)
        rss = psutil.Process().memory_info().rss
        began = time.perf_counter()
        app.post_message(events.Resize(Size(90, 40), Size(90, 40)))
        while app.transcript.column.look.width > 90:
            await asyncio.sleep(0)
        await drawn(app)
        resized = time.perf_counter() - began
    return {"open": opened, "empty_mb": before / 1e6, "mb": rss / 1e6, "resize": resized}


async def start(with_transcript: bool) -> dict[str, float]:
    """Return seconds from nothing to a painted screen."""
    began = time.perf_counter()
    app = Screen(with_transcript=with_transcript)
    async with app.run_test(size=SIZE):
        await drawn(app)
        return {"start": time.perf_counter() - began}


def tokens(count: int) -> list[str]:
    """Return an answer of that many tokens, about four characters each."""
    text = (SAMPLE * (count * 4 // len(SAMPLE) + 1))[: count * 4]
    return [text[at : at + 4] for at in range(0, len(text), 4)]


async def streaming(per_second: float, count: int, typing: bool) -> dict[str, list[float] | float]:
    """Stream below 1,000 messages; return times of flushes, paints and keystrokes, and CPU seconds a second."""
    branch = messages(1000)
    app = Screen()
    echoes: list[float] = []
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.load(branch)
        app.transcript.add(
            Message(
                id="answer",
                session="s",
                parent="m999",
                role=Role.ASSISTANT,
                parts=text_parts(""),
                created=0,
                status=Status.STREAMING,
            )
        )
        area = app.query_one(TextArea)
        area.focus()
        await pilot.pause()
        pieces = tokens(count)
        began, cpu = time.perf_counter(), time.process_time()

        async def produce() -> None:
            for number, piece in enumerate(pieces):
                wait = began + number / per_second - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                elif number % 20 == 0:
                    await asyncio.sleep(0)
                app.transcript.append("answer", Text(piece))

        producer = asyncio.create_task(produce())
        while not producer.done():
            if not typing:
                await asyncio.sleep(0.1)
                continue
            length, pressed = len(area.text), time.perf_counter()
            app.post_message(events.Key("a", "a"))
            while len(area.text) == length:
                await asyncio.sleep(0)
            await drawn(app)
            echoes.append(time.perf_counter() - pressed)
            await asyncio.sleep(0.03)
        await producer
        wall, spent = time.perf_counter() - began, time.process_time() - cpu
        timed = app.transcript
        return {
            "flushes": timed.flushes,
            "paints": timed.paints,
            "echoes": echoes,
            "cpu": spent / wall,
            "taken_in": len(timed.flushes) / wall,
            "painted": len(timed.paints) / wall,
        }


async def idle() -> dict[str, float]:
    """Return the CPU seconds a second that the empty program takes while nothing happens but the caret's blinking."""
    app = Screen(with_transcript=False)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(6)  # looking more often would cost more than the program does
        return {"cpu": (time.process_time() - cpu) / (time.perf_counter() - began)}


async def typing() -> dict[str, list[float]]:
    """Return the seconds from keys to their echo in the empty program."""
    app = Screen(with_transcript=False)
    echoes: list[float] = []
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        area = app.query_one(TextArea)
        began = time.perf_counter()
        while time.perf_counter() - began < 6:
            length, pressed = len(area.text), time.perf_counter()
            app.post_message(events.Key("a", "a"))
            while len(area.text) == length:
                await asyncio.sleep(0)
            await drawn(app)
            echoes.append(time.perf_counter() - pressed)
            await asyncio.sleep(0.03)
        return {"echoes": echoes}


PARTS: dict[str, Callable[[], Coroutine[object, object, object]]] = {
    "open-1000": lambda: opening(1000),
    "open-10000": lambda: opening(10_000),
    "start-empty": lambda: start(False),
    "start": lambda: start(True),
    "burst": lambda: streaming(400, 4000, typing=True),
    "steady": lambda: streaming(50, 1000, typing=False),
    "idle": idle,
    "typing": typing,
}


def fresh(part: str) -> dict[str, object]:
    """Run one part in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.transcript", part], check=True, capture_output=True, text=True
    )
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def spread(values: object) -> str:
    """Return p50, p95, p99 and the greatest in ms."""
    assert isinstance(values, list)
    cuts = quantiles(values, n=100)
    return " / ".join(f"{ms * 1000:.1f}" for ms in (median(values), cuts[94], cuts[98], max(values)))


def main() -> None:
    """Measure everything and print the table."""
    found = {part: fresh(part) for part in PARTS}
    rows = [
        (
            "start, empty program / with the transcript, s",
            f"{found['start-empty']['start']:.2f} / {found['start']['start']:.2f}",
        ),
        ("open 1,000 long messages, s", f"{found['open-1000']['open']:.3f}"),
        ("open 10,000 long messages, s", f"{found['open-10000']['open']:.3f}"),
        ("memory of the process with 10,000 messages, read here and there, MB", f"{found['open-10000']['mb']:.0f}"),
        ("of which the empty program and the messages' texts, MB", f"{found['open-10000']['empty_mb']:.0f}"),
        (
            "resize with 1,000 / 10,000 messages, s",
            f"{found['open-1000']['resize']:.3f} / {found['open-10000']['resize']:.3f}",
        ),
        ("take in streamed text, 4,000 tokens, p50 / p95 / p99 / max, ms", spread(found["burst"]["flushes"])),
        ("paint, p50 / p95 / p99 / max, ms", spread(found["burst"]["paints"])),
        ("keystroke to echo, empty program, ms", spread(found["typing"]["echoes"])),
        ("keystroke to echo while 400 tokens/s stream, ms", spread(found["burst"]["echoes"])),
        ("CPU at 50 tokens/s, share of a core", f"{found['steady']['cpu']:.1%}"),
        (
            "times that streamed text is taken in, and paintings, a second",
            f"{found['steady']['taken_in']:.1f} / {found['steady']['painted']:.1f}",
        ),
        ("CPU of the empty program, idle, its caret blinking", f"{found['idle']['cpu']:.1%}"),
    ]
    print("| what | measured |\n|---|---|")
    for what, measured in rows:
        print(f"| {what} | {measured} |")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(asyncio.run(PARTS[sys.argv[1]]())))
    else:
        main()
