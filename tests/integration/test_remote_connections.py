"""How a server of models is connected to: refused connections, names, certificates and proxies."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenchat.engines.remote.http import RemoteHttp
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import QwenchatError, RemoteUnreachable, WrongUse
from tests.fakes.pulling import without_proxies
from tests.fakes.standin_proxy import proxy, socks_proxy
from tests.fakes.standin_server import json_reply, standin_server

DATA = Path(__file__).parents[1] / "data"
FAR = "far.example"
"""A name that only proxies can resolve."""


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with without_proxies(monkeypatch):
        yield


async def no_wait(seconds: float) -> None:
    """Do not wait."""


async def got(url: str, environ: dict[str, str] | None = None, *, offline: bool = False) -> object:
    """Return what a server says."""
    server = RemoteServer(name="gpu", url=url)
    http = RemoteHttp(server, environ=environ or {}, offline=offline, sleep=no_wait)
    try:
        return await http.get(f"{url}/v1/models")
    finally:
        await http.close()


async def error_of(url: str, environ: dict[str, str] | None = None, *, offline: bool = False) -> QwenchatError:
    with pytest.raises(QwenchatError) as caught:
        await got(url, environ, offline=offline)
    assert caught.value.hint
    return caught.value


def tls(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / certificate)
    return context


async def test_nobody_listens() -> None:
    async with standin_server() as server:
        url = server.url
    error = await error_of(url)
    assert type(error) is RemoteUnreachable and "refuses connections" in error.message


async def test_a_name_that_does_not_exist() -> None:
    error = await error_of("http://name.invalid:8080")
    assert type(error) is RemoteUnreachable
    assert error.message == "The name name.invalid:8080 can't be resolved."


@pytest.mark.parametrize(
    ("certificate", "trusted", "words"),
    [
        ("loopback.pem", "", "who signed its certificate"),
        ("far.pem", "far.pem", "for another name"),
        ("expired.pem", "expired.pem", "has expired"),
        ("loopback.pem", "missing.pem", "SSL_CERT_FILE"),
    ],
)
async def test_certificates_are_checked(
    monkeypatch: pytest.MonkeyPatch, certificate: str, trusted: str, words: str
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(DATA / trusted))
    async with standin_server(tls=tls(certificate)) as server:
        error = await error_of(server.url)
    assert type(error) is RemoteUnreachable
    assert "identity" in error.message and words in error.message + error.hint
    assert server.asked == []


async def test_a_certificate_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(DATA / "loopback.pem"))
    async with standin_server(tls=tls("loopback.pem")) as server:
        server.reply("/v1/models", json_reply({"data": []}))
        assert await got(server.url) == {"data": []}


async def test_tls_and_its_absence_mixed_up() -> None:
    async with standin_server() as plain:
        error = await error_of(plain.url.replace("http:", "https:"))
        assert "No encrypted connection" in error.message
    async with standin_server(tls=tls("loopback.pem")) as encrypted:
        error = await error_of(encrypted.url.replace("https:", "http:"))
        assert "does not speak HTTP" in error.message or "broke" in error.message


async def test_a_server_here_is_reached_without_the_proxy() -> None:
    async with standin_server() as server:
        server.reply("/v1/models", json_reply({}))
        assert await got(server.url, {"all_proxy": "http://127.0.0.1:9", "http_proxy": "nonsense://"}) == {}
        assert await got(server.url.replace("127.0.0.1", "localhost"), {"all_proxy": "http://127.0.0.1:9"}) == {}


@pytest.mark.parametrize("login", ["", "me:p%40ss@"])
@pytest.mark.parametrize("encrypted", [False, True])
async def test_through_an_http_proxy(monkeypatch: pytest.MonkeyPatch, login: str, *, encrypted: bool) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(DATA / "far.pem"))
    async with standin_server(tls=tls("far.pem") if encrypted else None, host=FAR) as server:
        server.reply("/v1/models", json_reply({"data": []}))
        with proxy() as through:
            through.names[FAR] = "127.0.0.1"
            environ = {"all_proxy": f"http://{login}127.0.0.1:{through.server_address[1]}"}
            assert await got(server.url, environ) == {"data": []}
        assert through.seen[0][0] == ("CONNECT" if encrypted else "GET")
        assert through.seen[0][2] == ("Basic bWU6cEBzcw==" if login else "")


@pytest.mark.parametrize("encrypted", [False, True])
async def test_through_a_socks_proxy(monkeypatch: pytest.MonkeyPatch, *, encrypted: bool) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(DATA / "far.pem"))
    async with standin_server(tls=tls("far.pem") if encrypted else None, host=FAR) as server:
        server.reply("/v1/models", json_reply({"data": []}))
        with socks_proxy("me:p@ss") as through:
            through.names[FAR] = "127.0.0.1"
            environ = {"ALL_PROXY": f"socks5://me:p%40ss@127.0.0.1:{through.port}"}
            assert await got(server.url, environ) == {"data": []}
        assert [seen[0] for seen in through.seen] == [FAR]
        assert (await error_of(server.url, {"NO_PROXY": FAR, **environ})).message.startswith("The name far.example")


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_proxy_that_refuses(*, encrypted: bool) -> None:
    url = f"{'https' if encrypted else 'http'}://{FAR}"
    with proxy(refuses=True) as through:
        at = f"http://127.0.0.1:{through.server_address[1]}"
        error = await error_of(url, {"https_proxy": at, "HTTP_PROXY": at})
    assert type(error) is RemoteUnreachable
    assert error.message == "The proxy for far.example refuses the connection or can't be reached."
    assert ("https_proxy" if encrypted else "HTTP_PROXY") in error.hint
    assert len(through.seen) == 1  # a wrong password that is sent again and again locks accounts


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_proxy_that_is_not_there(kind: str) -> None:
    with socks_proxy() as gone:
        port = gone.port
    error = await error_of(f"http://{FAR}", {"all_proxy": f"{kind}://me:secret@127.0.0.1:{port}"})
    assert type(error) is RemoteUnreachable and "The proxy for far.example" in error.message
    assert "all_proxy" in error.hint and "secret" not in error.message + error.hint


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05", b"\x05\xff"])
async def test_a_socks_proxy_that_is_none(garbage: bytes) -> None:
    with socks_proxy() as through:
        through.garbage = garbage
        error = await error_of(f"http://{FAR}", {"all_proxy": f"socks5://127.0.0.1:{through.port}"})
    assert type(error) is RemoteUnreachable and "The proxy for far.example" in error.message


async def test_a_proxy_setting_that_is_wrong() -> None:
    error = await error_of(f"http://{FAR}", {"http_proxy": "gopher://me:secret@h"})
    assert type(error) is WrongUse and "The proxy in http_proxy can't be used" in error.message
    assert "secret" not in error.message


async def test_offline_means_that_only_this_machine_is_asked() -> None:
    async with standin_server() as server:
        server.reply("/v1/models", json_reply({}))
        assert await got(server.url, offline=True) == {}
    with socks_proxy() as through:
        error = await error_of(f"http://{FAR}", {"all_proxy": f"socks5://127.0.0.1:{through.port}"}, offline=True)
        assert through.seen == []
    assert type(error) is RemoteUnreachable and "stay offline" in error.message
