"""Tokens in, whole text out: characters split over tokens wait for their rest, stop strings end the answer.

The text given out and the tokens given out always stand for each other, so that the next turn can put the tokens
in place of the text. Time is linear in the answer, whatever the number and length of the stop strings.
"""

import codecs
from collections.abc import Callable, Sequence


class StopString:
    """Finds one string in text that comes by the character (Knuth, Morris and Pratt, 1977)."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._fallback = [0] * len(text)
        matched = 0
        for i in range(1, len(text)):
            while matched and text[i] != text[matched]:
                matched = self._fallback[matched - 1]
            matched += text[i] == text[matched]
            self._fallback[i] = matched
        self.matched = 0
        """Characters of the string that the text ends with."""

    def feed(self, character: str) -> bool:
        """Take one character; say whether the string is complete."""
        while self.matched and character != self._text[self.matched]:
            self.matched = self._fallback[self.matched - 1]
        self.matched += character == self._text[self.matched]
        return self.complete

    @property
    def complete(self) -> bool:
        """Whether the text ends with the string."""
        return self.matched == len(self._text)


class AnswerText:
    """Collects an answer's tokens until their text can be shown.

    Text and tokens are given out at boundaries only: places where a token ends and no character is open.
    """

    def __init__(self, piece: Callable[[int], bytes], stops: Sequence[str] = ()) -> None:
        self._piece = piece
        self._stops = [StopString(stop) for stop in stops]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._tokens: list[int] = []
        self._boundaries: list[tuple[int, int]] = []
        """Lengths of `_tokens` and `_text` that go together, growing."""

    def feed(self, token: int) -> bool:
        """Take a token; say whether a stop string is complete, after which only `finish` may be called."""
        text = self._decoder.decode(self._piece(token))
        end = self._stop_in(text) if self._stops else None
        if end is not None:
            self._text = (self._text + text)[:end]
            return True
        self._text += text
        self._tokens.append(token)
        if not self._decoder.getstate()[0]:
            self._boundaries.append((len(self._tokens), len(self._text)))
        return False

    def _stop_in(self, text: str) -> int | None:
        """Return where a stop string begins, as a place in `_text`, if it becomes complete within `text`."""
        for i, character in enumerate(text):
            for stop in self._stops:
                if stop.feed(character):
                    return len(self._text) + i + 1 - stop.matched
        return None

    def take(self) -> tuple[str, tuple[int, ...]]:
        """Return the text that can be shown and was not yet, and its tokens.

        What may be the beginning of a stop string stays.
        """
        held = max((stop.matched for stop in self._stops), default=0)
        return self._give(len(self._text) - held)

    def finish(self) -> tuple[str, tuple[int, ...], str]:
        """Return the last text and its tokens, and a text that no whole token stands for.

        That last text is what was cut by a stop string, or bytes that never became a character (as U+FFFD).
        """
        self._text += self._decoder.decode(b"", True) if not self._complete_stop() else ""
        text, tokens = self._give(len(self._text))
        return text, tokens, self._text

    def _complete_stop(self) -> bool:
        return any(stop.complete for stop in self._stops)

    def _give(self, limit: int) -> tuple[str, tuple[int, ...]]:
        fit = sum(place <= limit for _count, place in self._boundaries)
        if not fit:
            return "", ()
        count, place = self._boundaries[fit - 1]
        text, self._text = self._text[:place], self._text[place:]
        tokens, self._tokens = self._tokens[:count], self._tokens[count:]
        self._boundaries = [(c - count, p - place) for c, p in self._boundaries[fit:]]
        return text, tuple(tokens)
