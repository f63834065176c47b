"""`qwenchat web` as a process, and tabs of it without a browser, which say and show what textual-serve's page does."""

import asyncio
import base64
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pyte

from tests.fakes.commands import ROOT, environment

_COPIED = re.compile(rb"\x1b\]52;c;([^\x07]*)\x07")


@dataclass(frozen=True, slots=True)
class Serving:
    """A running `qwenchat web`."""

    process: "subprocess.Popen[str]"
    page: str
    """The address that it printed."""

    @property
    def programs(self) -> list[psutil.Process]:
        """The programs of its tabs."""
        return psutil.Process(self.process.pid).children()

    @property
    def with_engines(self) -> list[psutil.Process]:
        """The programs of its tabs, and the workers of their engines."""
        return [each for program in self.programs for each in (program, *program.children())]

    def interrupt(self) -> int:
        """End it as Ctrl-C does, and return its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def serving(*words: str | Path, **more: str) -> Iterator[Serving]:
    """Run `qwenchat web` at a free port with the home of the test."""
    command = [sys.executable, "-m", "qwenchat", "web", "--port", "0", *map(str, words)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**more), cwd=ROOT
    )
    assert process.stdout and process.stderr
    try:
        page = process.stdout.readline().strip()
        assert page, process.stderr.read()
        yield Serving(process, page)
    finally:
        if process.poll() is None:
            programs = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            psutil.wait_procs(programs, 30)
        process.communicate()


class WebTab:
    """A tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, columns: int, rows: int) -> None:
        self._socket = socket
        self._emulated = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._emulated)
        self.written = b""
        """All that the program wrote."""
        self.pongs: list[str] = []

    @property
    def text(self) -> str:
        """What the terminal shows."""
        return "\n".join(line.rstrip() for line in self._emulated.display)

    @property
    def is_closed(self) -> bool:
        return self._socket.closed

    async def send(self, keys: str) -> None:
        await self._socket.send_json(["stdin", keys])

    async def say(self, message: str | bytes) -> None:
        """Send what the page never would."""
        await (self._socket.send_str(message) if isinstance(message, str) else self._socket.send_bytes(message))

    async def resize(self, columns: int, rows: int) -> None:
        self._emulated.resize(rows, columns)
        await self._socket.send_json(["resize", {"width": columns, "height": rows}])

    async def until(self, state: Callable[[str], bool], seconds: float = 30) -> str:
        """Read until the screen is in a state; fail with what it shows when that does not come."""
        try:
            async with asyncio.timeout(seconds):
                while not state(self.text):
                    assert await self._read(), f"closed; the terminal shows:\n{self.text}"
        except TimeoutError:
            raise AssertionError(f"the state did not come; the terminal shows:\n{self.text}") from None
        return self.text

    async def shows(self, words: str) -> str:
        return await self.until(lambda text: words in text)

    async def copied(self) -> str:
        """Read until the program has filled the clipboard, and return that text."""
        await self.until(lambda _text: _COPIED.search(self.written) is not None)
        return base64.b64decode(_COPIED.findall(self.written)[-1]).decode()

    async def ends(self) -> None:
        """Read until the server closes the tab."""
        async with asyncio.timeout(30):
            while await self._read():
                pass

    async def close(self) -> None:
        await self._socket.close()

    async def _read(self) -> bool:
        """Take the next message; False where there is none any more."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            self.written += message.data
            self._stream.feed(message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            kind, words = message.json()
            assert kind == "pong"
            self.pongs.append(words)
        else:
            return False
        return True


@asynccontextmanager
async def tab_of(page: str, columns: int = 100, rows: int = 30, **headers: str) -> AsyncIterator[WebTab]:
    """Open a tab, as the page at this address does."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{page}ws?width={columns}&height={rows}", headers=headers) as socket,
    ):
        yield WebTab(socket, columns, rows)
