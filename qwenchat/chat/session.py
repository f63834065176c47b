"""A session as a value: its settings and labels, and the questions that wait to be asked in it. No I/O."""

from msgspec import Struct, field

from qwenchat.chat.message import Attachment, Message, Role, text_parts
from qwenchat.chat.sampling import Sampling


class Session(Struct, frozen=True, kw_only=True):
    """The settings and labels of one session. Times are Unix milliseconds, UTC."""

    id: str
    created: int
    updated: int
    title: str = ""
    model: str = ""
    system: str = ""
    """The system prompt; the default one of the model's chat template where empty."""
    sampling: Sampling = field(default_factory=Sampling)
    """What differs from the model's defaults; unset fields follow those."""
    context: int | None = None
    """Tokens of the context window to load the model with; None follows the settings."""
    tools: bool | None = None
    """Whether the model may call tools; None follows the settings."""
    collections: tuple[str, ...] = ()
    """The names of the collections of documents that its questions are about."""
    level: int | None = None
    """How documents are read for a question, from 1 (search) to 3 (step by step); None chooses by size and time."""
    leaf: str | None = None
    """The last message of the branch being read."""
    pinned: bool = False
    tags: tuple[str, ...] = ()
    draft: str = ""
    trashed: int | None = None
    """When it was moved to the trash."""


class WaitingQuestion(Struct, frozen=True, kw_only=True):
    """A question in the outbox: stored, and not in the tree before its turn comes."""

    id: str
    """The id that the question will have in the tree."""
    session: str
    follows: str | None
    """What it was asked after: a message of the tree or another waiting question; None for the first of a session.

    Where that is a question by the time its turn comes, it follows the newest answer to it.
    """
    text: str
    created: int
    attachments: tuple[Attachment, ...] = ()

    @property
    def question(self) -> Message:
        """The question as it would stand below what it was asked after."""
        return self.below(self.follows)

    def below(self, parent: str | None) -> Message:
        """Return the question as a message that follows `parent`."""
        return Message(
            id=self.id,
            session=self.session,
            parent=parent,
            role=Role.USER,
            parts=text_parts(self.text),
            created=self.created,
            attachments=self.attachments,
        )


def title_of(question: str, limit: int = 60) -> str:
    """Return a session's first title: the first line of the first question that says something."""
    line = next((line for line in question.splitlines() if line.strip()), "")
    words = " ".join(line.split())
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"
