"""Trains the guide from its corpus: `python -m training.guide.train`, with the extra `guide` installed.

Two cores take less than ninety minutes. The same seed, libraries, machine and number of processes give the same file.
The sets in `judged/` are read only to keep their questions out of training. Wordings held out of the corpus show the
progress, and `python -m tests.bench.guide` evaluates the result.

After the corpus has grown, `--start` trains a model on, with its vocabulary, and `--favour` names the topics that it
does not know yet. With `--checkpoint` a training can be ended and resumed.
"""

import argparse
import math
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.distributed.checkpoint.stateful import Stateful
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qwenchat.chat.prompt import Turn
from training.guide.corpus import DEFAULT_SYSTEM, LANGUAGES, Wording, answers, judged_questions, wordings
from training.guide.dialogues import Dialogues
from training.guide.lean import lean
from training.guide.muon import Muon
from training.guide.network import Qwen2, Shape
from training.guide.tokens import Codec, Encoded, encode
from training.guide.write import read, write

BATCH_TOKENS = 1536
"""Per process."""
HELD_OUT = 40
"""One line in this many is held out to show the progress."""
AVERAGING = 0.998
"""Decay of the running mean of the weights, which is the result."""
TOPIC_WEIGHT = 0.5
"""Weight of the loss for predicting the topic at every token of a question, which teaches words early in a sentence."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of the training."""

    share: float
    """Share of all steps."""
    brief: bool
    """Only questions and answers, without system prompt and earlier turns: three times as many per second."""
    cut: int
    """Number of tokens that identify an answer: its heading."""
    whole: float
    """Share of answers that are learnt to their end."""
    outside: float
    """Share of questions that must be refused."""
    dropout: float
    bpe_dropout: float


PHASES = (
    Phase(0.56, brief=True, cut=2, whole=0.0, outside=0.4, dropout=0.0, bpe_dropout=0.0),
    Phase(0.37, brief=False, cut=3, whole=0.12, outside=0.4, dropout=0.05, bpe_dropout=0.03),
    Phase(0.07, brief=False, cut=3, whole=0.4, outside=0.5, dropout=0.0, bpe_dropout=0.02),
)
"""First which answer belongs to which words; then system prompts, later turns, whole answers and unusual spellings;
last the exact text of the answers.

Without the first phase, the second learns next to nothing in its first ten minutes.
"""
FURTHER = (
    Phase(0.4, brief=True, cut=3, whole=0.05, outside=0.4, dropout=0.0, bpe_dropout=0.0),
    Phase(0.4, brief=False, cut=3, whole=0.2, outside=0.4, dropout=0.0, bpe_dropout=0.02),
    Phase(0.2, brief=False, cut=3, whole=0.5, outside=0.5, dropout=0.0, bpe_dropout=0.02),
)
"""The same for a model that knows most of the corpus: more of the text of answers, as that is what has changed."""
CHECKPOINT_STEPS = 500


@dataclass(frozen=True, slots=True)
class Batch:
    """Several conversations, padded to the same length."""

    ids: Tensor
    """(conversations, tokens)"""
    learnt: Tensor
    """Whether each token is learnt: (conversations, tokens)."""
    asked: Tensor
    """Whether each token belongs to the last question: (conversations, tokens)."""
    topics: Tensor
    """The topic of that question: (conversations,)."""


class Lesson(nn.Module):
    """The network and its loss on a batch."""

    def __init__(self, network: Qwen2, topics: int) -> None:
        super().__init__()
        self.network = network
        self.topic = nn.Linear(network.shape.width, topics)

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss on the tokens of the answers plus the weighted loss on the topics."""
        x, wanted, asked = self.network.read(batch.ids[:, :-1]), batch.learnt[:, 1:], batch.asked[:, :-1]
        said = F.cross_entropy(self.network(x[wanted]), batch.ids[:, 1:][wanted])
        topics = batch.topics[:, None].expand(asked.shape)[asked]
        return said + TOPIC_WEIGHT * F.cross_entropy(self.topic(x[asked]), topics)


def main() -> None:
    """Train in several processes, each with its own questions, and write the model file."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_work, (options, f"file://{folder}/meet"), nprocs=options.processes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("qwenchat/models/guide/guide.gguf"))
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--processes", type=int, default=2, help="One thread each; one per core is best.")
    parser.add_argument("--rate", type=float, default=1e-2, help="Learning rate; matrices have twice this rate.")
    parser.add_argument("--vocabulary", type=int, default=3584)
    parser.add_argument("--start", type=Path, help="Train this model on.")
    parser.add_argument("--favour", default="", help="Topics, with commas, that are asked three times as often.")
    parser.add_argument("--checkpoint", type=Path, help="Save the state here now and then, and go on from it.")
    return parser.parse_args()


def _work(rank: int, options: argparse.Namespace, meeting: str) -> None:
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=options.processes)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    lines = wordings()
    random.Random(options.seed).shuffle(lines)
    held, taught = lines[::HELD_OUT], [line for at, line in enumerate(lines) if at % HELD_OUT]
    favoured = frozenset(filter(None, options.favour.split(",")))
    dialogues = Dialogues(taught, random.Random(options.seed), avoided=judged_questions(), favoured=favoured)
    if options.start:
        network, codec = read(options.start)
    else:
        drawn = (turn.text for _draw in range(60_000) for turn in dialogues.draw()[1:])
        codec = Codec.trained(drawn, options.vocabulary)
        network = Qwen2(Shape(len(codec.tokens)))
    if rank == 0:
        print(
            f"{sum(weight.numel() for weight in network.parameters()):,} parameters, {len(taught):,} lines", flush=True
        )
    kept = train(network, dialogues, codec, options, held if rank == 0 else [])
    if rank == 0:
        lean(kept, codec, held)
        write(kept, codec, options.out)
    distributed.destroy_process_group()


