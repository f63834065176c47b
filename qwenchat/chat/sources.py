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

    async def prepare(self, branch: Sequence[Message]) -> bool:
        """Make the documents of a branch ready to be read, and say whether there are any.

        Raises StoreError where they can't be.
        """
        ...

    def find(self, engine: Engine, branch: Sequence[Message], room: int) -> AsyncGenerator[Reading | Citation, None]:
        """Find passages for the question that ends a branch, in at most `room` tokens together.

        What a passage takes is what `passages.passage_text` makes of it. It reports progress, then yields the passages
        in the order of their numbers; none where nothing in the documents matters. Closing it stops the reading; what
        was read so far is remembered. Raises what the engine raises.
        """
        ...
