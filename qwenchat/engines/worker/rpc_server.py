"""Lends this machine's devices to another one by llama.cpp's RPC, in a process of its own.

It is started as `python -m qwenchat.engines.worker.rpc_server HOST PORT THREADS CACHE` by `engines.local.lending`, and
ends with it. llama.cpp serves the connections, one after another, and writes a line to standard output for each. The
protocol has no authentication, so whoever reaches the port can use this machine, and may crash this process.
"""

import os
import signal
import sys
import threading

from qwenchat.engines.worker.c_api import bindings, disable_core_dumps
from qwenchat.engines.worker.ggml import Ggml


def _end_with_parent() -> None:
    while os.read(0, 1024):  # not through sys.stdin, whose lock a thread must not hold when the process ends
        pass
    os._exit(0)


def main() -> None:
    """Serve until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    disable_core_dumps()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    host, port, threads, cache = sys.argv[1:]
    Ggml.beside(bindings()).lend(f"{host}:{port}", threads=int(threads), cache=cache)
    sys.exit(1)  # it could not serve


if __name__ == "__main__":
    main()
