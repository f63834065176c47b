"""What a draft model costs and gains: `python -m tests.bench.drafts [--layers 216] [--rounds 3] [--tokens 200]`.

The small model is that of QWENCHAT_REAL_MODEL. The large one says the same and takes as long as its layers make it: it
is the small one with more layers whose output is zero. So what is drafted is always right; to see what other draft
models would do, a share of their tokens is replaced by wrong ones, as the table says. With 216 more layers, a model of
0.5B reads as much for a token as one of 3B, with 400 as one of 5B. The answers with a draft model and without come in
turns, and only ratios of medians are printed. Processor time says the same on a busy machine.
"""

import argparse
import os
import random
import statistics
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest.mock import patch

import psutil
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from msgspec.structs import replace

from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.devices import usable_cores
from qwenchat.engines.local.protocol import DraftModel
from qwenchat.engines.worker.draft_account import DraftPause
from qwenchat.engines.worker.draft_model import ModelDrafts
from qwenchat.engines.worker.llama import LlamaModel
from tests.bench.lookup import TASKS
from tests.fakes.answering import Run, answered, load
from tests.fakes.engines import LIKELIEST

ASKED = ("free chat", "a docstring for a function")
SHARES = (1.0, 0.9, 0.8, 0.6, 0.0)
"""Of the drafted tokens that stay right."""
_SILENT = ("attn_output.weight", "ffn_down.weight")
"""What a layer adds to the residual stream goes through these."""


def deepened(path: Path, real: Path, more: int) -> None:
    """Write a model with `more` layers that change nothing."""
    source = GGUFReader(real)
    arch = source.fields["general.architecture"].contents()
    count = source.fields[f"{arch}.block_count"].contents()
    writer = GGUFWriter(path, arch)
    for name, each in source.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value, kind = each.contents(), each.types[0]
        value = count + more if name == f"{arch}.block_count" else value
        writer.add_key_value(name, value, kind, each.types[-1] if kind is GGUFValueType.ARRAY else None)
    tensors = {tensor.name: tensor for tensor in source.tensors}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
    for layer in range(count, count + more):
        for name, tensor in tensors.items():
            if name.startswith(like := f"blk.{layer % count}."):
                part = name.removeprefix(like)
                data = tensor.data * 0 if part in _SILENT else tensor.data
                writer.add_tensor(f"blk.{layer}.{part}", data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextmanager
def right_by(share: float) -> Iterator[None]:
    """Leave so much of what is drafted right."""
    chance, draft = random.Random(0), ModelDrafts.draft

    def spoiled(drafts: ModelDrafts, most: int) -> "array[int]":
        return array("i", (token if chance.random() < share else 0 for token in draft(drafts, most)))

    with patch.object(ModelDrafts, "draft", spoiled):
        yield


@dataclass
class Measured:
    """Answers to one task, one for each round."""

    runs: list[Run] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)

    def add(self, answer: Callable[[], Run]) -> None:
        before = psutil.Process().cpu_times()
        self.runs.append(answer())
        after = psutil.Process().cpu_times()
        self.processor_s.append(after.user + after.system - before.user - before.system)

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return statistics.median(run.done.timings.decode_tps for run in self.runs)

    @property
    def processor(self) -> float:
        """Seconds of the processor for a token."""
        tokens = statistics.median(run.done.usage.completion_tokens for run in self.runs)
        return statistics.median(self.processor_s) / tokens


def prompt_of(model: LlamaModel, task: str) -> "array[int]":
    marked = f"<|im_start|>user\n{task}<|im_end|>\n<|im_start|>assistant\n"
    return model.vocabulary.tokenise(marked, special=True)


def compare(large: LlamaModel, rounds: int, sampling: Sampling) -> None:
    """Print a row for each task and share."""
    small = large.draft_model
    if small is None:
        raise SystemExit(f"the draft model is not used: {large.draft_fault}")
    print("| task | right | tokens | steps | accepted | speed to without | processor time | first token |")
    print("|---|---|---|---|---|---|---|---|")
    for name in ASKED:
        prompt = prompt_of(large, TASKS[name])
        answered(large, prompt, replace(sampling, max_tokens=8))  # the prompt is prefilled
        for share in SHARES:
            drafted, plain = Measured(), Measured()
            large.draft_pause = DraftPause()  # each row is a chat, and its rounds are answers
            for _round in range(rounds):
                small.slots[0].truncate(0)
                with right_by(share):
                    drafted.add(partial(answered, large, prompt, sampling))
                large.draft_model = None
                plain.add(partial(answered, large, prompt, sampling))
                large.draft_model = small
            usage, first = drafted.runs[-1].done.usage, (drafted.runs[-1].done.timings, plain.runs[-1].done.timings)
            cells = (
                name,
                f"{share:.0%}",
                usage.completion_tokens,
                len(drafted.runs[-1].steps),
                f"{usage.accepted_tokens} of {usage.drafted_tokens}",
                f"{drafted.speed / plain.speed:.2f}",
                f"{drafted.processor / plain.processor:.2f}",
                f"{first[0].ttft_s:.2f} s, {first[1].ttft_s:.2f} s",
            )
            print("|", " | ".join(map(str, cells)), "|", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=216)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=200)
    options = parser.parse_args()
    if not (real := os.environ.get("QWENCHAT_REAL_MODEL")):
        parser.error("QWENCHAT_REAL_MODEL names no GGUF")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deep.gguf"
        deepened(path, Path(real), options.layers)
        draft = DraftModel(path=os.fsencode(real), name="small")
        large = load(path, n_ctx=4096, threads=usable_cores(), draft=draft)
        compare(large, options.rounds, replace(LIKELIEST, max_tokens=options.tokens))


if __name__ == "__main__":
    main()
