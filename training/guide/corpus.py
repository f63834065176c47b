"""The guide's corpus: what users ask, in which words, and what the guide answers. Standard library only.

`corpus/answers.toml` has one answer per topic and language. `corpus/*.LANGUAGE.txt` hold wordings under `[topic]`
headings; `(a|b|)` in one chooses, and a line that begins with `~ ` is a verb phrase for the frames of
`frames.LANGUAGE.txt`. `wrap.LANGUAGE.txt` has frames for whole questions. Nothing here is tokenised.
"""

import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("en", "zh")
DEFAULT_SYSTEM = "You are a helpful assistant."
"""What the guide's chat template writes where no system prompt is given, as Qwen2's does."""
OUTSIDE = "outside"
"""The topic of everything that the guide does not know."""
_CHOICE = re.compile(r"\(([^()|]*(?:\|[^()|]*)+)\)")
FOLDER = Path(__file__).parent / "corpus"
JUDGED = Path(__file__).parent / "judged"
"""Test sets, written before the training by someone who had not seen the corpus. They are never trained on."""


@dataclass(frozen=True, slots=True)
class Wording:
    """One line of the corpus."""

    topic: str
    language: str
    text: str
    is_phrase: bool
    """Whether it is a verb phrase, which goes into a frame."""

    def drawn(self, chance: random.Random) -> str:
        """Return the text with one alternative of each choice."""
        text = _CHOICE.sub(lambda found: chance.choice(found[1].split("|")), self.text)
        return re.sub(r"  +", " ", text).strip()


def answers() -> dict[str, dict[str, str]]:
    """Return the answers by topic and language."""
    return tomllib.loads((FOLDER / "answers.toml").read_text("utf-8"))


def wordings(folder: Path = FOLDER) -> list[Wording]:
    """Return all lines of the corpus. Raises ValueError, naming file and line, for a topic without an answer."""
    known = answers()
    found = []
    for language in LANGUAGES:
        for file in sorted(folder.glob(f"topics*.{language}.txt")):
            for number, topic, text in _lines(file):
                if topic not in known:
                    raise ValueError(f"{file.name}:{number}: no answer for the topic {topic!r}")
                found.append(Wording(topic, language, text.removeprefix("~ "), text.startswith("~ ")))
    return found


def frames(kind: str, language: str, folder: Path = FOLDER) -> list[str]:
    """Return the lines of `frames` or `wrap`, each with `{}` where the wording goes."""
    lines = (folder / f"{kind}.{language}.txt").read_text("utf-8").splitlines()
    return [line for line in lines if "{}" in line]


def plain(text: str) -> str:
    """Return a question in lower case, without punctuation at its ends."""
    return text.lower().strip(" ?？!！.。")


def judged_questions() -> frozenset[str]:
    """Return every question of the judged sets, as `plain` gives it, to be kept out of training."""
    lines = (line for file in JUDGED.glob("*.tsv") for line in file.read_text("utf-8").splitlines())
    return frozenset(plain(line.partition("\t")[2]) for line in lines)


def framed(frame: str, text: str) -> str:
    """Return a wording in its frame."""
    return frame.replace("{}", text)


def _lines(file: Path) -> Iterator[tuple[int, str, str]]:
    topic = ""
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        text = line.strip()
        if text.startswith("[") and text.endswith("]"):
            topic = text[1:-1]
        elif text and not text.startswith("#"):
            yield number, topic, text
