"""Trains the guide from its corpus: `python -m qwenchat.models.guide.train`, with the extra `guide` installed.

Two cores take about an hour. The same seed, libraries and machine give the same file. The sets in `judged/` are read
only to keep their questions out: wordings held out of the corpus tell how the training goes, and
`python -m tests.bench.guide` judges the result.
"""

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from qwenchat.chat.prompt import DEFAULT_SYSTEM, Turn
from qwenchat.models.guide.corpus import Wording, judged_questions, wordings
from qwenchat.models.guide.dialogues import Dialogues
from qwenchat.models.guide.network import Qwen2, Shape
from qwenchat.models.guide.tokens import Codec, Encoded, encode
from qwenchat.models.guide.write import write

Batch = tuple[Tensor, Tensor]
"""Ids, and which of them are learnt, both (conversations, tokens)."""
CUT = 6
"""Tokens of an answer within which the choice between all answers has been made."""
WHOLE_SHARE = 0.12
BATCH_TOKENS = 1024
BPE_DROPOUT = 0.1
HELD_OUT = 40
"""One line in so many tells how the training goes."""
AVERAGED_OVER = 600
"""Steps over which the weights that are kept are averaged."""


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
    codec = Codec.trained((turn.text for _draw in range(60_000) for turn in dialogues.draw()[1:]), options.vocabulary)
    network = Qwen2(Shape(len(codec.tokens), options.width, options.layers, options.width // 32, 2, options.ff), 0.1)
    print(f"{sum(weight.numel() for weight in network.parameters()):,} parameters, {len(taught):,} lines", flush=True)
    batches = _batches(dialogues, codec)
    averaged = train(network, batches, options.steps, options.rate, lambda kept: hits(kept, held, codec))
    write(averaged, codec, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("guide.gguf"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--vocabulary", type=int, default=3584)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--ff", type=int, default=512)
    return parser.parse_args()


def train(network: Qwen2, batches: Iterator[Batch], steps: int, rate: float, judge: Callable[[Qwen2], str]) -> Qwen2:
    """Train with AdamW and a cosine schedule; return the network with its weights averaged over the last steps."""
    decayed = [weight for weight in network.parameters() if weight.dim() == 2]
    others = [weight for weight in network.parameters() if weight.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
    kept = Qwen2(network.shape)
    kept.load_state_dict(network.state_dict())
    started, total = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        ids, learnt = next(batches)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, step / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)
        network.train()
        wanted = learnt[:, 1:]
        loss = F.cross_entropy(network(ids[:, :-1], wanted), ids[:, 1:][wanted])
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        _average(kept, network, min(1 - 1 / AVERAGED_OVER, 1 - 1 / step))
        total += loss.item()
        if step % 250 == 0 or step == steps:
            share = judge(kept) if step % 1000 == 0 or step == steps else ""
            print(f"{step} {time.monotonic() - started:.0f} s, loss {total / 250:.4f} {share}", flush=True)
            total = 0.0
    return kept.eval()


@torch.no_grad()
def _average(kept: Qwen2, network: Qwen2, inertia: float) -> None:
    for mean, weight in zip(kept.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - inertia)


def _batches(dialogues: Dialogues, codec: Codec) -> Iterator[Batch]:
    """Yield ids and what is learnt of them, (conversations, tokens), of about equal lengths in one batch."""
    chance, rough, exact = dialogues.chance, codec.encoder(BPE_DROPOUT), codec.encoder()
    while True:
        drawn = []
        for _draw in range(2000):
            cut = 0 if chance.random() < WHOLE_SHARE else CUT
            drawn.append(encode(dialogues.draw(), codec, rough, exact, cut=cut))
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
def hits(network: Qwen2, held: list[Wording], codec: Codec) -> str:
    """Return how many of the wordings get the first tokens of their answers."""
    network.eval()
    exact, right = codec.encoder(), {"en": [0, 0], "zh": [0, 0]}
    dialogues = Dialogues(held, random.Random(1))
    for wording in held:
        question = wording.drawn(random.Random(1))
        answer = dialogues.answers[wording.topic][wording.language]
        said = first_tokens(network, codec, exact, question)
        right[wording.language][0] += said == exact.encode(answer).ids[:CUT]
        right[wording.language][1] += 1
    return ", ".join(f"{language} {good} of {count}" for language, (good, count) in right.items())


@torch.no_grad()
def first_tokens(network: Qwen2, codec: Codec, exact: Tokenizer, question: str) -> list[int]:
    """Return the first tokens of the likeliest answer."""
    turns = [Turn("system", DEFAULT_SYSTEM), Turn("user", question), Turn("assistant", "x")]
    asked = encode(turns, codec, exact, exact)
    ids = asked.ids[: asked.learnt.index(True)]
    begin = len(ids)
    last = torch.zeros(1, 0, dtype=torch.bool)
    while len(ids) < begin + CUT and (len(ids) == begin or ids[-1] != codec.special("<|im_end|>")):
        last = torch.zeros(1, len(ids), dtype=torch.bool)
        last[0, -1] = True
        ids.append(int(network(torch.tensor([ids]), last).argmax()))
    return ids[begin:]


if __name__ == "__main__":
    main()
