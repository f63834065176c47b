"""Devices and peers are found through ggml's registry; the library is a stand-in whose peers never go away."""

import ctypes
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from qwenchat.engines.local.protocol import Device
from qwenchat.engines.worker.ggml import Ggml, PeerRefused, notice_silence

CPU, GPU, INTEGRATED = 0, 1, 2
_ADD_SERVER = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)
_START_SERVER = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)
)


@dataclass
class FakeDevice:
    name: str
    kind: int
    registry: str = "CPU"
    description: str = ""
    memory: int = 100


@dataclass
class FakeLibrary:
    """Stands in for libggml and libggml-base. Pointers are positions in `objects`, from 1 on."""

    has_rpc: bool = True
    lent_by: dict[str, int] = field(default_factory=dict)
    """How many devices each peer lends."""
    devices: list[FakeDevice] = field(default_factory=lambda: [FakeDevice("CPU", CPU)])
    objects: list[Any] = field(default_factory=list)
    initialised: list[str] = field(default_factory=list)
    served: list[tuple[Any, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._add, self._start = _ADD_SERVER(self._add_server), _START_SERVER(self._start_server)

    def pointer(self, thing: Any) -> int:
        self.objects.append(thing)
        return len(self.objects)

    def at(self, pointer: int) -> Any:
        return self.objects[pointer - 1]

    def _add_server(self, endpoint: bytes) -> int | None:
        count = self.lent_by[endpoint.decode()]
        first = sum(device.registry == "RPC" for device in self.devices)
        made = [FakeDevice(f"RPC{first + n}", GPU, "RPC", endpoint.decode()) for n in range(count)]
        return self.pointer(made) if made else None

    def _start_server(self, endpoint: bytes, cache: bytes, threads: int, count: int, devices: Any) -> None:
        names = [self.at(devices[index]).name for index in range(count)]
        self.served.append((endpoint.decode(), cache, threads, names))

    def function(self, name: bytes) -> int | None:
        found: Any = {b"ggml_backend_rpc_add_server": self._add, b"ggml_backend_rpc_start_server": self._start}[name]
        return ctypes.cast(found, ctypes.c_void_p).value

    def memory(self, device: int, free: Any, total: Any) -> None:
        free._obj.value, total._obj.value = self.at(device).memory - 1, self.at(device).memory

    def named(self, name: bytes) -> int | None:
        return next((self.pointer(device) for device in self.devices if device.name == name.decode()), None)


def ggml(library: FakeLibrary) -> Ggml:
    """Return the registry of a stand-in; each function is a new object, as Ggml declares its types on it."""
    registry: dict[str, Callable[..., Any]] = {
        "dev_count": lambda: len(library.devices),
        "dev_get": lambda index: library.pointer(library.devices[index]),
        "dev_by_name": library.named,
        "reg_by_name": lambda name: library.pointer(name) if library.has_rpc else None,
        "register": lambda reg: library.devices.extend(library.at(reg)),
    }
    base: dict[str, Callable[..., Any]] = {
        "dev_name": lambda device: library.at(device).name.encode(),
        "dev_description": lambda device: library.at(device).description.encode(),
        "dev_type": lambda device: library.at(device).kind,
        "dev_memory": library.memory,
        "dev_init": lambda device, _options: library.initialised.append(library.at(device).description),
        "dev_backend_reg": lambda device: library.pointer(library.at(device).registry),
        "reg_name": lambda reg: library.at(reg).encode(),
        "reg_dev_count": lambda reg: len(library.at(reg)),
        "reg_dev_get": lambda reg, index: library.pointer(library.at(reg)[index]),
        "reg_get_proc_address": lambda _reg, name: library.function(name),
    }
    made = (
        SimpleNamespace(**{f"ggml_backend_{name}": _declarable(function) for name, function in functions.items()})
        for functions in (registry, base)
    )
    return Ggml(*made)


def _declarable(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*values: Any) -> Any:
        return function(*values)

    return call


def test_accelerators_are_listed_and_the_processor_is_not() -> None:
    library = FakeLibrary(devices=[FakeDevice("CPU", CPU), FakeDevice("CUDA0", GPU, "CUDA", "a card", 500)])
    assert ggml(library).accelerators() == [Device("CUDA0", "a card", memory_free=499, memory_total=500)]


def test_peers_are_connected_registered_and_listed_in_order() -> None:
    library = FakeLibrary(lent_by={"10.0.0.2:50052": 2, "far.lan:1": 1})
    registry = ggml(library)
    found = registry.add_peers(["10.0.0.2:50052", "far.lan:1"])
    assert [(device.name, device.peer) for device in found] == [
        ("RPC0", "10.0.0.2:50052"),
        ("RPC1", "10.0.0.2:50052"),
        ("RPC2", "far.lan:1"),
    ]
    assert library.initialised == ["10.0.0.2:50052", "far.lan:1"]  # one connection of each stays open
    assert registry.accelerators() == found
    handles = registry.handles(["RPC2", "RPC0"])
    assert [library.at(handles[index]).name for index in range(2)] == ["RPC2", "RPC0"] and handles[2] is None


def test_a_peer_without_devices_and_a_build_without_rpc_are_refused() -> None:
    with pytest.raises(PeerRefused, match="empty:1 lends no device"):
        ggml(FakeLibrary(lent_by={"empty:1": 0})).add_peers(["empty:1"])
    with pytest.raises(PeerRefused, match="without RPC"):
        ggml(FakeLibrary(has_rpc=False)).add_peers(["10.0.0.2:50052"])


@pytest.mark.parametrize(
    ("cards", "lent"),
    [([], ["CPU"]), ([FakeDevice("Vulkan0", INTEGRATED), FakeDevice("CUDA0", GPU)], ["Vulkan0", "CUDA0"])],
)
def test_accelerators_are_lent_or_else_the_processor(cards: list[FakeDevice], lent: list[str]) -> None:
    library = FakeLibrary(devices=[FakeDevice("CPU", CPU), *cards])
    ggml(library).lend("127.0.0.1:50052", threads=3, cache="")
    ggml(library).lend("127.0.0.1:50052", threads=3, cache="/tmp/c")
    assert library.served == [("127.0.0.1:50052", cache, 3, lent) for cache in (None, b"/tmp/c")]


def test_a_machine_that_vanishes_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as connection:
        assert not connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        notice_silence()
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
