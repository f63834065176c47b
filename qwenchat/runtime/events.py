"""What the chat service reports: values, and nothing that acts.

They are structs: to make so many classes as dataclasses would delay the first frame of the screen.
"""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING

from msgspec import Struct

from qwenchat.chat.message import Message
from qwenchat.chat.session import Session, WaitingQuestion
from qwenchat.chat.tree import VariantPlace
from qwenchat.errors import QwenchatError, Recovery
from qwenchat.tools.policy import PendingCall

if TYPE_CHECKING:
    from qwenchat.chat.events import Summarising, TurnEvent, WaitingToRetry
    from qwenchat.chat.ports import ModelInfo


class TurnReported(Struct, frozen=True):
    """The turn of a session reports."""

    session: str
    event: "TurnEvent"


class QueueChanged(Struct, frozen=True):
    """Another session is answering now, empty for none; `waiting` in their order."""

    running: str
    waiting: tuple[str, ...]


class Hold(Enum):
    """Why a waiting question is not asked when its turn comes."""

    FAILED = auto()
    """It, or what came before it, failed: the user decides about that first."""
    STOPPED = auto()
    """The user stopped the answer that it waited for."""
    NO_MODEL = auto()
    """No model is chosen."""
    NO_CONSENT = auto()
    """The user has not agreed yet that the chat is sent to another machine."""


class WaitingChanged(Struct, frozen=True):
    """Other questions wait now, by their ids: `places` in the queue, from 1, and why those that are held are."""

    places: Mapping[str, int]
    holds: Mapping[str, Hold]


class ConsentNeeded(Struct, frozen=True):
    """Before a session is sent to another machine for the first time, the user must agree; until then it waits."""

    session: str
    model: str
    """The reference of the model that would answer."""
    host: str
    is_second_model: bool
    """Whether it is not the session's own model."""


class ToolAsked(Struct, frozen=True):
    """The model of a session called a tool, and the turn waits until the user decides: see `ChatService.decide`."""

    session: str
    pending: PendingCall


class ToolDecided(Struct, frozen=True):
    """The call that a session waited for is decided, or the turn was stopped; nothing is asked any more."""

    session: str
    pending: PendingCall


class TurnFailed(Struct, frozen=True):
    """A turn of a session ended with an error; what was generated is stored."""

    session: str
    error: QwenchatError
    recoveries: tuple[Recovery, ...]
    question: Message | None = None
    """What was asked, where it is stored no longer because it does not fit the context window."""


class SummaryGrew(Struct, frozen=True):
    """The oldest messages of a session are being summarised."""

    session: str
    progress: "Summarising"


class Compacted(Struct, frozen=True):
    """The branch of a session begins with a summary now; `before` is the first message of the branch before."""

    session: str
    summary: Message
    before: str


class NotCompacted(Struct, frozen=True):
    """A session stays as it is: there is nothing to summarise, or no summary came of it."""

    session: str
    error: QwenchatError


class BugFound(Struct, frozen=True):
    """Answering ended with an exception that is no failure: whoever listens raises it, which ends the program."""

    bug: BaseException


class ModelLoaded(Struct, frozen=True):
    """A model is ready."""

    reference: str
    info: "ModelInfo"


class ModelLoading(Struct, frozen=True):
    """A model is being loaded; `fraction` from 0 to 1."""

    reference: str
    fraction: float


class ModelWaiting(Struct, frozen=True):
    """The server of a model failed while it was asked for its facts; it is asked again after a while."""

    reference: str
    waiting: "WaitingToRetry"


ChatEvent = (
    TurnReported
    | QueueChanged
    | WaitingChanged
    | ConsentNeeded
    | ToolAsked
    | ToolDecided
    | TurnFailed
    | SummaryGrew
    | Compacted
    | NotCompacted
    | BugFound
    | ModelLoaded
    | ModelLoading
    | ModelWaiting
)
Listener = Callable[[ChatEvent], object]


class SessionSnapshot(Struct, frozen=True, kw_only=True):
    """A session as it is now: the branch being read, and the questions that wait behind it."""

    session: Session
    branch: list[Message]
    variants: dict[str, VariantPlace]
    """Of messages with siblings, by their ids."""
    waiting: list[WaitingQuestion]
