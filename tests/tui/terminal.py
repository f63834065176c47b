"""The program in a real terminal: a pseudo-terminal with an emulator behind it, and keys as a terminal sends them."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyte
from pyte.screens import Char

from tests.fakes.commands import ROOT, environment

PASTE, PASTED = "\x1b[200~", "\x1b[201~"
CTRL_Q, ESCAPE, ENTER = "\x11", "\x1b", "\r"


class Terminal:
    """A program that runs in an emulated terminal."""

    def __init__(self, words: list[str], columns: int, rows: int, env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self._gone = False
        self.raw = bytearray()
        """All that was read, as it came."""
        self._emulated = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._emulated)
        self._resize(columns, rows)
        self.process = subprocess.Popen(
            words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            process_group=0,
            cwd=ROOT,  # as a shell does it
        )
        os.close(slave)

    @property
    def lines(self) -> list[str]:
        """What the terminal shows, also when only a part of what the program draws has been read."""
        return ["".join(cell.data for cell in row).rstrip() for row in self.cells]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def cells(self) -> list[list[Char]]:
        """What the terminal shows, with its colours; the second cell of a wide character is empty."""
        screen = self._emulated
        return [[screen.buffer[row][column] for column in range(screen.columns)] for row in range(screen.lines)]

    @property
    def cursor(self) -> tuple[int, int]:
        """Where the terminal's cursor is: column and row, counted from 0."""
        return self._emulated.cursor.x, self._emulated.cursor.y

    @property
    def switched_on(self) -> set[int]:
        """The modes that what was read leaves switched on, by their DEC numbers."""
        last = dict(re.findall(rb"\x1b\[\?(\d+)([hl])", self.raw))
        return {int(mode) for mode, switch in last.items() if switch == b"h"}

    @property
    def reads_lines(self) -> bool:
        """Whether the terminal echoes and gives whole lines, as a shell finds it."""
        flags: int = termios.tcgetattr(self._master)[3]
        return bool(flags & termios.ECHO and flags & termios.ICANON)

    def wipe(self) -> None:
        """Show nothing, as when another program had the screen."""
        self._emulated.reset()

    def send(self, keys: str | bytes) -> None:
        os.write(self._master, keys.encode() if isinstance(keys, str) else keys)

    def paste(self, text: str) -> None:
        self.send(PASTE + text + PASTED)

    def resize(self, columns: int, rows: int) -> None:
        self._emulated.resize(rows, columns)
        self._resize(columns, rows)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def until(self, state: Callable[[str], bool], seconds: float = 30) -> str:
        """Read until the screen is in a state; fail with what it shows when that does not come."""
        end = time.monotonic() + seconds
        while not state(self.text):
            assert time.monotonic() < end, f"the state did not come; the terminal shows:\n{self.text}"
            self._read(0.1)
        return self.text

    def shows(self, words: str, seconds: float = 30) -> str:
        return self.until(lambda text: words in text, seconds)

    def drain(self, seconds: float) -> None:
        """Read and throw away for so long, which costs next to nothing; what is shown is unknown afterwards."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                os.read(self._master, 1 << 16)

    def writes(self, wanted: str, seconds: float = 30) -> None:
        """Read until the program has written this, which costs little; what is shown is unknown afterwards."""
        end, data = time.monotonic() + seconds, b""
        while wanted.encode() not in data:
            assert time.monotonic() < end, f"{wanted!r} was not written"
            if select.select([self._master], [], [], 0.1)[0]:
                data = data[-100:] + os.read(self._master, 1 << 16)

    def end(self, seconds: float = 30) -> int:
        """Read until the program has ended and return its exit code."""
        limit = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < limit, f"it did not end; the terminal shows:\n{self.text}"
            self._read(0.1)
        while self._read(0.1):
            pass
        return self.process.returncode

    def hang_up(self) -> None:
        """Be gone, as a window that is closed: the program has no controlling terminal, so no signal tells it."""
        self._gone = True
        os.close(self._master)

    def close(self) -> None:
        if self.process.poll() is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            self.process.wait()
            psutil.wait_procs(children, 10)
        if not self._gone:
            os.close(self._master)

    def _read(self, seconds: float) -> bool:
        """Take what comes within so long; False where nothing did."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if ready:
            try:
                came = os.read(self._master, 1 << 16)
                self.raw += came
                self._stream.feed(came)
                return True
            except OSError:  # the program has closed its side
                time.sleep(0.01)
        return False

    def _resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def qwenchat_in_terminal(
    *words: str | Path, columns: int = 100, rows: int = 30, before: str = "", by: Sequence[str] = (), **more: str
) -> Iterator[Terminal]:
    """Run the program with the home of the test.

    `before` is Python that its process runs first, `by` a command that runs it.
    """
    env = environment()
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        env.pop(name, None)
    env |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", **more}
    start = ["-c", f"{before}\nfrom qwenchat.__main__ import main\nmain()"] if before else ["-m", "qwenchat"]
    terminal = Terminal([*by, sys.executable, *start, *map(str, words)], columns, rows, env)
    try:
        yield terminal
    finally:
        terminal.close()
