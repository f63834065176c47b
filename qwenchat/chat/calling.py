"""The calls of one answer: run within limits of rounds and time, their results cut to what the context window takes.

What a tool may do, and whether the user agrees, the toolbox decides. Nothing is stored here.
"""

from msgspec import Struct
from msgspec.structs import replace

from qwenchat.chat.message import ToolCall, ToolResult
from qwenchat.chat.ports import Engine
from qwenchat.chat.prompt import Turn
from qwenchat.chat.tools import REFUSED, Toolbox

_CUT = "\n[The rest does not fit the context window.]"
_LEAST_ROOM = 64
"""Tokens; a result is not cut to fewer."""


class ToolUse(Struct, frozen=True, kw_only=True):
    """The tools of a turn and how much they may be used."""

    toolbox: Toolbox
    rounds: int = 8
    """How often the model may call and read results before it must answer."""
    seconds: float = 300.0
    """How long all tools may run together; the time in which the user decides does not count."""


class Calling:
    """Runs the calls of one answer."""

    def __init__(self, use: ToolUse | None) -> None:
        """Begin; without tools, every call is answered with that."""
        self._use = use
        self._rounds, self._spent_ms = 0, 0
        self._results: set[str] = set()
        self._refused: dict[tuple[str, str], ToolResult] = {}
        """What the user or the settings refused, by name and arguments; it is not asked for again."""
        self._is_news = True
        """Whether the last round brought a result that no earlier one had."""

    @property
    def may_call(self) -> bool:
        """Whether the model may call once more: small ones repeat a call for ever, and never answer."""
        return self._is_news and self._rounds < (self._use.rounds if self._use else 0)

    def begin_round(self) -> None:
        """Note that the model has called once more."""
        self._rounds += 1
        self._is_news = False

    async def run(self, call: ToolCall, engine: Engine, room: int) -> ToolResult:
        """Run a call and return its result, in `room` tokens. The model reads English whatever the user speaks."""
        if self._use is None:
            return _refused(call, "Tools are switched off.")
        if call.name not in {tool.name for tool in self._use.toolbox.specs}:
            return _refused(call, f"There is no tool named {call.name}.")
        if self._spent_ms > self._use.seconds * 1000:
            return _refused(call, "The time for tools is over. Answer with what you know.")
        asked = call.name, call.arguments
        if asked in self._refused:
            return replace(self._refused[asked], call_id=call.id)
        result = await self._use.toolbox.run(call)
        if result.is_error and result.text.startswith(REFUSED):
            self._refused[asked] = result
        self._spent_ms += result.took_ms
        self._is_news = self._is_news or result.text not in self._results
        self._results.add(result.text)
        return await _fitting(result, engine, room)


def _refused(call: ToolCall, why: str) -> ToolResult:
    return ToolResult(call.id, call.name, why, is_error=True)


async def _fitting(result: ToolResult, engine: Engine, room: int) -> ToolResult:
    """Cut a result to what fits."""
    text = result.text
    while (tokens := (await engine.count([Turn("user", text)])).values[0]) > max(room, _LEAST_ROOM):
        length = len(text.removesuffix(_CUT)) * max(room, _LEAST_ROOM) * 9 // (tokens * 10)
        if not length:
            break
        text = text[:length] + _CUT
    return replace(result, text=text)
