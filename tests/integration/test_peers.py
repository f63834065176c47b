"""Peers of llama.cpp's RPC are asked before a worker connects, and named when they are lost; real sockets."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qwenchat.engines.local import peers
from qwenchat.engines.local.devices import ask_worker, survey_peers
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.local.lending import Lending, lend
from qwenchat.engines.local.loaded_model import PlannedModel
from qwenchat.engines.local.saved_kv import SavedKV
from qwenchat.errors import CannotLoad, EngineDied, NetworkError, QwenchatError, RecoveryKind, RemoteError
from tests.fakes.engines import planned

ANSWER = struct.pack("<Q28x", 28)
Behaviour = Callable[[socket.socket], None]


@contextmanager
def peer(behave: Behaviour) -> Iterator[str]:
    """Run something on a port; yield its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                while True:
                    connection, _address = server.accept()
                    with connection:
                        behave(connection)
            except OSError:  # the test is over
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def free(connection: socket.socket) -> None:
    assert connection.recv(64)[:1] == b"\x0e"
    for index in range(len(ANSWER)):  # however it comes
        connection.sendall(ANSWER[index : index + 1])


def busy(connection: socket.socket) -> None:
    while connection.recv(64):  # until the other side has had enough
        pass


def web_server(connection: socket.socket) -> None:
    connection.recv(64)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def other_version(connection: socket.socket) -> None:
    connection.recv(64)


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("behave", "fault"),
    [(free, ""), (busy, "another program"), (web_server, "no RPC server"), (other_version, "another version")],
)
def test_what_a_peer_answers(behave: Behaviour, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ANSWER_S", 0.5)
    with peer(behave) as address:
        found = peers.faults([address])
        assert fault in found[address] if fault else not found


def test_a_peer_that_is_not_there() -> None:
    dead = closed_port()
    found = peers.faults([dead, "no-such-peer.invalid:50052"])
    assert "refused" in found[dead] and "not known" in found["no-such-peer.invalid:50052"]


def engine(folder: Path, model: Path, address: str) -> LocalEngine:
    """Return an engine whose model needs a peer."""

    def plan(_devices: object) -> PlannedModel:
        made = planned(model)
        return PlannedModel(
            plan=made.plan, reference=made.reference, name=made.name, defaults=made.defaults, peers=(address,)
        )

    return LocalEngine(plan, folder / "engine.log", SavedKV(folder / "kv", 1 << 20))


async def test_a_model_whose_peer_is_missing_is_not_loaded(tiny: Path, tmp_path: Path) -> None:
    hello, dead = ask_worker(), closed_port()
    assert hello
    made = engine(tmp_path, tiny, dead)
    with pytest.raises(QwenchatError) as failure:
        await made.load()
    await made.close()
    assert isinstance(failure.value, RemoteError if hello.rpc else CannotLoad)
    words = failure.value.message + failure.value.hint
    assert dead in words if hello.rpc else "-DGGML_RPC=ON" in words
    assert RecoveryKind.WITHOUT_PEERS in [recovery.kind for recovery in failure.value.recoveries]


def test_a_survey_names_what_can_t_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ANSWER_S", 0.5)
    dead = closed_port()
    with peer(web_server) as address:
        survey = survey_peers([dead, address])
    assert not survey.devices and "refused" in survey.faults[dead] and "no RPC server" in survey.faults[address]


LOST = "recv failed (bytes_recv=0, size_to_recv=8)\nRemote RPC server crashed or returned malformed response"


async def test_the_peer_that_was_lost_is_named() -> None:
    dead = closed_port()
    with peer(free) as alive:
        lost = await peers.loss(EngineDied("The engine process ended by signal SIGABRT.", log=LOST), [alive, dead])
        again = await peers.loss(EngineDied("", log=LOST), [alive])
    assert lost and dead in lost.message and alive not in lost.message and lost.log == LOST
    assert [recovery.kind for recovery in lost.recoveries] == [
        RecoveryKind.START_AGAIN,
        RecoveryKind.WITHOUT_PEERS,
        RecoveryKind.OTHER_MODEL,
    ]
    assert again and alive in again.message and "ended the connection" in again.message
    assert await peers.loss(EngineDied("", log="GGML_ASSERT failed"), [dead]) is None


def test_a_peer_without_enough_memory_is_named() -> None:
    log = ["load_tensors: x", "alloc_tensor_range: failed to allocate RPC0[10.0.0.2:50052] buffer of size 5368709120"]
    lacking = peers.lacking_memory(log, "72B")
    assert lacking and "10.0.0.2:50052" in lacking.message
    assert peers.lacking_memory(["failed to allocate CPU buffer"], "72B") is None


async def test_lending_where_the_build_has_rpc_and_an_explanation_where_not(tmp_path: Path) -> None:
    hello = await asyncio.to_thread(ask_worker)
    assert hello
    lending = Lending(host="127.0.0.1", port=int(closed_port().partition(":")[2]), threads=1)
    server = lend(lending, tmp_path / "rpc.log")
    try:
        if not hello.rpc:
            with pytest.raises(EngineDied, match="exit code 1") as failure:
                await anext(server)
            assert "without RPC" in failure.value.log
            return
        assert await anext(server) is False
        survey = await asyncio.to_thread(survey_peers, [f"127.0.0.1:{lending.port}"])
        assert survey.devices[0].memory_total > 0 and not survey.faults
        assert await anext(server) is True
    finally:
        await server.aclose()


async def test_a_port_in_use_is_refused_with_the_system_s_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        lending = Lending(host="127.0.0.1", port=taken.getsockname()[1], threads=1)
        with pytest.raises(NetworkError, match="already in use"):
            await anext(lend(lending, tmp_path / "rpc.log"))
