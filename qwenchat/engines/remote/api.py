"""What an engine needs of a server, whatever its dialect: its models, their facts, counting and generating.

Each dialect implements `ServerApi` in a module of its own and knows nothing of sessions, queues or retries: `engine`
has the queue, `http` the connection with its faults and retries.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from qwenchat.chat.events import EngineEvent, TokenChance
from qwenchat.chat.ports import Capabilities, Mode, Request, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Dialect, Sampling
from qwenchat.engines.calls.format import CallFormat
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import NotFound, Recovery, RecoveryKind, RemoteBroken
from qwenchat.i18n import _, enumerated
from qwenchat.text import syntax
from qwenchat.text.safe import clean_line

LOAD_S = 600.0
"""Seconds that a server may take to load a model."""

Shape = TypeVar("Shape")
_NAMED = 8
"""Models that an error names."""


class ServedModel(Struct, frozen=True, kw_only=True):
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
    version: str = ""
    """Changes where the same id stands for another model, as far as the server shows that; empty where it does not."""
    opens_reasoning: bool = False
    """Whether its chat template opens the reasoning in the prompt; known once it is prepared."""
    notices: tuple[str, ...] = ()
    """What the user should know of it, such as that its window is smaller than it could be, and what changes that."""


class NoTokenIds(Exception):
    """Raised by `prepare` where the chat API must be used: the server does not take this model's prompts as tokens."""

    def __init__(self, model: ServedModel) -> None:
        super().__init__(model.id)
        self.model = model
        """The model's facts, as far as they are known without its tokens."""


class ServerApi(Protocol):
    """One server in its dialect. Methods raise RemoteError."""

    dialect: Dialect
    capabilities: Capabilities
    """Of the dialect; after `prepare` those of the model. One that is prepared serves that model alone."""

    @property
    def calls(self) -> CallFormat | None:
        """How the calls of tools in what it generates are read, once it is prepared; None where it makes none."""
        ...

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

    def generate(self, model: ServedModel, request: Request, sampling: Sampling) -> AsyncGenerator[EngineEvent, None]:
        """Generate; the last event is Finished. Closing the iterator closes the connection, and the server stops.

        `sampling` has a value for everything that `request.sampling` left open. Timings that the server does not report
        are 0: the engine measures them.
        """
        ...

    def lacks(self, sampling: Sampling) -> tuple[str, ...]:
        """Return the names of the parameters that are set and that this dialect can't be sent."""
        ...


def shaped(server: RemoteServer, reply: Any, shape: type[Shape]) -> Shape:
    """Return decoded JSON as a value of a type. Raises RemoteBroken where it has another shape."""
    try:
        return msgspec.convert(reply, shape)
    except msgspec.ValidationError as error:
        raise RemoteBroken(
            _("{host} sent an answer that can't be understood: {reason}.").format(
                host=server.host, reason=clean_line(syntax.field_fault(error), 200)
            ),
            _("Check the address and the kind of the engine {name}.").format(name=server.name),
            recoveries=(Recovery(RecoveryKind.TEST_ENGINE, name=server.name),),
        ) from None


def ranked(chances: Iterable[TokenChance]) -> tuple[TokenChance, ...]:
    """Return the chances of one place without repetition, the likeliest first."""
    by_token = {(each.text, each.token_id): each for each in chances}
    return tuple(sorted(by_token.values(), key=lambda each: -each.logprob))


def find_model(server: RemoteServer, offered: Sequence[ServedModel], model: str = "") -> ServedModel:
    """Return a model by its id; without one, the only model. Raises NotFound, which says what the server has."""
    if found := [each for each in offered if each.id == model or (not model and len(offered) == 1)]:
        return found[0]
    message = _("{host} has no model {model}.") if model else _("{host} does not have exactly one model: name it.")
    named = enumerated([each.id for each in offered[:_NAMED]] + ["…"] * (len(offered) > _NAMED))
    raise NotFound(
        message.format(host=server.host, model=clean_line(model)),
        _("It has: {models}.").format(models=named) if offered else _("It has none."),
        recoveries=(Recovery(RecoveryKind.OTHER_MODEL),),
    )
