"""Reads calls in what a model generates: text goes through at once, but never half a marker, and a call only whole.

Only sampled text comes here, so no user, document or result can make a call. What a model reasons is not looked at.
Every token goes on with the text or the call that it is part of. A token that is part of both goes on with neither:
their text stands for them in the next prompt.
"""

import secrets
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum, auto
from itertools import chain

from msgspec.structs import replace

from qwenchat.chat.events import Called, Delta, EngineEvent, Finished
from qwenchat.chat.message import FinishReason, Reasoning, Text, ToolCall
from qwenchat.chat.ports import Mode, Request
from qwenchat.chat.tools import ToolSpec
from qwenchat.engines.calls.format import CallFormat
from qwenchat.engines.calls.loose_json import ObjectScanner, is_whole_object, json_object

_THINK, _THOUGHT = "<think>", "</think>"
_FENCE = "```"
_HEAD = 400
"""Characters that show whether an object is a call."""


class _Place(Enum):
    """Where in an answer the reader is."""

    BEGINNING = auto()
    """Where reasoning may begin."""
    REASONING = auto()
    START = auto()
    """Where a call without markers may begin: before any text."""
    BARE = auto()
    """In a call without markers."""
    AFTER_BARE = auto()
    """Where its fence may end."""
    TEXT = auto()
    CALL = auto()


class CallReader:
    """Turns the events of one generation into those in which calls are read."""

    def __init__(
        self, call_format: CallFormat, tools: Sequence[ToolSpec], *, in_reasoning: bool = False, in_text: bool = False
    ) -> None:
        """Begin a generation in which `tools` may be called.

        It begins `in_reasoning` where the prompt ends within the reasoning, `in_text` where it ends within the text.
        """
        self._format, self._markers, self._tools = call_format, call_format.markers, tools
        self._names = [tool.name for tool in tools]
        begins_in = _Place.TEXT if in_text else _Place.BEGINNING
        self._place = _Place.REASONING if in_reasoning else begins_in
        self._called = self._is_after_call = False
        """Whether there was a call; whether nothing but white space came since."""
        self._held = deque[Delta]()
        """What may begin a marker, or is part of a call."""
        self._text = ""
        """The text of what is held."""
        self._object, self._scanned = ObjectScanner(), 0
        """Looks for the end of a call without markers, in so many characters so far."""

    def feed(self, event: EngineEvent) -> Iterator[EngineEvent]:
        """Yield the events that are known once `event` has come."""
        if isinstance(event, Delta):
            self._held.append(event)
            self._text += event.text
            yield from self._read()
        elif isinstance(event, Finished):
            yield from self._finish(event.reason)
            is_over = event.reason is FinishReason.STOP and self._called
            yield Finished(FinishReason.TOOL_CALLS, event.usage, event.timings) if is_over else event
        else:
            yield event

    def release(self) -> list[Delta]:
        """Return what is held back where the generation ended without Finished: nothing of it is lost."""
        return self._taken(len(self._text))

    def _read(self) -> Iterator[EngineEvent]:
        """Yield what is known, until more has to come."""
        place = None
        while self._held and place is not self._place:
            place = self._place
            if place is _Place.BEGINNING:
                self._begin()
            elif place is _Place.REASONING:
                yield from self._reason()
            elif place is _Place.START:
                self._start()
            elif place is _Place.BARE:
                yield from self._read_bare()
            elif place is _Place.AFTER_BARE:
                self._end_fence()
            elif place is _Place.TEXT:
                yield from self._read_text()
            else:
                yield from self._read_call()

    def _begin(self) -> None:
        start = self._text.lstrip()
        if start.startswith(_THINK):
            self._place = _Place.REASONING
        elif not _THINK.startswith(start):
            self._place = _Place.START

    def _reason(self) -> Iterator[EngineEvent]:
        _before, thought, after = self._text.partition(_THOUGHT)
        if thought:
            self._place = _Place.START
            yield from self._taken(len(self._text) - len(after))
        else:
            yield from self._taken_whole(len(self._text) - _begun(_THOUGHT, self._text))

    def _start(self) -> None:
        if not self._format.may_be_bare(self._text, self._names):
            self._place = _Place.TEXT
        elif "{" in self._text:
            self._object, self._scanned, self._place = ObjectScanner(), self._text.index("{"), _Place.BARE

    def _read_bare(self) -> Iterator[EngineEvent]:
        if not self._format.may_be_bare(self._text[:_HEAD], self._names):
            self._place = _Place.TEXT
            return
        first = self._text.index("{")
        end = self._object.feed(self._text[self._scanned :])
        self._scanned = len(self._text)
        if end:
            self._place = _Place.AFTER_BARE
            yield from self._end_call(first + end, self._text[: first + end], is_bare=True)

    def _end_fence(self) -> None:
        start = self._text.lstrip()
        if start.startswith(_FENCE):
            self._taken(self._text.index(_FENCE) + len(_FENCE))
        elif _FENCE.startswith(start):
            return
        self._place = _Place.START

    def _read_text(self) -> Iterator[EngineEvent]:
        begin = self._text.find(self._markers.begin)
        length = begin if begin >= 0 else len(self._text) - _begun(self._markers.begin, self._text)
        pieces = self._taken_whole(length)
        if begin >= 0:
            self._place = _Place.CALL
            before = self._text.index(self._markers.begin)
            pieces += self._taken(before) if self._text[:before].strip() else []
        self._is_after_call = self._is_after_call and not pieces
        yield from pieces

    def _read_call(self) -> Iterator[EngineEvent]:
        begin, end = self._markers.begin, self._markers.end
        start = self._text.index(begin) + len(begin)
        found = {mark: place for mark in (end, begin) if mark and (place := self._text.find(mark, start)) >= 0}
        if not found:
            return
        first = min(found, key=found.__getitem__)
        self._place = _Place.TEXT
        yield from self._end_call(found[first] + (len(end) if first == end else 0), self._text[start : found[first]])

    def _end_call(self, length: int, body: str, *, is_bare: bool = False) -> Iterator[EngineEvent]:
        """Yield the call that the first `length` characters are, or else their text.

        What only looks like a call is text where it `is_bare`.
        """
        while length < len(self._text) and self._text[length].isspace():
            length += 1
        pieces = self._taken(length)
        found = self._format.parse(body)
        is_known = found is not None and found[0] in self._names
        if found and not is_known and (meant := _meant(found[1], self._tools)):
            found, is_known, pieces = (meant, found[1]), True, [replace(piece, token_ids=()) for piece in pieces]
        if found and (is_known or not is_bare):
            self._called = self._is_after_call = True
            has_all = all(piece.token_ids for piece in pieces if piece.text)
            ids = tuple(chain.from_iterable(piece.token_ids for piece in pieces)) if has_all else ()
            yield Called(ToolCall(f"call_{secrets.token_hex(4)}", *found, ids))
        else:
            self._place = _Place.TEXT
            yield from pieces

    def _taken(self, length: int) -> list[Delta]:
        """Take the first characters of what is held; a piece that has to be cut for it loses its tokens."""
        pieces = list[Delta]()
        self._text = self._text[length:]
        while self._held and len(self._held[0].text) <= length:
            pieces.append(self._held.popleft())
            length -= len(pieces[-1].text)
        if length:
            cut = self._held.popleft().text
            pieces.append(Delta(cut[:length]))
            self._held.appendleft(Delta(cut[length:]))
        return pieces

    def _taken_whole(self, length: int) -> list[Delta]:
        """Take the pieces of the first characters that are whole, but not the last ones if they are white space."""
        end = whole = 0
        for piece in self._held:
            end += len(piece.text)
            if end > length:
                break
            whole = end if piece.text.strip() else whole
        return self._taken(whole) if whole else []

    def _finish(self, reason: FinishReason) -> Iterator[EngineEvent]:
        """Yield what is left: a call that only lacks its end, or the text that turned out to be none."""
        if self._place is _Place.CALL:
            _before, _begin, body = self._text.partition(self._markers.begin)
            if reason is FinishReason.STOP or is_whole_object(body):
                yield from self._end_call(len(self._text), body)
        if self._place is _Place.BARE and reason is FinishReason.STOP:
            yield from self._end_call(len(self._text), self._text, is_bare=True)
        if self._text.strip() or not self._is_after_call:
            yield from self._taken(len(self._text))


