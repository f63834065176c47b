"""Sends the worker's replies to the parent: the computing thread never waits, and memory stays bounded.

While the pipe is full, pieces of the same answer are joined and newer progress replaces older, so that at most one
answer waits, however slowly the parent reads.
"""

import os
import threading
from collections import deque
from typing import BinaryIO

from qwenchat.engines.local.protocol import Piece, WorkerProgress, WorkerReply, frame


class Outbox:
    """A queue with a thread that writes its messages to a pipe. When the pipe breaks, the process ends."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._waiting: deque[WorkerReply] = deque()
        self._filled = threading.Condition()
        threading.Thread(target=self._write, daemon=True).start()

    def put(self, message: WorkerReply) -> None:
        """Queue a message; never blocks."""
        with self._filled:
            last = self._waiting[-1] if self._waiting else None
            if isinstance(last, WorkerProgress) and isinstance(message, WorkerProgress) and last.id == message.id:
                self._waiting[-1] = message
            else:
                self._waiting.append(message)
            self._filled.notify()

    def _take(self) -> WorkerReply:
        """Wait for a message and return it; consecutive pieces of the same answer are joined."""
        with self._filled:
            while not self._waiting:
                self._filled.wait()
            first = self._waiting.popleft()
            if not isinstance(first, Piece) or first.apart:
                return first
            texts, ids = [first.text], [*first.ids]
            while self._waiting and isinstance(piece := self._waiting[0], Piece):
                if piece.id != first.id or piece.apart:
                    break
                texts.append(piece.text)
                ids += piece.ids
                self._waiting.popleft()
        return Piece(first.id, "".join(texts), tuple(ids))

    def _write(self) -> None:
        while True:
            data = memoryview(frame(self._take()))
            try:
                while data:
                    data = data[self._pipe.write(data) :]
            except OSError:
                os._exit(0)
