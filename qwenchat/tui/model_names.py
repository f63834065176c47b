"""Names of models as the screen shows them: never the path of a file, and never a wait for a disk.

The name of a file is in its header, which is read in a thread; until then, its file name stands for it.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine

from qwenchat.text.safe import clean_line

_PATH = re.compile(r"file:|[/~.\\]|[A-Za-z]:[\\/]")
"""How references that are paths begin."""


class ModelNames:
    """The names by model reference. `read` returns one and may block."""

    def __init__(
        self,
        read: Callable[[str], str],
        run: Callable[[Coroutine[object, object, object]], object],
    ) -> None:
        self._read, self._run = read, run
        self._known: dict[str, str] = {}
        self._listeners: list[Callable[[], object]] = []

    def listen(self, listener: Callable[[], object]) -> None:
        """Report to a listener when a name became known."""
        self._listeners.append(listener)

    def __call__(self, reference: str) -> str:
        """Return the name of a model as one clean line; empty for an empty reference."""
        if reference not in self._known:
            is_path = _PATH.match(reference) is not None
            self._known[reference] = clean_line(re.split(r"[\\/]", reference)[-1] if is_path else reference)
            if is_path:
                self._run(self._look_up(reference))
        return self._known[reference]

    async def _look_up(self, reference: str) -> None:
        name = clean_line(await asyncio.to_thread(self._read, reference))
        if name != self._known[reference]:
            self._known[reference] = name
            for listener in self._listeners:
                listener()
