"""How well documents are read: `python -m tests.bench.reading [--measure NAME]... [--every N]`.

It asks the model in QWENCHAT_REAL_MODEL the questions of `reading_set`, whose answers no model can know, and prints how
many it answers rightly: with the text cut off at the window (the baseline), and at each level. The search is measured
alone too: whether the chunk with the answer is among the first five of all documents. The likeliest token is taken.

With `--million MINUTES`, a generated corpus of a million tokens is read at level 2 for so long. The reader is killed in
the middle and begun again; the table has the predicted time, the time that it would take, and memory.
"""

import argparse
import asyncio
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import msgspec
import psutil

from qwenchat.chat.events import Reading, TurnEnded
from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.message import Attachment, Citation, Message
from qwenchat.chat.ports import Engine
from qwenchat.chat.prompt import Turn, attachment_text
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.chat.turn import Turns
from qwenchat.documents.document import Document
from qwenchat.documents.index import DocumentIndex, OwnedDocument, collection_owner
from qwenchat.documents.levels.choice import Speed, predicted_seconds
from qwenchat.documents.levels.finding import find
from qwenchat.documents.levels.question import DocumentQuery, languages_of, search_words, understood
from qwenchat.documents.levels.retrieval import ranked
from qwenchat.documents.levels.small_request import SmallRequests
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.program import Program
from qwenchat.text.token_estimate import estimated_tokens
from tests.bench.reading_set import Asked, questions
from tests.bench.reading_set.filler import paragraphs

WINDOW = 4096
FIRST = 5
LIKELIEST = Sampling(temperature=0.01, top_k=1, max_tokens=80)
MEASURES = ("search", "search-own", "cut", "level-1", "level-2", "level-3")
_OWNER = collection_owner("bench")
_RESERVED = 400
"""Tokens of the window for question, system prompt and answer where a text is cut off."""
_MILLION = 1_000_000
_PLANTED = (
    "The password of the observatory on Mount Ilvarn is marmalade-77.",
    "Countess Odalys buried the silver astrolabe below the third beehive.",
    "天文台的守夜人每逢初七都要给猫头鹰读报。",
)
_QUESTION = "What did Countess Odalys hide, and where?"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSources:
    """Implements `chat.sources.Sources` with documents of this bench."""

    index: DocumentIndex
    documents: Sequence[OwnedDocument]
    level: int

    async def prepare(self, branch: Sequence[Message]) -> bool:
        return True

    async def find(
        self, engine: Engine, branch: Sequence[Message], room: int
    ) -> AsyncGenerator[Reading | Citation, None]:
        *history, question = branch
        events = find(engine, self.index, self.documents, question.text, history, room=room, level=self.level)
        async with aclosing(events):
            async for event in events:
                yield event


async def _answer(engine: Engine, question: str, *, cut: Attachment | None, sources: BenchSources | None) -> str:
    """Ask in a chat of its own and return the answer."""
    store, numbers = MemoryStore(), count()
    store.create(Session(id="s", created=0, updated=0))
    turns = Turns(store=store, engine=engine, new_id=lambda: f"m{next(numbers)}", clock=lambda: 1, sources=sources)
    async for event in turns.ask("s", question, (cut,) if cut else (), LIKELIEST):
        if isinstance(event, TurnEnded):
            return event.answer.text
    raise AssertionError("the turn had no end")


async def _cut_off(engine: Engine, document: Document) -> Attachment:
    """Return the beginning of a document that fits into the window with a question."""
    low, high = 0, len(document.text)
    while low < high:
        middle = (low + high + 1) // 2
        turn = Turn("user", attachment_text(document.name, document.text[:middle]))
        fits = (await engine.count([turn])).total <= WINDOW - _RESERVED
        low, high = (middle, high) if fits else (low, middle - 1)
    return Attachment(document.name, "text/plain", document.text[:low].encode())


