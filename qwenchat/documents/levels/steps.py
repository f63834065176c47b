"""Level 3: a question is divided into sub-questions, each answered from the documents, until enough is known.

The model says what to ask next, having read what was found so far. It ends when it has enough, repeats itself, or has
asked STEPS sub-questions. What the sub-questions found is what the answer is made from.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from qwenchat.chat.events import Reading
from qwenchat.chat.message import Citation
from qwenchat.chat.passages import passages_text
from qwenchat.documents.levels.choice import STEPS, Level
from qwenchat.documents.levels.question import DocumentQuery, search_words
from qwenchat.documents.levels.retrieval import fused
from qwenchat.documents.levels.small_request import SmallRequests
from qwenchat.text.language import is_chinese

_SCHEMA = msgspec.json.encode(
    {
        "type": "object",
        "properties": {"enough": {"type": "boolean"}, "question": {"type": "string", "maxLength": 200}},
        "required": ["enough", "question"],
        "additionalProperties": False,
    }
).decode()
_PLANNED = 80
"""Tokens of a sub-question."""
_ANSWERED = 60
"""Tokens of its answer."""
_ENOUGH = re.compile(r'"enough"\s*:\s*true|^\W*(?:enough|足够|够了)', re.IGNORECASE)
_QUESTION = re.compile(r'"question"\s*:\s*("(?:[^"\\]|\\.)*")')


class _Planned(msgspec.Struct, frozen=True):
    enough: bool
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _StepWords:
    system: str
    question: str
    known: str
    nothing: str
    task: str
    answer: str


_ENGLISH = _StepWords(
    system="You plan how to find the answer to a question in documents.",
    question="Question: {question}",
    known="Known so far:",
    nothing="nothing",
    task=(
        'Reply with JSON. If what is known answers the question, "enough" is true. Otherwise it is false, and '
        '"question" is the next short question to look up in the documents, other than those above.'
    ),
    answer="Answer in one short sentence: {question}",
)
_CHINESE = _StepWords(
    system="你负责计划如何在文档中找到问题的答案。",
    question="问题：{question}",
    known="目前已知：",
    nothing="还没有",
    task='请用 JSON 回答。如果已知的内容足以回答问题，"enough" 为 true；否则为 false，并在 "question" 中写出下一个'
    "要在文档中查找的简短问题，不要与上面的重复。",
    answer="请用一句简短的话回答：{question}",
)

Search = Callable[[str], Awaitable[list[Citation]]]
"""Returns what is found for a sub-question, the best first."""
Fitting = Callable[[str, Sequence[Citation]], Awaitable[list[Citation]]]
"""Returns what of it a model reads for its answer, numbered."""


class Steps:
    """The steps to the answer of one question."""

    def __init__(self, requests: SmallRequests, query: DocumentQuery, search: Search, fitting: Fitting) -> None:
        self._requests, self._query, self._search, self._fitting = requests, query, search, fitting
        self._words = _CHINESE if is_chinese(query.question) else _ENGLISH
        self._known: list[tuple[str, str]] = []
        """Sub-questions and their answers."""
        self._found: list[Sequence[Citation]] = []

    async def events(self, seconds: float) -> AsyncGenerator[Reading, None]:
        """Take the steps and report them; `seconds`: how long one takes, about. Raises as the engine does."""
        yield self._reading(seconds)
        asked = {frozenset(self._query.words)}
        for _step in range(STEPS):
            question = await self._next()
            words = frozenset(search_words(question))
            if not question or (words in asked and self._known):
                return
            asked.add(words)
            found = await self._search(question)
            self._found.append(found)
            self._known.append((question, await self._answered(question, await self._fitting(question, found))))
            yield self._reading(seconds)

    def ranked(self, searched: Sequence[Citation]) -> list[Citation]:
        """Return what all steps found, the best first; `searched`: what a search for the question itself found."""
        return fused([(searched, 1.0), *((found, 1.0) for found in self._found)])

    async def _next(self) -> str:
        """Return the next sub-question; empty where enough is known."""
        words = self._words
        known = "\n".join(f"{number}. {asked} → {said}" for number, (asked, said) in enumerate(self._known, 1))
        lines = (words.question.format(question=self._query.question), words.known, known or words.nothing, words.task)
        reply = await self._requests.ask(words.system, "\n\n".join(lines), max_tokens=_PLANNED, schema=_SCHEMA)
        try:
            planned = msgspec.json.decode(reply.text, type=_Planned)
        except msgspec.DecodeError:  # it was cut off, or the engine has no schemas
            planned = _Planned(_ENOUGH.search(reply.text) is not None, _question_in(reply.text))
        return "" if planned.enough and self._known else " ".join(planned.question.split())

    async def _answered(self, question: str, found: Sequence[Citation]) -> str:
        task = self._words.answer.format(question=question)
        reply = await self._requests.ask(
            "You are a helpful assistant.", f"{passages_text(found, question)}\n\n{task}", max_tokens=_ANSWERED
        )
        return " ".join(reply.text.split())

    def _reading(self, seconds: float) -> Reading:
        done = len(self._known)
        latest = " → ".join(self._known[-1]) if self._known else ""
        found = sum(map(len, self._found))
        return Reading(Level.STEPS, done, STEPS, seconds * (STEPS - done), found=found, latest=latest)


def _question_in(text: str) -> str:
    """Return the question in what was meant to be JSON; the first line of what was not."""
    if found := _QUESTION.search(text):
        try:
            return msgspec.json.decode(found[1], type=str)
        except msgspec.DecodeError:
            return ""
    return "" if "{" in text else next(iter(text.strip().splitlines()), "")
