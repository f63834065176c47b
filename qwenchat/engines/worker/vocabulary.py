"""The tokens of a loaded model: tokenises text, so that no text passes for a marker between turns, and back."""

import ctypes
import re
import threading
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from operator import eq
from typing import Any

from qwenchat.engines.worker.c_api import DecodeFailed, UnknownToken

_USER_DEFINED = 16
"""LLAMA_TOKEN_ATTR_USER_DEFINED: llama.cpp recognises such a token in any text."""
_NO_TEXT = 1 | 2 | 8
"""LLAMA_TOKEN_ATTR_UNKNOWN, _UNUSED and _CONTROL."""
_MARKER = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")
"""Text that may separate the turns in a chat template."""
_USUAL_MARKERS = tuple(f"<|{name}|>" for name in ("im_start", "im_end", "endoftext", "system", "user", "assistant"))
"""The markers of ChatML, and those that a template may build from a role."""
_REASONING_MARKERS = ("<think>", "</think>")
_CALL_MARKERS = ("<tool_call>", "</tool_call>")
_MOST_PADDING = 128
"""Tokens without text by which vocabularies may differ: Qwen2 has 151,936 or 152,064, by size of the model."""


class _PieceBuffers(threading.local):
    """Memory for the bytes of one token, for each thread its own."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(256)


class Vocabulary:
    """The tokens of one model."""

    def __init__(self, c: Any, model: Any) -> None:
        self._c, self._model = c, model
        self.pointer = c.llama_model_get_vocab(model)
        self.size: int = c.llama_vocab_n_tokens(self.pointer)
        self._piece_buffers = _PieceBuffers()
        self._forgeable = dict(self._find_forgeable())
        """Markers of the chat template that llama.cpp would recognise in plain text too, with their tokens."""
        self.reasoning_start, self.reasoning_end = map(self.single_token, _REASONING_MARKERS)
        """The tokens of `<think>` and `</think>`; -1 if they are not single tokens."""
        self.reasoning_markers = frozenset({self.reasoning_start, self.reasoning_end} - {-1})
        self._generated = self.reasoning_markers.union(map(self.single_token, _CALL_MARKERS)) - {-1}
        """Markers that a model writes within its answers."""

    @property
    def chat_template(self) -> str:
        """The model's own Jinja template; empty if it has none."""
        template = self._c.llama_model_chat_template(self._model, None)
        return template.decode("utf-8", "replace") if template else ""

    def tokenise(self, text: str, *, special: bool) -> "array[int]":
        """Return the tokens of a text; special tokens are recognised only if `special`."""
        if not special and (inside := [marker for marker in self._forgeable if marker in text]):
            cuts = "|".join(f"(?<={re.escape(marker[0])})(?={re.escape(marker[1:])})" for marker in inside)
            return array("i", chain.from_iterable(map(self._tokens, re.split(cuts, text), repeat(False))))
        return self._tokens(text, special)

    def _tokens(self, text: str, special: bool) -> "array[int]":
        data = text.encode()
        room = len(data) + 2
        tokens = (ctypes.c_int32 * room)()
        count = self._c.llama_tokenize(self.pointer, data, len(data), tokens, room, False, special)
        if count < 0:
            raise DecodeFailed("tokenise")
        return array("i", memoryview(tokens)[:count].tobytes())

    def _find_forgeable(self) -> Iterator[tuple[str, int]]:
        for marker in {*_USUAL_MARKERS, *_REASONING_MARKERS, *_MARKER.findall(self.chat_template)}:
            tokens = self._tokens(marker, special=True)
            if len(tokens) == 1 and self._c.llama_vocab_get_attr(self.pointer, tokens[0]) & _USER_DEFINED:
                yield marker, tokens[0]

    def single_token(self, text: str) -> int:
        """Return the token of a marker, -1 if it is not a single token."""
        tokens = self._tokens(text, special=True)
        return tokens[0] if len(tokens) == 1 else -1

    def agrees_with(self, other: "Vocabulary") -> bool:
        """Return whether two vocabularies are the same, but for padding at the end of one."""
        if abs(self.size - other.size) > _MOST_PADDING:
            return False
        shared, text = range(min(self.size, other.size)), self._c.llama_vocab_get_text
        return all(map(eq, map(text, repeat(self.pointer), shared), map(text, repeat(other.pointer), shared)))

    def is_end(self, token: int) -> bool:
        """Return whether a token ends an answer."""
        return bool(self._c.llama_vocab_is_eog(self.pointer, token))

    def is_special(self, token: int) -> bool:
        """Return whether a token is a marker, or stands for no text."""
        if token in self.reasoning_markers or token in self._forgeable.values():
            return True
        return bool(self._c.llama_vocab_get_attr(self.pointer, token) & _NO_TEXT) or self.is_end(token)

    def without_control(self, ids: Sequence[int]) -> "array[int]":
        """Return the tokens of an earlier answer without those that could end it or begin another turn.

        A sampled answer rarely contains any, but an imported file may have been forged. The markers of reasoning and of
        calls stay.
        """
        known = set(ids)
        allowed = {
            token
            for token in known.difference(self._forgeable.values())
            if 0 <= token < self.size and not self._c.llama_vocab_is_control(self.pointer, token)
        }
        allowed |= known & self._generated
        return array("i", (token for token in ids if token in allowed))

    def known(self, ids: Sequence[int]) -> "array[int]":
        """Return tokens that a program chose, special ones included. Raises UnknownToken."""
        for token in set(ids):
            if not 0 <= token < self.size:
                raise UnknownToken(token)
        return array("i", ids)

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, that of special ones included. Raises UnknownToken."""
        pieces = (self.piece(token) or self.special(token).encode() for token in self.known(ids))
        return b"".join(pieces).decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; control tokens have none, except for the reasoning markers."""
        buffer, shown = self._piece_buffers.buffer, token in self.reasoning_markers
        size = self._c.llama_token_to_piece(self.pointer, token, buffer, len(buffer), 0, shown)
        if size < 0:
            buffer = self._piece_buffers.buffer = ctypes.create_string_buffer(-size)
            size = self._c.llama_token_to_piece(self.pointer, token, buffer, -size, 0, shown)
        return buffer.raw[:size]

    def special(self, token: int) -> str:
        """Return the text of a special token; empty for -1, which means that there is none."""
        text = self._c.llama_vocab_get_text(self.pointer, token) if token >= 0 else b""
        return str(text.decode("utf-8", "replace"))
