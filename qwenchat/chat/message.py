"""Messages as values: who speaks, the ordered parts of an answer, how it ended and what it took.

Nothing here is ever overwritten: parts are appended while an answer is generated, and editing a question or
regenerating an answer makes a sibling. No I/O; ids and times come from the caller.
"""

from collections.abc import Iterable
from enum import StrEnum
from itertools import chain, groupby
from urllib.parse import urlsplit

from msgspec import Struct

from qwenchat.chat.sampling import Sampling
from qwenchat.i18n import _, ngettext
from qwenchat.text.safe import clean_line


class Role(StrEnum):
    """Who speaks. The system prompt belongs to the session and is never a message of the tree."""

    USER = "user"
    ASSISTANT = "assistant"


class Status(StrEnum):
    """How an answer ended; a question is always COMPLETE."""

    STREAMING = "streaming"
    COMPLETE = "complete"
    STOPPED = "stopped"
    """By the user."""
    TRUNCATED = "truncated"
    """By a token limit or the end of the context window."""
    INTERRUPTED = "interrupted"
    """The program or the machine died while it was generated; it can be continued."""
    FAILED = "failed"
    """The engine failed; `Message.error` says how."""


class FinishReason(StrEnum):
    """Why the engine stopped generating, in the words of the `--json` contract."""

    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"
    CANCELLED = "cancelled"
    TOOL_CALLS = "tool_calls"
    """It called tools, and waits for their results."""


