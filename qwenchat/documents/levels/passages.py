"""Chooses the passages that a model reads: the best that fill the room, in the order of the documents, numbered.

Tokens are counted by the engine that will read them. Neighbours become one passage. Which ones are best is decided
elsewhere.
"""

import asyncio
import itertools
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from qwenchat.chat.message import Citation
from qwenchat.chat.passages import passage_text
from qwenchat.documents.chunks import Chunk
from qwenchat.documents.levels.small_request import SmallRequests
from qwenchat.text.token_estimate import estimated_tokens

_COUNTED = 1.5
"""How much more than the room is counted, by estimates: these may be too high."""
_SMALLEST = 40
"""Tokens of room that are not worth another passage."""


def passage(document: str, digest: str, chunk: Chunk) -> Citation:
    """Return a chunk as a passage that has no number yet."""
    return Citation(
        number=0,
        document=document,
        digest=digest,
        start=chunk.start,
        text=chunk.text,
        page=chunk.page,
        heading=chunk.heading,
    )


async def fitting(
    requests: SmallRequests, ranked: Sequence[Citation], *, question: str, room: int, digests: Sequence[str]
) -> list[Citation]:
    """Return the first of `ranked` that fit in `room` tokens, numbered; `digests` are in the order of the documents.

    One that overlaps an earlier one is left out, and one that alone is too long is cut. Raises as the engine does.
    """
    counted = _within(ranked, _COUNTED * room)
    costs = await asyncio.gather(*(requests.count(passage_text(each, question)) for each in counted))
    taken, left = list[Citation](), room
    for each, cost in zip(counted, costs, strict=True):
        if cost <= left and not any(_overlap(each, other) for other in taken):
            taken.append(each)
            left -= cost
        if left < _SMALLEST:
            break
    if counted and not taken:
        taken = [await _cut(requests, counted[0], question, room)]
    places = {digest: place for place, digest in enumerate(digests)}
    taken.sort(key=lambda each: (places.get(each.digest, len(places)), each.start))
    joined = (_stripped(each) for each in _joined(taken))
    return [replace(each, number=number) for number, each in enumerate((each for each in joined if each.text), 1)]


def _within(ranked: Sequence[Citation], tokens: float) -> list[Citation]:
    """Return the first passages that take so many tokens together, at least one."""
    sums = itertools.accumulate(estimated_tokens(each.text) for each in ranked)
    return [each for place, (each, total) in enumerate(zip(ranked, sums, strict=True)) if not place or total <= tokens]


def _overlap(one: Citation, other: Citation) -> bool:
    is_apart = one.start + len(one.text) <= other.start or other.start + len(other.text) <= one.start
    return one.digest == other.digest and not is_apart


async def _cut(requests: SmallRequests, long: Citation, question: str, room: int) -> Citation:
    """Return the beginning of a passage that fits."""
    while (cost := await requests.count(passage_text(long, question))) > room and len(long.text) > 1:
        long = replace(long, text=long.text[: int(len(long.text) * min(0.9, room / cost))])
    return long


def _joined(ordered: Iterable[Citation]) -> list[Citation]:
    """Return passages of which no two touch."""
    joined = list[Citation]()
    for each in ordered:
        last = joined[-1] if joined else None
        if last and last.digest == each.digest and last.start + len(last.text) == each.start:
            joined[-1] = replace(last, text=last.text + each.text)
        else:
            joined.append(each)
    return joined


def _stripped(one: Citation) -> Citation:
    text = one.text.rstrip()
    return replace(one, start=one.start + len(text) - len(text.lstrip()), text=text.lstrip())
