"""What a tool is. Who may call it is decided elsewhere (`policy`)."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from qwenchat.chat.tools import ToolSpec

RESULT_LIMIT = 64 << 10
"""Characters of a result; a longer one is cut, and says so."""


class ToolError(Exception):
    """A call can't be carried out; the model reads why: `reason`, in English, one or two sentences."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Tool(Protocol):
    """Something that a model may call."""

    @property
    def spec(self) -> ToolSpec:
        """Its description for the model."""
        ...

    @property
    def writes(self) -> bool:
        """Whether it changes anything outside the chat, or sends anything from this machine."""
        ...

    async def run(self, arguments: Mapping[str, object]) -> str:
        """Carry out a call and return what the model reads.

        The names and types of the arguments have been checked (`arguments`), the rest of the schema has not. Raises
        ToolError. Cancelling it ends the work; what blocks runs in a thread or a process.
        """
        ...


@runtime_checkable
class OpensFile(Protocol):
    """A tool that opens a file, whose path a small model may have made up around its name."""

    def opened(self, arguments: Mapping[str, object]) -> str:
        """Return the path that a call opens if its arguments name another one, else nothing.

        It blocks. Raises ToolError where the call can't be carried out.
        """
        ...
