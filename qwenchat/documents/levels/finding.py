"""Finds the passages of documents that matter to a question, by one of three levels of reading.

Every level begins with a search by words; a question about the documents as a whole gets passages from all parts of
them at every level, since there is nothing to look for. A model that can't follow a conversation, such as the guide,
reads what level 1 finds by the question's own words.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from qwenchat.chat.events import Reading
from qwenchat.chat.message import Citation, Message
from qwenchat.chat.ports import Engine
from qwenchat.documents.index import DocumentIndex, OwnedDocument
from qwenchat.documents.levels.choice import STEPS, Level, Speed, chosen_level, predicted_seconds
from qwenchat.documents.levels.passages import fitting
from qwenchat.documents.levels.question import (
    DocumentQuery,
    asks_for_all,
    asks_for_whole,
    search_words,
    understood,
)
from qwenchat.documents.levels.reading import DocumentReading
from qwenchat.documents.levels.retrieval import beginnings, document_languages, ranked, spread
from qwenchat.documents.levels.small_request import SmallReply, SmallRequests
from qwenchat.documents.levels.steps import Steps

_MOST_OF_SEARCH = 2_048
"""Tokens of passages that a search gives at most: what it ranks lower is rarely the answer, and takes time to read.

Of 100 questions, the answer was in the first five chunks for 89, and in the first one for 87.
"""
_PER_STEP = 8
"""Passages that a sub-question contributes."""
_UNKNOWN = Speed(prefill_tps=100.0, decode_tps=10.0)
"""Of a model whose speed was never measured."""
_MEASURABLE = 48
"""Tokens from which on the time that they took says how fast a model is."""


async def find(
    engine: Engine,
    index: DocumentIndex,
    documents: Sequence[OwnedDocument],
    question: str,
    history: Sequence[Message] = (),
    *,
    room: int,
    level: int | None = None,
    speed: Speed | None = None,
) -> AsyncGenerator[Reading | Citation, None]:
    """Find passages for a question that follows `history`: at most `room` tokens together, as the prompt has them.

    Progress comes first, then the passages in the order of their numbers. `level`: 1 to 3, None for what suits;
    `speed`: what was measured before. Closing it stops the model; verdicts about chunks stay. Raises what engine and
    index raise.
    """
    readable = [document for document in documents if document.chunks]
    requests = SmallRequests(engine=engine, info=await engine.load())
    finding = _Finding(requests, index, readable, question=question, room=room, speed=speed)
    async with aclosing(finding.events(history, level)) as events:
        async for event in events:
            yield event
    for citation in await finding.chosen():
        yield citation


class _Finding:
    """The search for one question."""

    def __init__(
        self,
        requests: SmallRequests,
        index: DocumentIndex,
        documents: Sequence[OwnedDocument],
        *,
        question: str,
        room: int,
        speed: Speed | None,
    ) -> None:
        self._requests, self._index, self._documents = requests, index, documents
        self._question, self._room = question, room
        self._known_speed = speed
        """The speed that predicts how long reading takes: a small request measures too little for that."""
        self._measured_speed: Speed | None = None
        """The speed of a small request, where no other is known."""
        self._digests = [document.digest for document in documents]
        self._tokens = sum(document.tokens for document in documents)
        self._languages: tuple[str, ...] = ()
        self._ranked: list[Citation] = []
        """What was found, the best first."""

    async def events(self, history: Sequence[Message], level: int | None) -> AsyncGenerator[Reading, None]:
        """Find and report the progress."""
        if not self._documents:
            return
        if asks_for_whole(self._question, [document.name for document in self._documents]):
            self._ranked = await spread(self._index, self._documents)
            return
        at_first = level or Level.SEARCH
        yield Reading(at_first, 0, 0, predicted_seconds(at_first, self._tokens, self._speed))
        self._languages = await document_languages(self._index, self._documents)
        if not self._requests.info.reads_history:
            query, level = DocumentQuery(question=self._question, words=search_words(self._question)), Level.SEARCH
        else:
            query = await self._understood(self._question, history)
        for_all = asks_for_all(self._question)
        level = level or chosen_level(self._tokens, self._speed, for_all=for_all)
        if level == Level.SEARCH:
            self._room = min(self._room, _MOST_OF_SEARCH)
            self._ranked = await ranked(self._index, self._digests, query)
        else:
            read = self._read(query) if level == Level.READING else self._take_steps(query)
            async with aclosing(read) as events:
                async for event in events:
                    yield event
        self._ranked = self._ranked or await beginnings(self._index, self._documents)

    async def chosen(self) -> list[Citation]:
        """Return what fits of what was found, numbered."""
        return await self._fitting(self._question, self._ranked, self._room)

    async def _read(self, query: DocumentQuery) -> AsyncGenerator[Reading, None]:
        reading = DocumentReading(self._requests, self._index, self._documents, query, self._known_speed)
        async with aclosing(reading.events()) as events:
            async for event in events:
                yield event
        self._ranked = await reading.ranked(self._room)

    async def _take_steps(self, query: DocumentQuery) -> AsyncGenerator[Reading, None]:
        steps = Steps(self._requests, query, self._search, self._read_with)
        seconds = predicted_seconds(Level.STEPS, self._tokens, self._speed) / STEPS
        async with aclosing(steps.events(seconds)) as events:
            async for event in events:
                yield event
        self._ranked = steps.ranked(await ranked(self._index, self._digests, query))

    async def _search(self, question: str) -> list[Citation]:
        """Return what is found for a sub-question, by the level that suits, the best first."""
        query = await self._understood(question, ())
        if chosen_level(self._tokens, self._speed, for_all=asks_for_all(question)) == Level.SEARCH:
            return (await ranked(self._index, self._digests, query))[:_PER_STEP]
        reading = DocumentReading(self._requests, self._index, self._documents, query, self._known_speed)
        async with aclosing(reading.events()) as events:
            async for _event in events:
                pass
        return (await reading.ranked(self._room))[:_PER_STEP]

    async def _read_with(self, question: str, found: Sequence[Citation]) -> list[Citation]:
        """Return the passages with which a sub-question is answered."""
        return await self._fitting(question, found, min(self._room, _MOST_OF_SEARCH))

    async def _fitting(self, question: str, found: Sequence[Citation], room: int) -> list[Citation]:
        return await fitting(self._requests, found, question=question, room=room, digests=self._digests)

    async def _understood(self, question: str, history: Sequence[Message]) -> DocumentQuery:
        query, reply = await understood(self._requests, question, history, self._languages)
        self._measure(reply)
        return query

    @property
    def _speed(self) -> Speed:
        """The speed by which a level is chosen."""
        return self._known_speed or self._measured_speed or _UNKNOWN

    def _measure(self, reply: SmallReply) -> None:
        """Take the speed of the model from a reply, where it is not known."""
        fresh = reply.usage.prompt_tokens - reply.usage.cached_tokens
        timings = reply.timings
        if self._speed is _UNKNOWN and fresh >= _MEASURABLE and timings.prefill_tps and timings.decode_tps:
            self._measured_speed = Speed(prefill_tps=timings.prefill_tps, decode_tps=timings.decode_tps)
