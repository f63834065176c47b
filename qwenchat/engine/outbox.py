"""What the worker has to say, until the parent takes it: nobody waits, and memory stays bounded.

While the pipe is full, pieces of one answer grow together and newer progress replaces older, so that at most one
answer's text waits however slowly the parent reads.
"""

import os
import threading
from typing import BinaryIO

from qwenchat.engine.protocol import Piece, Progress, Reply, frame


class Outbox:
    """A queue with a thread that writes it to a pipe. The process ends when the pipe does."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._waiting: list[Reply] = []
        self._filled = threading.Condition()
        threading.Thread(target=self._write, daemon=True).start()

    def put(self, message: Reply) -> None:
        """Queue a message; never blocks."""
        with self._filled:
            merged = _merged(self._waiting[-1], message) if self._waiting else None
            if merged:
                self._waiting[-1] = merged
            else:
                self._waiting.append(message)
            self._filled.notify()

    def _write(self) -> None:
        while True:
            with self._filled:
                while not self._waiting:
                    self._filled.wait()
                message = self._waiting.pop(0)
            data = memoryview(frame(message))
            try:
                while data:
                    data = data[self._pipe.write(data) :]
            except OSError:
                os._exit(0)


def _merged(last: Reply, new: Reply) -> Reply | None:
    if isinstance(last, Piece) and isinstance(new, Piece) and last.id == new.id:
        return Piece(new.id, last.text + new.text, last.ids + new.ids)
    if isinstance(last, Progress) and isinstance(new, Progress) and last.id == new.id:
        return new
    return None
