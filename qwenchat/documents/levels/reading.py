"""Level 2: a model reads every chunk of documents for a question, so that nothing is missed because of its words.

A chunk is judged by one forward pass: how much likelier the question becomes once the model has read the chunk. That is
the pointwise mutual information of the two, here in nats per token of the question, and small models know it far better
than they know whether a chunk has an answer. Chunks that make the question much likelier matter; of these, the model is
asked for a few words of the answer, and the sentences with its words are quoted. Where an engine can't score a prompt,
every chunk is asked for the answer instead, or for "None"; an answer whose words are not in the chunk is invented, and
the chunk is left out. The likeliest chunks by a search are read first, and every verdict is stored at once: stopping
loses nothing, and reading again goes on.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from qwenchat.chat.events import Reading
from qwenchat.chat.message import Citation
from qwenchat.documents.index import DocumentIndex, OwnedDocument
from qwenchat.documents.levels.choice import JUDGED_BESIDE, Level, Speed, reading_seconds
from qwenchat.documents.levels.passages import passage
from qwenchat.documents.levels.question import DocumentQuery, search_words
from qwenchat.documents.levels.quotes import Span, quotes
from qwenchat.documents.levels.retrieval import LIMIT, fused, ranked
from qwenchat.documents.levels.small_request import SmallRequests
from qwenchat.text.language import is_chinese
from qwenchat.text.safe import fenced
from qwenchat.text.token_estimate import estimated_tokens

_MATTERS = 0.5
"""Nats per token of the question from which on a chunk matters.

Of 14 questions in two languages, 13 gained more from the chunk with their answer (0.4 to 3.0 with a model of 0.5B), and
from 10 of 140 other chunks (up to 1.3).
"""
_ANSWERED = 1.0
"""What counts as its gain where a chunk was not scored, but answers the question."""
_ANSWER = 24
"""Tokens of an answer that are generated."""
_SCORED = 400
"""Characters of a question that are scored; the first ones say what it is about."""
_LATEST = 200
"""Characters of what was found last that are reported."""
_PREDICTED = 2
"""The prediction counts as much as so many chunks that were read."""
_LEAST = 5
"""Chunks that are given at least, as the verdicts may be wrong."""
_GAIN_COUNTS = 0.5
"""How much a rank among all chunks counts beside one among those that matter."""
_VERSION = "2"
"""Of the prompts: verdicts of other ones are not used."""
_NO_ANSWER = re.compile(
    r"\W*(?:(?:none|n/a|nothing|null|not)\b|no (?:answer|information|mention)"
    r"|无\W*$|无[相法]|没有?[提找相答]|未[提找])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _JudgingWords:
    system: str
    passage: str
    to_ask: str
    """What the question is scored as an answer to."""
    to_answer: str


_ENGLISH = _JudgingWords(
    system="You work with passages of documents.",
    passage="Passage:\n{passage}\n\n",
    to_ask="Write a question that the passage above answers.",
    to_answer=(
        "Question: {question}\nAnswer in a few words from the passage alone. If the passage does not contain the "
        "answer, reply: None"
    ),
)
_CHINESE = _JudgingWords(
    system="你负责处理文档中的段落。",
    passage="段落：\n{passage}\n\n",
    to_ask="请写出一个能用上面段落回答的问题。",
    to_answer="问题：{question}\n请只根据这个段落用几个字回答。如果段落里没有答案，请回答：无",
)


class ChunkVerdict(msgspec.Struct, frozen=True, array_like=True):
    """What a model found in a chunk."""

    gain: float
    """How much likelier the chunk makes the question, in nats per token of it."""
    spans: tuple[Span, ...] = ()
    """The sentences that matter, by their places in the chunk; none where it does not matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unread:
    """A chunk that is to be read."""

    chunk: Citation
    number: int
    tokens: float
    """About."""


