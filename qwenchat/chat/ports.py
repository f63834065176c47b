"""What a chat needs from outside: an engine that generates and a store that persists.

Siblings implement these and never know each other. Store calls block and are made from threads, so a store is
safe to call from any thread; an engine is asyncio and belongs to one loop.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from enum import Enum, auto
from typing import Protocol

from msgspec import Struct

from qwenchat.chat.events import EngineEvent, LoadEvent
from qwenchat.chat.message import Message, Part
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session, WaitingQuestion
from qwenchat.chat.tree import Tree

MOST_CHANCES = 20
"""The most tokens whose chances are reported for each one that is sampled; what servers allow."""


class Mode(Enum):
    """What is generated after the turns of a request."""

    ANSWER = auto()
    """An answer to the last turn."""
    CONTINUE = auto()
    """The rest of the last turn, which is an answer that ended early."""
    COMPLETE = auto()
    """What follows the turns as plain text, without a chat template; the system prompt is not used."""
    RAW = auto()
    """The same for a prompt that another program made: special tokens in it are what they stand for."""


class Request(Struct, frozen=True, kw_only=True):
    """One generation."""

    turns: tuple[Turn, ...]
    sampling: Sampling
    mode: Mode = Mode.ANSWER
    chances: int = 0
    """How many of the likeliest tokens are reported for each one that is sampled, where the engine can (`logprobs`).

    At most MOST_CHANCES are.
    """
    scored_turns: int = 0
    """Of how many turns, from the last one backwards, the chances of the tokens are reported, as PromptScored.

    A token that ends the answer is then reported, too, as a Delta without text.
    """
    must_call: bool = False
    """Whether the answer has to be calls of the tools, where the engine can enforce that."""
    cache_key: str = ""
    """Names the KV cache to reuse and to save; empty where nothing of it may be written."""


class TokenCounts(Struct, frozen=True, kw_only=True):
    """How many tokens a prompt takes."""

    values: tuple[int, ...]
    """Of each turn, markers included."""
    around: int = 0
    """Of what belongs to no turn: the template's own system prompt, and the beginning of the answer."""
    exact: bool = True
    """False for an estimate."""
    additive: bool = True
    """Whether a turn takes the same number in every prompt."""

    @property
    def total(self) -> int:
        """Of the whole prompt, as it is sent."""
        return self.around + sum(self.values)


class Capabilities(Struct, frozen=True, kw_only=True):
    """What an engine can do; what it can't is known before it is asked."""

    continue_answer: bool = False
    """Mode.CONTINUE."""
    tools: bool = False
    json_schema: bool = False
    token_ids: bool = False
    """Deltas carry the sampled tokens, and turns may be given as tokens."""
    saved_kv: bool = False
    prefill_progress: bool = False
    exact_counts: bool = False
    logprobs: bool = False
    """`Request.chances` is served."""
    raw_prompts: bool = False
    """Mode.RAW, `Request.scored_turns` and `Request.must_call` are served."""


class ModelInfo(Struct, frozen=True, kw_only=True):
    """The loaded model as the engine sees it."""

    reference: str
    """The model reference, stored with each answer."""
    name: str
    """The name for users."""
    file: str
    """Identity of the file, or of the model on its server, stored with each answer."""
    host: str = ""
    """Host, and port, of the server that computes, or of all peers that hold a part of the model.

    Empty where this program's own worker computes alone.
    """
    n_ctx: int
    """Tokens that prompt and answer may take together."""
    yarn_factor: float = 1.0
    """The factor by which YaRN stretches that window; 1 for not at all, 0 for the scaling that the model's file has."""
    kv_type: str = ""
    """The type of the KV cache, such as `q8_0`; empty where a server decides."""
    defaults: Sampling
    load_s: float
    warnings: tuple[str, ...] = ()
    """What the user should know, such as that YaRN is on."""
    reads_history: bool = True
    """Whether it understands a conversation; one that does not, such as the guide, is sent the last question alone."""
    is_shared: bool = False
    """Whether another program of this user has loaded it and shares it."""
    opens_reasoning: bool = False
    """Whether the chat template opens the reasoning in the prompt, so that an answer begins inside it."""


