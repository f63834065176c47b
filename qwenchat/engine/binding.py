"""The line that installs llama-cpp-python for this very Python. Nothing is run or imported here."""

import importlib.util
import shlex
import sys


def install_line(*options: str) -> str:
    """Return the command that compiles the binding anew; `options` are CMake's, such as `-DGGML_CUDA=on`."""
    cmake = shlex.quote(" ".join(("-DLLAVA_BUILD=OFF", *options)))
    python = shlex.quote(sys.executable)
    pip = f"{python} -m pip install" if importlib.util.find_spec("pip") else f"uv pip install --python {python}"
    return f"CMAKE_ARGS={cmake} {pip} --force-reinstall --no-cache-dir llama-cpp-python"
