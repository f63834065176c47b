"""Converts the chats of other programs, which are graphs of nodes, to archives with stable ids.

In our tree, questions and answers alternate. Nodes without a speaker (hidden notes, empty nodes) are left out, and
their children are attached to their parent. Consecutive nodes of the same speaker become one message, so that an answer
has its tool calls and their results as parts. Ids are hashes of the source's ids, or of the text if it has none, so
that importing a file twice adds nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID, uuid5

import msgspec

from qwenchat.chat.events import Delta
from qwenchat.chat.message import Message, Part, Reasoning, Role, Text, ToolCall, merged, text_parts
from qwenchat.chat.session import Session, title_of
from qwenchat.chat.streaming import ReasoningReader
from qwenchat.chat.tree import Tree
from qwenchat.i18n import _
from qwenchat.sessions.archive import MAX_TIME, Archive, BadRecord
from qwenchat.text.safe import clean_line

_NAMESPACE = UUID("6b1f9a52-0d5e-5b0f-9c59-6f2c3f6d7a11")


@dataclass(slots=True)
class ForeignNode:
    """One entry of a foreign chat."""

    parent: str | None
    role: Role | None
    """None for a node that is left out."""
    parts: tuple[Part, ...]
    created: int | None = None
    """Unix milliseconds."""
    model: str = ""


@dataclass(slots=True)
class ForeignChat:
    """A chat of another program, ready to become an archive."""

    source: str
    """The format's name; part of every id."""
    key: str
    """The chat's id in the other program."""
    nodes: Mapping[str, ForeignNode]
    modified: int
    """The time of a chat without dates, in Unix milliseconds."""
    title: str = ""
    system: str = ""
    created: int | None = None
    updated: int | None = None
    current: str | None = None
    """The node at the end of the open branch."""
    pinned: bool = False
    tags: tuple[str, ...] = ()


@dataclass(slots=True)
class _Run:
    """Consecutive nodes of one speaker, which become one message."""

    role: Role
    above: "_Run | None"
    created: int
    last: str = ""
    """The last node, which gives the message its id: a run that has grown since the last import is a new variant."""
    model: str = ""
    parts: list[Part] = field(default_factory=list)

    def add(self, name: str, node: ForeignNode) -> None:
        self.last, self.model = name, node.model or self.model
        self.parts += node.parts


def archive_of(chat: ForeignChat) -> Archive | None:
    """Return the archive, or None for a chat without text. Raises BadRecord if its nodes form a cycle."""
    runs, home = _runs(chat)
    if not runs:
        return None
    session_id = _id(chat.source, chat.key)
    names = {id(run): _id(chat.source, chat.key, run.last) for run in runs}
    messages = tuple(
        Message(
            id=names[id(run)],
            session=session_id,
            parent=names[id(run.above)] if run.above else None,
            role=run.role,
            parts=_joined(run.parts),
            created=run.created,
            model=run.model if run.role is Role.ASSISTANT else "",
        )
        for run in runs
    )
    last = home.get(chat.current or "")
    session = Session(
        id=session_id,
        created=runs[0].created if chat.created is None else chat.created,
        updated=max(chat.updated or 0, *(run.created for run in runs), runs[0].created),
        title=clean_line(chat.title) or title_of(next((m.text for m in messages if m.role is Role.USER), "")),
        system=chat.system,
        leaf=names[id(last)] if last else Tree(messages).leaf_below(messages[0].id),
        pinned=chat.pinned,
        tags=chat.tags,
    )
    return Archive(session, messages)


@dataclass(frozen=True, slots=True)
class LinearTurn:
    """One turn of a chat without branches."""

    role: str
    """`system`, `user` or `assistant`; a turn with another role belongs to a tool or is left out."""
    text: str
    """The text as it is in the file; the chat's id is made from it."""
    parts: tuple[Part, ...] | None = None
    """Its parts in an answer; None if the text is the only one."""


def linear(source: str, turns: Sequence[LinearTurn], modified: int, title: str = "") -> Archive | None:
    """Return the archive of consecutive turns. Turns with other roles are left out unless they have parts."""
    nodes = {}
    for number, turn in enumerate(turns):
        role = role_of(turn.role) if turn.parts is None else Role.ASSISTANT
        parts = spoken_parts(role, turn.text) if turn.parts is None else turn.parts
        nodes[str(number)] = ForeignNode(str(number - 1), role, parts, modified + number)
    system = "\n\n".join(turn.text for turn in turns if turn.role == "system" and turn.text)
    key = sha256(msgspec.json.encode([(turn.role, turn.text) for turn in turns])).hexdigest()
    return archive_of(ForeignChat(source, key, nodes, modified, title=title, system=system))


def role_of(name: str) -> Role | None:
    """Return the role with this name; None if it is neither the user nor the model."""
    return next((role for role in Role if role.value == name), None)