class Usage(Struct, frozen=True):
    """Tokens that one answer took. `cached_tokens` of the prompt were already in the KV cache."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    """Tokens that the engine guessed ahead, so that several could be computed at once."""
    accepted_tokens: int = 0
    """How many of them were right, and so are part of the answer."""
    drafted_by: str = ""
    """The name of the small model that guessed some of these; empty where none did."""


class Timings(Struct, frozen=True):
    """Seconds (`_s`) and tokens a second (`_tps`) that one answer took."""

    load_s: float = 0.0
    prefill_s: float = 0.0
    prefill_tps: float = 0.0
    decode_s: float = 0.0
    decode_tps: float = 0.0
    ttft_s: float = 0.0
    """From the request to the first token, loading not counted."""


class Attachment(Struct, frozen=True):
    """A file that came with a question, stored whole and identified by its contents."""

    name: str
    media_type: str
    data: bytes
    """For a document, such as a PDF, its text (`documents.document`), in UTF-8."""
    in_parts: bool = False
    """Whether the model reads those parts of it that matter to a question, and never the whole."""

    def __repr__(self) -> str:
        """Return it without the contents, which may be long."""
        return f"Attachment(name={self.name!r}, media_type={self.media_type!r}, in_parts={self.in_parts!r})"

    @property
    def digest(self) -> str:
        """The sha256 of the contents, in hex."""
        from hashlib import sha256  # noqa: PLC0415 - it loads a library that few sessions need

        return sha256(self.data).hexdigest()

    @property
    def text(self) -> str:
        """The contents as text; what is not UTF-8 is replaced."""
        return self.data.decode("utf-8", "replace")


class PartKind(StrEnum):
    """The kind of a part, as it is stored and exported."""

    TEXT = "text"
    REASONING = "reasoning"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    CITATION = "citation"


class Text(Struct, frozen=True):
    """What a message says."""

    text: str
    token_ids: tuple[int, ...] = ()
    """The tokens as sampled; empty where the text was not sampled, or its tokens are not known."""


class Reasoning(Struct, frozen=True):
    """What the model wrote for itself before it answered, without the markers around it."""

    text: str
    token_ids: tuple[int, ...] = ()
    """The tokens as sampled, those of the markers included."""


class ToolCall(Struct, frozen=True):
    """A call that the model made."""

    id: str
    name: str
    arguments: str
    """A JSON object, as text."""
    token_ids: tuple[int, ...] = ()


class ToolResult(Struct, frozen=True):
    """What a call returned; no token of it was sampled."""

    call_id: str
    name: str
    text: str
    is_error: bool = False
    took_ms: int = 0


class Citation(Struct, frozen=True, kw_only=True):
    """A passage of a document that the model read before it answered; no token of it was sampled."""

    number: int
    """As the answer refers to it: `[1]` is the first."""
    document: str
    """The name of the document."""
    digest: str
    """Of the document (`Attachment.digest`)."""
    start: int
    """Where the passage begins in the text of the document, in characters."""
    text: str
    page: int | None = None
    """Where it begins, the first being 1; None for a document without pages."""
    heading: str = ""
    """What it stands below in the document."""


TurnPart = Text | Reasoning | ToolCall | ToolResult
"""What a model reads of an earlier answer."""
Part = TurnPart | Citation


def merged(fragments: Iterable[Part]) -> tuple[Part, ...]:
    """Return fragments as whole parts: a Text or Reasoning that follows its like extends it.

    A part to which text without tokens was added has no tokens: they could not stand for all of it.
    """
    parts: list[Part] = []
    for kind, group in groupby(fragments, key=type):
        same = list(group)
        if len(same) == 1 or kind not in (Text, Reasoning):
            parts += same
            continue
        spoken = [each for each in same if isinstance(each, Text | Reasoning)]
        text = "".join(each.text for each in spoken)
        known = all(each.token_ids for each in spoken if each.text)
        token_ids = tuple(chain.from_iterable(each.token_ids for each in spoken)) if known else ()
        parts.append(Text(text, token_ids) if kind is Text else Reasoning(text, token_ids))
    return tuple(parts)


def text_parts(text: str, token_ids: tuple[int, ...] = ()) -> tuple[Part, ...]:
    """Return the parts of a message that is text alone; none where there is neither text nor a token."""
    return (Text(text, token_ids),) if text or token_ids else ()


class Message(Struct, frozen=True, kw_only=True, weakref=True):
    """One question or one answer. Times are Unix milliseconds, UTC."""

    id: str
    session: str
    parent: str | None
    """The message that this one follows; None for the first of a session."""
    role: Role
    parts: tuple[Part, ...]
    """In the order in which they came; a question has one Text."""
    created: int
    status: Status = Status.COMPLETE
    finished: int | None = None
    model: str = ""
    """The reference that the user gave, such as `7b:q4_k_m`."""
    model_file: str = ""
    """The identity of what answered: of a file (`models.gguf.identity`), or a server's URL with the model after `#`."""
    sampling: Sampling | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    attachments: tuple[Attachment, ...] = ()
    error: str = ""
    summarises: int = 0
    """Of a question that stands for earlier messages: how many."""

    @property
    def text(self) -> str:
        """The Text parts, joined: what search, titles, copy and most exports use."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Text):
            return self.parts[0].text
        return "\n\n".join(part.text for part in self.parts if isinstance(part, Text) and part.text)

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The passages that it was made of."""
        return tuple(part for part in self.parts if isinstance(part, Citation))

    @property
    def generated(self) -> tuple[TurnPart, ...]:
        """The parts that the model and its tools made: all but the citations."""
        return tuple(part for part in self.parts if not isinstance(part, Citation))

    @property
    def host(self) -> str:
        """The host that the answer came from, with its port; empty for a model on this machine's llama.cpp."""
        return host_in(self.model_file)

    @property
    def reasoning(self) -> str:
        """The Reasoning parts, joined."""
        return "\n\n".join(part.text for part in self.parts if isinstance(part, Reasoning) and part.text)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All tokens as sampled, without the end of turn: what the KV cache holds of this answer.

        Empty where the tokens of a part are not known: then they can't stand for the whole.
        """
        sampled = [part for part in self.generated if not isinstance(part, ToolResult)]
        if len(sampled) == 1:
            return sampled[0].token_ids
        if not all(part.token_ids for part in sampled):
            return ()
        return tuple(token for part in sampled for token in part.token_ids)


def guessed_words(usage: Usage) -> str:
    """Return in words how many tokens of an answer were guessed, and by which model, if by one."""
    words = _("guessed {accepted:,} of {tokens:,} tokens")
    if usage.drafted_by:
        words = _("guessed {accepted:,} of {tokens:,} tokens with {model}")
    return words.format(
        accepted=usage.accepted_tokens, tokens=usage.completion_tokens, model=clean_line(usage.drafted_by)
    )


def summary_heading(summary: Message) -> str:
    """Return what stands in place of a speaker above a summary of earlier messages."""
    words = ngettext(
        "Summary of {count:,} earlier message", "Summary of {count:,} earlier messages", summary.summarises
    )
    return words.format(count=summary.summarises)


def host_in(identity: str) -> str:
    """Return the host that an answer came from, given its `Message.model_file`; empty for a file on this machine.

    Where llama.cpp spread the model over peers (`rpc://`), those of all peers, separated by commas.
    """
    if not identity.startswith(("http://", "https://", "rpc://")):
        return ""
    try:
        return urlsplit(identity).netloc
    except ValueError:  # imported, and no URL
        return ""
