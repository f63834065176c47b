"""llama.cpp's C interface without a model: importing it, listing accelerators, the abort flag, its failures."""

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from qwenchat.engines.local.protocol import Device

_GPU, _INTEGRATED_GPU = 1, 2
"""GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU."""


class LoadFailed(Exception):
    """llama.cpp refused the model; the reason is in the log."""


class DecodeFailed(Exception):
    """llama.cpp could not compute."""


def bindings() -> Any:
    """Return the C bindings without the other imports of their package, which cost 0.2 s and 23 MB."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    if "llama_cpp" not in sys.modules:
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None:
            raise ImportError("llama-cpp-python is not installed")
        sys.modules["llama_cpp"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("llama_cpp.llama_cpp")


def devices(c: Any) -> list[Device]:
    """Return the accelerators that this build can use."""
    if not c.llama_supports_gpu_offload():
        return []
    folder = Path(c.__file__).parent / "lib"
    load = importlib.import_module("llama_cpp._ctypes_extensions").load_shared_library
    registry, base = load("ggml", folder), load("ggml-base", folder)
    registry.ggml_backend_dev_count.restype = ctypes.c_size_t
    registry.ggml_backend_dev_get.restype = ctypes.c_void_p
    for name in ("name", "description"):
        getattr(base, f"ggml_backend_dev_{name}").restype = ctypes.c_char_p
    found = []
    for i in range(registry.ggml_backend_dev_count()):
        device = ctypes.c_void_p(registry.ggml_backend_dev_get(ctypes.c_size_t(i)))
        kind = base.ggml_backend_dev_type(device)
        if kind in (_GPU, _INTEGRATED_GPU):
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            base.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
            name, description = base.ggml_backend_dev_name(device), base.ggml_backend_dev_description(device)
            shared = kind == _INTEGRATED_GPU or sys.platform == "darwin"
            found.append(
                Device(
                    name.decode(),
                    description.decode(),
                    memory_free=free.value,
                    memory_total=total.value,
                    shares_ram=shared,
                )
            )
    return found


class Abort:
    """A flag that llama.cpp polls between graph nodes without taking the GIL.

    The callback is the C library's `strlen` on a buffer: 0 while it is empty, 1 (true) when it holds a character.
    """

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(2)
        library = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
        self.callback = ctypes.cast(library.strlen, ctypes.c_void_p)
        self.data = ctypes.cast(self._buffer, ctypes.c_void_p)

    def set(self) -> None:
        """Ask the running decode to stop."""
        self._buffer[0] = b"!"

    def clear(self) -> None:
        """Allow the next decode to run."""
        self._buffer[0] = b"\0"

    def __bool__(self) -> bool:
        return bool(self._buffer[0] != b"\0")
