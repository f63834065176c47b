"""What a tool is. Who may call it is decided elsewhere (`policy`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from qwenchat.chat.tools import ToolSpec

RESULT_LIMIT = 64 << 10
"""Characters of a result; a longer one is cut, and says so."""


@dataclass(frozen=True, slots=True)
class ToolError(Exception):
    """A call can't be carried out; the model reads why."""

    reason: str
    """In English, one or two sentences."""


class Tool(Protocol):
    """Something that a model may call."""

    @property
    def spec(self) -> ToolSpec:
        """What the model is told of it."""
        ...

    @property
    def writes(self) -> bool:
        """Whether it changes anything outside the chat, or sends anything from this machine."""
        ...

    async def run(self, arguments: Mapping[str, object]) -> str:
        """Carry out a call, whose arguments follow the schema, and return what the model reads.

        Raises ToolError. Cancelling it ends the work; what blocks runs in a thread or a process.
        """
        ...
