"""Runs one generation for a client, at the engine's pace: however slowly the client reads, no other one waits for it.

A task of its own waits for the request's turn, generates, and ends with the generation; what was not read yet waits in
memory, which is at most one answer. Whoever stops reading ends it.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from qwenchat.chat.events import Called, Delta, EngineEvent, Finished, Prefilling, PromptScored
from qwenchat.chat.message import FinishReason
from qwenchat.chat.ports import Request
from qwenchat.errors import Interrupted
from qwenchat.i18n import _
from qwenchat.runtime.served_models import Grant, ServedModels
from qwenchat.server.api_errors import ApiError
from qwenchat.server.metrics import Metrics

KEEP_ALIVE_S = 5.0
"""Seconds of silence after which a stream says that it is still there."""
_MOST_BYTES_A_TOKEN = 64
"""A prompt that has more for each token of the window is refused before it is tokenised. Only white space has more."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing has come for a while: the request waits, the model is loaded, or the prompt is prefilled."""


AnswerEvent = Grant | Silence | PromptScored | Delta | Called | Finished
Prepare = Callable[[Grant], Awaitable[Request]]
"""Makes the request for the engine that was granted; raises ApiError for what it can't do."""


@dataclass(slots=True)
class Answers:
    """Generates answers with the models of a server."""

    served: ServedModels
    metrics: Metrics = field(default_factory=Metrics)
    keep_alive_s: float = KEEP_ALIVE_S

    async def generate(self, reference: str, prepare: Prepare) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the grant, then what the engine reports, the last of which is Finished.

        Raises what `ServedModels.grant` and the engine raise, and Interrupted where the server ends the answer.
        """
        events: asyncio.Queue[Grant | EngineEvent | Exception] = asyncio.Queue()
        task = asyncio.create_task(self._run(reference, prepare, events))
        try:
            while True:
                try:
                    async with asyncio.timeout(self.keep_alive_s):
                        event = await events.get()
                except TimeoutError:
                    yield Silence()
                    continue
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, Grant | PromptScored | Delta | Called | Finished):
                    yield event
                if isinstance(event, Finished):
                    return
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _run(
        self, reference: str, prepare: Prepare, events: "asyncio.Queue[Grant | EngineEvent | Exception]"
    ) -> None:
        try:
            async with self.served.grant(reference) as granted:
                events.put_nowait(granted)
                request = await prepare(granted)
                _check_length(request, granted.info.n_ctx)
                async with aclosing(granted.engine.generate(request)) as generation:
                    async for event in generation:
                        if isinstance(event, Finished):
                            self.metrics.count_answer(event)
                            if event.reason is FinishReason.CANCELLED:
                                raise Interrupted(_("The server is shutting down."))
                        if not isinstance(event, Prefilling):
                            events.put_nowait(event)
        except Exception as error:
            events.put_nowait(error)


def _check_length(request: Request, n_ctx: int) -> None:
    """Raise ApiError for a prompt that is too long by far: tokenising it would only take time."""
    length = sum(len(turn.text) + len(turn.token_ids) for turn in request.turns)
    if length > n_ctx * _MOST_BYTES_A_TOKEN:
        raise ApiError(
            400,
            "context_length_exceeded",
            f"The prompt of {length} characters does not fit the context window of {n_ctx} tokens.",
            param="messages",
        )
