"""Converts the chats of other programs, which are graphs of nodes, to archives with stable ids.

In our tree, questions and answers alternate. Nodes without contents (hidden notes, empty nodes) are left out, and their
children are attached to their parent. Consecutive nodes of the same speaker become one message, so that an answer has
its tool calls and their results as parts. Ids are hashes of the source's ids, or of the text if it has none, so that
importing a file twice adds nothing. Broken links lose no message: a node whose parent is unknown follows the node
before it.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count, groupby
from uuid import UUID, uuid5

import msgspec
from msgspec.structs import replace

from qwenchat.chat.message import Attachment, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult
from qwenchat.chat.session import Session, title_of
from qwenchat.chat.tree import Tree
from qwenchat.i18n import _
from qwenchat.sessions.archive import MAX_TIME, Archive
from qwenchat.sessions.foreign import Speaker, list_in, object_in, parent_in
from qwenchat.text.safe import clean_line, joined

_NAMESPACE = UUID("6b1f9a52-0d5e-5b0f-9c59-6f2c3f6d7a11")
_LONGEST_TITLE = 2000
"""Characters of a foreign title that are looked at."""


@dataclass(slots=True)
class ForeignNode:
    """One entry of a foreign chat."""

    parent: str | None
    """None if it begins the chat; a name that is not in the chat if its parent is unknown."""
    speaker: Speaker
    parts: tuple[Part, ...] | None
    """Empty if it has no contents, None if they can't be read."""
    created: int | None = None
    """Unix milliseconds."""
    model: str = ""
    attachments: tuple[Attachment, ...] = ()
    children: Sequence[object] = ()
    """The names of its children, if the source lists them."""
    name: str = ""
    """The speaker's name in the source."""

    @property
    def role(self) -> Role | None:
        """The role of its message; None if it is not part of the tree. Results of tools belong to an answer."""
        if self.speaker in (Speaker.CALL, Speaker.RESULT, Speaker.ASSISTANT):
            return Role.ASSISTANT
        if self.speaker is not Speaker.USER:
            return None
        results_only = bool(self.parts) and not any(isinstance(part, Text) for part in self.parts or ())
        return Role.ASSISTANT if results_only else Role.USER

    @property
    def has_contents(self) -> bool:
        """Whether it says anything."""
        spoken = (part.text.strip() if isinstance(part, Text | Reasoning) else True for part in self.parts or ())
        return bool(self.attachments) or any(spoken)


def node_without_message(value: object) -> ForeignNode | None:
    """Return the node of a `mapping` that has no message, as roots have none; None if it has one."""
    node = object_in(value)
    if object_in(node.get("message")):
        return None
    is_empty = isinstance(value, dict) and node.get("message") in (None, {})
    parts = () if is_empty else None
    return ForeignNode(parent_in(node, "parent"), Speaker.UNKNOWN, parts, children=list_in(node.get("children")))


@dataclass(slots=True)
class ForeignChat:
    """A chat of another program, ready to become an archive."""

    source: str
    """The format's name; part of every id."""
    key: str
    """The chat's id in the other program; empty if it has none."""
    nodes: Mapping[str, ForeignNode]
    modified: int
    """The time of a chat without dates, in Unix milliseconds."""
    title: str = ""
    system: str = ""
    """Its system prompt, besides those that are nodes."""
    created: int | None = None
    updated: int | None = None
    current: str | None = None
    """The node at the end of the open branch."""
    pinned: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportedChat:
    """What became of a foreign chat."""

    archive: Archive | None
    """None if it has no text."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """The reasons why messages were left out, with the number of messages for each."""


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
    attachments: tuple[Attachment, ...] = ()

    def add(self, name: str, node: ForeignNode) -> None:
        self.last, self.model = name, node.model or self.model
        self.parts += node.parts or ()
        self.attachments += node.attachments


def archive_of(chat: ForeignChat) -> ImportedChat:
    """Return the archive of a chat, and what is missing in it."""
    runs, home = _runs(chat)
    left_out = Counter(filter(None, map(_loss, chat.nodes.values())))
    if not runs:
        return ImportedChat(None, left_out)
    key = chat.key or _digest(runs[0].last, runs[0].parts)
    session_id = _id(chat.source, key)
    names = {id(run): _id(chat.source, key, run.last) for run in runs}
    numbers = count(1)
    messages = tuple(
        Message(
            id=names[id(run)],
            session=session_id,
            parent=names[id(run.above)] if run.above else None,
            role=run.role,
            parts=_paired(_joined(run.parts, run.role), numbers),
            created=run.created,
            model=run.model if run.role is Role.ASSISTANT else "",
            attachments=run.attachments,
        )
        for run in runs
    )
    last = home.get(chat.current or "")
    prompts = [_text(node.parts or ()) for node in chat.nodes.values() if node.speaker is Speaker.SYSTEM]
    session = Session(
        id=session_id,
        created=runs[0].created if chat.created is None else chat.created,
        updated=max(chat.updated or 0, *(run.created for run in runs), runs[0].created),
        title=clean_line(chat.title[:_LONGEST_TITLE])
        or title_of(next((m.text for m in messages if m.role is Role.USER), "")),
        system=joined(*dict.fromkeys((chat.system, *prompts))),
        leaf=names[id(last)] if last else Tree(messages).leaf_below(messages[0].id),
        pinned=chat.pinned,
        tags=chat.tags,
    )
    return ImportedChat(Archive(session, messages), left_out)


@dataclass(frozen=True, slots=True)
class LinearTurn:
    """One turn of a chat without branches."""

    source: object
    """The turn in the file; ids are made from it."""
    speaker: Speaker
    parts: tuple[Part, ...] | None
    name: str = ""
    """The speaker's name in the file."""


