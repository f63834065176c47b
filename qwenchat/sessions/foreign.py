"""Other programs' conversations as ours: their graph of nodes becomes an archive with ids that are always the same.

Our tree knows questions and answers in turn. What is neither (tools, hidden notes, empty nodes) is passed over, and
what followed it follows the one before it; nodes in a row by one speaker become one message. Ids are hashes of the
source's own ids, or of the words where it has none, so that reading a file twice makes nothing new.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID, uuid5

import msgspec

from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.chat.session import Session, title_of
from qwenchat.chat.tree import Tree
from qwenchat.i18n import _
from qwenchat.sessions.archive import MAX_TIME, Archive, BadRecord
from qwenchat.text.safe import clean_line

_NAMESPACE = UUID("6b1f9a52-0d5e-5b0f-9c59-6f2c3f6d7a11")


@dataclass(slots=True)
class Node:
    """One entry of a foreign conversation."""

    parent: str | None
    role: Role | None
    """None for what is passed over."""
    text: str
    created: int | None = None
    """Unix milliseconds."""
    model: str = ""


@dataclass(slots=True)
class Conversation:
    """A foreign conversation, ready to become an archive."""

    source: str
    """The format's name; part of every id."""
    key: str
    """The conversation's own id there."""
    nodes: Mapping[str, Node]
    modified: int
    """Unix milliseconds; for a conversation without dates."""
    title: str = ""
    system: str = ""
    created: int | None = None
    updated: int | None = None
    current: str | None = None
    """The node at the end of the branch being read."""
    pinned: bool = False
    tags: tuple[str, ...] = ()


@dataclass(slots=True)
class _Run:
    """Nodes in a row by one speaker: one message to be."""

    role: Role
    above: "_Run | None"
    created: int
    last: str = ""
    """The node that names the message: a run that has grown since the last import is a new variant."""
    model: str = ""
    words: list[str] = field(default_factory=list)

    def add(self, name: str, node: Node) -> None:
        self.last, self.model = name, node.model or self.model
        self.words.append(node.text)


def archive_of(talk: Conversation) -> Archive | None:
    """Return the archive, or None where nobody says a word. Raises BadRecord where nodes follow in a circle."""
    runs, home = _runs(talk)
    if not runs:
        return None
    session_id = _id(talk.source, talk.key)
    names = {id(run): _id(talk.source, talk.key, run.last) for run in runs}
    messages = tuple(
        Message(
            id=names[id(run)],
            session=session_id,
            parent=names[id(run.above)] if run.above else None,
            role=run.role,
            parts=text_parts("\n\n".join(run.words)),
            created=run.created,
            model=run.model if run.role is Role.ASSISTANT else "",
        )
        for run in runs
    )
    last = home.get(talk.current or "")
    session = Session(
        id=session_id,
        created=runs[0].created if talk.created is None else talk.created,
        updated=max(talk.updated or 0, *(run.created for run in runs), runs[0].created),
        title=clean_line(talk.title) or title_of(next((m.text for m in messages if m.role is Role.USER), "")),
        system=talk.system,
        leaf=names[id(last)] if last else Tree(messages).leaf_below(messages[0].id),
        pinned=talk.pinned,
        tags=talk.tags,
    )
    return Archive(session, messages)


def linear(source: str, turns: Iterable[tuple[str, str]], modified: int, title: str = "") -> Archive | None:
    """Return the archive of turns one after the other, each a role (`system`, `user`, `assistant`) and its words.

    Other roles are passed over. The words are the conversation's identity.
    """
    turns = list(turns)
    nodes = {
        str(number): Node(str(number - 1), role_of(role), text, modified + number)
        for number, (role, text) in enumerate(turns)
    }
    system = "\n\n".join(text for role, text in turns if role == "system" and text)
    key = sha256(msgspec.json.encode(turns)).hexdigest()
    return archive_of(Conversation(source, key, nodes, modified, title=title, system=system))


def role_of(name: str) -> Role | None:
    """Return who speaks; None for anyone who is neither the person nor the model."""
    return next((role for role in Role if role.value == name), None)


def words(content: object) -> str:
    """Return a message's content as text: a string, or parts of which only the written ones have words.

    A part that is no text, such as an image, leaves its kind in brackets. Raises BadRecord for anything else.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise BadRecord(_("a message's content is neither text nor a list of parts"))
    return "\n".join(filter(None, map(_part, content)))


def unix_ms(time: object) -> int | None:
    """Return a number of seconds, milliseconds or nanoseconds since 1970 as milliseconds; None for anything else."""
    if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time) or time <= 0:
        return None
    scale = next((scale for limit, scale in _SCALES if time < limit), None)
    return None if scale is None else min(int(time * scale), MAX_TIME - 1)


_SCALES = ((1e11, 1000.0), (1e14, 1.0), (1e17, 1e-3), (1e20, 1e-6))
"""Below a limit, what makes a time milliseconds: seconds until the year 5138, and so on."""


def _part(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    if isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("content_type") or part.get("type")
    return f"[{clean_line(kind, 40)}]" if isinstance(kind, str) else ""


def _id(*names: str) -> str:
    return str(uuid5(_NAMESPACE, "\n".join(names)))


def _runs(talk: Conversation) -> tuple[list[_Run], dict[str, _Run | None]]:
    """Return the messages to be, parents first, and for each node the one that holds it or comes before it."""
    nodes = talk.nodes
    children: dict[str | None, list[str]] = {}
    place: dict[str, int] = {}
    """Of a node among its siblings."""
    for name, node in nodes.items():
        siblings = children.setdefault(node.parent if node.parent in nodes else None, [])
        place[name] = len(siblings)
        siblings.append(name)
    ordered = _preorder(children)
    if len(ordered) != len(nodes):
        raise BadRecord(_("messages follow each other in a circle"))
    living = _living(nodes, ordered)
    runs: list[_Run] = []
    home: dict[str, _Run | None] = {}
    goes_on: dict[str | None, bool] = {}
    """Whether a speaker's words may go on below a node: only where exactly one node with words follows."""
    for name in ordered:
        node = nodes[name]
        parent = node.parent if node.parent in nodes else None
        run = home[parent] if parent is not None else None
        kept = _speaks(node)
        if kept and node.role is not None:
            if run is None or run.role is not node.role or not goes_on[parent]:
                run = _Run(node.role, run, _created(node, run, place[name], talk))
                runs.append(run)
            run.add(name, node)
        home[name] = run
        goes_on[name] = sum(child in living for child in children.get(name, ())) == 1 and (
            kept or goes_on.get(parent, True)
        )
    return runs, home


def _preorder(children: Mapping[str | None, list[str]]) -> list[str]:
    waiting = children.get(None, [])[::-1]
    ordered: list[str] = []
    while waiting:
        ordered.append(name := waiting.pop())
        waiting += reversed(children.get(name, ()))
    return ordered


def _living(nodes: Mapping[str, Node], ordered: list[str]) -> set[str]:
    """Return the nodes at or below which somebody speaks."""
    living = {name for name in ordered if _speaks(nodes[name])}
    for name in reversed(ordered):
        parent = nodes[name].parent
        if name in living and parent is not None:
            living.add(parent)
    return living


def _speaks(node: Node) -> bool:
    return node.role is not None and bool(node.text.strip())


def _created(node: Node, above: _Run | None, index: int, talk: Conversation) -> int:
    """Return a node's time; where it has none, one that keeps the order of siblings."""
    if node.created is not None:
        return node.created
    start = above.created + 1 if above else talk.created or talk.modified
    return min(start + index, MAX_TIME - 1)