class Measuring:
    """The questions, with what they are asked of."""

    def __init__(self, engine: LocalEngine, index: DocumentIndex) -> None:
        self.engine, self.index = engine, index
        self.index.add(_OWNER, {each.document.digest: each.document for each in questions()}.values())
        self.documents = {each.digest: each for each in self.index.owned(_OWNER)}
        self._cut: dict[str, Attachment] = {}

    async def is_right(self, measure: str, asked: Asked) -> tuple[bool, str]:
        """Return whether a question is answered rightly, or its chunk found, and what was said."""
        if measure.startswith("search"):
            return await self._is_found(asked, with_keywords=measure == "search")
        digest = asked.document.digest
        if measure == "cut" and digest not in self._cut:
            self._cut[digest] = await _cut_off(self.engine, asked.document)
        sources = None
        if measure != "cut":
            documents = (self.documents[digest],)
            sources = BenchSources(index=self.index, documents=documents, level=int(measure[-1]))
        cut = self._cut[digest] if measure == "cut" else None
        text = await _answer(self.engine, asked.text, cut=cut, sources=sources)
        return asked.is_answered(text), text

    async def _is_found(self, asked: Asked, *, with_keywords: bool) -> tuple[bool, str]:
        query = DocumentQuery(question=asked.text, words=search_words(asked.text))
        if with_keywords:
            requests = SmallRequests(engine=self.engine, info=await self.engine.load())
            languages = languages_of([each.document.text for each in questions()])
            query, _reply = await understood(requests, asked.text, (), languages)
        found = await ranked(self.index, [*self.documents], query)
        is_found = any(
            each.digest == asked.document.digest
            and each.start < asked.end
            and each.start + len(each.text) > asked.start
            and asked.is_answered(each.text)
            for each in found[:FIRST]
        )
        return is_found, ", ".join(query.keywords)


class _Result(msgspec.Struct, frozen=True):
    """What became of one question, a line of the file of results."""

    measure: str
    question: str
    is_right: bool
    said: str
    seconds: float


async def measure(model: str, names: Sequence[str], *, every: int, results: Path) -> None:
    """Ask what has no result yet, and print the table of all results.

    The questions are asked in an order of which any beginning is spread over all documents.
    """
    program = Program.here()
    engine = LocalEngine(program.planner(model, LoadOptions(ctx=WINDOW)), program.paths.engine_log, program.saved_kv)
    measuring, found = Measuring(engine, DocumentIndex(results.with_suffix(".db"))), _results(results)
    asked_of = questions()
    order = sorted(range(len(asked_of)), key=lambda number: f"{number:010b}"[::-1])
    chosen = [asked_of[number] for number in order[: math.ceil(len(order) / every)]]
    with results.open("ab") as file:
        for name in names:
            for asked in chosen:
                if (name, asked.text) in found:
                    continue
                began = time.perf_counter()
                is_right, said = await measuring.is_right(name, asked)
                result = _Result(name, asked.text, is_right, said, round(time.perf_counter() - began, 2))
                found[name, asked.text] = result
                file.write(msgspec.json.encode(result) + b"\n")
                file.flush()
    await engine.close()
    print_table(names, found)


def print_table(names: Sequence[str], found: Mapping[tuple[str, str], _Result]) -> None:
    """Print how many questions are answered rightly by each measure."""
    groups: dict[str, Callable[[Asked], bool]] = {
        "English": lambda asked: asked.document.name.isascii() and not asked.is_hard,
        "Chinese": lambda asked: not asked.document.name.isascii() and not asked.is_hard,
        "in other words": lambda asked: asked.is_hard,
        "all": lambda asked: True,
    }
    print(f"| measure | {' | '.join(groups)} | seconds each |\n|---|{'---|' * (len(groups) + 1)}")
    for name in names:
        done = {asked.text: found[name, asked.text] for asked in questions() if (name, asked.text) in found}
        cells = list[str]()
        for belongs in groups.values():
            of_group = [done[asked.text] for asked in questions() if asked.text in done and belongs(asked)]
            cells.append(f"{sum(each.is_right for each in of_group)} of {len(of_group)}")
        seconds = sum(each.seconds for each in done.values()) / max(1, len(done))
        print(f"| {name} | {' | '.join(cells)} | {seconds:.1f} |")


def _results(path: Path) -> dict[tuple[str, str], _Result]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    read = (msgspec.json.decode(line, type=_Result) for line in lines)
    return {(each.measure, each.question): each for each in read}