def spoken_parts(role: Role | None, text: str) -> tuple[Part, ...]:
    """Return the parts of a message: `<think>` at the beginning of an answer contains its reasoning."""
    if role is not Role.ASSISTANT:
        return text_parts(text)
    reader = ReasoningReader()
    found = (*reader.feed(Delta(text)), *reader.finish())
    return merged(part for part in found if part not in (Text(""), Reasoning("")))


def tool_call(call_id: object, function: object) -> ToolCall | None:
    """Return the call of a `function` with `name` and `arguments`; None for anything else. Raises BadRecord."""
    if not isinstance(function, dict) or not isinstance(name := function.get("name"), str):
        return None
    arguments = function.get("arguments", "")
    if not isinstance(arguments, str):
        try:
            arguments = msgspec.json.encode(arguments).decode()
        except RecursionError as error:
            raise BadRecord(_("it is nested too deeply")) from error
    return ToolCall(call_id if isinstance(call_id, str) else "", name, arguments)


def words(content: object) -> str:
    """Return a message's content, a string or a list of parts, as text.

    A part that is not text, such as an image, becomes its kind in brackets. Raises BadRecord for any other content.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise BadRecord(_("a message's content is neither text nor a list of parts"))
    return "\n".join(filter(None, map(_content_part, content)))


def unix_ms(time: object) -> int | None:
    """Return a number of seconds, milliseconds or nanoseconds since 1970 as milliseconds; None for anything else."""
    if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time) or time <= 0:
        return None
    scale = next((scale for limit, scale in _SCALES if time < limit), None)
    return None if scale is None else min(int(time * scale), MAX_TIME - 1)


_SCALES = ((1e11, 1000.0), (1e14, 1.0), (1e17, 1e-3), (1e20, 1e-6))
"""(limit, factor): a time below the limit, times the factor, is in milliseconds. Seconds reach the year 5138."""


def _content_part(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    if isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("content_type") or part.get("type")
    return f"[{clean_line(kind, 40)}]" if isinstance(kind, str) else ""


def _joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return the parts of a message with consecutive texts joined as paragraphs, and consecutive reasoning likewise."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Text) and isinstance(last, Text):
            joined[-1] = Text(f"{last.text}\n\n{part.text}")
        elif isinstance(part, Reasoning) and isinstance(last, Reasoning):
            joined[-1] = Reasoning(f"{last.text}\n\n{part.text}")
        else:
            joined.append(part)
    return tuple(joined)


def _id(*names: str) -> str:
    return str(uuid5(_NAMESPACE, "\n".join(names)))


def _runs(chat: ForeignChat) -> tuple[list[_Run], dict[str, _Run | None]]:
    """Return the runs, parents first, and for each node the run that contains it or precedes it."""
    nodes = chat.nodes
    children: dict[str | None, list[str]] = {}
    order: dict[str, int] = {}
    """The index of a node among its siblings."""
    for name, node in nodes.items():
        siblings = children.setdefault(node.parent if node.parent in nodes else None, [])
        order[name] = len(siblings)
        siblings.append(name)
    ordered = _preorder(children)
    if len(ordered) != len(nodes):
        raise BadRecord(_("its messages form a cycle"))
    leading_to_text = _leading_to_text(nodes, ordered)
    runs: list[_Run] = []
    home: dict[str, _Run | None] = {}
    can_extend: dict[str | None, bool] = {}
    """Whether a node's child may extend its run: only if exactly one child leads to text."""
    for name in ordered:
        node = nodes[name]
        parent = node.parent if node.parent in nodes else None
        run = home[parent] if parent is not None else None
        speaks = _speaks(node)
        if speaks and node.role is not None:
            if run is None or run.role is not node.role or not can_extend[parent]:
                run = _Run(node.role, run, _created(node, run, order[name], chat))
                runs.append(run)
            run.add(name, node)
        home[name] = run
        has_one_way_on = sum(child in leading_to_text for child in children.get(name, ())) == 1
        can_extend[name] = has_one_way_on and (speaks or can_extend.get(parent, True))
    return runs, home


def _preorder(children: Mapping[str | None, list[str]]) -> list[str]:
    left = children.get(None, [])[::-1]
    ordered: list[str] = []
    while left:
        ordered.append(name := left.pop())
        left += reversed(children.get(name, ()))
    return ordered


def _leading_to_text(nodes: Mapping[str, ForeignNode], ordered: list[str]) -> set[str]:
    """Return the nodes that have text themselves or in a node below them."""
    found = {name for name in ordered if _speaks(nodes[name])}
    for name in reversed(ordered):
        parent = nodes[name].parent
        if name in found and parent is not None:
            found.add(parent)
    return found


def _speaks(node: ForeignNode) -> bool:
    if node.role is None:
        return False
    return any(part.text.strip() if isinstance(part, Text | Reasoning) else True for part in node.parts)


def _created(node: ForeignNode, above: _Run | None, index: int, chat: ForeignChat) -> int:
    """Return a node's time; if it has none, one that preserves the order of siblings."""
    if node.created is not None:
        return node.created
    start = above.created + 1 if above else chat.created or chat.modified
    return min(start + index, MAX_TIME - 1)
