"""What a format of calls is, and which one a model has.

Models whose template knows tools write calls as Hermes does; Qwen2's template knows none, and its models were trained
on a format of their own. A model whose prompts are not ChatML calls no tools here.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from msgspec import Struct

from qwenchat.chat.message import TurnPart
from qwenchat.chat.prompt import PromptPart
from qwenchat.chat.tools import ToolSpec


class CallMarkers(Struct, frozen=True, kw_only=True):
    """The texts that delimit a call, as the model writes them."""

    begin: str
    """What nothing but a call begins with."""
    end: str
    """What ends it; empty where only the next call or the end of the answer does."""
    stops: tuple[str, ...]
    """What the model must not write itself: the results."""
    all: tuple[str, ...]
    """Every marker, those of results included: none of them is left whole in what users and tools say."""


class CallSyntax(Struct, frozen=True, kw_only=True):
    """The exact text of a call of one tool, around its arguments; the first text follows `CallMarkers.begin`."""

    before: str
    bare: str
    """A regular expression of what an answer begins with that is the call without any marker; empty where none is."""
    after: str
    """Ends with `CallMarkers.end`."""
    parameters: str
    """The JSON Schema of the arguments, as JSON."""


class CallFormat(Protocol):
    """One format of calls."""

    markers: CallMarkers

    def system(self, text: str, tools: Sequence[ToolSpec], *, chinese: bool) -> list[PromptPart]:
        """Return the system prompt `text` with the description of the tools, whose words are text alone."""
        ...

    def answer(self, parts: Sequence[TurnPart], *, is_open: bool) -> list[PromptPart]:
        """Return what an answer with calls is in a prompt, from behind its role to before its end of turn.

        With `is_open`, an answer that ends with results ends where the model goes on.
        """
        ...

    def syntax(self, tool: ToolSpec) -> CallSyntax:
        """Return how a tool is called."""
        ...

    def may_be_bare(self, text: str, names: Collection[str]) -> bool:
        """Say whether an answer that begins with a text may be a call without markers.

        That is one of the tools `names`, or else what has all the parts of a call.
        """
        ...

    def parse(self, text: str) -> tuple[str, str] | None:
        """Return name and arguments of what stands between the markers; None where there is no name.

        The arguments are a JSON object, as text, wherever one can be read in what the model wrote.
        """
        ...


def unforged(text: str, markers: CallMarkers) -> str:
    """Return a text in which no marker is written: each is broken by a word joiner, which no reader sees."""
    for marker in markers.all:
        text = text.replace(marker, f"{marker[0]}\u2060{marker[1:]}")
    return text
