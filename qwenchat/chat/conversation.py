"""A conversation as values: sessions, messages, the tree they form and the branch being read.

Nothing is ever overwritten: editing a question, asking again and branching make siblings below one parent.
No I/O here and no knowledge of how messages are kept; times and ids come from whoever makes a message.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from qwenchat.chat.sampling import Sampling


class Role(StrEnum):
    """Who speaks. The system prompt belongs to the session and is never a message of the tree."""

    USER = "user"
    ASSISTANT = "assistant"


class Status(StrEnum):
    """How an answer ended; a question is always COMPLETE."""

    STREAMING = "streaming"
    COMPLETE = "complete"
    STOPPED = "stopped"
    """By the person."""
    TRUNCATED = "truncated"
    """By a token limit or the end of the context window."""
    INTERRUPTED = "interrupted"
    """The program or the machine died in mid-answer; it can be continued."""
    FAILED = "failed"
    """The engine failed; `Message.error` says how."""


class FinishReason(StrEnum):
    """Why the engine stopped generating, in the words of the `--json` contract."""

    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that one answer took. `cached_tokens` of the prompt were already in the KV cache."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds (`_s`) and tokens a second (`_tps`) that one answer took."""

    load_s: float = 0.0
    prefill_s: float = 0.0
    prefill_tps: float = 0.0
    decode_s: float = 0.0
    decode_tps: float = 0.0
    ttft_s: float = 0.0
    """From the request to the first token, loading not counted."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a question, whole, kept by what it contains."""

    name: str
    media_type: str
    data: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """The sha256 of the contents, in hex."""
        from hashlib import sha256  # noqa: PLC0415 - it loads a library that few sessions need

        return sha256(self.data).hexdigest()

    @property
    def text(self) -> str:
        """The contents as text; what is not UTF-8 is replaced."""
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Message:
    """One question or one answer. Times are Unix milliseconds, UTC."""

    id: str
    session: str
    parent: str | None
    """The message that this one follows; None for the first of a conversation."""
    role: Role
    text: str
    created: int
    status: Status = Status.COMPLETE
    finished: int | None = None
    model: str = ""
    """The reference that the person gave, such as `7b:q4_k_m`."""
    model_file: str = ""
    """The identity of the file that answered (`models.gguf.identity`)."""
    sampling: Sampling | None = None
    token_ids: tuple[int, ...] = ()
    """The tokens as sampled, without the end of turn: what the KV cache holds of this answer."""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    attachments: tuple[Attachment, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation's settings and labels. Times are Unix milliseconds, UTC."""

    id: str
    created: int
    updated: int
    title: str = ""
    model: str = ""
    system: str = ""
    """The system prompt; Qwen2's own default where empty."""
    sampling: Sampling = field(default_factory=Sampling)
    """What differs from the model's defaults; unset fields follow them."""
    context: int | None = None
    """Tokens of the context window to load the model with; None follows the settings."""
    leaf: str | None = None
    """The last message of the branch being read."""
    pinned: bool = False
    tags: tuple[str, ...] = ()
    draft: str = ""
    trashed: int | None = None
    """When it went to the trash."""


class Tree:
    """The messages of one session as a tree of variants, oldest sibling first."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = {message.id: message for message in messages}
        self._children: dict[str | None, list[str]] = {}
        for message in sorted(self._messages.values(), key=lambda m: (m.created, m.id)):
            self._children.setdefault(message.parent, []).append(message.id)

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, message_id: str) -> Message:
        return self._messages[message_id]

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages.values())

    def children(self, parent: str | None) -> list[Message]:
        """Return what follows `parent` (None: the first messages), oldest first."""
        return [self._messages[child] for child in self._children.get(parent, ())]

    def variants(self, message_id: str) -> list[Message]:
        """Return the message and its siblings, oldest first: the `‹2/3›` of the screen."""
        return self.children(self._messages[message_id].parent)

    def branch(self, leaf: str | None) -> list[Message]:
        """Return the messages from the first to `leaf`; nothing for None or an unknown id."""
        path: list[Message] = []
        while leaf is not None and (message := self._messages.get(leaf)):
            path.append(message)
            leaf = message.parent
        return path[::-1]

    def leaf_below(self, message_id: str) -> str:
        """Return the end of the branch through `message_id` that was written to last."""
        while below := self._children.get(message_id):
            message_id = below[-1]
        return message_id


def title_of(question: str, limit: int = 60) -> str:
    """Return a session's first title: the first line of the first question that says something."""
    line = next((line for line in question.splitlines() if line.strip()), "")
    words = " ".join(line.split())
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"
