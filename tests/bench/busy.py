"""What decode and prefill cost beside other programs, and what a token costs by the size of its step.

    python -m tests.bench.busy [--model FILE] [--burners 6] [--rounds 3] [--threads 2] [--beside-screen]
    python -m tests.bench.busy --engine [--prompts 512 1028 4096 16384] [--rounds 3]
    python -m tests.bench.busy --steps [--depths 0 4096 8192 16384] [--sizes 32 64 128 256 512 1024 2048]

The first compares, in turns in one process, quiet and beside `--burners` programs that only compute:

- decode with all threads always, as before, and with the number that `worker/threads.py` chooses;
- prefill in steps sized by seconds, as before, and in steps of 512 tokens.

The second compares, in turns in one worker, the prefill of a request with a bare loop over llama.cpp, as llama-bench
has it (`TimeRun`), quiet and busy. The third prints processor seconds for a thousand tokens. With one thread, which
never spins, they are the same on a busy machine. The model is `--model`, else QWENCHAT_REAL_MODEL, else a synthetic
one. Prints Markdown tables.
"""

import argparse
import asyncio
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from qwenchat.engines.local.bench import BenchEngine, BenchRun, random_tokens
from qwenchat.engines.local.devices import usable_cores
from qwenchat.engines.local.protocol import LoadPlan
from qwenchat.engines.local.saved_kv import SavedKV
from qwenchat.engines.worker import llama
from qwenchat.engines.worker.c_api import Abort, bindings
from qwenchat.engines.worker.llama import LlamaModel, Step
from tests.bench.synthetic import model_file
from tests.fakes.engines import planned

_BURN = "while True: pass"


def load(
    path: Path, n_ctx: int, threads: int, *, beside_screen: bool = False, flash_attention: bool = False
) -> LlamaModel:
    """Load a model as the worker does, without AMX, which some builds crash with."""
    plan = LoadPlan(
        path=os.fsencode(path),
        identity="",
        n_ctx=n_ctx,
        threads=threads,
        extra_buffers=False,
        beside_screen=beside_screen,
        flash_attention=flash_attention,
    )
    return LlamaModel(bindings(), plan, Abort(), lambda fraction: True)


