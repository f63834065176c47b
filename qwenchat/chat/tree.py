"""The messages of one session as a tree: branches, variants, the leaf of a branch. No I/O."""

from collections.abc import Iterable, Iterator

from qwenchat.chat.message import Message, Role
from qwenchat.chat.session import WaitingQuestion


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
