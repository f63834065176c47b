"""What the running side tells the screen: values, and nothing that acts."""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from qwenchat.chat.events import TurnEvent
from qwenchat.chat.message import Message
from qwenchat.chat.ports import ModelInfo
from qwenchat.chat.session import Session
from qwenchat.errors import QwenchatError


class Offer(Enum):
    """What can be done about an answer that failed."""

    AGAIN = auto()
    SMALLER_CONTEXT = auto()
    FEWER_LAYERS = auto()
    """On the GPU."""
    WITHOUT_GPU = auto()
    OTHER_MODEL = auto()


class Happened(NamedTuple):
    """A turn of a session reports."""

    session: str
    event: TurnEvent
    at: int = 0
    """Characters of the answer before this event."""


class Queue(NamedTuple):
    """Another session is answering now, empty for none; `waiting` in their order."""

    running: str
    waiting: tuple[str, ...]


class Failed(NamedTuple):
    """A turn of a session ended with an error; what it said so far is kept."""

    session: str
    error: QwenchatError
    offers: tuple[Offer, ...]


class Loaded(NamedTuple):
    """A model is ready."""

    reference: str
    info: ModelInfo


class LoadingModel(NamedTuple):
    """A model is being read."""

    reference: str
    fraction: float


ChatEvent = Happened | Queue | Failed | Loaded | LoadingModel
Listener = Callable[[ChatEvent], object]


class Opened(NamedTuple):
    """A session and the branch being read."""

    session: Session
    branch: list[Message]
    variants: dict[str, tuple[int, int]]
    """(number, count) of messages with siblings."""


class Fill(NamedTuple):
    """How full the context window would be, in tokens."""

    used: int
    """Question and history that the model sees."""
    reserve: int
    """Kept free for the answer."""
    n_ctx: int
    first_seen: str | None
    """The oldest message that the model sees; None where it sees all."""
    too_long: bool = False
    """The question alone does not fit."""
