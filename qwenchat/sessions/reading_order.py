"""A conversation in reading order, for the formats that people read and those that models are trained on.

A tree has no one order: either the branch being read is told, or every message once, each variant marked and
followed to its end before the next begins.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from qwenchat.chat.message import Attachment, Message, Role, Status
from qwenchat.chat.prompt import Turn, turns_of
from qwenchat.i18n import _, ngettext
from qwenchat.sessions.archive import MAX_TIME, Archive
from qwenchat.text.safe import clean, clean_line


@dataclass(frozen=True, slots=True)
class Entry:
    """One message where it is told."""

    message: Message
    number: int = 0
    """From 1, in the order of telling; 0 where no variants are told and every message follows the one above."""
    variant: int = 1
    variants: int = 1
    follows: int = 0
    """The number of the message that this one follows, where that is not the one told before it; else 0."""


def entries(archive: Archive, all_branches: bool) -> list[Entry]:
    """Return the messages of the branch being read, or all of them, in reading order."""
    tree = archive.tree
    branch = tree.branch(leaf_of(archive))
    if not all_branches or len(branch) == len(tree):
        return [Entry(message) for message in branch]
    told: list[Entry] = []
    numbers: dict[str | None, int] = {None: 0}
    waiting = _variants(tree.children(None))
    while waiting:
        message, variant, variants = waiting.pop()
        above, number = numbers[message.parent], len(told) + 1
        numbers[message.id] = number
        told.append(Entry(message, number, variant, variants, above if above != number - 1 else 0))
        waiting += _variants(tree.children(message.id))
    return told


def _variants(siblings: list[Message]) -> list[tuple[Message, int, int]]:
    return [(message, number, len(siblings)) for number, message in enumerate(siblings, 1)][::-1]


def dialogues(archive: Archive, all_branches: bool) -> list[list[Turn]]:
    """Return each branch as the turns that a model reads, the system prompt first where the session has one.

    Turns without words, such as an answer that failed at once, are left out; so are branches without turns.
    """
    tree = archive.tree
    leaves: list[str | None] = [leaf_of(archive)]
    if all_branches:
        leaves = [message.id for message in archive.messages if not tree.children(message.id)]
    spoken = [[turn for turn in turns_of("", tree.branch(leaf))[1:] if turn.text] for leaf in leaves]
    system = [Turn("system", archive.session.system)] if archive.session.system else []
    return [system + turns for turns in spoken if turns]


def leaf_of(archive: Archive) -> str | None:
    """Return the last message of the branch being read; of the newest branch where the session names none."""
    tree, leaf = archive.tree, archive.session.leaf
    first = tree.children(None)
    if leaf is not None and tree.branch(leaf):
        return leaf
    return tree.leaf_below(first[-1].id) if first else None


def title_of(archive: Archive) -> str:
    """Return the session's title, or words to stand for it."""
    return archive.session.title or _("Untitled")


def model_of(archive: Archive) -> str:
    """Return the session's model; where it names none, the one that answered last."""
    answered = [message.model for message in archive.messages if message.model]
    return archive.session.model or (answered[-1] if answered else "")


def speaker(entry: Entry) -> str:
    """Return who speaks; where there are several branches, with its number and which of the variants it is."""
    name = _("You") if entry.message.role is Role.USER else _("Assistant")
    number = f"{entry.number}. " if entry.number else ""
    return number + (f"{name} ({entry.variant}/{entry.variants})" if entry.variants > 1 else name)


def notes(entry: Entry) -> str:
    """Return what there is to say about a message on one line: what it follows, when, which model, how it ended."""
    message = entry.message
    follows = _("after no. {number}").format(number=entry.follows) if entry.follows else ""
    return clean_line(" · ".join(filter(None, (follows, when(message.created), message.model, _ending(message)))), 1000)


def _ending(message: Message) -> str:
    if message.status is Status.FAILED:
        return _("failed: {reason}").format(reason=message.error) if message.error else _("failed")
    return {
        Status.STOPPED: _("stopped"),
        Status.TRUNCATED: _("cut off at the limit"),
        Status.STREAMING: _("interrupted"),
        Status.INTERRUPTED: _("interrupted"),
    }.get(message.status, "")


def moment(unix_ms: int) -> datetime:
    """Return a time of a message or session, whole seconds, UTC."""
    return datetime.fromtimestamp(min(max(unix_ms, 0), MAX_TIME - 1) // 1000, UTC)


def when(unix_ms: int) -> str:
    """Return a time as people read it. It is UTC, so that an export is the same on every machine."""
    return f"{moment(unix_ms):%Y-%m-%d %H:%M} UTC"


def attached(attachment: Attachment) -> tuple[str, str]:
    """Return a line that names an attachment, and its text; no text where it is not UTF-8."""
    count = len(attachment.data)
    size = ngettext("{count:,} byte", "{count:,} bytes", count).format(count=count)
    name = clean_line(" · ".join(filter(None, (attachment.name, attachment.media_type, size))), 500)
    try:
        return name, clean(attachment.data.decode("utf-8"))
    except UnicodeDecodeError:
        return name, ""