def corpus(tokens: int) -> Document:
    """Return a text of about so many tokens, English and Chinese, with the planted facts in it."""
    texts, total = list[str](), 0.0
    sources: list[Iterator[str]] = [paragraphs("en", 1), paragraphs("zh", 2)]
    while total < tokens:
        texts.append(next(sources[len(texts) % 2]))
        total += estimated_tokens(texts[-1])
    for number, fact in enumerate(_PLANTED):
        texts.insert((2 * number + 1) * len(texts) // (2 * len(_PLANTED)), fact)
    return Document(name="corpus.md", media_type="text/markdown", text="\n\n".join(texts))


async def read_million(model: str, folder: Path, tokens: int) -> None:
    """Read the corpus and print the progress as lines of JSON; what was read in `folder` before is not read again."""
    program = Program.here()
    engine = LocalEngine(program.planner(model, LoadOptions(ctx=WINDOW)), program.paths.engine_log, program.saved_kv)
    index = DocumentIndex(folder / "documents.db")
    if not index.owned(_OWNER):
        index.add(_OWNER, [corpus(tokens)])
    documents, began = index.owned(_OWNER), time.time()
    async for event in find(engine, index, documents, _QUESTION, room=WINDOW // 2, level=2):
        if isinstance(event, Reading) and event.total:
            own, worker = psutil.Process(), psutil.Process(engine.worker_pid or os.getpid())
            line = _Line(
                done=event.done,
                total=event.total,
                left=event.seconds_left,
                found=event.found,
                spent=time.time() - began,
                memory=(own.memory_info().rss >> 20, worker.memory_info().rss >> 20),
                latest=event.latest,
            )
            print(msgspec.json.encode(line).decode(), flush=True)
    await engine.close()


def million(minutes: float, tokens: int) -> None:
    """Read for so long, killed once in the middle, and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [_run(Path(folder), minutes * 60 * share, tokens) for share in (0.4, 0.6)]
    print("| run | read before | read | predicted at its beginning, min | would take, min | MB: reader, worker |")
    print("|---|---|---|---|---|---|")
    for number, lines in enumerate(runs, 1):
        first, last = lines[0], lines[-1]
        read = last.done - first.done
        whole = (last.spent - first.spent) / max(1, read) * (last.total - first.done) / 60
        memory = f"{first.memory[0]} to {last.memory[0]}, {first.memory[1]} to {last.memory[1]}"
        print(f"| {number} | {first.done} | {read} | {first.left / 60:.1f} | {whole:.1f} | {memory} |")
    print(f"\nof {runs[-1][-1].total} chunks; found last: {runs[-1][-1].latest!r}")
    speed = Speed(prefill_tps=172.0, decode_tps=23.0)
    print(f"the whole, by the measured 172 and 23 tokens/s: {predicted_seconds(2, tokens, speed) / 60:.0f} min")


class _Line(msgspec.Struct, frozen=True):
    """Progress, as `read_million` prints it; times in seconds, memory in MB."""

    done: int
    total: int
    left: float
    found: int
    spent: float
    memory: tuple[int, int]
    """Of the reader, and of its worker."""
    latest: str


def _run(folder: Path, seconds: float, tokens: int) -> list[_Line]:
    """Read in a process that is killed after so many seconds; return its progress."""
    command = [sys.executable, "-m", "tests.bench.reading", "--read", str(folder), "--tokens", str(tokens)]
    process, lines = subprocess.Popen(command, stdout=subprocess.PIPE), list[_Line]()
    assert process.stdout
    for line in process.stdout:
        lines.append(msgspec.json.decode(line, type=_Line))
        if lines[-1].spent > seconds:
            process.kill()
            break
    process.wait()
    return lines


def main() -> None:
    """Read the arguments, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="append", choices=MEASURES, help="one of the rows; all of them without it")
    parser.add_argument("--every", type=int, default=1, help="ask only one of N questions")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path(tempfile.gettempdir()) / "qwenchat-reading.jsonl",
        help="the file of what was answered, beside that of what was read; nothing is asked or read again",
    )
    parser.add_argument("--table", action="store_true", help="only print the table of the results")
    parser.add_argument("--million", type=float, metavar="MINUTES", help="read a million tokens for so long")
    parser.add_argument("--tokens", type=int, default=_MILLION, help="another size for it")
    parser.add_argument("--read", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    given = parser.parse_args()
    model = os.environ["QWENCHAT_REAL_MODEL"]
    if given.read:
        asyncio.run(read_million(model, given.read, given.tokens))
    elif given.million:
        million(given.million, given.tokens)
    elif given.table:
        print_table(given.measure or MEASURES, _results(given.results))
    else:
        asyncio.run(measure(model, given.measure or MEASURES, every=given.every, results=given.results))


if __name__ == "__main__":
    main()
