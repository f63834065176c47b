"""Puts a session into reading order, for export formats that people read and those for training models.

A tree has no single order: the export contains either the open branch, or every message once, where each variant is
marked and followed to its end before the next one begins. The exporters handle files and mark-up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from textwrap import indent

from qwenchat.chat.message import (
    Attachment,
    Citation,
    Message,
    Part,
    Reasoning,
    Role,
    Status,
    Text,
    ToolCall,
    ToolResult,
    summary_heading,
)
from qwenchat.chat.prompt import turns_of
from qwenchat.i18n import _, ngettext
from qwenchat.sessions.archive import MAX_TIME, Archive, json_text
from qwenchat.text.safe import clean, clean_line


@dataclass(frozen=True, slots=True)
class OrderedMessage:
    """A message with its position in the reading order."""

    message: Message
    number: int = 0
    """From 1; 0 if the export has only one branch, in which every message follows the one above."""
    variant: int = 1
    variants: int = 1
    follows: int = 0
    """The number of the parent, if it is not the message directly above; otherwise 0."""


@dataclass(frozen=True, slots=True)
class DialogueTurn:
    """One turn as a model sees it."""

    role: str
    """`system`, `user` or `assistant`."""
    text: str
    parts: tuple[Part, ...] = ()
    """The parts of an answer; empty for other turns."""


def ordered(archive: Archive, all_branches: bool) -> list[OrderedMessage]:
    """Return the messages of the open branch, or all messages, in reading order."""
    tree = archive.tree
    branch = tree.branch(leaf_of(archive))
    if not all_branches or len(branch) == len(tree):
        return [OrderedMessage(message) for message in branch]
    found: list[OrderedMessage] = []
    numbers: dict[str | None, int] = {None: 0}
    left = _variants(tree.children(None))
    while left:
        message, variant, variants = left.pop()
        above, number = numbers[message.parent], len(found) + 1
        numbers[message.id] = number
        follows = above if above != number - 1 else 0
        found.append(OrderedMessage(message, number, variant=variant, variants=variants, follows=follows))
        left += _variants(tree.children(message.id))
    return found


def _variants(siblings: list[Message]) -> list[tuple[Message, int, int]]:
    return [(message, number, len(siblings)) for number, message in enumerate(siblings, 1)][::-1]


def dialogues(archive: Archive, all_branches: bool) -> list[list[DialogueTurn]]:
    """Return each branch as the turns that a model sees, beginning with the system prompt if the session has one.

    Turns without text or tool calls, such as an answer that failed at once, are left out; so are empty branches.
    """
    tree = archive.tree
    leaves: list[str | None] = [leaf_of(archive)]
    if all_branches:
        leaves = [message.id for message in archive.messages if not tree.children(message.id)]
    system = [DialogueTurn("system", archive.session.system)] if archive.session.system else []
    found = [_dialogue(tree.branch(leaf)) for leaf in leaves]
    return [system + turns for turns in found if turns]


def _dialogue(branch: list[Message]) -> list[DialogueTurn]:
    turns = [
        DialogueTurn(turn.role, turn.text, message.generated if message.role is Role.ASSISTANT else ())
        for turn, message in zip(turns_of("", branch), branch, strict=True)
    ]
    return [turn for turn in turns if turn.text or rounds_of(turn.parts)]


@dataclass(frozen=True, slots=True)
class Round:
    """What an answer says before it calls tools, and those calls with their results; the last round calls none."""

    text: str
    calls: tuple[tuple[ToolCall, ToolResult], ...] = ()


def rounds_of(parts: Sequence[Part]) -> list[Round]:
    """Return the parts of an answer as formats have them in which the results of tools are messages.

    A call without a result, and a result without a call, are left out: what reads such formats refuses them.
    """
    results = results_of(parts)
    rounds: list[Round] = []
    texts: list[str] = []
    calls: list[tuple[ToolCall, ToolResult]] = []
    has_results = False
    for place, part in enumerate(parts):
        if has_results and isinstance(part, Text | ToolCall):
            rounds.append(Round("\n\n".join(texts), tuple(calls)))
            texts, calls, has_results = [], [], False
        if isinstance(part, Text) and part.text:
            texts.append(part.text)
        elif isinstance(part, ToolCall) and place in results:
            calls.append((part, results[place]))
        elif isinstance(part, ToolResult):
            has_results = bool(calls)
    if texts or calls:
        rounds.append(Round("\n\n".join(texts), tuple(calls)))
    return rounds


def results_of(parts: Sequence[Part]) -> dict[int, ToolResult]:
    """Return the results of calls, by the places of the calls among the parts."""
    waiting: dict[str, list[int]] = {}
    results: dict[int, ToolResult] = {}
    for place, part in enumerate(parts):
        if isinstance(part, ToolCall):
            waiting.setdefault(part.id, []).append(place)
        elif isinstance(part, ToolResult) and waiting.get(part.call_id):
            results[waiting[part.call_id].pop(0)] = part
    return results


def result_text(result: ToolResult) -> str:
    """Return a result for formats that have no field for failures: `{"error": "…"}` is what a failed call returned."""
    return json_text({"error": result.text}) if result.is_error else result.text


def to_read(parts: Sequence[Part]) -> Iterator[Part]:
    """Yield the parts of an answer with each result directly behind its call, and what it cites at the end."""
    results = results_of(parts)
    placed = {id(result) for result in results.values()}
    for place, part in enumerate(parts):
        if id(part) not in placed and not isinstance(part, Citation):
            yield part
        if place in results:
            yield results[place]
    yield from (part for part in parts if isinstance(part, Citation))


def leaf_of(archive: Archive) -> str | None:
    """Return the last message of the open branch, or of the newest branch if the session has no open one."""
    tree, leaf = archive.tree, archive.session.leaf
    first = tree.children(None)
    if leaf is not None and tree.branch(leaf):
        return leaf
    return tree.leaf_below(first[-1].id) if first else None


def title_of(archive: Archive) -> str:
    """Return the session's title, or a placeholder."""
    return archive.session.title or _("Untitled")


