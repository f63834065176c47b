"""One tab of a browser: the program that it shows, in a pseudo-terminal of its own.

To the program a tab is a terminal like any other, so everything that it does for terminals holds here: when the tab is
gone, it saves everything and ends, and it does so too where this process is killed. Nothing that passes is logged.
"""

import asyncio
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

_BACKLOG = 4 << 20
"""Bytes that the program may be ahead of a slow browser before it has to wait; asyncio doubles it."""
_PIECE = 1 << 16
"""Bytes that are passed on at once."""
END_S = 60.0
"""Seconds in which a program saves everything and ends, once its terminal is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The size of a terminal, in cells."""

    columns: int
    rows: int

    @classmethod
    def of(cls, columns: int, rows: int) -> "Size":
        """Return a size that a browser claims, within what a program can draw."""
        return cls(columns=min(max(columns, 10), 1000), rows=min(max(rows, 4), 500))


class Tab:
    """A program in a pseudo-terminal."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        *,
        written: asyncio.StreamReader,
        keys: asyncio.StreamWriter,
        reading: asyncio.ReadTransport,
        writing: asyncio.WriteTransport,
    ) -> None:
        self._process, self._written, self._keys = process, written, keys
        self._reading, self._writing = reading, writing  # the terminal is gone when both are closed

    @classmethod
    async def open(cls, command: Sequence[str], environ: Mapping[str, str], size: Size) -> "Tab":
        """Start a program. Raises OSError where the system has no process or no terminal left."""
        terminal, programs_side = pty.openpty()
        try:
            _resize(terminal, size)
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=programs_side,
                stdout=programs_side,
                stderr=programs_side,
                env=dict(environ),
                start_new_session=True,  # Ctrl-C in the terminal of this process is not for it
            )
        except BaseException:
            os.close(terminal)
            raise
        finally:
            os.close(programs_side)
        loop = asyncio.get_running_loop()
        written = asyncio.StreamReader(_BACKLOG)
        reading, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(written), os.fdopen(os.dup(terminal), "rb", 0)
        )
        writing, flow = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(terminal, "wb", 0)
        )
        keys = asyncio.StreamWriter(writing, flow, None, loop)
        return cls(process, written=written, keys=keys, reading=reading, writing=writing)

    async def read(self) -> bytes:
        """Return what the program has written next; nothing once it has ended."""
        try:
            return await self._written.read(_PIECE)
        except OSError:  # how Linux reports that the program's side is closed
            return b""

    async def write(self, keys: bytes) -> None:
        """Send what was typed, as fast as the program takes it."""
        with suppress(OSError):  # it has ended, as `read` reports
            self._keys.write(keys)
            await self._keys.drain()

    def resize(self, size: Size) -> None:
        """Give the terminal another size."""
        if not self._keys.is_closing():
            _resize(self._keys.get_extra_info("pipe").fileno(), size)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGWINCH)

    async def close(self) -> None:
        """Take the terminal away and wait until the program has saved everything and ended."""
        self._reading.close()
        self._writing.abort()
        try:
            await asyncio.wait_for(self._process.wait(), END_S)
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


def _resize(terminal: int, size: Size) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))
