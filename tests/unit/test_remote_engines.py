"""The engines of the settings: which server a reference means, what is known of it, and when a chat may be sent."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from qwenchat.chat.events import EngineEvent
from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.chat.ports import Capabilities, Mode, Request, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Dialect, Sampling
from qwenchat.engine_settings import EngineSettings
from qwenchat.engines.remote.api import ServedModel, ServerApi
from qwenchat.engines.remote.keys import key_place
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import NotFound, RemoteError
from qwenchat.runtime.remote_engines import EngineListing, RemoteEngines, server_from

LAB = {"lab": EngineSettings(url="http://10.0.0.5:8080", key_env="LAB_KEY")}
BOTH = {**LAB, "here": EngineSettings(url="http://127.0.0.1:11434", kind=Dialect.OLLAMA)}
TWO = [ServedModel(id="qwen2-72b", n_ctx=32_768), ServedModel(id="other")]


@dataclass
class ListingApi:
    """Implements `ServerApi` as far as a listing needs it."""

    offered: Sequence[ServedModel] = ()
    dialect: Dialect = Dialect.VLLM
    capabilities: Capabilities = field(default_factory=Capabilities)
    calls: None = None

    async def models(self) -> list[ServedModel]:
        return list(self.offered)

    async def prepare(self, model: str, *, n_ctx: int = 0) -> ServedModel:
        raise AssertionError

    async def count(self, model: ServedModel, turns: Sequence[Turn], mode: Mode) -> TokenCounts:
        raise AssertionError

    def generate(self, model: ServedModel, request: Request, sampling: Sampling) -> AsyncGenerator[EngineEvent, None]:
        raise AssertionError

    def lacks(self, sampling: Sampling) -> tuple[str, ...]:
        return ()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "engines.json"


def engines(
    file: Path,
    settings: dict[str, EngineSettings],
    answer: Callable[[RemoteServer], Sequence[ServedModel]] = lambda server: TWO,
    *,
    offline: bool = False,
) -> RemoteEngines:
    @asynccontextmanager
    async def connect(server: RemoteServer, is_offline: bool) -> AsyncIterator[ServerApi]:
        assert is_offline == offline
        yield ListingApi(answer(server))

    return RemoteEngines(settings, offline=offline, file=file, connect=connect)


async def asked(remote: RemoteEngines, within_s: float = 60.0) -> dict[str, EngineListing]:
    return {listing.server.name: listing async for listing in remote.ask(within_s)}


def refuse(_server: RemoteServer) -> Sequence[ServedModel]:
    raise RemoteError("The connection was refused.", "Start it.")


def test_a_reference_names_a_server(file: Path) -> None:
    remote = engines(file, BOTH)
    server = remote.server_of("@lab/qwen2-72b")
    assert server and (server.host, server.key_env, server.is_here) == ("10.0.0.5:8080", "LAB_KEY", False)
    assert remote.server_of("7b") is None
    assert [remote.host_of(text) for text in ("@here/x", "7b", "@nowhere/x", "@")] == ["127.0.0.1:11434", "", "", ""]
    with pytest.raises(NotFound, match="nowhere") as caught:
        remote.server_of("@nowhere/x")
    assert "lab" in caught.value.hint
    assert not file.exists()


async def test_all_servers_are_asked_and_what_they_offer_is_known_in_the_next_run(file: Path) -> None:
    remote = engines(file, BOTH)
    assert [(each.is_known, each.models) for each in remote.known()] == [(False, ()), (False, ())]
    found = await asked(remote)
    assert [found["lab"].reference(model) for model in found["lab"].models] == ["@lab/qwen2-72b", "@lab/other"]
    later = engines(file, BOTH, refuse).known()
    assert [(each.is_known, each.models, each.dialect) for each in later] == [(True, tuple(TWO), Dialect.VLLM)] * 2
    moved = engines(file, {"lab": EngineSettings(url="http://10.0.0.6:8080")}).known()
    assert [(each.is_known, each.models) for each in moved] == [(False, ())]


async def test_a_server_that_does_not_answer_delays_no_other_and_stays_known(file: Path) -> None:
    silent = asyncio.Event()
    await asked(engines(file, BOTH))

    @asynccontextmanager
    async def connect(server: RemoteServer, _offline: bool) -> AsyncIterator[ServerApi]:
        if server.name == "lab":
            await silent.wait()
        yield ListingApi(TWO[:1])

    remote = RemoteEngines(BOTH, offline=False, file=file, connect=connect)
    came = [listing async for listing in remote.ask(0.2)]
    assert [listing.server.name for listing in came] == ["here", "lab"]
    assert came[1].error and "10.0.0.5:8080" in came[1].error.message
    assert (came[1].is_known, came[1].models) == (True, tuple(TWO))
    assert remote.known()[0].error


async def test_an_error_is_in_the_listing(file: Path) -> None:
    found = await asked(engines(file, LAB, refuse))
    assert found["lab"].error and found["lab"].error.message == "The connection was refused."
    with pytest.raises(RemoteError, match="refused"):
        found["lab"].model("qwen2-72b")
    assert not file.exists()


def test_offline_only_servers_on_this_machine_may_be_asked(file: Path) -> None:
    references = ("@lab/x", "@here/x", "@nowhere/x", "7b")
    assert list(map(engines(file, BOTH).may_ask, references)) == [True, True, False, False]
    assert list(map(engines(file, BOTH, offline=True).may_ask, references)) == [False, True, False, False]


async def test_a_damaged_file_is_no_obstacle(file: Path) -> None:
    await asked(engines(file, LAB))
    for damaged in (b"", b"[]", b'{"lab": 3}', b"\xff" * 100):
        file.write_bytes(damaged)
        assert not engines(file, LAB).known()[0].is_known


def test_a_name_alone_is_the_only_model() -> None:
    listing = EngineListing(server=RemoteServer(name="lab", url="http://lab"), models=tuple(TWO))
    assert listing.model("other") is TWO[1]
    assert replace(listing, models=tuple(TWO[:1])).model() is TWO[0]
    for name in ("", "qwen2"):
        with pytest.raises(NotFound) as caught:
            listing.model(name)
        assert "qwen2-72b" in caught.value.hint and "other" in caught.value.hint


def answer_from(file: str) -> Message:
    return Message(
        id="a", session="s", parent="q", role=Role.ASSISTANT, parts=text_parts("x"), created=0, model_file=file
    )


def test_a_host_is_confirmed_until_it_has_answered(file: Path) -> None:
    remote = engines(file, BOTH)
    local, there = answer_from("0" * 32), answer_from("http://10.0.0.5:8080#qwen2-72b")
    assert remote.host_to_confirm("@lab/qwen2-72b", []) == "10.0.0.5:8080"
    assert remote.host_to_confirm("@lab/other", [local, answer_from("http://10.0.0.6#x")]) == "10.0.0.5:8080"
    assert remote.host_to_confirm("@lab/other", [local, there]) == ""
    assert remote.host_to_confirm("@here/x", []) == ""
    assert remote.host_to_confirm("7b", [there]) == ""


@pytest.mark.parametrize("file", ["", "0" * 32, "http://[", "http:/x", "ftp://x#y"])
def test_an_answer_without_a_host(file: str) -> None:
    assert answer_from(file).host == ""


def test_where_a_key_comes_from_is_known_without_the_key(tmp_path: Path) -> None:
    def place(engine: EngineSettings) -> tuple[str, str, bool | None] | None:
        found = key_place(server_from("x", engine), {"SET": "secret", "EMPTY": " "})
        return (found.kind, found.name, found.is_set) if found else None

    here, missing = str(tmp_path), str(tmp_path / "no")
    assert place(EngineSettings(url="http://x")) is None
    assert place(EngineSettings(url="http://x", key_env="SET")) == ("environment", "SET", True)
    assert place(EngineSettings(url="http://x", key_env="EMPTY")) == ("environment", "EMPTY", False)
    assert place(EngineSettings(url="http://x", key_command="echo secret")) == ("command", "", None)
    assert place(EngineSettings(url="http://x", key_file=here)) == ("file", here, True)
    assert place(EngineSettings(url="http://x", key_file=missing)) == ("file", missing, False)
