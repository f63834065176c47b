"""What is reported while a turn runs. `EngineEvent` says what an engine reports; the turn makes parts of its deltas."""

from msgspec import Struct

from qwenchat.chat.message import FinishReason, Message, Part, Timings, ToolCall, Usage


class Loading(Struct, frozen=True):
    """The model is being loaded; `fraction` from 0 to 1."""

    fraction: float


class WaitingToRetry(Struct, frozen=True, kw_only=True):
    """A server failed before the first token; it is asked again after a while."""

    reason: str
    """What went wrong: a sentence in the user's language."""
    wait_s: float
    attempt: int
    """The number of the next attempt; the first one was 1."""
    attempts: int
    """How many there are at most; 0 where only time limits them, as while a server loads its model."""


class Prefilling(Struct, frozen=True):
    """The prompt is being prefilled; `done` and `total` count the tokens that the KV cache lacked."""

    done: int
    total: int
    tokens_per_second: float
    seconds_left: float


class Reading(Struct, frozen=True):
    """Documents are being read for a question. `done` and `total` count the passages to be read."""

    level: int
    done: int
    total: int
    seconds_left: float
    """As far as can be foreseen; 0 where nothing is known yet."""
    found: int = 0
    """Passages so far that matter to the question."""
    latest: str = ""
    """What was found last: a sentence or two."""


class Summarising(Struct, frozen=True):
    """The model summarises so many messages; `fraction` from 0 to 1."""

    messages: int
    fraction: float


class TokenChance(Struct, frozen=True):
    """A token that could stand at a place, as text; bytes that are no character are replaced."""

    text: str
    token_id: int
    """-1 where the engine does not say."""
    logprob: float
    """The natural logarithm of its probability, before anything that sampling does to it."""


class Delta(Struct, frozen=True):
    """A piece of the generated text: whole characters, and the tokens sampled since the last piece.

    Text may lag behind tokens while a character is incomplete or a stop string may have begun.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    chances: tuple[tuple[TokenChance, ...], ...] = ()
    """For each token, that one and the likeliest ones beside it, the likeliest first; where they were asked for.

    Tokens whose chances are not known have none; trailing ones may be left out. Where the tokens are not known by
    number, there are chances all the same.
    """


class PromptScored(Struct, frozen=True):
    """The next tokens of the prompt, with the chances of each, where they were asked for; the first one has none."""

    token_ids: tuple[int, ...]
    chances: tuple[tuple[TokenChance, ...], ...]


class Called(Struct, frozen=True):
    """The model called a tool. Its markers and arguments are not part of any Delta."""

    call: ToolCall


class Finished(Struct, frozen=True):
    """Generation ended; nothing follows."""

    reason: FinishReason
    usage: Usage
    timings: Timings


class TurnStarted(Struct, frozen=True):
    """Question and empty answer are stored; what follows belongs to `answer`.

    A continued answer whose question has been deleted stands for it.
    """

    question: Message
    answer: Message


class Trimmed(Struct, frozen=True):
    """The oldest messages no longer fit the context window; the model does not see them."""

    messages: int
    tokens: int
    first_seen: str
    """The id of the oldest message that the model sees."""


class PartGrew(Struct, frozen=True):
    """A part of the answer grew by a fragment, or began with it."""

    index: int
    """Of the part, among those of the answer."""
    offset: int
    """Characters that the part had before."""
    fragment: Part


class TurnEnded(Struct, frozen=True):
    """The turn is over; `answer` is as it was stored."""

    answer: Message


LoadEvent = Loading | WaitingToRetry
EngineEvent = WaitingToRetry | Prefilling | PromptScored | Delta | Called | Finished
TurnEvent = LoadEvent | Reading | Prefilling | Finished | TurnStarted | Trimmed | PartGrew | TurnEnded
