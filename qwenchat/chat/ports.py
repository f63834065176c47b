"""What a conversation needs from outside: an engine that answers and a store that keeps.

Siblings implement these and never know each other. Store calls block and are made from threads, so a store is
safe to call from any thread; the engine is asyncio and belongs to one loop.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from qwenchat.chat.conversation import Message, Session, Tree
from qwenchat.chat.events import EngineEvent, Loading
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The loaded model as the engine sees it."""

    name: str
    file: str
    """Identity of the file, kept with each answer."""
    n_ctx: int
    """Tokens that prompt and answer may take together."""
    defaults: Sampling
    load_s: float
    warnings: tuple[str, ...] = ()
    """What a person should know, such as that YaRN is on."""
    gpu_layers: int = 0
    """Layers of it that lie on a GPU."""


class Engine(Protocol):
    """A prompt in, tokens out. One request at a time."""

    async def ready(self, loading: Callable[[Loading], object] | None = None) -> ModelInfo:
        """Load the model unless it is loaded, telling how far that has come.

        Raises CannotLoad, EngineDied, or Interrupted when `cancel` is called meanwhile.
        """
        ...

    async def count(self, turns: Sequence[Turn]) -> list[int]:
        """Return the tokens that each turn takes in a prompt, markers included.

        Raises Interrupted when `cancel` is called meanwhile and no request is under way.
        """
        ...

    def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, session: str = "", resume: bool = False
    ) -> AsyncGenerator[EngineEvent, None]:
        """Answer the last turn, or carry it on where it ended when `resume`; end with Finished.

        `session` names the KV cache to reuse and to save; empty for a conversation that is kept nowhere.
        """
        ...

    async def cancel(self) -> None:
        """Stop the request under way; its events then end with Finished(CANCELLED)."""
        ...

    async def close(self) -> None:
        """Save the KV cache and end the process. May be called twice."""
        ...


class SessionStore(Protocol):
    """Keeps sessions and their trees. What a method was given is on disk when it returns."""

    keeps: bool
    """False for a store that forgets: nothing of its sessions may be written anywhere, KV caches included."""

    def create(self, session: Session) -> None:
        """Keep a new session."""
        ...

    def session(self, session_id: str) -> Session:
        """Return a session by its full id. Raises NotFound."""
        ...

    def update(self, session: Session) -> None:
        """Keep the session's labels and settings as they are in `session`. Raises NotFound."""
        ...

    def tree(self, session_id: str) -> Tree:
        """Return all messages of a session."""
        ...

    def branch(self, leaf: str | None) -> list[Message]:
        """Return the messages from the first to `leaf`, without reading the other branches."""
        ...

    def add(self, *messages: Message) -> None:
        """Keep new messages in one transaction and make the last one their session's leaf.

        A first question gives an untitled session its title.
        """
        ...

    def move(self, *questions: Message) -> None:
        """Put questions that are kept below the parents that they name now, as if they came last.

        Where one of them is gone, or something else follows one by now, all stay where they are.
        """
        ...

    def append(self, message_id: str, text: str, token_ids: Sequence[int]) -> None:
        """Add a piece to an answer that is streaming."""
        ...

    def amend(self, answer: Message) -> None:
        """Keep an answer's status, model, sampling, finish reason, usage, timings and error.

        Its text and tokens are what `append` was given and stay as they are.
        """
        ...

    def streaming(self, session_id: str) -> AbstractContextManager[None]:
        """Hold a session for one turn. Raises StoreError when another program holds it."""
        ...
