"""Who may open a tab, and what the server does when a browser or a program misbehaves; the programs are small ones."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest

from qwenchat.server.listening import listen, url_of
from qwenchat.web import server, tab
from qwenchat.web.server import Addresses, WebServer
from qwenchat.web.tab import Size
from tests.fakes.web_tabs import WebTab, tab_of

ECHO = "print('ready', flush=True)\nfor line in iter(input, 'end'): print(line.upper(), flush=True)"
"""A program that ends with its terminal, or when it is told to."""
SIZE = (
    "import os, signal\nsignal.signal(signal.SIGWINCH, lambda *_: print(*os.get_terminal_size(), flush=True))\n" + ECHO
)


@asynccontextmanager
async def serving(*command: str, code: str = ECHO) -> AsyncIterator[Addresses]:
    """Serve a command, or a program in Python, at a free port, to the end of all its tabs."""
    web = WebServer(command or (sys.executable, "-c", code), os.environ)
    with listen("127.0.0.1", 0) as listening:
        async with web.serving(listening, url_of(listening)) as addresses:
            yield addresses


@pytest.fixture
def earlier() -> list[psutil.Process]:
    """The processes that other tests have left running."""
    return psutil.Process().children()


def started_since(earlier: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if process not in earlier]


async def get(url: str, **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, await response.text()


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    async with serving() as addresses, aiohttp.ClientSession() as session:
        async with session.get(addresses.page) as response:
            page = await response.text()
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "://" not in page
        for name in ("page/page.js", "page/page.css", "terminal/js/textual.js", "terminal/css/xterm.css"):
            assert name in page
            assert (await get(addresses.page + name))[0] == 200


async def test_without_the_secret_there_is_nothing() -> None:
    async with serving() as addresses:
        base = addresses.page.removesuffix(urlsplit(addresses.page).path)
        for path in ("/", "/ws", "/page/page.js", "/guessed/", "/guessed/ws", "/once/guessed", "//", "/%00/ws"):
            code, words = await get(base + path)
            assert code == 404 and "`qwenchat web` has printed" in words, path


async def test_the_address_for_a_command_line_leads_to_the_page_once() -> None:
    async with serving() as addresses, aiohttp.ClientSession() as session:
        assert urlsplit(addresses.page).path not in addresses.once
        async with session.get(addresses.once) as response:
            assert str(response.url) == addresses.page
        assert (await get(addresses.once))[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.168.1.20", "[", ""])
async def test_a_name_that_a_stranger_gives_to_this_machine_is_refused(host: str) -> None:
    async with serving() as addresses:
        assert (await get(addresses.page, Host=host))[0] in (400, 403)
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with tab_of(addresses.page, Host=host):
                pass


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1:9000", "[::1]:9000"])
async def test_a_tunnel_has_another_port(host: str) -> None:
    async with serving() as addresses, tab_of(addresses.page, Host=host, Origin=f"http://{host}") as tab:
        await tab.shows("ready")


@pytest.mark.parametrize("page", ["http://evil.example", "http://127.0.0.1:1", "null", "", "file://"])
async def test_the_page_of_a_stranger_opens_no_tab(page: str) -> None:
    async with serving() as addresses:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with tab_of(addresses.page, Origin=page):
                pass
        assert refused.value.status == 403
        assert (await get(addresses.page, Origin=page))[0] == 403


@pytest.mark.parametrize(("claimed", "size"), [((0, 0), (10, 4)), ((80, 24), (80, 24)), ((10**9, 10**9), (1000, 500))])
def test_a_size_is_one_that_can_be_drawn(claimed: tuple[int, int], size: tuple[int, int]) -> None:
    assert Size.of(*claimed) == Size(columns=size[0], rows=size[1])


async def test_what_is_typed_reaches_the_program_and_its_output_the_page() -> None:
    async with serving() as addresses, tab_of(addresses.page) as tab:
        await tab.shows("ready")
        await tab.send("grün 你好\r")
        await tab.shows("GRÜN 你好")
        await tab.send("\ud800x\r")  # half of a character, which a page can send
        await tab.shows("?X")
        await tab.send("end\r")
        await tab.ends()


async def test_the_program_has_the_size_of_the_page() -> None:
    async with serving(code=SIZE) as addresses, tab_of(addresses.page) as tab:
        await tab.shows("ready")
        await tab.resize(123, 45)
        await tab.shows("123 45")
        await tab.say('["resize",{"width":1000000000,"height":-1}]')
        await tab.shows("1000 4")


@pytest.mark.parametrize("claimed", ["", "-1", "9" * 5000, "٣", "1e3"], ids=["none", "minus", "long", "arabic", "e"])
async def test_a_size_that_is_none_is_replaced(claimed: str) -> None:
    async with (
        serving() as addresses,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{addresses.page}ws", params={"width": claimed}) as socket,
    ):
        await WebTab(socket, 80, 24).shows("ready")


async def test_garbage_harms_nobody_and_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as addresses, tab_of(addresses.page) as tab:
        await tab.shows("ready")
        url = urlsplit(addresses.page)
        secret = url.path.encode()
        head = b"GET " + secret + b"ws HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        for sent in (
            b"\x16\x03\x01\x02\x00",
            b"GET\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            b"\0" * 10_000,
            b"GET " + secret + b"9" * 10_000 + b" HTTP/1.1\r\n\r\n",
            head + upgrade + b"Sec-WebSocket-Key: short\r\n\r\n",
            head + upgrade + b"Sec-WebSocket-Key: " + b"A" * 22 + b"==\r\n\r\n" + b"\xff" * 100,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", url.port)
            writer.write(sent)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 30)
            writer.close()
        await tab.send("still here\r")
        await tab.shows("STILL HERE")
    assert secret.decode() not in caplog.text and "Traceback" not in caplog.text


async def test_what_no_page_says_is_ignored() -> None:
    nonsense = ["", "{", "[]", "null", '"stdin"', '["stdin"]', '["stdin",1]', '["resize",{"width":"a"}]', "[" * 100_000]
    nonsense += ['["resize",[1,2]]', '["open",{}]', '["ping",[]]', '["resize",{"width":1e999,"height":1}]']
    async with serving() as addresses, tab_of(addresses.page) as tab:
        await tab.shows("ready")
        for message in nonsense:
            await tab.say(message)
        await tab.say(b"\x00\xff")
        await tab.say('["ping","17"]')
        await tab.send("still here\r")
        await tab.shows("STILL HERE")
        assert tab.pongs == ["17"]


async def test_a_paste_as_large_as_a_book_arrives() -> None:
    code = "import sys, tty\ntty.setraw(0)\nprint('ready', flush=True)\ncount = 0\n"
    code += (
        "while not (part := sys.stdin.buffer.read1()).endswith(b'end'): count += len(part)\nprint(count + len(part))"
    )
    async with serving(code=code) as addresses, tab_of(addresses.page) as tab:
        await tab.shows("ready")
        await tab.send("字" * 2_000_000 + "end")
        await tab.shows("6000003")


async def opens(page: str) -> bool:
    """Whether one more tab can be opened."""
    async with tab_of(page) as tab:
        return "ready" in await tab.until(lambda text: "ready" in text or "tabs are open" in text)


async def test_a_tab_too_many_says_so_and_a_closed_one_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_TABS", 2)
    async with serving() as addresses, tab_of(addresses.page) as first:
        await first.shows("ready")
        async with tab_of(addresses.page) as second:
            await second.shows("ready")
            async with tab_of(addresses.page) as third:
                await third.shows("2 tabs are open")
                await third.ends()
            await second.send("one\r")
            await second.shows("ONE")
        await first.send("two\r")
        await first.shows("TWO")
        async with asyncio.timeout(30):
            while not await opens(addresses.page):
                pass


async def test_a_program_that_can_t_start_says_why() -> None:
    async with serving("/no/such/program") as addresses, tab_of(addresses.page) as tab:
        await tab.shows("No such file")
        await tab.ends()


async def test_a_browser_that_takes_nothing_is_let_go_and_delays_nobody(
    monkeypatch: pytest.MonkeyPatch, earlier: list[psutil.Process]
) -> None:
    monkeypatch.setattr(server, "_SLOW_S", 0.5)
    code = "import sys\nprint('ready', flush=True)\nif input(): print('answered', flush=True)\nelse:\n"
    code += "    while True: print('x' * 1000)"
    async with serving(code=code) as addresses, tab_of(addresses.page) as asleep, tab_of(addresses.page) as awake:
        await asleep.shows("ready")
        await awake.shows("ready")
        programs = started_since(earlier)
        await asleep.send("\r")
        await awake.send("hello\r")
        await awake.shows("answered")
        gone, _alive = await asyncio.to_thread(psutil.wait_procs, programs, 30)
        assert len(gone) == 2


async def test_a_program_that_does_not_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, earlier: list[psutil.Process]
) -> None:
    monkeypatch.setattr(tab, "END_S", 0.5)
    code = "import time\nprint('ready', flush=True)\nwhile True: time.sleep(60)"
    async with serving(code=code) as addresses:
        async with tab_of(addresses.page) as open_tab:
            await open_tab.shows("ready")
            programs = started_since(earlier)
        gone, _alive = await asyncio.to_thread(psutil.wait_procs, programs, 30)
        assert len(gone) == 1


async def test_the_end_of_the_server_is_the_end_of_its_tabs(earlier: list[psutil.Process]) -> None:
    async with serving() as addresses:
        session = aiohttp.ClientSession()
        socket = await session.ws_connect(f"{addresses.page}ws")
        open_tab = WebTab(socket, 80, 24)
        await open_tab.shows("ready")
        programs = started_since(earlier)
    await open_tab.ends()
    await session.close()
    assert programs and not any(program.is_running() for program in programs)
