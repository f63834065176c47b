"""How often a small model answers plain questions rightly by calling tools: `python -m tests.bench.tools [--words]`.

It asks the model in QWENCHAT_REAL_MODEL, which takes the likeliest token, with its calls bound to the schemas of the
tools and without, and prints the table. An answer is right if it contains what the tool has to find out; its digits
may be grouped.
"""

import argparse
import asyncio
import os
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from qwenchat.chat.calling import ToolUse
from qwenchat.chat.events import TurnEnded
from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.message import Message, ToolCall
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.chat.turn import Turns
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.runtime.load_planner import LoadOptions
from qwenchat.runtime.program import Program
from qwenchat.tools.builtin.calculator import Calculator
from qwenchat.tools.builtin.date_time import DateTime, DaysBetween
from qwenchat.tools.builtin.folders import Folders
from qwenchat.tools.builtin.list_files import ListFiles
from qwenchat.tools.builtin.read_file import ReadFile
from qwenchat.tools.builtin.search_files import SearchFiles
from qwenchat.tools.policy import Decision, Leave, PendingCall, Policy
from qwenchat.tools.tool import Tool
from qwenchat.tools.toolbox import ToolRunner, named

NOW = datetime(2026, 10, 15, 3, 4, tzinfo=UTC)
"""A Thursday."""
FILES = {
    "shopping.txt": "oat milk\nseven lemons\ncandles\n",
    "trip.md": "# Trip\n\nWe fly to Lisbon on 3 March and stay for nine days.\n",
    "ideas.txt": "Build a birdhouse from the old pallet.\n",
}
_NAMES = tuple(FILES)


@dataclass(frozen=True, slots=True)
class Plain:
    """A question, and what its answer must contain: one of each group."""

    text: str
    expected: tuple[tuple[str, ...], ...]

    def is_answered(self, text: str) -> bool:
        """Say whether a text is right."""
        ungrouped = re.sub(r"(?<=\d)(?:,|\\,|\s)(?=\d{3}\b)", "", text)
        return all(any(each in text or each in ungrouped for each in group) for group in self.expected)


def _asks(text: str, *alternatives: str) -> Plain:
    return Plain(text, (alternatives,))


QUESTIONS = (
    _asks("What is 37*41?", "1517"),
    _asks("What is 12345 + 67890?", "80235"),
    _asks("How much is 15% of 260?", "39"),
    _asks("What is 2 to the power of 24?", "16777216"),
    _asks("Calculate (17+5)*3.", "66"),
    _asks("123乘以456等于多少？", "56088"),
    _asks("1568除以32是多少？", "49"),
    _asks("What time is it in Tokyo?", "12:04"),
    _asks("What day of the week is it today?", "Thursday"),
    _asks("What is today's date?", "2026-10-15", "October 15", "15 October", "15th"),
    _asks("今天星期几？", "星期四", "周四", "Thursday"),
    _asks("今天几号？", "10月15", "2026-10-15", "October 15"),
    _asks("伦敦现在几点？", "4:04", "4点04", "4点4", "4点零4"),
    _asks("How many days are there between 2026-01-01 and 2026-03-15?", "73"),
    Plain("Which files are in notes?", tuple((name,) for name in _NAMES)),
    Plain("notes 文件夹里有哪些文件？", tuple((name,) for name in _NAMES)),
    _asks("What does notes/shopping.txt say?", "lemons"),
    _asks("Read notes/trip.md. Where does the trip go?", "Lisbon"),
    _asks("Which file in notes mentions a birdhouse?", "ideas.txt"),
    _asks("notes/ideas.txt 里写了什么？", "birdhouse", "鸟屋", "鸟舍", "鸟窝"),
)


def _now(zone: tzinfo | None) -> datetime:
    return NOW.astimezone(zone or UTC)


async def _allow(pending: PendingCall) -> Decision:
    return Decision(Leave.ONCE)


def _tools(folder: Path) -> list[Tool]:
    """Return the tools, in the order in which the program offers them."""
    folders = Folders([folder])
    return [
        Calculator(),
        DateTime(_now),
        DaysBetween(_now),
        ListFiles(folders),
        ReadFile(folders),
        SearchFiles(folders),
    ]


async def _asked(engine: LocalEngine, tools: list[Tool], question: str) -> Message:
    """Ask in a chat of its own and return the answer."""
    store = MemoryStore()
    store.create(Session(id="s", created=0, updated=0))
    numbers = iter(range(1000))
    box = ToolRunner(named(tools, {}), Policy({}, _allow))
    turns = Turns(
        store=store,
        engine=engine,
        new_id=lambda: f"m{next(numbers)}",
        clock=lambda: 1,
        tools=ToolUse(toolbox=box),
    )
    async for event in turns.ask("s", question, sampling=Sampling(temperature=1.0, top_k=1, max_tokens=200)):
        if isinstance(event, TurnEnded):
            return event.answer
    raise AssertionError("the turn had no end")


async def measure(model: str, *, words: bool, free: bool) -> None:
    """Print what became of each question, and the sums."""
    program = Program.here()
    planner = program.planner(model, LoadOptions(ctx=4096))
    rows = [f"| {question.text} |" for question in QUESTIONS]
    sums = list[str]()
    for is_bound in (True, False) if free else (True,):
        engine = LocalEngine(planner, program.paths.engine_log, program.saved_kv, bind_calls=is_bound)
        right = called = 0
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "notes"
            folder.mkdir()
            for name, text in FILES.items():
                (folder / name).write_text(text)
            for place, question in enumerate(QUESTIONS):
                answer = await _asked(engine, _tools(folder), question.text)
                is_right = question.is_answered(answer.text)
                calls = [part for part in answer.parts if isinstance(part, ToolCall)]
                right, called = right + is_right, called + bool(calls)
                rows[place] += f" {'right' if is_right else 'wrong'}, {len(calls)} |"
                if words:
                    label = f"{'bound' if is_bound else 'free'}, {'right' if is_right else 'wrong'}: {question.text}"
                    print(label, *answer.parts, sep="\n    ", flush=True)
        await engine.close()
        sums.append(f"{right} of {len(QUESTIONS)}, {called}")
    print("\n| question | bound: answer, calls | free: answer, calls |\n|---|---|---|")
    print("\n".join(rows))
    print(f"| **right, and with a call** | {' | '.join(sums)} |")


def main() -> None:
    """Read the arguments, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", action="store_true", help="print the answers too")
    parser.add_argument("--bound-only", action="store_true", help="leave out the calls that follow no schema")
    given = parser.parse_args()
    asyncio.run(measure(os.environ["QWENCHAT_REAL_MODEL"], words=given.words, free=not given.bound_only))


if __name__ == "__main__":
    main()
