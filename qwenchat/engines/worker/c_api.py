"""llama.cpp's C interface without a model: importing it, what a crash leaves, the abort flag, its failures."""

import ctypes
import importlib.util
import os
import sys
from typing import Any


class LoadFailed(Exception):
    """llama.cpp refused the model; the reason is in the log."""


class DecodeFailed(Exception):
    """llama.cpp could not compute."""


class UnknownToken(Exception):
    """A prompt contains a token that the model does not have."""


def bindings() -> Any:
    """Return the C bindings without the other imports of their package, which cost 0.2 s and 23 MB."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    if "llama_cpp" not in sys.modules:
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None:
            raise ImportError("llama-cpp-python is not installed")
        sys.modules["llama_cpp"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("llama_cpp.llama_cpp")


def disable_core_dumps() -> None:
    """Let a crash write no core file: it would be as large as the model and contain the user's messages."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


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
