"""The guide's examination: questions written before it was trained, put to it through llama.cpp."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.models import guide as package
from tests.fakes.engines import GREEDY, answer, engine
from training.guide import corpus

Drawn = TypeVar("Drawn")
GUIDE = Path(package.__file__).parent
MODEL = GUIDE / "guide.gguf"
SAMPLE = 60
"""Questions of each set that the test suite asks."""
LONGEST = 200
"""Tokens within which an answer is to end by itself."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the topics whose answers are right."""

    language: str
    topics: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """What the guide made of a question."""

    question: Question
    text: str
    ended: bool

    @property
    def topic(self) -> str:
        """The topic whose answer it gave; empty for anything else."""
        known = corpus.answers().items()
        return next((topic for topic, words in known if words[self.question.language] == self.text), "")

    @property
    def right(self) -> bool:
        return self.topic in self.question.topics


def written(name: str, language: str) -> list[Question]:
    """Return the set `hand` or `later` (in scope, by hand) or `outside` (to be refused)."""
    lines = (corpus.JUDGED / f"{name}.{language}.tsv").read_text("utf-8").splitlines()
    pairs = (line.split("\t") for line in lines)
    return [Question(language, tuple(topics.split("|")), text) for topics, text in pairs]


def framed(language: str, count: int = 200) -> list[Question]:
    """Return verb phrases of the corpus in sentence frames that training never saw."""
    chance = random.Random(1)
    phrases = [one for one in corpus.wordings() if one.is_phrase and one.language == language]
    inside = [one for one in phrases if one.topic != corpus.OUTSIDE]
    frames = corpus.frames("frames", language, corpus.JUDGED)
    drawn = ((chance.choice(inside), chance.choice(frames)) for _draw in range(count))
    return [Question(language, (one.topic,), corpus.framed(frame, one.drawn(chance))) for one, frame in drawn]


SETS: dict[str, Callable[[str], list[Question]]] = {
    "(a) by hand": lambda language: written("hand", language),
    "(b) unseen frames": framed,
    "(c) outside its knowledge, refused": lambda language: written("outside", language),
    "(d) later topics, by hand": lambda language: written("later", language),
}
"""The sets, as the guide's card names them."""


def sampled(said: Sequence[Drawn]) -> list[Drawn]:
    """Return the fixed sample of a set."""
    return random.Random(2).sample(said, SAMPLE)


@asynccontextmanager
async def guide(folder: Path, model: Path = MODEL) -> AsyncIterator[LocalEngine]:
    """Run the guide."""
    async with engine(model, folder, n_ctx=2048) as made:
        yield made


async def put(
    made: LocalEngine, questions: Sequence[Question], sampling: Sampling = GREEDY, system: str = ""
) -> list[Said]:
    """Ask every question in a conversation of its own."""
    said = []
    for question in questions:
        turns = [*([Turn("system", system)] if system else []), Turn("user", question.text)]
        given = await answer(made, turns, sampling.over(Sampling(max_tokens=LONGEST)))
        said.append(Said(question, given.text, given.finished.reason == "stop"))
    return said


def share(said: Sequence[Said]) -> float:
    """Return how many answers are right, from 0 to 1."""
    return sum(one.right for one in said) / len(said)
