"""Runs one MCP server, so that it ends with qwenchat, however qwenchat ends. It is a program of its own.

qwenchat starts it as `guard.py LIFELINE SECONDS COMMAND [ARGUMENT]...`, where LIFELINE is the descriptor of a socket
whose other end qwenchat holds. The server inherits the three standard streams, and everything that it starts is in the
process group of the guard. When qwenchat closes the lifeline or dies, the server has SECONDS to end, as its standard
input has ended, too; then the group is asked to end and, as many seconds later, killed. What leaves the group on
purpose is not caught.

It imports the standard library alone and nothing of qwenchat, because it runs in the environment of the server.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress


def main() -> None:
    """Run the server and report its exit code through the lifeline."""
    lifeline = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: None)  # it is sent to the whole group; the server's handler is its own
    try:
        server = subprocess.Popen(sys.argv[3:])
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    for descriptor in (0, 1):  # the server alone holds them, so that they end with it
        os.close(descriptor)
    threading.Thread(target=_end_group_after, args=(lifeline, float(sys.argv[2])), daemon=True).start()
    code = server.wait()
    with suppress(OSError):
        lifeline.send(str(code).encode())
    os.killpg(0, signal.SIGKILL)


def _end_group_after(lifeline: socket.socket, seconds: float) -> None:
    """Wait until the lifeline ends, then end the group."""
    lifeline.recv(1)
    time.sleep(seconds)
    os.killpg(0, signal.SIGTERM)
    time.sleep(seconds)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