def linear(source: str, turns: Sequence[LinearTurn], modified: int, *, key: str = "", title: str = "") -> ImportedChat:
    """Return the archive of consecutive turns. A chat with a `key` and the same beginning may have grown."""
    nodes: dict[str, ForeignNode] = {}
    above: str | None = None
    for number, turn in enumerate(turns):
        name = _digest(above, turn.source)
        nodes[name] = ForeignNode(above, turn.speaker, turn.parts, modified + number, name=turn.name)
        above = name
    chat_key = f"{key}\n{next(iter(nodes), '')}" if key else above or ""
    return archive_of(ForeignChat(source, chat_key, nodes, modified, title=title))


def _loss(node: ForeignNode) -> str:
    """Return why a message is missing; empty if none is."""
    if node.parts is None:
        return _("its contents can't be read")
    if node.speaker is not Speaker.UNKNOWN or not node.has_contents:
        return ""
    name = clean_line(node.name[:_LONGEST_TITLE], 40)
    return _("its speaker “{name}” is unknown").format(name=name) if name else _("it has no speaker")


def _text(parts: Iterable[Part]) -> str:
    return "\n\n".join(part.text for part in parts if isinstance(part, Text))


def _joined(parts: Iterable[Part], role: Role) -> tuple[Part, ...]:
    """Return the parts of a message with consecutive texts joined as paragraphs, and consecutive reasoning likewise."""
    found: list[Part] = []
    for kind, group in groupby((part for part in parts if role is Role.ASSISTANT or isinstance(part, Text)), key=type):
        same = list(group)
        text = "\n\n".join(part.text for part in same if isinstance(part, Text | Reasoning))
        if kind is Text or kind is Reasoning:
            found.append(Text(text) if kind is Text else Reasoning(text))
        else:
            found += same
    return tuple(found)


def _paired(parts: Iterable[Part], numbers: Iterator[int]) -> tuple[Part, ...]:
    """Return parts in which each call has an id of its own, and each result those of its call: id and name.

    A result whose id no call has is that of the first call without one, as is one without an id, unless it names
    another tool.
    """
    paired = list(parts)
    known: set[str] = set()
    by_id: dict[str, deque[int]] = {}
    owners: dict[int, int] = {}
    """The places of calls, by those of their results."""
    for place, part in enumerate(paired):
        if isinstance(part, ToolCall):
            by_id.setdefault(part.id, deque()).append(place)
            new_id = part.id
            while not new_id or new_id in known:
                new_id = f"call-{next(numbers)}"
            known.add(new_id)
            paired[place] = replace(part, id=new_id)
        elif isinstance(part, ToolResult) and part.call_id and by_id.get(part.call_id):
            owners[place] = by_id[part.call_id].popleft()
    answered, unanswered = set(owners.values()), deque[int]()
    for place, part in enumerate(paired):
        if isinstance(part, ToolCall) and place not in answered:
            unanswered.append(place)
        elif isinstance(part, ToolResult) and place not in owners and unanswered:
            call = paired[unanswered[0]]
            if isinstance(call, ToolCall) and part.name in ("", call.name):
                owners[place] = unanswered.popleft()
    for place, owner in owners.items():
        result, call = paired[place], paired[owner]
        if isinstance(result, ToolResult) and isinstance(call, ToolCall):
            paired[place] = replace(result, call_id=call.id, name=result.name or call.name)
    return tuple(paired)


