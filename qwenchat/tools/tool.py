"""What a tool is, and how one written in Python gets its arguments. Who may call it is decided elsewhere (`policy`)."""

import json
from collections.abc import Mapping
from typing import Protocol, TypeVar

import msgspec

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
        """What the model is told of it."""
        ...

    @property
    def writes(self) -> bool:
        """Whether it changes anything outside the chat, or sends anything from this machine."""
        ...

    async def run(self, arguments: Mapping[str, object]) -> str:
        """Carry out a call and return what the model reads.

        Raises ToolError, also for arguments that do not follow the schema: a model may have written them freely.
        Cancelling it ends the work; what blocks runs in a thread or a process.
        """
        ...


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The arguments of a tool: a subclass has one field for each, which its schema describes."""


Given = TypeVar("Given", bound=Arguments)


def schema_of(arguments: type[Arguments]) -> str:
    """Return the JSON Schema of arguments, as ToolSpec has it."""
    schema = msgspec.json.schema(arguments)["$defs"][arguments.__name__]
    del schema["title"]
    return json.dumps(schema, ensure_ascii=False)


def given(arguments: Mapping[str, object], wanted: type[Given]) -> Given:
    """Return arguments with their types; numbers may be written as text. Raises ToolError."""
    try:
        return msgspec.convert(arguments, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise ToolError(f"The arguments do not follow the schema: {error}.") from error
