"""The one owner of an answer while it is generated: what the engine reports becomes parts here.

The turn adds to it, the saver takes from it what is not stored yet, and an opened session shows it as it is
now. It stores and draws nothing.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from qwenchat.chat.events import Delta, PartGrew
from qwenchat.chat.message import Citation, Message, Part, Reasoning, Status, Text, ToolCall, ToolResult, merged

_OPEN, _CLOSE = "<think>", "</think>"


class ReasoningReader:
    """Splits generated text into Reasoning and Text: what stands between `<think>` and `</think>` at its beginning.

    QwQ and the distilled R1 models write so. Some of their templates open the reasoning in the prompt: the answer then
    begins inside it. A piece that ends with half a marker is held back until the rest of it is known.
    """

    def __init__(self, before: Sequence[Part] = (), *, inside: bool = False) -> None:
        """Begin after the parts that an answer has already, else at the beginning, `inside` reasoning or not."""
        last = before[-1] if before else None
        self._begun = inside or last is not None
        self._inside = isinstance(last, Reasoning) or (inside and last is None)
        self._closing = False
        """Whether the closing marker came last: line breaks behind it belong to neither part."""
        self._held, self._held_ids = "", list[int]()

    def feed(self, delta: Delta) -> list[Part]:
        """Return the fragments of parts that a piece of the answer makes."""
        text, token_ids = self._held + delta.text, (*self._held_ids, *delta.token_ids)
        self._held, self._held_ids = "", []
        if not self._begun:
            start = text.lstrip()
            if len(start) < len(_OPEN) and _OPEN.startswith(start):
                return self._hold(text, token_ids)
            self._begun, self._inside = True, start.startswith(_OPEN)
            if self._inside:
                text = start.removeprefix(_OPEN)
        if self._inside:
            return self._reasoned(text, token_ids)
        return self._said(text, token_ids)

    def finish(self) -> list[Part]:
        """Return what was held back: the rest of a marker will not come any more."""
        if not (self._held or self._held_ids):
            return []
        kind = Reasoning if self._inside else Text
        held = kind(self._held, tuple(self._held_ids))
        self._held, self._held_ids = "", []
        return [held]

    def _reasoned(self, text: str, token_ids: tuple[int, ...]) -> list[Part]:
        reasoning, closed, rest = text.partition(_CLOSE)
        if not closed:
            if any(text.endswith(_CLOSE[:length]) for length in range(1, len(_CLOSE))):
                return self._hold(text, token_ids)
            return [Reasoning(text, token_ids)]
        self._inside, self._closing = False, True
        return [Reasoning(reasoning, token_ids), *self._said(rest, ())]

    def _said(self, text: str, token_ids: tuple[int, ...]) -> list[Part]:
        if self._closing:
            text = text.lstrip("\n")
            if not text:
                return [Reasoning("", token_ids)] if token_ids else []
            self._closing = False
        return [Text(text, token_ids)]

    def _hold(self, text: str, token_ids: tuple[int, ...]) -> list[Part]:
        self._held, self._held_ids = text, list(token_ids)
        return []


class StreamingAnswer:
    """An answer that grows."""

    def __init__(self, message: Message, *, inside_reasoning: bool = False) -> None:
        """Begin with an answer as it is stored; `inside_reasoning` where the prompt has opened its reasoning."""
        self._message = message
        self._reader = ReasoningReader(message.generated, inside=inside_reasoning)
        self._fragments = list(message.parts)
        self._stored = len(self._fragments)
        self._index = len(self._fragments) - 1
        last = self._fragments[-1] if self._fragments else None
        self._length = len(last.text) if isinstance(last, Text | Reasoning) else 0
        """Characters of the last part."""

    @property
    def id(self) -> str:
        """The id of the answer."""
        return self._message.id

    def snapshot(self) -> Message:
        """Return the answer with all that has been generated so far."""
        return replace(self._message, parts=merged(self._fragments), status=Status.STREAMING)

    def add(self, delta: Delta) -> list[PartGrew]:
        """Take a piece from the engine and return by what the parts grew."""
        return [self._grown(fragment) for fragment in self._reader.feed(delta)]

    def put(self, *parts: ToolCall | ToolResult | Citation) -> list[PartGrew]:
        """Take a call, the result of one, or passages, and return by what the parts grew."""
        return [*self.finish(), *map(self._grown, parts)]

    def begin_round(self, *, inside_reasoning: bool) -> None:
        """Begin to read what the model generates after the results of its calls."""
        self._reader = ReasoningReader(inside=inside_reasoning)

    @property
    def open_calls(self) -> list[ToolCall]:
        """The calls that have no result yet."""
        answered = {part.call_id for part in self._fragments if isinstance(part, ToolResult)}
        return [part for part in self._fragments if isinstance(part, ToolCall) and part.id not in answered]

    def finish(self) -> list[PartGrew]:
        """Take what was held back, at the end, and return by what the parts grew."""
        return [self._grown(fragment) for fragment in self._reader.finish()]

    def unstored(self) -> list[Part]:
        """Return the fragments that are not stored yet."""
        return self._fragments[self._stored :]

    def mark_stored(self, count: int) -> None:
        """Note that the first `count` of the unstored fragments are stored, and merge them: there may be thousands."""
        stored = self._stored + count
        self._fragments[:stored] = whole = merged(self._fragments[:stored])
        self._stored = len(whole)

    def _grown(self, fragment: Part) -> PartGrew:
        last = self._fragments[-1] if self._fragments else None
        if type(last) is not type(fragment) or not isinstance(fragment, Text | Reasoning):
            self._index, self._length = self._index + 1, 0
        event = PartGrew(self._index, self._length, fragment)
        if isinstance(fragment, Text | Reasoning):
            self._length += len(fragment.text)
        self._fragments.append(fragment)
        return event
