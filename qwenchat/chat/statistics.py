"""What a chat amounts to: how much was written, how long it takes to read, how fast its answers came. No I/O."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from qwenchat.chat.message import Message, Role

_HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
_WORD = re.compile(f"(?P<han>[{_HAN}])|[^\\W{_HAN}]+(?:['’-][^\\W{_HAN}]+)*")
_WORDS_A_MINUTE = 228
_HAN_A_MINUTE = 255
"""How fast texts are read, in English and in Chinese (Trauzettel-Klosinski and Dietz, 2012, for the IReST texts)."""


class WordCount(Struct, frozen=True):
    """The words of a text and, counted one by one, its Chinese characters."""

    words: int = 0
    han: int = 0

    def __add__(self, other: "WordCount") -> "WordCount":
        return WordCount(self.words + other.words, self.han + other.han)

    @property
    def minutes(self) -> float:
        """How long the text takes to read, in minutes."""
        return self.words / _WORDS_A_MINUTE + self.han / _HAN_A_MINUTE


class ChatStatistics(Struct, frozen=True, kw_only=True):
    """Counts over the messages of a branch; reasoning is not counted as text."""

    questions: int
    answers: int
    asked: WordCount
    answered: WordCount
    tokens: int
    """Of all answers, their reasoning included."""
    speeds: Mapping[str, tuple[float, ...]]
    """Tokens a second of each answer for which that is known, oldest first, by the host; empty for this machine."""


def count_words(text: str) -> WordCount:
    """Count the words and the Chinese characters of a text."""
    found = [match["han"] for match in _WORD.finditer(text)]
    han = sum(map(bool, found))
    return WordCount(len(found) - han, han)


def statistics_of(messages: Sequence[Message]) -> ChatStatistics:
    """Count what a branch amounts to; a summary of earlier messages is no question."""
    questions = [message for message in messages if message.role is Role.USER and not message.summarises]
    answers = [message for message in messages if message.role is Role.ASSISTANT]
    return ChatStatistics(
        questions=len(questions),
        answers=len(answers),
        asked=sum((count_words(message.text) for message in questions), WordCount()),
        answered=sum((count_words(message.text) for message in answers), WordCount()),
        tokens=sum(message.usage.completion_tokens for message in answers if message.usage),
        speeds=_speeds(answers),
    )


def _speeds(answers: Sequence[Message]) -> Mapping[str, tuple[float, ...]]:
    speeds = defaultdict[str, list[float]](list)
    for answer in answers:
        if answer.timings and answer.timings.decode_tps:
            speeds[answer.host].append(answer.timings.decode_tps)
    return {host: tuple(of_host) for host, of_host in speeds.items()}
