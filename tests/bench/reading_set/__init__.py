"""Documents and questions with known answers, in English and Chinese: invented facts, which no model can know.

Each document is a file of facts, between which the grammar of `filler` puts prose, so that none fits a small window.
"""

import json
import random
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from qwenchat.documents.document import Document
from tests.bench.reading_set.filler import paragraphs

FILES = ("harbour.json", "kiln.json", "town.json", "voyage.json")
_FILLER = {"en": 7, "zh": 6}
"""Paragraphs between two facts."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and what is known about it."""

    text: str
    expected: tuple[str, ...]
    """A right answer contains one of these."""
    document: Document
    is_hard: bool
    """Whether it has other words than the document, or is in the other language."""
    start: int
    """Where the paragraph with the answer begins in the document."""
    end: int

    def is_answered(self, text: str) -> bool:
        """Say whether a text is right: digits of its numbers may be grouped, numbers of passages do not count."""
        plain = re.sub(r"\[\d+\]", "", re.sub(r"(?<=\d)[,\s](?=\d{3}\b)", "", text)).casefold()
        return any(
            re.search(rf"(?<!\d){re.escape(each.casefold().replace(',', ''))}(?!\d)", plain) for each in self.expected
        )


def questions() -> list[Asked]:
    """Return all questions; those about the same document have the same one."""
    return [asked for place, name in enumerate(FILES) for asked in _questions_of(name, seed=place)]


def _questions_of(name: str, *, seed: int) -> list[Asked]:
    described = json.loads((Path(__file__).parent / name).read_text("utf-8"))
    language, facts = described["language"], described["facts"]
    filler = paragraphs(language, seed)
    text, places = f"# {described['title']}\n\n", list[tuple[int, int]]()
    for fact in random.Random(seed).sample(facts, len(facts)):
        text += "\n\n".join(islice(filler, _FILLER[language])) + f"\n\n## {fact['heading']}\n\n"
        places.append((len(text), len(text) + len(fact["text"])))
        text += f"{fact['text']}\n\n"
    text += "\n\n".join(islice(filler, _FILLER[language])) + "\n"
    document = Document(name=described["name"], media_type="text/markdown", text=text)
    asked = []
    for start, end in places:
        fact = next(each for each in facts if each["text"] == text[start:end])
        for kind in ("asks", "hard"):
            asked += [
                Asked(words, tuple(right), document, kind == "hard", start, end) for words, right in fact.get(kind, ())
            ]
    return asked