def _id(*names: str) -> str:
    return str(uuid5(_NAMESPACE, "\n".join(names)))


def _digest(*values: object) -> str:
    return sha256(msgspec.json.encode(values)).hexdigest()


def _runs(chat: ForeignChat) -> tuple[list[_Run], dict[str, _Run | None]]:
    """Return the runs, parents first, and for each node the run that contains it or precedes it."""
    nodes, parents = chat.nodes, _parents(chat.nodes)
    children: dict[str | None, list[str]] = {}
    order: dict[str, int] = {}
    """The index of a node among its siblings."""
    for name, above in parents.items():
        siblings = children.setdefault(above, [])
        order[name] = len(siblings)
        siblings.append(name)
    ordered = _preorder(children)
    leading_to_text = _leading_to_text(nodes, ordered, parents)
    runs: list[_Run] = []
    home: dict[str, _Run | None] = {}
    can_extend: dict[str | None, bool] = {}
    """Whether a node's child may extend its run: only if exactly one child leads to text."""
    for name in ordered:
        node, parent = nodes[name], parents[name]
        run = home[parent] if parent is not None else None
        speaks = node.has_contents and node.role is not None
        if speaks and node.role is not None:
            if run is None or run.role is not node.role or not can_extend[parent]:
                run = _Run(node.role, run, _created(node, run, order[name], chat))
                runs.append(run)
            run.add(name, node)
        home[name] = run
        has_one_way_on = sum(child in leading_to_text for child in children.get(name, ())) == 1
        can_extend[name] = has_one_way_on and (speaks or can_extend.get(parent, True))
    return runs, home


def _parents(nodes: Mapping[str, ForeignNode]) -> dict[str, str | None]:
    """Return the parent of each node, without cycles.

    It is the one that the node names, else the one that lists it as a child, else the node before it in time. A chat
    without any link is a sequence.
    """
    listed = {child: name for name, node in nodes.items() for child in node.children if isinstance(child, str)}
    parents: dict[str, str | None] = {}
    for name, node in nodes.items():
        parents[name] = node.parent if node.parent in nodes else listed.get(name)
    has_links = any(parent is not None for parent in parents.values())
    ordered = _in_time(nodes)
    for before, name in zip([None, *ordered], ordered, strict=False):
        if parents[name] is None and (nodes[name].parent is not None or not has_links):
            parents[name] = before
    rank = {name: number for number, name in enumerate(ordered)}
    done: set[str] = set()
    for name in nodes:
        path: dict[str, None] = {}
        above: str | None = name
        while above is not None and above not in done and above not in path:
            path[above] = None
            above = parents[above]
        if above in path:
            cycle = list(path)[list(path).index(above) :]
            parents[min(cycle, key=rank.__getitem__)] = None
        done.update(path)
    return parents


def _in_time(nodes: Mapping[str, ForeignNode]) -> list[str]:
    """Return the nodes, oldest first; one without a time stays behind the one before it."""
    times: dict[str, int] = {}
    last = 0
    for name, node in nodes.items():
        last = times[name] = last if node.created is None else node.created
    return sorted(nodes, key=times.__getitem__)


def _preorder(children: Mapping[str | None, list[str]]) -> list[str]:
    left = children.get(None, [])[::-1]
    ordered: list[str] = []
    while left:
        ordered.append(name := left.pop())
        left += reversed(children.get(name, ()))
    return ordered


def _leading_to_text(
    nodes: Mapping[str, ForeignNode], ordered: list[str], parents: Mapping[str, str | None]
) -> set[str]:
    """Return the nodes that have text themselves or in a node below them."""
    found = {name for name in ordered if nodes[name].role is not None and nodes[name].has_contents}
    for name in reversed(ordered):
        parent = parents[name]
        if name in found and parent is not None:
            found.add(parent)
    return found


def _created(node: ForeignNode, above: _Run | None, index: int, chat: ForeignChat) -> int:
    """Return a node's time; if it has none, one that preserves the order of siblings."""
    if node.created is not None:
        return node.created
    start = above.created + 1 if above else chat.created or chat.modified
    return min(start + index, MAX_TIME - 1)
