"""The devices that llama.cpp computes with, those of peers included, through the registry of its library ggml.

Peers are machines that lend their devices by llama.cpp's RPC. Its functions are not in the bindings and end the process
where a peer is missing, of another version, or goes away later; they wait without limit for one that is busy. Whether a
peer can be used is asked before (`engines.local.peers`), not here.
"""

import ctypes
import importlib
import os
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from qwenchat.engines.local.protocol import Device

_CPU, _GPU, _INTEGRATED_GPU = 0, 1, 2
"""GGML_BACKEND_DEVICE_TYPE_CPU, _GPU and _IGPU."""
_CONNECT_S = 10.0
"""Seconds after which a peer that was free when it was asked is taken as lost."""

_SILENCE = {"TCP_KEEPIDLE": 10, "TCP_KEEPALIVE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""Seconds until a silent machine is asked for a sign of life, and between such questions; how many it may miss; and
milliseconds until it must have confirmed what was sent. Each system knows some of them."""

_POINTER, _TEXT, _SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
_SIZE_OUT = ctypes.POINTER(ctypes.c_size_t)
_REGISTRY_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "ggml_backend_dev_count": (_SIZE, []),
    "ggml_backend_dev_get": (_POINTER, [_SIZE]),
    "ggml_backend_dev_by_name": (_POINTER, [_TEXT]),
    "ggml_backend_reg_by_name": (_POINTER, [_TEXT]),
    "ggml_backend_register": (None, [_POINTER]),
}
"""Result and parameters of the functions of libggml."""
_BASE_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "ggml_backend_dev_name": (_TEXT, [_POINTER]),
    "ggml_backend_dev_description": (_TEXT, [_POINTER]),
    "ggml_backend_dev_type": (ctypes.c_int, [_POINTER]),
    "ggml_backend_dev_memory": (None, [_POINTER, _SIZE_OUT, _SIZE_OUT]),
    "ggml_backend_dev_init": (_POINTER, [_POINTER, _TEXT]),
    "ggml_backend_dev_backend_reg": (_POINTER, [_POINTER]),
    "ggml_backend_reg_name": (_TEXT, [_POINTER]),
    "ggml_backend_reg_dev_count": (_SIZE, [_POINTER]),
    "ggml_backend_reg_dev_get": (_POINTER, [_POINTER, _SIZE]),
    "ggml_backend_reg_get_proc_address": (_POINTER, [_POINTER, _TEXT]),
}
"""The same of libggml-base."""
_ADD_SERVER = ctypes.CFUNCTYPE(_POINTER, _TEXT)
_START_SERVER = ctypes.CFUNCTYPE(None, _TEXT, _TEXT, _SIZE, _SIZE, ctypes.POINTER(_POINTER))


class PeerRefused(Exception):
    """A peer has no devices to lend, or this build has no RPC."""


class Ggml:
    """The registry of one loaded ggml library."""

    def __init__(self, registry: Any, base: Any) -> None:
        """Declare the functions of libggml and libggml-base."""
        self._registry, self._base = registry, base
        for library, functions in ((registry, _REGISTRY_FUNCTIONS), (base, _BASE_FUNCTIONS)):
            for name, (result, parameters) in functions.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, parameters

    @classmethod
    def beside(cls, c: Any) -> "Ggml":
        """Return the registry that the bindings use."""
        folder = Path(c.__file__).parent / "lib"
        load = importlib.import_module("llama_cpp._ctypes_extensions").load_shared_library
        return cls(load("ggml", folder), load("ggml-base", folder))

    def accelerators(self) -> list[Device]:
        """Return the accelerators, those of the added peers included."""
        return [self._device(handle) for handle in self._handles(_GPU, _INTEGRATED_GPU)]

    def add_peers(self, peers: Sequence[str]) -> list[Device]:
        """Connect to each peer (`host:port`) until this process ends, and return their devices in that order.

        The process ends where one does not answer in time. Raises PeerRefused.
        """
        found = [device for peer in peers for device in self._add_peer(peer)]
        notice_silence()
        return found

    def handles(self, names: Sequence[str]) -> Any:
        """Return the devices of these names as an array that ends with NULL."""
        found = [self._registry.ggml_backend_dev_by_name(name.encode()) for name in names]
        return (_POINTER * (len(found) + 1))(*found, None)

    def lend(self, endpoint: str, *, threads: int, cache: str) -> None:
        """Serve this machine's accelerators, or else its processor, at an IPv4 address and port.

        It serves one program after another and returns only where it can't serve. Large tensors are stored in the
        folder `cache`, unless that is empty, and are not sent again.
        """
        devices = self._handles(_GPU, _INTEGRATED_GPU) or self._handles(_CPU)
        start = _START_SERVER(self._rpc_function(b"ggml_backend_rpc_start_server"))
        array = (_POINTER * len(devices))(*devices)
        start(endpoint.encode(), os.fsencode(cache) or None, threads, len(devices), array)

    def _add_peer(self, peer: str) -> list[Device]:
        add = _ADD_SERVER(self._rpc_function(b"ggml_backend_rpc_add_server"))
        limit = threading.Timer(_CONNECT_S, _give_up, [peer])
        limit.start()
        try:
            registry = add(peer.encode())
            if not registry:
                raise PeerRefused(f"{peer} lends no device")
            count = self._base.ggml_backend_reg_dev_count(registry)
            handles = [self._base.ggml_backend_reg_dev_get(registry, number) for number in range(count)]
            # A backend holds the connection, so that no other program gets the peer before the model is loaded.
            self._base.ggml_backend_dev_init(handles[0], None)
            found = [self._device(handle) for handle in handles]
        finally:
            limit.cancel()
        self._registry.ggml_backend_register(registry)
        return found

    def _rpc_function(self, name: bytes) -> int:
        registry = self._registry.ggml_backend_reg_by_name(b"RPC")
        if not registry:
            raise PeerRefused("llama.cpp was built without RPC")
        return int(self._base.ggml_backend_reg_get_proc_address(registry, name))

    def _handles(self, *kinds: int) -> list[int]:
        every = [self._registry.ggml_backend_dev_get(index) for index in range(self._registry.ggml_backend_dev_count())]
        return [handle for handle in every if self._base.ggml_backend_dev_type(handle) in kinds]

    def _device(self, handle: int) -> Device:
        base = self._base
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        base.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
        name, description = base.ggml_backend_dev_name(handle), base.ggml_backend_dev_description(handle)
        is_far = base.ggml_backend_reg_name(base.ggml_backend_dev_backend_reg(handle)) == b"RPC"
        is_integrated = base.ggml_backend_dev_type(handle) == _INTEGRATED_GPU or sys.platform == "darwin"
        return Device(
            name.decode(),
            description.decode(),
            memory_free=free.value,
            memory_total=total.value,
            shares_ram=is_integrated and not is_far,
            peer=description.decode() if is_far else "",
        )


def notice_silence() -> None:
    """Let the system end this process's TCP connections to machines that vanish, as by sleep or a pulled cable.

    llama.cpp sets no limit itself and would wait for ever. A machine that computes for long answers all the same.
    """
    wanted = [(socket.SOL_SOCKET, "SO_KEEPALIVE", 1)]
    wanted += [(socket.IPPROTO_TCP, name, value) for name, value in _SILENCE.items()]
    descriptors = Path("/dev/fd")
    for descriptor in list(descriptors.iterdir()) if descriptors.is_dir() else ():
        with suppress(OSError), socket.socket(fileno=os.dup(int(descriptor.name))) as connection:
            if connection.family is socket.AF_INET:
                for level, name, value in wanted:
                    if hasattr(socket, name):
                        connection.setsockopt(level, getattr(socket, name), value)


def _give_up(peer: str) -> None:
    """End the process, which waits inside llama.cpp."""
    print(f"no answer from {peer}", file=sys.stderr, flush=True)
    os._exit(1)