def train(
    network: Qwen2, dialogues: Dialogues, codec: Codec, options: argparse.Namespace, held: list[Wording]
) -> Qwen2:
    """Train on a cosine schedule; return the network with its weights averaged over the last steps.

    The process that has held-out wordings prints the progress.
    """
    lesson = Lesson(network, len(dialogues.answers))
    together, optimisers = DistributedDataParallel(lesson), _optimisers(lesson, options.rate)
    kept = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGING))
    saved = [lesson, kept, *optimisers]
    step = _resumed(options.checkpoint, saved)
    dialogues.chance.seed(options.seed + distributed.get_rank() + options.processes * step)
    started, total, until = time.monotonic(), 0.0, 0.0
    for phase in FURTHER if options.start else PHASES:
        until += phase.share * options.steps
        network.set_dropout(phase.dropout)
        dialogues.outside_share = phase.outside
        batches = _batches(dialogues, codec, phase)
        while step < round(until):
            step += 1
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = group["initial_lr"] * _schedule(step, options.steps)
            total += _step(together, next(batches), optimisers)
            kept.update_parameters(network)
            if held and step % 2000 == 0:
                right = hits(kept.module, held, codec, phase)
                print(
                    f"{step} {time.monotonic() - started:.0f} s, loss {total / 2000:.4f}, held out: {right}", flush=True
                )
                total = 0.0
            if held and options.checkpoint and step % CHECKPOINT_STEPS == 0:
                _save(options.checkpoint, step, saved)
    return kept.module.eval()


def _resumed(checkpoint: Path | None, parts: Sequence[Stateful]) -> int:
    """Load the state of a training that was ended; return how many steps it had."""
    if not checkpoint or not checkpoint.exists():
        return 0
    state = torch.load(checkpoint)
    for part, values in zip(parts, state["parts"], strict=True):
        part.load_state_dict(values)
    step: int = state["step"]
    return step


def _save(checkpoint: Path, step: int, parts: Sequence[Stateful]) -> None:
    fresh = checkpoint.with_suffix(".new")
    torch.save({"step": step, "parts": [part.state_dict() for part in parts]}, fresh)
    fresh.replace(checkpoint)


def _optimisers(lesson: Lesson, rate: float) -> list[torch.optim.Optimizer]:
    matrices = [weight for weight in lesson.network.blk.parameters() if weight.dim() == 2]
    known = {id(weight) for weight in matrices}
    others = [weight for weight in lesson.parameters() if id(weight) not in known]
    made = [Muon(matrices, 2 * rate), torch.optim.AdamW(others, rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)]
    for optimiser in made:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
    return made


def _schedule(step: int, steps: int) -> float:
    return min(1.0, step / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)


def _step(lesson: DistributedDataParallel, batch: Batch, optimisers: list[torch.optim.Optimizer]) -> float:
    lesson.train()
    loss = lesson(batch)
    lesson.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(lesson.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
    return float(loss.item())


def _batches(dialogues: Dialogues, codec: Codec, phase: Phase) -> Iterator[Batch]:
    """Yield conversations of about equal lengths in one batch."""
    chance, rough, exact = dialogues.chance, codec.encoder(phase.bpe_dropout or None), codec.encoder()
    topics = {text: at for at, known in enumerate(dialogues.answers.values()) for text in known.values()}
    while True:
        drawn = []
        for _draw in range(2000):
            turns = dialogues.draw()
            cut = 0 if chance.random() < phase.whole else phase.cut
            one = encode(turns[-2:] if phase.brief else turns, codec, rough, exact, cut=cut)
            drawn.append((one, topics[turns[-1].text]))
        drawn.sort(key=lambda pair: len(pair[0].ids))
        groups: list[list[tuple[Encoded, int]]] = [[]]
        for pair in drawn:
            if len(pair[0].ids) * (len(groups[-1]) + 1) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(pair)
        chance.shuffle(groups)
        yield from (_padded(group, codec) for group in groups if group)


def _padded(group: list[tuple[Encoded, int]], codec: Codec) -> Batch:
    longest = max(len(one.ids) for one, _topic in group)
    pad = codec.special("<|endoftext|>")
    ids = torch.tensor([one.ids + [pad] * (longest - len(one.ids)) for one, _topic in group])
    learnt = torch.tensor([one.learnt + [False] * (longest - len(one.learnt)) for one, _topic in group])
    asked = torch.tensor([[one.asked[0] <= at < one.asked[1] - 1 for at in range(longest)] for one, _topic in group])
    return Batch(ids, learnt, asked, torch.tensor([topic for _one, topic in group]))


@torch.no_grad()
def hits(network: Qwen2, held: list[Wording], codec: Codec, phase: Phase) -> str:
    """Return for how many held-out wordings the first token of the answer is right, as text."""
    network.eval()
    exact, right = codec.encoder(), {language: [0, 0] for language in LANGUAGES}
    known = answers()
    for wording in held:
        asked = Turn("user", wording.drawn(random.Random(1)))
        turns = [asked, Turn("assistant", known[wording.topic][wording.language])]
        whole = encode(turns if phase.brief else [Turn("system", DEFAULT_SYSTEM), *turns], codec, exact, exact)
        first = whole.asked[1]
        said = int(network(network.read(torch.tensor([whole.ids[:first]]))[0, -1]).argmax())
        right[wording.language][0] += said == whole.ids[first]
        right[wording.language][1] += 1
    return ", ".join(f"{language} {good} of {count}" for language, (good, count) in right.items())


if __name__ == "__main__":
    main()
