"""Names of models as the screen shows them, and the hosts that they run on: never a path, and never a wait for a disk.

The name of a file is in its header, which is read in a thread; until then, its file name stands for it. A model on a
server has its name in its reference, and its host always stands beside it: the user sees where words go.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine

from rich.cells import cell_len

from qwenchat.chat.message import Message
from qwenchat.text.safe import clean_line
from qwenchat.text.wrap import exact_cuts

_PATH = re.compile(r"file:|[/~.\\]|[A-Za-z]:[\\/]")
"""How references that are paths begin."""
_LEAST_NAME = 8
"""Cells of a model's name beside its host, if it needs them."""


class ModelNames:
    """The names by model reference. `read` returns one and may block.

    `host_of` returns the host of the server that a reference is to, empty for a model on this computer.
    """

    def __init__(
        self,
        read: Callable[[str], str],
        run: Callable[[Coroutine[object, object, object]], object],
        *,
        host_of: Callable[[str], str],
    ) -> None:
        self._read, self._run, self._host_of = read, run, host_of
        self._known: dict[str, str] = {}
        self._peers: dict[str, str] = {}
        """By model reference, where llama.cpp has put layers of a model beside this computer."""
        self._listeners: list[Callable[[], object]] = []

    def listen(self, listener: Callable[[], object]) -> None:
        """Report to a listener when a name became known."""
        self._listeners.append(listener)

    def __call__(self, reference: str) -> str:
        """Return the name of a model as one clean line; empty for an empty reference."""
        if reference not in self._known:
            is_path = _PATH.match(reference) is not None
            name = re.split(r"[\\/]", reference)[-1] if is_path else reference
            self._known[reference] = clean_line(_name_on_server(reference) or name)
            if is_path:
                self._run(self._look_up(reference))
        return self._known[reference]

    def host(self, reference: str) -> str:
        """Return the host that words for a model go to; empty for one on this computer."""
        return clean_line(self._host_of(reference)) if reference.startswith("@") else self._peers.get(reference, "")

    def note_peers(self, reference: str, peers: str) -> None:
        """Show the peers that a loaded model of this computer is spread over; empty for none."""
        if self._peers.get(reference, "") != peers:
            self._peers[reference] = clean_line(peers)
            for listener in self._listeners:
                listener()

    def host_of(self, answer: Message) -> str:
        """Return the host that an answer came from, or comes from; empty for a model on this computer."""
        return clean_line(answer.host) if answer.model_file else self.host(answer.model)

    def author(self, answer: Message) -> str:
        """Return the name of the model that wrote an answer, with the host that it came from."""
        return with_host(self(answer.model), self.host_of(answer))

    def full(self, reference: str) -> str:
        """Return the name of a model, with its host."""
        return with_host(self(reference), self.host(reference))

    def report(self) -> None:
        """Report to the listeners: a name became known, or hosts have changed."""
        for listener in self._listeners:
            listener()

    async def _look_up(self, reference: str) -> None:
        name = clean_line(await asyncio.to_thread(self._read, reference))
        if name != self._known[reference]:
            self._known[reference] = name
            self.report()


def with_host(name: str, host: str, room: int = 0) -> str:
    """Return `NAME @ HOST`, without the host for a model on this computer.

    Where that takes more than `room` cells, the name is shortened; the host only where it has no room alone, and then
    its end stays, which says whose it is. 0: there is room for all of it.
    """
    if not host:
        return name
    where = f" @ {host}"
    left = room - cell_len(where)
    if room and cell_len(name) > left:
        name = _shortened(name, max(left, _LEAST_NAME))
    if room and cell_len(name + where) > room:
        kept = max(room - len("@ …"), 1)
        return f"@ {host}" if len(host) <= kept + 1 else f"@ …{host[-kept:]}"
    return name + where


def _name_on_server(reference: str) -> str:
    """Return the name of a model elsewhere; empty for other references."""
    if not reference.startswith("@"):
        return ""
    from qwenchat.models.reference import remote_in  # noqa: PLC0415 - the screen is drawn without it

    remote = remote_in(reference)
    return remote.name if remote else ""


def _shortened(text: str, room: int) -> str:
    if cell_len(text) <= room:
        return text
    return text[: exact_cuts(text, room - 1)[0].end] + "…"
