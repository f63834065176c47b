"""Reads calls in what a model generates: text goes through at once, but never half a marker, and a call only whole.

Only sampled text comes here, so no user, document or result can make a call. What a model reasons is not looked at.
Every token goes on with the text or the call that it is part of.
"""

import secrets
from collections.abc import Iterator
from itertools import chain

from qwenchat.chat.events import Called, Delta, EngineEvent, Finished
from qwenchat.chat.message import FinishReason, ToolCall
from qwenchat.engines.calls.format import CallFormat
from qwenchat.engines.calls.loose_json import is_whole_object

_THINK, _THOUGHT = "<think>", "</think>"


class CallReader:
    """Turns the events of one generation into those in which calls are read."""

    def __init__(self, call_format: CallFormat, *, in_reasoning: bool = False) -> None:
        """Begin a generation, `in_reasoning` where the prompt has opened the reasoning."""
        self._format, self._markers = call_format, call_format.markers
        self._in_reasoning, self._begun = in_reasoning, in_reasoning
        self._in_call = self._called = False
        self._is_start = True
        """Whether nothing but white space has gone through."""
        self._held: list[Delta] = []
        """What may begin a marker, or is part of a call."""

    def feed(self, event: EngineEvent) -> Iterator[EngineEvent]:
        """Yield the events that are known once `event` has come."""
        if isinstance(event, Delta):
            self._held.append(event)
            yield from self._read()
        elif isinstance(event, Finished):
            yield from self._finish()
            is_over = event.reason is FinishReason.STOP and self._called
            yield Finished(FinishReason.TOOL_CALLS, event.usage, event.timings) if is_over else event
        else:
            yield event

    @property
    def _text(self) -> str:
        return "".join(piece.text for piece in self._held)

    def _read(self) -> Iterator[EngineEvent]:
        while self._held:
            text = self._text
            if self._in_call:
                body, end, rest = self._partition_call(text)
                if not end:
                    return
                yield from self._end_call(body, rest.lstrip())
            elif self._reasons(text):
                yield from self._release(len(text))
            elif self._is_start and self._markers.begin not in text and self._format.may_be_bare(text):
                if not is_whole_object(text):
                    return
                yield from self._end_bare(text)
            elif (place := text.find(self._markers.begin)) >= 0:
                yield from self._release(len(text[:place].rstrip()))
                rest = text[place + len(self._markers.begin) :]
                self._held, self._in_call = [Delta(rest, self._ids())], True
            else:
                yield from self._release(self._clear(text))
                return

    def _reasons(self, text: str) -> bool:
        """Say whether what is held belongs to the reasoning."""
        if not self._begun and (start := text.lstrip()):
            self._begun = len(start) >= len(_THINK) or not _THINK.startswith(start)
            self._in_reasoning = start.startswith(_THINK)
        if self._in_reasoning and _THOUGHT in text:
            self._in_reasoning = False
            return True
        return self._in_reasoning

    def _partition_call(self, text: str) -> tuple[str, str, str]:
        """Return the call that is being read, what ends it, and what follows; no end while it goes on."""
        markers = [marker for marker in (self._markers.end, self._markers.begin) if marker and marker in text]
        if not markers:
            return text, "", ""
        end = min(markers, key=text.find)
        body, _end, rest = text.partition(end)
        return body, end, rest if end == self._markers.end else end + rest

    def _end_call(self, body: str, rest: str) -> Iterator[EngineEvent]:
        """Yield a call, or its text where it is none; `rest` follows it."""
        ids, found = self._ids(), self._format.parse(body)
        self._held, self._in_call = [Delta(rest)] if rest else [], False
        if found:
            self._called = True
            yield Called(ToolCall(f"call_{secrets.token_hex(4)}", *found, ids))
        else:
            yield Delta(f"{self._markers.begin}{body}{self._markers.end}", ids)

    def _end_bare(self, text: str) -> Iterator[EngineEvent]:
        """Yield what has begun like a call without markers: a call, or else its text."""
        self._is_start = False
        if found := self._format.parse(text):
            ids, self._held, self._called = self._ids(), [], True
            yield Called(ToolCall(f"call_{secrets.token_hex(4)}", *found, ids))
        else:
            yield from self._release(len(text))

    def _clear(self, text: str) -> int:
        """Return how many characters can't be part of a marker, or of the white space before it."""
        begin = self._markers.begin
        longest = next((length for length in range(len(begin) - 1, 0, -1) if text.endswith(begin[:length])), 0)
        return len(text[: len(text) - longest].rstrip())

    def _release(self, length: int) -> Iterator[EngineEvent]:
        """Yield the pieces of which the first `length` characters are made, and a part of the last one of them."""
        while self._held and len(self._held[0].text) <= length:
            piece = self._held.pop(0)
            length -= len(piece.text)
            self._is_start = self._is_start and not piece.text.strip()
            yield piece
        if length and self._in_marker(length):
            piece = self._held[0]
            self._held[0] = Delta(piece.text[length:], piece.token_ids)
            yield Delta(piece.text[:length])

    def _in_marker(self, length: int) -> bool:
        """Say whether a marker begins in the piece of which `length` characters are text: then it has to be split."""
        return self._markers.begin in self._text[length:]

    def _ids(self) -> tuple[int, ...]:
        """Return all tokens that are held."""
        return tuple(chain.from_iterable(piece.token_ids for piece in self._held))

    def _finish(self) -> Iterator[EngineEvent]:
        """Yield what is left: a call that only lacks its end, or the text that turned out to be none."""
        if not self._in_call:
            is_bare = self._is_start and bool(self._held) and self._format.may_be_bare(self._text)
            yield from self._end_bare(self._text) if is_bare else self._release(len(self._text))
        elif (body := self._text).count("{") <= body.count("}"):
            yield from self._end_call(body, "")
        else:
            yield Delta(self._markers.begin + body, self._ids())
        self._held = []