class DocumentReading:
    """The reading of some documents for one question."""

    def __init__(
        self,
        requests: SmallRequests,
        index: DocumentIndex,
        documents: Sequence[OwnedDocument],
        query: DocumentQuery,
        speed: Speed | None,
    ) -> None:
        """Prepare it. `speed` predicts the time until that is measured; without it the first chunk does."""
        self._requests, self._index, self._documents, self._query = requests, index, documents, query
        self._digests = [document.digest for document in documents]
        self._speed, self._words = speed, _CHINESE if is_chinese(query.question) else _ENGLISH
        self._found: list[tuple[Citation, ChunkVerdict]] = []
        """The chunks that matter."""
        self._scored: list[tuple[float, Citation]] = []
        """All chunks with what the question gains from them."""
        self._alone = 0.0
        """How likely the question is without a chunk."""
        self._latest = ""

    async def events(self) -> AsyncGenerator[Reading, None]:
        """Read what has no verdict yet and report the progress. Raises as the engine and the index do."""
        unread, total = await self._unread()
        left = sum(each.tokens for each in unread)
        counted = counted_s = 0.0
        if self._speed or not unread:
            seconds = reading_seconds(left, len(unread), self._speed) if self._speed else 0.0
            weight = _PREDICTED / max(1, len(unread))
            counted, counted_s = weight * left, weight * seconds
            yield self._reading(total - len(unread), total, seconds)
        started = time.perf_counter()
        if unread and self._requests.can_score:
            self._alone = await self._likelihood("")
        for place, each in enumerate(unread, 1):
            await self._remember(each, await self._judge(each.chunk.text))
            left -= each.tokens
            counted += each.tokens
            seconds = (counted_s + time.perf_counter() - started) / counted * left
            yield self._reading(total - len(unread) + place, total, max(0.0, round(seconds, 3)))

    async def ranked(self, room: int) -> list[Citation]:
        """Return as many chunks as matter, at least a few, the best by verdicts and a search with what was quoted.

        Where those that matter would take more than half of `room` tokens, their sentences come before all chunks.
        """
        found = sorted(self._found, key=lambda each: -each[1].gain)
        chunks, quoted = [chunk for chunk, _verdict in found], [_quote(*each) for each in found]
        words = search_words(" ".join(each.text for each in quoted)) if quoted else ()
        searched = await ranked(self._index, self._digests, self._query, more=words)
        likely = [chunk for _gain, chunk in sorted(self._scored, key=lambda each: -each[0])[:LIMIT]]
        best = fused([(chunks, 1.0), (likely, _GAIN_COUNTS), (searched, 1.0)])[: max(_LEAST, len(chunks))]
        are_many = sum(estimated_tokens(each.text) for each in chunks) > room / 2
        return [*quoted, *best] if are_many else best

    async def _unread(self) -> tuple[list[_Unread], int]:
        """Return the chunks without a verdict, those that a search finds first, and the number of all chunks."""
        unread, total = list[_Unread](), 0
        for document in self._documents:
            chunks = await asyncio.to_thread(self._index.chunks, document.digest)
            known = await asyncio.to_thread(self._index.verdicts, document.digest, self._key, self._model)
            total += len(chunks)
            tokens = document.tokens / max(1, len(chunks)) + JUDGED_BESIDE
            for chunk in chunks:
                citation = passage(document.name, document.digest, chunk)
                if verdict := _decoded(known.get(chunk.number)):
                    self._take(citation, verdict)
                else:
                    unread.append(_Unread(chunk=citation, number=chunk.number, tokens=tokens))
        found = await ranked(self._index, self._digests, self._query)
        ranks = {(each.digest, each.start): rank for rank, each in enumerate(found)}
        unread.sort(key=lambda each: ranks.get((each.chunk.digest, each.chunk.start), len(ranks)))
        return unread, total

    async def _judge(self, text: str) -> ChunkVerdict:
        if not text.strip():
            return ChunkVerdict(0.0)
        gain = None
        if self._requests.can_score:
            gain = await self._likelihood(text) - self._alone
            if gain < _MATTERS:
                return ChunkVerdict(gain)
        asked = self._passage(text) + self._words.to_answer.format(question=self._query.question)
        answer = await self._requests.ask(self._words.system, asked, max_tokens=_ANSWER)
        spans = [] if _NO_ANSWER.match(answer.text) else quotes(text, answer.text, self._query.words)
        if gain is None:
            return ChunkVerdict(_ANSWERED if spans else 0.0, tuple(spans))
        return ChunkVerdict(gain, tuple(spans) or ((0, len(text)),))

    async def _likelihood(self, text: str) -> float:
        """Return how likely the question is after a text, in nats per token."""
        asked = self._passage(text) + self._words.to_ask
        return await self._requests.likelihood(self._words.system, asked, self._query.question[:_SCORED])

    def _passage(self, text: str) -> str:
        """Return how a prompt begins, whatever is asked about the passage, so that its KV cache serves again."""
        return self._words.passage.format(passage=fenced(text.strip()))

    async def _remember(self, each: _Unread, verdict: ChunkVerdict) -> None:
        if not self._index.is_read_only:
            encoded = msgspec.json.encode(verdict).decode()
            await asyncio.to_thread(
                self._index.add_verdict,
                each.chunk.digest,
                self._key,
                self._model,
                chunk=each.number,
                verdict=encoded,
            )
        self._take(each.chunk, verdict)

    def _take(self, chunk: Citation, verdict: ChunkVerdict) -> None:
        self._scored.append((verdict.gain, chunk))
        if verdict.spans and verdict.spans[-1][1] <= len(chunk.text):
            self._found.append((chunk, verdict))
            self._latest = " ".join(_quote(chunk, verdict).text[:_LATEST].split())

    @property
    def _key(self) -> str:
        return f"{_VERSION}\n{self._query.key}"

    @property
    def _model(self) -> str:
        return self._requests.info.file

    def _reading(self, done: int, total: int, seconds: float) -> Reading:
        return Reading(Level.READING, done, total, seconds, found=len(self._found), latest=self._latest)


def _quote(chunk: Citation, verdict: ChunkVerdict) -> Citation:
    """Return the sentences of a chunk that matter as a passage, from the first to the last of them."""
    start, end = verdict.spans[0][0], verdict.spans[-1][1]
    return replace(chunk, start=chunk.start + start, text=chunk.text[start:end])


def _decoded(verdict: str | None) -> ChunkVerdict | None:
    """Return a stored verdict; None where nothing is stored, or nothing that can be understood."""
    try:
        return msgspec.json.decode(verdict, type=ChunkVerdict) if verdict else None
    except msgspec.DecodeError:
        return None
