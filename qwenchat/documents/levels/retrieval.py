"""Level 1: finds the chunks of documents in which the words of a question stand. No model reads a document for it."""

import asyncio
from collections.abc import Iterable, Sequence

from qwenchat.chat.message import Citation
from qwenchat.documents.index import DocumentIndex, OwnedDocument
from qwenchat.documents.levels.passages import passage
from qwenchat.documents.levels.question import DocumentQuery, languages_of

LIMIT = 40
"""Chunks that a search looks at."""
_RANK = 5
"""Softens the difference between the first ranks (reciprocal rank fusion: Cormack, Clarke, Buettcher, 2009)."""
_BEGINNING = 1_500
"""Characters of the beginning of a document, where nothing else was found."""
_KEYWORDS_COUNT = 0.5
"""How much a rank by the model's keywords counts beside one by the question's own words."""


async def ranked(
    index: DocumentIndex, digests: Sequence[str], query: DocumentQuery, *, more: Sequence[str] = ()
) -> list[Citation]:
    """Return the chunks in which words of a question stand, the best first; `more`: other words that count as much."""
    rankings = list[tuple[Sequence[Citation], float]]()
    for words, counts in ((query.words, 1.0), (query.keywords, _KEYWORDS_COUNT), (more, 1.0)):
        found = await asyncio.to_thread(index.search, digests, words, LIMIT) if words else ()
        rankings.append(([passage(each.document, each.digest, each.chunk) for each in found], counts))
    return fused(rankings)[:LIMIT]


async def spread(index: DocumentIndex, documents: Sequence[OwnedDocument]) -> list[Citation]:
    """Return all chunks in an order of which any beginning is spread over all documents: every 16th, every 8th..."""
    chunks = list[Citation]()
    for document in documents:
        of_document = await asyncio.to_thread(index.chunks, document.digest)
        chunks += [passage(document.name, document.digest, chunk) for chunk in of_document]
    return [chunks[place] for place in sorted(range(len(chunks)), key=_reversed_bits)]


def _reversed_bits(number: int) -> int:
    return int(f"{number:032b}"[::-1], 2)


async def beginnings(index: DocumentIndex, documents: Sequence[OwnedDocument]) -> list[Citation]:
    """Return the beginning of each document."""
    found = list[Citation]()
    for document in documents[:LIMIT]:
        page = await asyncio.to_thread(index.page, document.digest, 0)
        text = page.text[:_BEGINNING]
        found.append(
            Citation(number=0, document=document.name, digest=document.digest, start=0, text=text, page=page.number)
        )
    return found


async def document_languages(index: DocumentIndex, documents: Sequence[OwnedDocument]) -> tuple[str, ...]:
    """Return the languages of documents, by samples from the beginning and from further on."""
    samples = list[str]()
    for document in documents[:LIMIT]:
        for place in (0, document.tokens, 2 * document.tokens):  # in characters: a token has one to four
            samples.append((await asyncio.to_thread(index.page, document.digest, place)).text)
    return languages_of(samples)


def fused(rankings: Iterable[tuple[Sequence[Citation], float]]) -> list[Citation]:
    """Return the passages of several rankings in one; each ranking has a weight."""
    scores, passages = dict[tuple[str, int], float](), dict[tuple[str, int], Citation]()
    for ranking, counts in rankings:
        for rank, each in enumerate(ranking, 1):
            key = each.digest, each.start
            scores[key] = scores.get(key, 0.0) + counts / (_RANK + rank)
            passages[key] = each
    return [passages[key] for key in sorted(scores, key=lambda key: -scores[key])]
