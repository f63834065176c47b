"""Tools as a chat sees them: the description of a tool for the model, and what runs a call. Nothing is run here."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from qwenchat.chat.message import ToolCall, ToolResult

REFUSED = "This call was refused: "
"""How the result of a call begins that the user or the settings refused; the reason follows."""


class ToolSpec(Struct, frozen=True, kw_only=True):
    """The description of a tool for the model."""

    name: str
    """ASCII letters, digits, `_` and `-`, at most 64 characters; unique among the tools of a request."""
    description: str
    parameters: str
    """The JSON Schema of its arguments, which are an object, as JSON."""


class Toolbox(Protocol):
    """The tools of one turn."""

    @property
    def specs(self) -> Sequence[ToolSpec]:
        """The tools that are described to the model."""
        ...

    async def run(self, call: ToolCall) -> ToolResult:
        """Decide about a call, run it and return its result; refusals and failures are results, too.

        Cancelling it ends the tool.
        """
        ...