@contextmanager
def burning(count: int) -> Iterator[None]:
    """Run programs that only compute."""
    programs = [subprocess.Popen([sys.executable, "-c", _BURN]) for _number in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def tokens(count: int) -> "array[int]":
    """Return tokens; which ones hardly affects the speed."""
    return array("i", [1000 + number * 7919 % 30_000 for number in range(count)])


def decode(model: LlamaModel, count: int, *, all_threads: bool) -> float:
    """Return the tokens per second of `count` tokens, one after another."""
    model.slots[0].truncate(64)
    started = time.perf_counter()
    for token in tokens(count):
        assert model.decode(Step(model.slots[0], array("i", [token]), is_exact=all_threads))
    return count / (time.perf_counter() - started)


def prefill(
    model: LlamaModel, count: int, size: Callable[[int, float], int], *, all_threads: bool
) -> tuple[float, float]:
    """Return seconds and processor seconds of a prefill; `size` says how many of the rest are in the next step.

    It is also called with the speed of the step before.
    """
    model.slots[0].truncate(0)
    rest, speed = tokens(count), 0.0
    started, computed = time.perf_counter(), time.process_time()
    while rest:
        step = rest[: size(len(rest), speed)]
        began = time.perf_counter()
        assert model.decode(Step(model.slots[0], step, is_exact=all_threads))
        speed = len(step) / (time.perf_counter() - began)
        rest = rest[len(step) :]
    return time.perf_counter() - started, time.process_time() - computed


def even(rest: int, _speed: float) -> int:
    """Return the size of a step as it is now: at most 512 tokens, even steps."""
    return math.ceil(rest / math.ceil(rest / 512))


def by_seconds(rest: int, speed: float) -> int:
    """Return the size of a step as it was before: about two seconds, four where that is more efficient, even steps."""
    if not speed:
        return 32 if rest > 64 else rest
    wanted = max(2 * speed, min(128, 4 * speed), 32)
    return math.ceil(rest / math.ceil(rest / min(512, wanted)))


def compare(options: argparse.Namespace, path: Path) -> None:
    """Print what changed, quiet and busy."""
    longest = max(options.prompts)
    model = load(path, longest + 256, options.threads, beside_screen=options.beside_screen)
    model.decode(Step(model.slots[0], tokens(64)))
    print(f"{options.threads} threads, {os.cpu_count()} cores, {options.burners} burning programs, medians\n")
    print("| machine | measure | before | now | now/before |\n|---|---|---|---|---|")
    for name, burners in (("quiet", 0), ("busy", options.burners)):
        with burning(burners):
            for count in options.prompts:
                _compare_prefills(name, model, count, options)
            model.slots[0].truncate(0)
            model.decode(Step(model.slots[0], tokens(64)))
            ways: dict[str, list[float]] = {"before": [], "now": []}
            for _round in range(options.rounds):
                for way, found in ways.items():
                    found.append(decode(model, options.tokens, all_threads=way == "before"))
            before, now = (statistics.median(found) for found in ways.values())
            print(f"| {name} | decode, tokens/s | {before:.2f} | {now:.2f} | {now / before:.3f} |", flush=True)


def _compare_prefills(name: str, model: LlamaModel, count: int, options: argparse.Namespace) -> None:
    ways: dict[str, list[tuple[float, float]]] = {"before": [], "now": []}
    for _round in range(options.rounds):
        ways["before"].append(prefill(model, count, by_seconds, all_threads=True))
        ways["now"].append(prefill(model, count, even, all_threads=False))
    for place, unit in enumerate(("s", "processor s")):
        before, now = (statistics.median(each[place] for each in found) for found in ways.values())
        row = f"| {name} | prefill of {count:,}, {unit} | {before:.2f} | {now:.2f} | {now / before:.3f} |"
        print(row, flush=True)


async def through_engine(options: argparse.Namespace, path: Path, folder: Path) -> None:
    """Print the prefill of requests beside that of a bare loop in the same worker."""
    made = BenchEngine(
        lambda devices: planned(path, n_ctx=max(options.prompts) + 256, threads=options.threads),
        folder / "engine.log",
        SavedKV(folder / "kv", 0),
    )
    print("| machine | prefill, tokens | bare loop, s | our engine, s | bare/ours |\n|---|---|---|---|---|")
    try:
        await made.first_token(random_tokens(1000, 256, 0))
        for name, burners in (("quiet", 0), ("busy", options.burners)):
            with burning(burners):
                for count in options.prompts:
                    loop, ours = [], []
                    for number in range(options.rounds):
                        (spent,) = (await made.measure(BenchRun(prompt=count), 1)).nanoseconds
                        loop.append(spent / 1e9)
                        ours.append(await made.first_token(random_tokens(1000, count, 10 * count + number)))
                    bare, engine = statistics.median(loop), statistics.median(ours)
                    print(f"| {name} | {count:,} | {bare:.2f} | {engine:.2f} | {bare / engine:.3f} |", flush=True)
    finally:
        await made.close()


def cost(path: Path, depths: Sequence[int], sizes: Sequence[int], threads: int) -> None:
    """Print the processor seconds of a thousand tokens by size of the step and depth."""
    with patch.object(llama, "CHUNK", max(sizes)):
        model = load(path, max(depths) + 2 * max(sizes), threads)
    slot, fill = model.slots[0], tokens(max(depths))
    model.decode(Step(slot, tokens(64)))
    slot.truncate(0)
    print("| depth | " + " | ".join(map(str, sizes)) + " |\n|---|" + "---|" * len(sizes))
    for depth in sorted(depths):
        slot.truncate(depth)
        while len(slot.cached) < depth:
            model.decode(Step(slot, fill[len(slot.cached) :][: min(512, depth - len(slot.cached))]))
        cells = []
        for size in sizes:
            many = max(1, 512 // size)
            slot.truncate(depth)
            computed = time.process_time()
            for _step in range(many):
                model.decode(Step(slot, tokens(size)))
            cells.append(f"{(time.process_time() - computed) / many / size * 1000:.2f}")
        print(f"| {depth:,} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=os.environ.get("QWENCHAT_REAL_MODEL"))
    parser.add_argument("--burners", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompts", type=int, nargs="+", default=[512, 1028, 4096])
    parser.add_argument("--beside-screen", action="store_true")
    parser.add_argument("--engine", action="store_true")
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--depths", type=int, nargs="+", default=[0, 4096, 8192, 16384])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 256, 512, 1024, 2048])
    options = parser.parse_args()
    path = Path(options.model) if options.model else model_file(Path(tempfile.gettempdir()) / "qwenchat-bench")
    if options.steps:
        cost(path, options.depths, options.sizes, options.threads or 1)
        return
    options.threads = options.threads or usable_cores()
    if options.engine:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(through_engine(options, path, Path(folder)))
    else:
        compare(options, path)


if __name__ == "__main__":
    main()
