"""How often a small model answers plain questions rightly by calling tools: `python -m tests.bench.tools --help`.

It asks the model in QWENCHAT_REAL_MODEL, which takes the likeliest token, with its calls bound to the schemas of the
tools and without, and prints the table. An answer is right if it contains what the tool has to find out; its digits
may be grouped.
"""

import argparse
import asyncio
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from qwenchat.chat.calling import ToolUse
from qwenchat.chat.events import TurnEnded
from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.message import Message, Part, ToolCall, ToolResult
from qwenchat.chat.ports import Request
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.chat.turn import Turns
from qwenchat.engines.generation import QueuedGeneration
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.local.loaded_model import Planner
from qwenchat.runtime.load_options import LoadOptions
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Plain questions, and the folder that some of them are about."""

    folder: str
    files: Mapping[str, str]
    asked: Sequence[Plain]


TUNED = Questions(
    folder="notes",
    files={
        "shopping.txt": "oat milk\nseven lemons\ncandles\n",
        "trip.md": "# Trip\n\nWe fly to Lisbon on 3 March and stay for nine days.\n",
        "ideas.txt": "Build a birdhouse from the old pallet.\n",
    },
    asked=(
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
        Plain("Which files are in notes?", (("shopping.txt",), ("trip.md",), ("ideas.txt",))),
        Plain("notes 文件夹里有哪些文件？", (("shopping.txt",), ("trip.md",), ("ideas.txt",))),
        _asks("What does notes/shopping.txt say?", "lemons"),
        _asks("Read notes/trip.md. Where does the trip go?", "Lisbon"),
        _asks("Which file in notes mentions a birdhouse?", "ideas.txt"),
        _asks("notes/ideas.txt 里写了什么？", "birdhouse", "鸟屋", "鸟舍", "鸟窝"),
    ),
)
"""What descriptions of tools and the loop of calls are tried with."""
HELD_OUT = Questions(
    folder="work",
    files={
        "budget.txt": "rent 900\nfood 350\ninsurance 75\n",
        "meeting.md": "# Meeting\n\nWe meet Dr. Novak on Tuesday in room 12.\n",
        "wishes.txt": "A telescope for the balcony.\n",
    },
    asked=(
        _asks("What does 58 times 23 make?", "1334"),
        _asks("Add 4821 and 7359 for me.", "12180"),
        _asks("What is 8% of 450?", "36"),
        _asks("What's the square root of 1764?", "42"),
        _asks("Work out (90-14)/4.", "19"),
        _asks("347加589等于几？", "936"),
        _asks("请算一下 84 乘 76。", "6384"),
        _asks("What's the time in Paris right now?", "5:04"),
        _asks("Which weekday do we have today?", "Thursday"),
        _asks("Tell me the date of today.", "2026-10-15", "October 15", "15 October", "15th"),
        _asks("今天是星期几呀？", "星期四", "周四", "礼拜四", "Thursday"),
        _asks("请告诉我今天的日期。", "10月15", "2026-10-15", "October 15"),
        _asks("东京现在是什么时间？", "12:04", "12点04", "12点4", "12点零4"),
        _asks("How many days is it from 2026-05-10 until 2026-08-01?", "83"),
        Plain("Show me the files in the work folder.", (("budget.txt",), ("meeting.md",), ("wishes.txt",))),
        Plain("work 里面有什么文件？", (("budget.txt",), ("meeting.md",), ("wishes.txt",))),
        _asks("What is in the file work/budget.txt?", "insurance"),
        _asks("Open work/meeting.md and tell me who we meet.", "Novak"),
        _asks("Which of the files in work talks about a telescope?", "wishes.txt"),
        _asks("work/wishes.txt 的内容是什么？", "telescope", "望远镜"),
    ),
)
"""Questions of the same kinds, that nothing is changed for."""


class _TwoEngines(LocalEngine):
    """Asks a second engine what is asked without tools, so that the first one need not read the tools each time."""

    def __init__(self, planner: Planner, program: Program, *, is_bound: bool) -> None:
        super().__init__(planner, program.paths.engine_log, program.saved_kv, bind_calls=is_bound)
        self.plain = LocalEngine(planner, program.paths.engine_log, program.saved_kv)

    def generate(self, request: Request) -> QueuedGeneration:
        return super().generate(request) if request.turns[0].tools else self.plain.generate(request)

    async def close(self, *, at_once: bool = False) -> None:
        await super().close(at_once=at_once)
        await self.plain.close(at_once=at_once)


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
        ReadFile(folders),
        ListFiles(folders),
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


async def measure(model: str, questions: Questions, *, words: bool, kinds: Sequence[bool]) -> None:
    """Print what became of each question, and the sums, with calls that are bound, free or both."""
    program = Program.here()
    planner = program.planner(model, LoadOptions(ctx=4096))
    rows = [f"| {question.text} |" for question in questions.asked]
    sums = list[str]()
    for is_bound in kinds:
        engine = _TwoEngines(planner, program, is_bound=is_bound)
        right = called = 0
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / questions.folder
            folder.mkdir()
            for name, text in questions.files.items():
                (folder / name).write_text(text)
            for place, question in enumerate(questions.asked):
                answer = await _asked(engine, _tools(folder), question.text)
                is_right = question.is_answered(answer.text)
                calls = [part for part in answer.parts if isinstance(part, ToolCall)]
                right, called = right + is_right, called + bool(calls)
                rows[place] += f" {'right' if is_right else 'wrong'}, {len(calls)} |"
                print(f"{place + 1}: {right}", flush=True)
                if words:
                    label = f"{'bound' if is_bound else 'free'}, {'right' if is_right else 'wrong'}: {question.text}"
                    print(label, *map(_shown, answer.parts), sep="\n    ", flush=True)
        await engine.close()
        sums.append(f"{right} of {len(questions.asked)}, {called}")
    print("\n| question |" + "".join(f" {'bound' if is_bound else 'free'}: answer, calls |" for is_bound in kinds))
    print("|---|" + "---|" * len(kinds), *rows, sep="\n")
    print(f"| **right, and with a call** | {' | '.join(sums)} |")


def _shown(part: Part) -> str:
    if isinstance(part, ToolCall):
        return f"CALL {part.name} {part.arguments}"
    return f"{'RESULT' if isinstance(part, ToolResult) else 'TEXT'} {part.text!r}"


def main() -> None:
    """Read the arguments, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held-out", action="store_true", help="ask the questions that nothing is changed for")
    parser.add_argument("--words", action="store_true", help="print the answers too")
    parser.add_argument("--only", type=int, nargs="+", metavar="N", help="ask only these questions, counted from 1")
    parser.add_argument("--calls", choices=["bound", "free"], help="measure only such calls")
    given = parser.parse_args()
    questions = HELD_OUT if given.held_out else TUNED
    if given.only:
        questions = replace(questions, asked=[questions.asked[number - 1] for number in given.only])
    kinds = [is_bound for is_bound in (True, False) if given.calls != ("free" if is_bound else "bound")]
    asyncio.run(measure(os.environ["QWENCHAT_REAL_MODEL"], questions, words=given.words, kinds=kinds))


if __name__ == "__main__":
    main()
