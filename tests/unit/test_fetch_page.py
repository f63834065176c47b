"""Fetching a page: which addresses are reached, by whatever name, and what becomes of what a server sends."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from qwenchat.tools.builtin.fetch_page import Address, FetchPage, is_public
from qwenchat.tools.tool import ToolError
from tests.fakes.standin_server import Reply, StandinServer, Then, page_reply, standin_server

LOOPBACK = ip_address("127.0.0.1")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def server() -> AsyncIterator[StandinServer]:
    async with standin_server(host="page.test") as running:
        yield running


class Names:
    """A name service that gives each host the next of its answers."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers = {host.replace("_", "."): list(map(ip_address, found)) for host, found in answers.items()}
        self.asked: list[str] = []

    async def look_up(self, host: str, _port: int) -> list[Address]:
        self.asked.append(host)
        if host not in self.answers:
            raise socket.gaierror("no such name")
        return self.answers[host][:1] if len(self.answers[host]) == 1 else [self.answers[host].pop(0)]


def tool(**answers: list[str]) -> FetchPage:
    """Return a tool for which this machine's loopback is the public internet."""
    names = Names(**({"page_test": ["127.0.0.1"]} | answers))
    return FetchPage(look_up=names.look_up, is_allowed=lambda address: address == LOOPBACK)


async def refused(fetch: FetchPage, url: str) -> str:
    with pytest.raises(ToolError) as error:
        await fetch.run({"url": url})
    return error.value.reason


async def test_a_page_is_fetched_from_the_address_that_was_checked(server: StandinServer) -> None:
    server.reply("/a", page_reply("<title>T</title><p>Hello <b>you</b>"))
    assert await tool().run({"url": f"{server.url}/a?b=c d#e"}) == "T\n\nHello you"
    (asked,) = server.asked
    assert asked.headers["host"] == f"page.test:{urlsplit(server.url).port}"
    assert asked.path == "/a?b=c%20d" and "cookie" not in asked.headers


@pytest.mark.parametrize(
    "url",
    [
        "ftp://page.test",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "page.test",
        "http://",
        "",
        "https://u:p@page.test",
        "http://[::1",
    ],
)
async def test_what_is_no_url_of_a_page_is_refused(url: str) -> None:
    assert "URL" in await refused(tool(), url)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "0.1.2.3"),
        *("224.0.0.1", "255.255.255.255", "198.18.0.1", "240.0.0.1", "192.0.2.1", "192.88.99.1"),
        *("::1", "::", "fe80::1", "fc00::1", "ff02::1", "fec0::1", "2001:db8::1", "::127.0.0.1", "2001:0:a00:1::"),
        *(
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
        ),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://[::ffff:7f00:1]/",
    ],
)
async def test_this_machine_is_not_reached_by_any_spelling(url: str) -> None:
    reason = await refused(FetchPage(), url)
    assert "not on the public internet" in reason or "no host named" in reason


async def test_one_private_address_among_several_is_enough_to_refuse() -> None:
    async def both(_host: str, _port: int) -> list[Address]:
        return [ip_address("1.1.1.1"), ip_address("10.0.0.1")]

    assert "not on the public internet" in await refused(FetchPage(look_up=both), "http://page.test")


async def test_a_name_that_means_another_address_a_moment_later_is_asked_for_once(server: StandinServer) -> None:
    server.reply("/", page_reply("<p>first"))
    names = Names(page_test=["127.0.0.1", "10.0.0.1"])
    fetch = FetchPage(look_up=names.look_up, is_allowed=lambda address: address == LOOPBACK)
    assert await fetch.run({"url": server.url}) == "first"
    assert names.asked == ["page.test"]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        *(("http://private.test/", "not on the public internet"), ("//10.0.0.1/", "no host named")),
        *(
            ("file:///etc/passwd", "not the URL"),
            ("http://u:p@page.test/", "password"),
            ("/again", "more than 5 times"),
        ),
    ],
)
async def test_redirects_are_checked(location: str, words: str, server: StandinServer) -> None:
    for path in ("/", "/again"):
        server.reply(path, Reply(status=302, headers={"Location": location}, framing="length"))
    assert words in await refused(tool(private_test=["10.0.0.1"]), server.url)


