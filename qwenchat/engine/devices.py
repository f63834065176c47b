"""Which accelerators llama.cpp sees, asked of a worker that lives for a moment; no model is loaded.

The parent never loads llama.cpp itself: a driver that crashes or hangs does so in the child.
"""

import importlib.util
import subprocess
import sys
import threading
from hashlib import blake2b
from pathlib import Path

from qwenchat.engine import protocol
from qwenchat.engine.process import child_environment
from qwenchat.engine.protocol import Hello

_PATIENCE_S = 30.0
"""For a driver to wake up; then there is no accelerator."""


def ask() -> Hello | None:
    """Return a worker's first words, None where it has none: the binding is broken, or a driver hangs."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "qwenchat.engine.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
        process_group=0,  # Ctrl-C in a terminal is for the parent
    ) as child:
        patience = threading.Timer(_PATIENCE_S, child.kill)
        patience.start()
        try:
            reply = protocol.read_reply(child.stdout) if child.stdout else None
        finally:
            patience.cancel()
            child.kill()  # it holds nothing
    return reply if isinstance(reply, Hello) else None


def build() -> str:
    """Return what tells the llama.cpp that is installed from any other, empty where there is none."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return ""
    digest = blake2b(digest_size=16)
    for library in sorted(Path(spec.origin).parent.glob("lib/*")):
        facts = library.stat()
        digest.update(f"{library.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()
