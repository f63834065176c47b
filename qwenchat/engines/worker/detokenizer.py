"""Turns an answer's tokens into text: joins characters that are split over tokens, and finds stop strings.

The returned text and tokens always correspond, so that the next prompt can contain the tokens instead of the text.
Time is linear in the length of the answer and does not depend on the length of the stop strings.
"""

import codecs
from collections import deque
from collections.abc import Callable, Sequence


class StopString:
    """Finds one string in text that arrives character by character (Knuth, Morris and Pratt, 1977)."""

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
        """How many characters of the string the text currently ends with."""

    def feed(self, character: str) -> bool:
        """Take one character; return whether the string is complete."""
        while self.matched and character != self._text[self.matched]:
            self.matched = self._fallback[self.matched - 1]
        self.matched += character == self._text[self.matched]
        return self.matched == len(self._text)


class Detokenizer:
    """Collects an answer's tokens until their text can be shown.

    Text and tokens are returned in pieces, each of which ends at the end of a token and of a character.
    """

    def __init__(self, piece: Callable[[int], bytes], stops: Sequence[str] = ()) -> None:
        self._piece = piece
        self._stops = [StopString(stop) for stop in stops]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: deque[tuple[str, list[int]]] = deque()
        """Complete pieces that were not returned yet."""
        self._length = 0
        """Characters in `_pieces`."""
        self._text, self._tokens = "", list[int]()
        """The piece whose last character is still incomplete."""
        self._end: int | None = None
        """Where a complete stop string begins, counted in the characters that were not returned yet."""

    def feed(self, token: int) -> bool:
        """Take a token; return whether a stop string is complete, after which only `finish` may be called."""
        text = self._decoder.decode(self._piece(token))
        self._end = self._stop_in(text) if self._stops else None
        self._text += text
        if self._end is not None:
            return True
        self._tokens.append(token)
        if not self._decoder.getstate()[0]:
            self._pieces.append((self._text, self._tokens))
            self._length += len(self._text)
            self._text, self._tokens = "", []
        return False

    def _stop_in(self, text: str) -> int | None:
        """Return where a stop string begins if `text` completes one."""
        for i, character in enumerate(text):
            for stop in self._stops:
                if stop.feed(character):
                    return self._length + len(self._text) + i + 1 - stop.matched
        return None

    def take(self) -> tuple[str, tuple[int, ...]]:
        """Return the text that can be shown and was not returned yet, and its tokens.

        Text that may be the beginning of a stop string is held back.
        """
        held_back = max((stop.matched for stop in self._stops), default=0)
        return self._release(self._length + len(self._text) - held_back)

    def finish(self) -> tuple[str, tuple[int, ...], str]:
        """Return the last text and its tokens, and then text that corresponds to no complete token.

        The latter is the part of a token before a stop string, or bytes that never became a character (as U+FFFD).
        """
        if self._end is None:
            self._text += self._decoder.decode(b"", True)
        end = self._length + len(self._text) if self._end is None else self._end
        text, tokens = self._release(end)
        rest = "".join([*(piece for piece, _tokens in self._pieces), self._text])
        return text, tokens, rest[: end - len(text)]

    def _release(self, limit: int) -> tuple[str, tuple[int, ...]]:
        texts, tokens = [], list[int]()
        while self._pieces and len(self._pieces[0][0]) <= limit:
            text, ids = self._pieces.popleft()
            texts.append(text)
            tokens += ids
            limit -= len(text)
            self._length -= len(text)
        return "".join(texts), tuple(tokens)
