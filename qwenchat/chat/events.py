"""What a turn reports while it runs. The engine reports the first four; `turn` adds the rest."""

from dataclasses import dataclass

from qwenchat.chat.conversation import FinishReason, Message, Timings, Usage


@dataclass(frozen=True, slots=True)
class Loading:
    """The model is being read; `fraction` from 0 to 1."""

    fraction: float


@dataclass(frozen=True, slots=True)
class Prefilling:
    """The prompt is being read; `done` and `total` count the tokens that the KV cache lacked."""

    done: int
    total: int
    tokens_per_second: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer: whole characters, and the tokens sampled since the last piece.

    Text may lag behind tokens while a character is incomplete or a stop string may have begun.
    """

    text: str
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer ended; nothing follows."""

    reason: FinishReason
    usage: Usage
    timings: Timings


@dataclass(frozen=True, slots=True)
class Saved:
    """Question and empty answer are on disk; what follows belongs to `answer`.

    An answer that is carried on and has no question any more stands for it.
    """

    question: Message
    answer: Message


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The oldest messages no longer fit the context window and the model does not see them."""

    messages: int
    tokens: int
    first_kept: str
    """The id of the oldest message that the model sees."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The turn is over and `answer` is as it was kept."""

    answer: Message


EngineEvent = Loading | Prefilling | Delta | Finished
TurnEvent = EngineEvent | Saved | LeftOut | Ended
