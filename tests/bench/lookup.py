"""How much faster answers come when they are guessed ahead: `python -m tests.bench.lookup [--rounds 3] [--tokens 500]`.

Six tasks, from copying to free chat, are answered by two workers in turns, with drafts and without. The GGUF is that of
QWENCHAT_REAL_MODEL: noise has nothing to guess. A bare loop over llama.cpp at the same depth, as llama-bench has it, is
timed in the same rounds. Speeds are medians, and only their ratios are printed. Processor time is the worker's: it
says the same on a busy machine. The answers are greedy. They differ only where two tokens were equally likely but for
rounding; the table says after how many tokens, and how far apart their log probabilities were.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from msgspec.structs import replace

import qwenchat
from qwenchat.chat.prompt import Turn
from qwenchat.engines.local.bench import BenchEngine, BenchRun
from qwenchat.engines.local.devices import usable_cores
from qwenchat.engines.local.saved_kv import SavedKV
from tests.fakes.engines import LIKELIEST, Answer, answer, planned, questions, read, request

PACKAGE = Path(qwenchat.__file__).parent
CODE = "\n".join((PACKAGE / "engines/worker/detokenizer.py").read_text("utf-8").splitlines()[11:51])
PAGE = (PACKAGE.parent / "docs/en/documents.md").read_text("utf-8")[:4000]
PARAGRAPH = (
    "我叫李雷，住在上海。每天早上我七点起床，先喝一杯茶，再骑自行车去上班。我在一家书店工作，"
    "最喜欢的是给孩子们推荐故事书。晚上我常常和朋友一起做饭，周末我会去公园画画。"
)
PEOPLE = "\n".join(
    f"{name}, {age}, {city}"
    for name, age, city in (
        ("Ada Byron", 36, "London"),
        ("Li Lei", 30, "Shanghai"),
        ("Grace Murray", 41, "New York"),
        ("Han Meimei", 29, "Beijing"),
        ("Alan Mathison", 41, "Manchester"),
        ("Wang Fang", 52, "Guangzhou"),
        ("Emmy Noether", 53, "Erlangen"),
        ("Sofia Kowalewski", 41, "Stockholm"),
    )
)
FUNCTION = """def merged(one, other):
    result = []
    while one and other:
        result.append((one if one[0] <= other[0] else other).pop(0))
    return result + one + other"""
TASKS = {
    "rewrite 40 lines with one name changed": f"Rename StopString to EndMarker. Write the whole code.\n\n{CODE}",
    "quote from a page": f"Quote the first three paragraphs of this page word for word.\n\n{PAGE}",
    "a Chinese paragraph in the third person": f"把下面这段话改成第三人称，其余不变。\n\n{PARAGRAPH}",
    "a list to JSON": f"Write this list as JSON, an array of objects with name, age and city.\n\n{PEOPLE}",
    "a docstring for a function": f"Add a docstring to this function and return all of it.\n\n{FUNCTION}",
    "free chat": "Tell me about the history of the bicycle, and what it changed in people's lives.",
}


@dataclass
class Measured:
    """What one way to answer a task took, a value for each round."""

    answers: list[Answer] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return statistics.median(each.timings.decode_tps for each in self.answers)

    @property
    def processor(self) -> float:
        """Seconds of the processor for a token."""
        return statistics.median(self.processor_s) / len(self.answers[0].ids)


@asynccontextmanager
async def worker(model: Path, folder: Path, *, drafts: bool) -> AsyncIterator[BenchEngine]:
    """Run an engine whose model is loaded."""
    made = BenchEngine(
        lambda devices: planned(model, drafts=drafts, threads=usable_cores()),
        folder / f"{drafts}.log",
        SavedKV(folder / f"{drafts}", 0),
    )
    try:
        await made.load()
        yield made
    finally:
        await made.close()


async def measure(engine: BenchEngine, task: str, tokens: int, into: Measured) -> None:
    """Answer a task once."""
    turns: list[Turn] = questions(task)
    await answer(engine, turns, replace(LIKELIEST, max_tokens=1))  # the prompt is prefilled
    process = psutil.Process(engine.worker_pid)
    before = process.cpu_times()
    into.answers.append(await answer(engine, turns, replace(LIKELIEST, max_tokens=tokens)))
    after = process.cpu_times()
    into.processor_s.append(after.user + after.system - before.user - before.system)


async def compare(model: Path, folder: Path, rounds: int, tokens: int) -> None:
    """Print a row for each task."""
    print("| task | tokens | steps | guessed | to without | processor time | to the bare loop | first difference |")
    print("|---|---|---|---|---|---|---|---|")
    async with worker(model, folder, drafts=True) as guessing, worker(model, folder, drafts=False) as plain:
        for name, task in TASKS.items():
            ahead, one_by_one, bare = Measured(), Measured(), list[float]()
            for _round in range(rounds):
                await measure(guessing, task, tokens, ahead)
                await measure(plain, task, tokens, one_by_one)
                last = one_by_one.answers[-1]
                run = BenchRun(generate=len(last.ids), depth=last.usage.prompt_tokens)
                bare += (await plain.measure(run, 1)).speeds
            usage, ids = ahead.answers[-1].usage, ahead.answers[-1].ids
            cells = (
                name,
                len(ids),
                len(ids) - usage.accepted_tokens,
                f"{usage.accepted_tokens} of {usage.drafted_tokens}",
                f"{ahead.speed / one_by_one.speed:.2f}",
                f"{ahead.processor / one_by_one.processor:.2f}",
                f"{ahead.speed / statistics.median(bare):.2f}",
                await difference(plain, task, ids, one_by_one.answers[-1].ids),
            )
            print("|", " | ".join(map(str, cells)), "|", flush=True)


async def difference(engine: BenchEngine, task: str, one: tuple[int, ...], other: tuple[int, ...]) -> str:
    """Return where two answers differ first, in tokens, and by how much the model preferred one of the two."""
    place = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if place is None:
        return "none" if one == other else f"{min(len(one), len(other))}, an end"
    generation = engine.generate(request(questions(task), replace(LIKELIEST, max_tokens=place + 1), chances=5))
    chances = [each for delta in (await read(generation)).deltas for each in delta.chances][place]
    found = {each.token_id: each.logprob for each in chances}
    if not {one[place], other[place]} <= found.keys():
        return f"{place}, far apart"
    return f"{place}, {abs(found[one[place]] - found[other[place]]):.3f} apart"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=500)
    options = parser.parse_args()
    if not (model := os.environ.get("QWENCHAT_REAL_MODEL")):
        parser.error("QWENCHAT_REAL_MODEL names no GGUF")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(Path(model), Path(folder), options.rounds, options.tokens))


if __name__ == "__main__":
    main()