def model_of(archive: Archive) -> str:
    """Return the session's model, or the one that answered last if it has none."""
    answered = [message.model for message in archive.messages if message.model]
    return archive.session.model or (answered[-1] if answered else "")


def part_label(part: Part) -> str:
    """Return the label of a part; empty for a text."""
    match part:
        case Text():
            return ""
        case Reasoning():
            return _("Reasoning")
        case ToolCall():
            return _("Tool call: {name}").format(name=clean_line(part.name))
        case ToolResult():
            name = clean_line(part.name)
            return _("Error of {name}").format(name=name) if part.is_error else _("Result of {name}").format(name=name)
        case Citation():
            return _("Source {number}: {place}").format(number=part.number, place=place_of(part))


def place_of(citation: Citation) -> str:
    """Return where a passage stands, as one clean line: document, page and heading."""
    page = _("page {page}").format(page=citation.page) if citation.page else ""
    place = ", ".join(filter(None, (clean_line(citation.document), page)))
    return " · ".join(filter(None, (place, clean_line(citation.heading))))


def part_block(part: Part) -> str:
    """Return a part as plain text: a text as it is, any other part indented below its label."""
    if isinstance(part, Text):
        return part.text
    words = part.arguments if isinstance(part, ToolCall) else part.text
    return f"[{part_label(part)}]\n\n{indent(clean(words).strip(chr(10)), '    ')}"


def speaker(entry: OrderedMessage) -> str:
    """Return the speaker's name, with the number and the variant if the export has several branches."""
    name = _("You") if entry.message.role is Role.USER else _("Assistant")
    name = summary_heading(entry.message) if entry.message.summarises else name
    number = f"{entry.number}. " if entry.number else ""
    return number + (f"{name} ({entry.variant}/{entry.variants})" if entry.variants > 1 else name)


def notes(entry: OrderedMessage) -> str:
    """Return the notes on a message in one line: its parent, time, model and status."""
    message = entry.message
    follows = _("after no. {number}").format(number=entry.follows) if entry.follows else ""
    return clean_line(
        " · ".join(filter(None, (follows, when(message.created), message.model, message.host, _ending(message)))), 1000
    )


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
    """Return the time of a message or session, in UTC, without fractions of a second."""
    return datetime.fromtimestamp(min(max(unix_ms, 0), MAX_TIME - 1) // 1000, UTC)


def when(unix_ms: int) -> str:
    """Return a time in readable form. It is in UTC, so that an export is the same on every machine."""
    return f"{moment(unix_ms):%Y-%m-%d %H:%M} UTC"


def attached(attachment: Attachment) -> tuple[str, str]:
    """Return a line that describes an attachment, and its text.

    That is empty if it is not UTF-8, and for a document that is read in parts, which may be a book.
    """
    count = len(attachment.data)
    size = ngettext("{count:,} byte", "{count:,} bytes", count).format(count=count)
    how = _("read in parts") if attachment.in_parts else ""
    name = clean_line(" · ".join(filter(None, (attachment.name, attachment.media_type, size, how))), 500)
    if attachment.in_parts:
        return name, ""
    try:
        return name, clean(attachment.data.decode("utf-8"))
    except UnicodeDecodeError:
        return name, ""
