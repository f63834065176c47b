"""What an engine needs of a server, whatever its dialect: its models, their facts, counting and generating.

Each dialect implements `ServerApi` in a module of its own and knows nothing of sessions, queues or retries: `engine`
has the queue, `http` the connection with its faults and retries.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from qwenchat.chat.events import EngineEvent
from qwenchat.chat.ports import Capabilities, Mode, Request, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Dialect, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that a server offers. Texts of the server are cleaned."""

    id: str
    """What requests call it."""
    n_ctx: int = 0
    """Tokens of the context window that the server gives it; 0 where it does not report that."""
    n_ctx_max: int = 0
    """Tokens that the model could take; 0 where the server does not report that."""
    quantisation: str = ""
    size: int = 0
    """Bytes; 0 where the server does not report that."""
    is_loaded: bool = True
    notices: tuple[str, ...] = ()
    """What the user should know of it, such as that its window is smaller than it could be, and what changes that."""


class ServerApi(Protocol):
    """One server in its dialect. Methods raise RemoteError."""

    dialect: Dialect
    capabilities: Capabilities
    """Of the dialect; after `prepare` those of the model. One that is prepared serves that model alone."""

    async def models(self) -> list[ServedModel]:
        """Return the models that the server offers now."""
        ...

    async def prepare(self, model: str, *, n_ctx: int = 0) -> ServedModel:
        """Return a model's facts, with the window that requests will have.

        The server loads it where it does so on demand. `n_ctx`: tokens that the user wants; 0 for what suits.
        """
        ...

    async def count(self, model: ServedModel, turns: Sequence[Turn], mode: Mode) -> TokenCounts:
        """Return the tokens of the prompt that `generate` would send; where only an estimate is possible, one."""
        ...

    def generate(self, model: ServedModel, request: Request, sampling: Sampling) -> AsyncIterator[EngineEvent]:
        """Generate; the last event is Finished. Closing the iterator closes the connection, and the server stops.

        `sampling` has a value for everything that `request.sampling` left open.
        """
        ...

    def lacks(self, sampling: Sampling) -> tuple[str, ...]:
        """Return the names of the parameters that are set and that this dialect can't be sent."""
        ...
