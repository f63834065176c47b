"""The engines elsewhere: the servers of the settings, which one a model reference means, and the models they offer.

No caller waits for a server unless it asks to: `known` returns at once what was heard last, in this process or an
earlier one, and `ask` asks all servers at the same time. Nothing is generated here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from qwenchat.chat.message import Message
from qwenchat.chat.sampling import Dialect
from qwenchat.engine_settings import EngineSettings
from qwenchat.engines.remote.api import ServedModel, ServerApi, find_model
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import NotFound, QwenchatError, Recovery, RecoveryKind, RemoteUnreachable
from qwenchat.files import save_if_possible
from qwenchat.i18n import _, enumerated
from qwenchat.models.reference import remote_in
from qwenchat.text.safe import clean_line

ANSWER_S = 4.0
"""Seconds that a server has to list its models."""

Connect = Callable[[RemoteServer, bool], AbstractAsyncContextManager[ServerApi]]
"""See `connect`."""


@asynccontextmanager
async def connect(server: RemoteServer, offline: bool) -> AsyncIterator[ServerApi]:
    """Connect to a server in its dialect, which is found out by asking where it is not set.

    `offline` refuses servers on other machines. Raises RemoteError.
    """
    from qwenchat.engines.remote.detect import server_api  # noqa: PLC0415 - these import an HTTP library
    from qwenchat.engines.remote.http import RemoteHttp  # noqa: PLC0415
    from qwenchat.engines.remote.retry import ASK_ONCE  # noqa: PLC0415

    http = RemoteHttp(server, offline=offline, policy=ASK_ONCE)
    try:
        yield await server_api(http)
    finally:
        await http.close()


class EngineListing(Struct, frozen=True, kw_only=True):
    """What a server offered when it was asked last."""

    server: RemoteServer
    dialect: Dialect | None = None
    """None where it is neither set nor found out."""
    models: tuple[ServedModel, ...] = ()
    is_known: bool = False
    """Whether it has answered: now, or in an earlier run of the program."""
    error: QwenchatError | None = None
    """Why it did not answer now; `models` is then what it offered before."""

    def reference(self, model: ServedModel) -> str:
        """Return the model reference of one of its models."""
        return f"@{self.server.name}/{model.id}"

    def model(self, name: str = "") -> ServedModel:
        """Return the model that requests call `name`; without a name, the only one.

        Raises the listing's error, or NotFound, which names the models.
        """
        if self.error:
            raise self.error
        return find_model(self.server, self.models, name)


class _Remembered(Struct, frozen=True, kw_only=True):
    """What the file of known models has about one server."""

    url: str
    dialect: Dialect | None = None
    models: tuple[ServedModel, ...] = ()


class RemoteEngines:
    """All engines of the settings, in their order there. It belongs to one loop; any thread may call `known`."""

    def __init__(
        self, settings: Mapping[str, EngineSettings], *, offline: bool, file: Path, connect: Connect = connect
    ) -> None:
        """`offline` refuses servers on other machines; `file` persists the listings. Nothing is read or asked yet."""
        self.servers = tuple(server_from(name, engine) for name, engine in settings.items())
        self.offline, self._file, self._connect = offline, file, connect
        self._listings: dict[str, EngineListing] = {}

    def server(self, name: str) -> RemoteServer:
        """Return a server by its name. Raises NotFound."""
        if found := next((server for server in self.servers if server.name == name), None):
            return found
        names = enumerated(server.name for server in self.servers)
        raise NotFound(
            _("There is no engine named {name}.").format(name=clean_line(name)),
            _("Known engines: {names}.").format(names=names) if names else "",
            recoveries=(Recovery(RecoveryKind.ADD_ENGINE, name=clean_line(name)),),
        )

    def server_of(self, reference: str) -> RemoteServer | None:
        """Return the server that a model reference names; None for a model on this computer. Raises NotFound."""
        remote = remote_in(reference)
        return self.server(remote.engine) if remote else None

    def host_of(self, reference: str) -> str:
        """Return the host that a model reference names; empty for a model on this computer, or an unknown engine."""
        server = self._known_server(reference)
        return server.host if server else ""

    def host_to_confirm(self, reference: str, messages: Iterable[Message]) -> str:
        """Return the host that the user must agree to before a chat with these messages is sent to a model.

        Empty for a model on this computer, for a server on it, and where that host has answered in the chat before:
        then the user agreed to it. The rule is the same for the screen and the command line.
        """
        server = self._known_server(reference)
        if server is None or server.is_here or any(each.host == server.host for each in messages):
            return ""
        return server.host

    def known(self) -> list[EngineListing]:
        """Return at once what each server offered when it answered last. A small file is read the first time."""
        if len(self._listings) < len(self.servers):
            remembered = self._read()
            for server in self.servers:
                known = remembered.get(server.name)
                is_same = known is not None and known.url == server.url
                self._listings.setdefault(
                    server.name,
                    EngineListing(
                        server=server,
                        dialect=known.dialect if known and is_same else server.dialect,
                        models=known.models if known and is_same else (),
                        is_known=is_same,
                    ),
                )
        return [self._listings[server.name] for server in self.servers]

    async def ask(self, within_s: float = ANSWER_S) -> AsyncIterator[EngineListing]:
        """Ask all servers at once and yield each one's listing as it comes; none takes longer than `within_s`.

        A server that does not answer has an error in its listing. Leaving the iteration early stops the asking.
        """
        asked = [asyncio.create_task(self.listing(server, within_s)) for server in self.servers]
        try:
            for listing in asyncio.as_completed(asked):
                yield await listing
        finally:
            for task in asked:
                task.cancel()

    async def listing(self, server: RemoteServer, within_s: float = ANSWER_S) -> EngineListing:
        """Ask one server for its models and return its listing, which has the error where that failed.

        It need not be in the settings.
        """
        known = next((known for known in self.known() if known.server == server), None)
        before = known or EngineListing(server=server, dialect=server.dialect)
        try:
            async with asyncio.timeout(within_s), self.connected(server) as api:
                models = tuple(await api.models())
                heard = EngineListing(server=server, dialect=api.dialect, models=models, is_known=True)
        except TimeoutError:
            heard = structs.replace(before, error=no_answer(server))
        except QwenchatError as error:
            heard = structs.replace(before, error=error)
        if known:
            self._listings[server.name] = heard
            if heard.error is None and heard != known:
                self._write()
        return heard

    def connected(self, server: RemoteServer) -> AbstractAsyncContextManager[ServerApi]:
        """Return a connection to a server, as a context manager. Raises RemoteError."""
        return self._connect(server, self.offline)

    def may_ask(self, reference: str) -> bool:
        """Return whether a reference names a model elsewhere whose server is known and not forbidden by `offline`."""
        server = self._known_server(reference)
        return server is not None and (server.is_here or not self.offline)

    def _known_server(self, reference: str) -> RemoteServer | None:
        remote = remote_in(reference)
        return next((server for server in self.servers if remote and server.name == remote.engine), None)

    def _read(self) -> dict[str, _Remembered]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, _Remembered])
        except (OSError, ValueError):
            return {}

    def _write(self) -> None:
        known = {
            listing.server.name: {
                "url": listing.server.url,
                "dialect": listing.dialect,
                "models": [structs.asdict(model) for model in listing.models],
            }
            for listing in self._listings.values()
            if listing.is_known
        }
        save_if_possible(self._file, msgspec.json.encode(known))


def server_from(name: str, engine: EngineSettings) -> RemoteServer:
    """Return the server that the settings of an engine describe."""
    return RemoteServer(
        name=name,
        url=engine.url,
        dialect=engine.kind,
        key_env=engine.key_env,
        key_command=engine.key_command,
        key_file=engine.key_file,
        context=engine.context,
    )


def no_answer(server: RemoteServer) -> RemoteUnreachable:
    """Return the error for a server that does not answer in time."""
    return RemoteUnreachable(
        _("The engine {name} at {host} does not answer.").format(name=server.name, host=server.host),
        _("Check that the server runs and that its address is right."),
        recoveries=(Recovery(RecoveryKind.TEST_ENGINE, name=server.name),),
    )