async def test_a_redirect_is_followed(server: StandinServer) -> None:
    server.reply("/", Reply(status=301, headers={"Location": "/there"}, framing="length"))
    server.reply("/there", page_reply("<p>there"))
    assert await tool().run({"url": server.url}) == "there"


async def test_a_page_is_cut_at_a_megabyte(server: StandinServer) -> None:
    def endless() -> Iterable[bytes]:
        while True:
            yield b"<p>more" * 10_000

    server.reply("/", Reply(content_type="text/html", pieces=endless()))
    text = await tool().run({"url": server.url})
    assert (
        text.startswith("more\n\nmore") and text.endswith("[The rest of the page is left out.]") and len(text) < 21_000
    )


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(content_type="application/pdf", pieces=(b"%PDF",)), "not text, but application/pdf"),
        (Reply(content_type="image/png\t\x1b[31m", pieces=(b"x",)), "not text, but image/png [31m."),
        (Reply(content_type="text/html", headers={"Content-Encoding": "gzip"}, pieces=(b"x",)), "compressed"),
        (page_reply(status=404), "the status 404"),
        (page_reply(status=204), "the status 204"),
        (Reply(content_type="text/html", pieces=(b"<p>half",), framing="length", then=Then.CUT), "can't be read"),
        (Reply(without_head=True, pieces=(b"\x00\x01nonsense\r\n\r\n",), then=Then.CUT), "can't be read"),
    ],
)
async def test_what_a_server_does_wrong_is_reported(reply: Reply, words: str, server: StandinServer) -> None:
    server.reply("/", reply)
    assert words in await refused(tool(), server.url)


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/html; charset=gbk", "<p>你好".encode("gbk"), "你好"),
        ("text/html", '<meta charset="gb2312"><p>你好'.encode("gbk"), "你好"),
        ("text/html; charset=nonsense", "<p>你好".encode(), "你好"),
        ("text/html; charset=hex", b"<p>abcd", "abcd"),
        ("text/plain", b"a <b> c", "a <b> c"),
        ("application/json", b'{"a": 1}', '{"a": 1}'),
        ("application/atom+xml; charset=utf-8", b"<a/>", "<a/>"),
        ("", b"plain \x1b[31mtext", "plain [31mtext"),
        ("text/html", b"<script>1</script>", "[The page has no text.]"),
    ],
)
async def test_texts_of_every_kind(content_type: str, body: bytes, text: str, server: StandinServer) -> None:
    server.reply("/", Reply(content_type=content_type, pieces=(body,)))
    assert await tool().run({"url": server.url}) == text


async def test_a_fetch_that_is_cancelled_closes_its_connection(server: StandinServer) -> None:
    arrived = asyncio.Event()

    def stall(_asked: object) -> Reply:
        arrived.set()
        return Reply(content_type="text/html", pieces=(b"<p>",), then=Then.STALL)

    server.reply("/", stall)
    running = asyncio.create_task(tool().run({"url": server.url}))
    await arrived.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await server.asked[0].gone.wait()


async def test_nothing_is_fetched_past_a_proxy(monkeypatch: pytest.MonkeyPatch, server: StandinServer) -> None:
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    assert "all_proxy sets one" in await refused(tool(), server.url)
    assert not server.asked


async def test_certificates_are_checked_against_the_name_in_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(__file__).parents[1] / "data"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(data / "loopback.pem")
    async with standin_server(tls=context, host="localhost") as server:
        server.reply("/", page_reply("<p>safe"))
        fetch = tool(localhost=["127.0.0.1"], other_test=["127.0.0.1"])
        assert "can't be read" in await refused(fetch, server.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(data / "loopback.pem"))
        assert await fetch.run({"url": server.url}) == "safe"
        assert "can't be read" in await refused(fetch, server.url.replace("localhost", "other.test"))
