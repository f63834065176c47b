"""What a chat needs to answer from documents: something that finds the passages which matter to a question.

How documents are indexed and read is decided elsewhere (`documents`); a turn only stores what it is given.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from qwenchat.chat.events import Reading
from qwenchat.chat.message import Citation, Message
from qwenchat.chat.ports import Engine


class Sources(Protocol):
    """The documents of one turn."""

    def find(self, engine: Engine, branch: Sequence[Message], room: int) -> AsyncGenerator[Reading | Citation, None]:
        """Find passages for the question that ends a branch, in at most `room` tokens together.

        It reports progress, then yields the passages in the order of their numbers; none where the branch has no
        documents, or nothing in them matters. Closing it stops the reading; what was read so far is remembered.
        Raises what the engine raises.
        """
        ...
