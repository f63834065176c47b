"""Finds the sentences of a chunk that an answer came from, so that what is quoted was written and not invented."""

import re
from collections.abc import Iterator, Sequence

from qwenchat.documents.levels.question import search_words

_SENTENCE_END = re.compile(r"[.!?…]+[\"')\]”’]*(?=\s)|[。！？；…]+[”’」』）》]*|\n+")
_COVERED = 0.5
"""How many of the words of an answer must stand in a chunk for it to be the answer's source."""
_YES_OR_NO = frozenset({"yes", "no", "not", "true", "false", "是", "是的", "的", "否", "不是", "对", "有", "没有"})
"""Words of an answer that need not stand in a text for it to be the source."""
_MOST = 3
"""Sentences of one quote."""

Span = tuple[int, int]
"""Where something begins and ends in a text."""


def sentences(text: str) -> Iterator[Span]:
    """Yield the sentences and lines of a text that have a word, without the white space around them."""
    start = 0
    for end in (*(found.end() for found in _SENTENCE_END.finditer(text)), len(text)):
        inner = text[start:end]
        first = start + len(inner) - len(inner.lstrip())
        if any(char.isalnum() for char in inner):
            yield first, first + len(inner.strip())
        start = end


def quotes(text: str, answer: str, question: Sequence[str]) -> list[Span]:
    """Return the sentences that contain the words of an answer, in their order; none if the text does not.

    Among sentences that contain the same ones, that with more words of the `question` is taken. An answer that is just
    yes or no comes from the sentences with the words of the question.
    """
    said = set(search_words(answer))
    wanted = said - _YES_OR_NO or (set(question) if said else said)
    if not wanted or len(wanted & set(search_words(text))) < _COVERED * len(wanted):
        return []
    spans = {span: set(search_words(text[span[0] : span[1]])) for span in sentences(text)}
    asked, taken = set(question), list[Span]()
    while wanted and spans and len(taken) < _MOST:
        best = max(spans, key=lambda span: (len(spans[span] & wanted), len(spans[span] & asked)))
        if not spans[best] & wanted:
            break
        taken.append(best)
        wanted -= spans.pop(best)
    return sorted(taken)
