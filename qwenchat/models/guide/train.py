"""Trains the guide from its corpus: `python -m qwenchat.models.guide.train`, with the extra `guide` installed, and then
once more with `--tune`.

One core takes little more than an hour for both. The same seed, libraries and machine give the same file. The sets in
`judged/` are read only to keep their questions out: wordings held out of the corpus tell how the training goes, and
`python -m tests.bench.guide` judges the result.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from qwenchat.chat.prompt import DEFAULT_SYSTEM, Turn
from qwenchat.models.guide.corpus import LANGUAGES, Wording, answers, judged_questions, wordings
from qwenchat.models.guide.dialogues import Dialogues
from qwenchat.models.guide.network import Qwen2, Shape
from qwenchat.models.guide.read import read
from qwenchat.models.guide.tokens import Codec, Encoded, encode
from qwenchat.models.guide.write import write

Batch = tuple[Tensor, Tensor]
"""Ids, and which of them are learnt, both (conversations, tokens)."""
BATCH_TOKENS = 1024
HELD_OUT = 40
"""One line in so many tells how the training goes."""
AVERAGED_OVER = 600
"""Steps over which the weights that are kept are averaged."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of the training."""

    share: float
    """Of all steps."""
    brief: bool
    """Questions and answers alone, without system prompt and past: three times as many a second."""
    cut: int
    """Tokens of an answer within which the choice between all answers has been made: its heading."""
    whole: float
    """How often an answer is learnt to its end."""
    outside: float
    """How often a question is one that must be refused."""
    dropout: float
    bpe_dropout: float


PHASES = (
    Phase(0.5, brief=True, cut=2, whole=0.0, outside=0.4, dropout=0.0, bpe_dropout=0.0),
    Phase(0.5, brief=False, cut=3, whole=0.12, outside=0.4, dropout=0.05, bpe_dropout=0.03),
)
"""First what belongs to which words, then the manners: system prompts, later turns, whole answers, unusual spellings.

The second alone learns next to nothing in its first ten minutes.
"""
TUNING = (Phase(1.0, brief=False, cut=3, whole=0.12, outside=0.55, dropout=0.05, bpe_dropout=0.03),)
"""A guide that knows the program takes too much for its own: it is shown more that must be refused."""


def main() -> None:
    """Train, saying now and then how it goes, and write the file."""
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    chance = random.Random(options.seed)
    lines = wordings()
    chance.shuffle(lines)
    held, taught = lines[::HELD_OUT], [line for at, line in enumerate(lines) if at % HELD_OUT]
    dialogues = Dialogues(taught, chance, avoided=judged_questions())
    if options.tune:
        network, codec = read(options.out)
    else:
        drawn = (turn.text for _draw in range(60_000) for turn in dialogues.draw()[1:])
        codec = Codec.trained(drawn, options.vocabulary)
        network = Qwen2(Shape(len(codec.tokens)))
    print(f"{sum(weight.numel() for weight in network.parameters()):,} parameters, {len(taught):,} lines", flush=True)
    averaged = train(network, dialogues, codec, options, held)
    if options.tune:
        _average(averaged, read(options.out)[0], 0.5)  # the mean of before and after is better than either
    write(averaged, codec, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("guide.gguf"))
    parser.add_argument("--tune", action="store_true", help="Train the file that is there on, for the last part.")
    parser.add_argument("--steps", type=int, help="42,000; 12,000 with --tune.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="One is as fast as two: the matrices are small.")
    parser.add_argument("--rate", type=float, help="3e-3; 1e-3 with --tune.")
    parser.add_argument("--vocabulary", type=int, default=3584)
    options = parser.parse_args()
    options.steps = options.steps or (12_000 if options.tune else 42_000)
    options.rate = options.rate or (1e-3 if options.tune else 3e-3)
    return options


def train(
    network: Qwen2, dialogues: Dialogues, codec: Codec, options: argparse.Namespace, held: list[Wording]
) -> Qwen2:
    """Train with AdamW and a cosine schedule; return the network with its weights averaged over the last steps."""
    decayed = [weight for weight in network.parameters() if weight.dim() == 2]
    others = [weight for weight in network.parameters() if weight.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98))
    kept = Qwen2(network.shape)
    kept.load_state_dict(network.state_dict())
    started, total, step, until = time.monotonic(), 0.0, 0, 0.0
    for phase in TUNING if options.tune else PHASES:
        until += phase.share * options.steps
        network.set_dropout(phase.dropout)
        dialogues.outside_share = phase.outside
        batches = _batches(dialogues, codec, phase)
        while step < round(until):
            step += 1
            for group in optimiser.param_groups:
                group["lr"] = options.rate * _schedule(step, options.steps)
            total += _step(network, next(batches), optimiser)
            _average(kept, network, min(1 - 1 / AVERAGED_OVER, 1 - 1 / step))
            if step % 2000 == 0 or step == options.steps:
                right = hits(kept, held, codec, phase)
                print(
                    f"{step} {time.monotonic() - started:.0f} s, loss {total / 2000:.4f}, held out: {right}", flush=True
                )
                total = 0.0
    return kept.eval()


