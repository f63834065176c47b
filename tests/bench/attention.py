"""What a token costs after a long text, with flash attention and with stored scores.

    python -m tests.bench.attention [--model FILE] [--depths 512 1024 4096 8192] [--threads 1]

Two contexts of one process are filled to each depth, in turns; then steps of a few tokens are decoded there, as answers
and their drafts are. Times are processor seconds, which with one thread are the same on a busy machine. The model is
`--model`, else QWENCHAT_REAL_MODEL, else a synthetic one. Prints a Markdown table; each cell has stored scores, flash
attention, and how many times as long the latter takes.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from qwenchat.engines.worker.llama import LlamaModel, Step
from tests.bench.busy import load, tokens
from tests.bench.synthetic import model_file

_SIZES = (1, 4, 8, 32)
_ROUNDS = 5


def fill(model: LlamaModel, depth: int) -> float:
    """Decode up to a depth as a prompt is, and return the milliseconds of one token."""
    slot = model.slots[0]
    count, began = depth - len(slot.cached), time.process_time()
    assert model.decode_all(tokens(depth)[len(slot.cached) :])
    return 1000 * (time.process_time() - began) / count


def step(model: LlamaModel, size: int) -> float:
    """Return the milliseconds of one step of so many tokens with all logits, at the present depth."""
    slot = model.slots[0]
    depth, began = len(slot.cached), time.process_time()
    assert model.decode(Step(slot, tokens(size), all_logits=True))
    spent = time.process_time() - began
    slot.truncate(depth)
    return 1000 * spent


def compare(path: Path, depths: Sequence[int], threads: int) -> None:
    """Print the table."""
    ways = [load(path, max(depths) + 256, threads, flash_attention=flash) for flash in (False, True)]
    for model in ways:
        fill(model, 64)
    print("| depth | prefill, ms a token | " + " | ".join(f"step of {size}, ms" for size in _SIZES) + " |")
    print("|---|" + "---|" * (len(_SIZES) + 1))
    for depth in sorted(depths):
        cells = [[fill(model, depth) for model in ways]]
        for size in _SIZES:
            rounds = [[step(model, size) for model in ways] for _round in range(_ROUNDS)]
            cells.append([min(found) for found in zip(*rounds, strict=True)])
        row = (f"{stored:.1f}, {flash:.1f}: {flash / stored:.2f}" for stored, flash in cells)
        print(f"| {depth:,} | " + " | ".join(row) + " |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=os.environ.get("QWENCHAT_REAL_MODEL"))
    parser.add_argument("--depths", type=int, nargs="+", default=[512, 1024, 4096, 8192])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    path = Path(options.model) if options.model else model_file(Path(tempfile.gettempdir()) / "qwenchat-bench")
    compare(path, options.depths, options.threads)


if __name__ == "__main__":
    main()
