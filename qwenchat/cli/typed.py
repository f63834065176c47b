"""What the user types while a command runs: read by a thread, so that Ctrl-C still stops the command."""

import asyncio
import os
import sys
import threading
from contextlib import suppress

from qwenchat.text.safe import encodable


async def typed_line() -> str:
    """Return the next line that is typed, empty at the end of the input."""
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[bytes] = loop.create_future()

    def finish(data: bytes) -> None:
        if not typed.done():
            typed.set_result(data)

    def read() -> None:
        try:
            data = os.read(sys.stdin.fileno(), 1 << 16)
        except OSError:
            data = b""
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(finish, data)

    threading.Thread(target=read, daemon=True).start()
    return encodable((await typed).decode(sys.stdin.encoding or "utf-8", "replace"))


def forget_typed() -> None:
    """Forget what was typed before there was a question: it is no answer."""
    try:
        import termios  # noqa: PLC0415 - Windows has none
    except ImportError:
        return
    with suppress(termios.error):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
