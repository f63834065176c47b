"""The messages of one session as a tree: branches, variants, the leaf of a branch. No I/O."""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from qwenchat.chat.message import Message, Role
from qwenchat.chat.session import WaitingQuestion


class VariantPlace(Struct, frozen=True):
    """Where a message stands among its siblings."""

    number: int = 1
    """From 1, the oldest."""
    count: int = 1
    elsewhere: int = 0
    """Messages on the branches through its siblings, the siblings among them."""

    @property
    def hides(self) -> bool:
        """Whether anything follows a sibling, which the branch through this message does not show."""
        return self.elsewhere >= self.count > 1


class Branch(Struct, frozen=True, kw_only=True):
    """A branch as a list of branches shows it."""

    leaf: Message
    first: Message
    """The first question that no other branch has; where it has none of its own, its first message."""
    length: int
    """Messages from the first of the session to the leaf."""


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

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._messages

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

    def places(self, branch: Iterable[Message]) -> dict[str, VariantPlace]:
        """Return the places of those messages of a branch that have siblings, by their ids."""
        places: dict[str, VariantPlace] = {}
        for message in branch:
            siblings = [one.id for one in self.children(message.parent)]
            if len(siblings) > 1:
                elsewhere = sum(self._size(one) for one in siblings if one != message.id)
                places[message.id] = VariantPlace(siblings.index(message.id) + 1, len(siblings), elsewhere)
        return places

    def branches(self) -> list[Branch]:
        """Return all branches, the one that was written to last first."""
        leaves = [message for message in self if message.id not in self._children]
        leaves.sort(key=lambda leaf: (leaf.created, leaf.id), reverse=True)
        return [self._branch_to(leaf) for leaf in leaves]

    def _branch_to(self, leaf: Message) -> Branch:
        branch = self.branch(leaf.id)
        at = next((at for at in reversed(range(len(branch))) if len(self._children[branch[at].parent]) > 1), 0)
        first = next((message for message in branch[at:] if message.role is Role.USER), branch[at])
        return Branch(leaf=leaf, first=first, length=len(branch))

    def _size(self, message_id: str) -> int:
        """Return how many messages a message and all below it are."""
        size, left = 0, [message_id]
        while left:
            size += 1
            left += self._children.get(left.pop(), ())
        return size

    def leaf_below(self, message_id: str) -> str:
        """Return the end of the branch through `message_id` that was written to last."""
        while below := self._children.get(message_id):
            message_id = below[-1]
        return message_id

    def place_for(self, follows: str | None, leaf: str | None) -> str | None:
        """Return what a waiting question follows when it enters the tree.

        That is the message that it was asked after, or the newest answer to it where that is a question. `leaf`, the
        last message of the session's branch, is followed where that message is gone.
        """
        if follows is None:
            return None
        if follows not in self._messages:
            return leaf if leaf in self._messages else None
        answers = [child for child in self.children(follows) if child.role is Role.ASSISTANT]
        if self._messages[follows].role is Role.USER and answers:
            return answers[-1].id
        return follows

    def unanswered(self, waiting: Iterable[WaitingQuestion], leaf: str | None) -> list[Message]:
        """Return waiting questions, oldest first, as they enter the tree together, without answers."""
        entered: list[Message] = []
        for each in waiting:
            tree = Tree([*self, *entered]) if entered else self
            entered.append(each.below(tree.place_for(each.follows, leaf)))
            leaf = each.id
        return entered
