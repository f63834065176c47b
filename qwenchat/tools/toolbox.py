"""Runs the calls of a chat: finds the tool, asks the policy, runs it within a time limit, makes a result of what came.

Nothing that a tool does ends the turn: refusals, failures and time limits are results, which the model reads. Its words
are English, as are all descriptions of tools for the model. Cancelling a call is the only thing that passes through.
"""

import asyncio
import re
import time
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from qwenchat.chat.message import ToolCall, ToolResult
from qwenchat.chat.tools import REFUSED, ToolSpec
from qwenchat.text.clusters import cut
from qwenchat.text.safe import clean, clean_line
from qwenchat.tools.arguments import decoded
from qwenchat.tools.policy import Leave, PendingCall, Policy
from qwenchat.tools.tool import RESULT_LIMIT, OpensFile, Tool, ToolError

CALL_LIMIT_S = 60.0
_NAME_LIMIT, _SERVER_LIMIT = 64, 24
"""Characters of a tool's name, and of its server's name within it."""


class ToolRunner:
    """The tools of one chat under its policy; a `chat.tools.Toolbox`."""

    def __init__(self, tools: Mapping[str, Tool], policy: Policy, *, limit_s: float = CALL_LIMIT_S) -> None:
        """`tools` are by the names that the model knows them by (`named`); `limit_s` is for one call, once allowed."""
        self._policy, self._limit_s = policy, limit_s
        self._tools = {name: tool for name, tool in tools.items() if self._rule(name, tool) != "deny"}
        """What is denied does not exist for the model."""
        self.specs: Sequence[ToolSpec] = [replace(tool.spec, name=name) for name, tool in self._tools.items()]
        """The tools that are described to the model."""

    async def run(self, call: ToolCall) -> ToolResult:
        """Decide about a call, run it and return its result."""
        took_s = 0.0
        try:
            tool = self._found(call.name)
            arguments = decoded(call.arguments, tool.spec.parameters)
            await self._ask(call, tool, arguments)
            started = time.perf_counter()
            try:
                text = await self._within_limit(tool, arguments)
            finally:
                took_s = time.perf_counter() - started
        except ToolError as error:
            text, is_error = error.reason, True
        else:
            is_error = False
        return ToolResult(call.id, call.name, _shortened(clean(text)), is_error, round(took_s * 1000))

    def _rule(self, name: str, tool: Tool) -> str:
        return self._policy.rule(name, writes=tool.writes)

    def _found(self, name: str) -> Tool:
        if name not in self._tools:
            known = clean_line(", ".join(self._tools), 2000) or "none"
            raise ToolError(f'There is no tool named "{clean_line(name)}". The tools are: {known}.')
        return self._tools[name]

    async def _ask(self, call: ToolCall, tool: Tool, arguments: Mapping[str, object]) -> None:
        """Return if the call may run. Raises ToolError."""
        opens = await asyncio.to_thread(tool.opened, arguments) if isinstance(tool, OpensFile) else ""
        decision = await self._policy.decide(PendingCall(call=call, writes=tool.writes, opens=opens))
        if decision.leave is Leave.REFUSED:
            reason = clean(decision.reason).strip() or "Answer without it."
            raise ToolError(REFUSED + reason)

    async def _within_limit(self, tool: Tool, arguments: Mapping[str, object]) -> str:
        """Run a tool and return what it returned. Raises ToolError, whatever went wrong."""
        limit = asyncio.timeout(self._limit_s)
        try:
            async with limit:
                return await tool.run(arguments)
        except ToolError:
            raise
        except Exception as error:
            if limit.expired():
                raise ToolError(f"The tool did not finish within {self._limit_s:g} seconds.") from error
            raise ToolError(f"The tool failed: {type(error).__name__}: {error}") from error


def named(own: Iterable[Tool], servers: Mapping[str, Iterable[Tool]]) -> dict[str, Tool]:
    """Return all tools by the names that the model knows them by.

    A tool of a server is named `SERVER__TOOL`, whichever other servers there are: a rule of the policy must always mean
    the same tool, and no server's tool may pass for one of another server or of the program's own.
    """
    tools = {tool.spec.name: tool for tool in own}
    for server, offered in servers.items():
        prefix = _plain(server).replace("_", "-")[:_SERVER_LIMIT]  # the first `__` of a name ends the server's part
        for tool in offered:
            whole = f"{prefix}__{_plain(tool.spec.name)}"
            name, number = whole[:_NAME_LIMIT], 2
            while name in tools:
                name, number = f"{whole[: _NAME_LIMIT - 6]}_{number}", number + 1
            tools[name] = tool
    return tools


def _plain(name: str) -> str:
    return re.sub("[^A-Za-z0-9_-]", "_", name)


def _shortened(text: str) -> str:
    if len(text) <= RESULT_LIMIT:
        return text
    return f"{cut(text, RESULT_LIMIT)}\n[The rest of the result is left out: it has {len(text):,} characters.]"