class Generation(Protocol):
    """One request under way: an asynchronous iterator of events, the last of which is Finished."""

    def __aiter__(self) -> AsyncIterator[EngineEvent]: ...

    async def __anext__(self) -> EngineEvent:
        """Return the next event.

        Raises PromptTooLong, WrongUse for a schema that can't be used, and EngineDied; what was generated before has
        been reported by then.
        """
        ...

    async def cancel(self) -> None:
        """Stop: the text that was held back still comes, then Finished with CANCELLED."""
        ...

    async def aclose(self) -> None:
        """Stop and read nothing more."""
        ...


class Engine(Protocol):
    """A prompt in, tokens out.

    Requests are served in the order in which they came; one that is read slowly delays no other.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        ...

    async def start(self) -> None:
        """Begin what takes time whatever is asked later, such as starting a process. Nothing is loaded or sent."""
        ...

    async def load(self, progress: Callable[[LoadEvent], object] | None = None) -> ModelInfo:
        """Load the model unless it is loaded, reporting progress; cancelling the call ends the load.

        Raises CannotLoad and EngineDied, with the recoveries that the engine offers.
        """
        ...

    async def count(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> TokenCounts:
        """Return the tokens of the prompt that `generate` would send. The model is loaded where it is not.

        Raises as `load` does.
        """
        ...

    async def check(self, sampling: Sampling) -> None:
        """Raise WrongUse where answers can't be made to follow the schema of `sampling`. Nothing is loaded for it."""
        ...

    def generate(self, request: Request) -> Generation:
        """Begin to generate; the model is loaded where it is not."""
        ...

    async def close(self, *, at_once: bool = False) -> None:
        """Save the KV cache and free the model; `at_once`: save nothing and wait for nothing.

        May be called twice, the second time while the first still waits.
        """
        ...


class SessionStore(Protocol):
    """Persists sessions, their trees and their outbox. What a method was given is on disk when it returns."""

    persists: bool
    """False for a store in memory: nothing of its sessions may be written anywhere, KV caches included."""

    def create(self, session: Session) -> None:
        """Store a new session."""
        ...

    def session(self, session_id: str) -> Session:
        """Return a session by its full id. Raises NotFound."""
        ...

    def update(self, session: Session) -> None:
        """Store the session's labels and settings as they are in `session`. Raises NotFound."""
        ...

    def tree(self, session_id: str) -> Tree:
        """Return all messages of a session."""
        ...

    def branch(self, leaf: str | None) -> list[Message]:
        """Return the messages from the first to `leaf`, without reading the other branches."""
        ...

    def add(self, *messages: Message) -> None:
        """Store new messages in one transaction and make the last one their session's leaf.

        A first question gives an untitled session its title; a question of the outbox leaves it.
        """
        ...

    def take_back(self, session: Session, *messages: Message) -> None:
        """Undo an `add`: delete messages that nothing follows; leaf, title and time are again as in `session`.

        A title that was given since stays.
        """
        ...

    def append(self, message_id: str, fragments: Sequence[Part]) -> None:
        """Add to an answer that is streaming: a Text or Reasoning that follows its like extends it."""
        ...

    def amend(self, answer: Message) -> None:
        """Store an answer's status, model, sampling, finish reason, usage, timings and error.

        Its parts are what `append` was given and stay as they are.
        """
        ...

    def enqueue(self, waiting: WaitingQuestion) -> None:
        """Store a question in the outbox."""
        ...

    def waiting(self, session_id: str) -> list[WaitingQuestion]:
        """Return the questions of a session that wait in the outbox, oldest first."""
        ...

    def redirect(self, session_id: str, follows: str, instead: str) -> None:
        """Let the waiting questions of a session that follow a message follow another one instead."""
        ...

    def take_out(self, question_id: str) -> None:
        """Delete a question from the outbox; an unknown one is ignored."""
        ...

    def withdraw(self, session_id: str) -> list[Message]:
        """Move the waiting questions of a session into its tree, unanswered, and return them."""
        ...

    def streaming(self, session_id: str) -> AbstractContextManager[None]:
        """Lock a session for one turn. Raises StoreError while another program has it locked."""
        ...