def call_reader(calls: CallFormat | None, request: Request, *, opens_reasoning: bool) -> CallReader | None:
    """Return what reads the calls in the answer to a request; None where it can have none.

    `opens_reasoning`: whether the prompt format opens the reasoning where an answer begins.
    """
    tools = request.turns[0].tools
    if not tools or calls is None:
        return None
    in_reasoning, in_text = opens_reasoning, False
    last = request.turns[-1]
    if request.mode is Mode.CONTINUE and last.parts:
        part = last.parts[-1]
        in_text = isinstance(part, Text | ToolCall)
        in_reasoning = isinstance(part, Reasoning) or (opens_reasoning and not in_text)
    elif request.mode is Mode.CONTINUE and last.text:
        in_reasoning = last.text.startswith(_THINK) and _THOUGHT not in last.text
        in_text = not in_reasoning
    return CallReader(calls, tools, in_reasoning=in_reasoning, in_text=in_text)


def _meant(arguments: str, tools: Sequence[ToolSpec]) -> str:
    """Return the one tool that takes such arguments; empty where no tool does, or more than one.

    A small model writes the name of a file, say, in the place of the tool's name.
    """
    given = json_object(arguments) or {}
    taking = [tool.name for tool in tools if given and _takes(json_object(tool.parameters) or {}, given)]
    return taking[0] if len(taking) == 1 else ""


def _takes(schema: Mapping[str, object], given: Collection[str]) -> bool:
    properties, required = schema.get("properties"), schema.get("required")
    needed = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    return isinstance(properties, dict) and set(needed) <= set(given) <= properties.keys()


def _begun(marker: str, text: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a marker."""
    return next((length for length in range(len(marker) - 1, 0, -1) if text.endswith(marker[:length])), 0)
