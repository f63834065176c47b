"""What the worker has to say, until the parent takes it: nobody waits, and memory stays bounded.

While the pipe is full, pieces of one answer wait to travel together and newer progress replaces older, so that at
most one answer waits, however slowly the parent reads.
"""

import os
import threading
from collections import deque
from itertools import chain, takewhile
from typing import BinaryIO

from qwenchat.engines.local.protocol import Piece, Progress, Reply, frame


class Outbox:
    """A queue with a thread that writes it to a pipe. The process ends when the pipe does."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._waiting: deque[Reply] = deque()
        self._filled = threading.Condition()
        threading.Thread(target=self._write, daemon=True).start()

    def put(self, message: Reply) -> None:
        """Queue a message; never blocks."""
        with self._filled:
            last = self._waiting[-1] if self._waiting else None
            if isinstance(last, Progress) and isinstance(message, Progress) and last.id == message.id:
                self._waiting[-1] = message
            else:
                self._waiting.append(message)
            self._filled.notify()

    def _take(self) -> Reply:
        """Wait for a message; pieces of one answer that wait behind each other come as one."""
        with self._filled:
            while not self._waiting:
                self._filled.wait()
            first = self._waiting[0]
            if not isinstance(first, Piece):
                return self._waiting.popleft()
            pieces = list(takewhile(lambda reply: isinstance(reply, Piece) and reply.id == first.id, self._waiting))
            for _piece in pieces:
                self._waiting.popleft()
        texts = "".join(piece.text for piece in pieces if isinstance(piece, Piece))
        return Piece(first.id, texts, tuple(chain(*(piece.ids for piece in pieces if isinstance(piece, Piece)))))

    def _write(self) -> None:
        while True:
            data = memoryview(frame(self._take()))
            try:
                while data:
                    data = data[self._pipe.write(data) :]
            except OSError:
                os._exit(0)