def _schedule(step: int, steps: int) -> float:
    return min(1.0, step / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)


def _step(network: Qwen2, batch: Batch, optimiser: torch.optim.Optimizer) -> float:
    ids, learnt = batch
    network.train()
    wanted = learnt[:, 1:]
    loss = F.cross_entropy(network(ids[:, :-1], wanted), ids[:, 1:][wanted])
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    return float(loss.item())


@torch.no_grad()
def _average(kept: Qwen2, network: Qwen2, inertia: float) -> None:
    for mean, weight in zip(kept.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - inertia)


def _batches(dialogues: Dialogues, codec: Codec, phase: Phase) -> Iterator[Batch]:
    """Yield conversations of about equal lengths in one batch."""
    chance, rough, exact = dialogues.chance, codec.encoder(phase.bpe_dropout or None), codec.encoder()
    while True:
        drawn = []
        for _draw in range(2000):
            turns = dialogues.draw()
            cut = 0 if chance.random() < phase.whole else phase.cut
            drawn.append(encode(turns[-2:] if phase.brief else turns, codec, rough, exact, cut=cut))
        drawn.sort(key=lambda one: len(one.ids))
        groups: list[list[Encoded]] = [[]]
        for one in drawn:
            if len(one.ids) * (len(groups[-1]) + 1) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(one)
        chance.shuffle(groups)
        yield from (_padded(group, codec) for group in groups if group)


def _padded(group: list[Encoded], codec: Codec) -> Batch:
    longest = max(len(one.ids) for one in group)
    pad = codec.special("<|endoftext|>")
    ids = torch.tensor([one.ids + [pad] * (longest - len(one.ids)) for one in group])
    learnt = torch.tensor([one.learnt + [False] * (longest - len(one.learnt)) for one in group])
    return ids, learnt


@torch.no_grad()
def hits(network: Qwen2, held: list[Wording], codec: Codec, phase: Phase) -> str:
    """Return of how many wordings the answer begins right."""
    network.eval()
    exact, right = codec.encoder(), {language: [0, 0] for language in LANGUAGES}
    known = answers()
    for wording in held:
        asked = Turn("user", wording.drawn(random.Random(1)))
        turns = [asked, Turn("assistant", known[wording.topic][wording.language])]
        whole = encode(turns if phase.brief else [Turn("system", DEFAULT_SYSTEM), *turns], codec, exact, exact)
        first = whole.learnt.index(True)
        last = torch.zeros(1, first, dtype=torch.bool)
        last[0, -1] = True
        said = int(network(torch.tensor([whole.ids[:first]]), last).argmax())
        right[wording.language][0] += said == whole.ids[first]
        right[wording.language][1] += 1
    return ", ".join(f"{language} {good} of {count}" for language, (good, count) in right.items())


if __name__ == "__main__":
    main()
