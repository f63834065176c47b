"""How a source is reached: certificates, proxies and redirects, and how each failure is reported to the user."""

import socket
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from qwenchat.errors import NetworkError
from qwenchat.models.download.progress import Retrying
from qwenchat.models.download.retry import SourceError, SourceFault
from qwenchat.models.sources.huggingface import HubSource
from qwenchat.models.sources.modelscope import ModelScopeSource
from qwenchat.models.sources.source import RemoteFile, Source
from qwenchat.models.sources.url import UrlSource
from tests.fakes.pulling import NAME, REPO, Puller, model_bytes, without_proxies
from tests.fakes.standin_hub import CERTIFICATE, COMMIT, StandIn, Trouble
from tests.fakes.standin_proxy import proxy, socks_proxy

CONTENT = model_bytes(200_000)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with without_proxies(monkeypatch):
        yield


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as hub:
        hub.put(REPO, NAME, CONTENT)
        yield hub


def hub(standin: StandIn) -> HubSource:
    return HubSource("hf", standin.endpoint)


def nothing_listens() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "kind", [lambda url: HubSource("hf", url), ModelScopeSource, lambda url: UrlSource(url + "/x.gguf")]
)
def test_no_one_there(tmp_path: Path, kind: type[ModelScopeSource]) -> None:
    with pytest.raises(NetworkError, match="refuses connections"):
        Puller(tmp_path, kind(nothing_listens()))()
    with pytest.raises(NetworkError, match=r"nowhere\.invalid can't be resolved"):
        Puller(tmp_path, kind("http://nowhere.invalid"))()


def test_a_self_signed_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StandIn(tls=True) as standin:
        standin.put(REPO, NAME, CONTENT)
        for source in (hub(standin), ModelScopeSource(standin.endpoint)):
            with pytest.raises(NetworkError, match=r"identity of .* can't be verified"):
                Puller(tmp_path, source)()
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        huggingface_hub.close_session()
        standin.troubles.append(Trouble(cut=100_000))
        assert Puller(tmp_path, hub(standin))().read_bytes() == CONTENT


@pytest.mark.parametrize("found", [None, b"no certificate"])
def test_certificates_that_can_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bytes | None
) -> None:
    certificates = tmp_path / "company.pem"
    if found:
        certificates.write_bytes(found)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    with StandIn(tls=True) as standin:
        standin.put(REPO, NAME, CONTENT)
        for source in (hub(standin), ModelScopeSource(standin.endpoint), UrlSource(f"{standin.cdn}/{REPO}/{NAME}")):
            huggingface_hub.close_session()
            puller = Puller(tmp_path, source)
            with pytest.raises(NetworkError, match="can't be verified: SSL_CERT_FILE") as caught:
                puller()
            assert "SSL_CERT_FILE" in caught.value.hint and not puller.seen(Retrying)
        with pytest.raises(SourceError) as asked:
            hub(standin).locate(REPO, "", NAME)
        assert asked.value.fault is SourceFault.TLS


def test_proxies(standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy() as open_proxy, proxy(refuses=True) as closed_proxy:
        monkeypatch.setenv("http_proxy", f"http://me:pass%20word@127.0.0.1:{open_proxy.server_port}")
        huggingface_hub.close_session()
        assert Puller.of(standin, tmp_path / "1")().read_bytes() == CONTENT
        assert {login for _method, _host, login in open_proxy.seen} == {"Basic bWU6cGFzcyB3b3Jk"}
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_proxy.server_port}")
        huggingface_hub.close_session()
        for source in (hub(standin), ModelScopeSource(standin.endpoint)):
            with pytest.raises(NetworkError, match="proxy"):
                Puller(tmp_path / "2", source)()
        monkeypatch.setenv("http_proxy", nothing_listens())
        huggingface_hub.close_session()
        for source in (hub(standin), ModelScopeSource(standin.endpoint)):
            with pytest.raises(NetworkError, match="proxy"):
                Puller(tmp_path / "2", source)()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        huggingface_hub.close_session()
        assert Puller.of(standin, tmp_path / "3")().read_bytes() == CONTENT


def test_a_tunnel_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with StandIn(tls=True) as standin, proxy() as open_proxy, proxy(refuses=True) as closed_proxy:
        standin.put(REPO, NAME, CONTENT)
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{open_proxy.server_port}")
        huggingface_hub.close_session()
        assert Puller.of(standin, tmp_path / "1")().read_bytes() == CONTENT
        assert {method for method, _host, _login in open_proxy.seen} == {"CONNECT"}
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed_proxy.server_port}")
        huggingface_hub.close_session()
        for source in (hub(standin), ModelScopeSource(standin.endpoint)):
            with pytest.raises(NetworkError, match="proxy"):
                Puller(tmp_path / "2", source)()


@pytest.mark.parametrize("kind", ["socks", "socks5", "socks5h"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_through_a_socks_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, tls: bool) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with StandIn(tls=tls) as standin, socks_proxy("me:p@ss") as server:
        standin.put(REPO, NAME, CONTENT)
        monkeypatch.setenv("all_proxy", f"{kind}://me:p%40ss@127.0.0.1:{server.port}")
        for source in (hub(standin), ModelScopeSource(standin.endpoint), UrlSource(f"{standin.cdn}/{REPO}/{NAME}")):
            server.seen.clear()
            assert Puller(tmp_path / source.name, source)().read_bytes() == CONTENT
            assert {login for _host, _port, login in server.seen} == {"me:p@ss"}


def test_a_socks_proxy_resolves_names(standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socks_proxy() as server:
        server.names["hub.invalid"] = "127.0.0.1"
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{server.port}")
        source = HubSource("hub", standin.endpoint.replace("127.0.0.1", "hub.invalid"))
        assert Puller(tmp_path, source)().read_bytes() == CONTENT
        assert "hub.invalid" in {host for host, _port, _login in server.seen}


def test_a_socks_proxy_beside_others(standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socks_proxy() as socks, proxy() as http:
        monkeypatch.setenv("all_proxy", f"socks5://127.0.0.1:{socks.port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{http.server_port}")
        assert Puller.of(standin, tmp_path / "1")().read_bytes() == CONTENT
        assert http.seen and not socks.seen
        http.seen.clear()
        monkeypatch.setenv("no_proxy", "127.0.0.0/8")
        assert Puller.of(standin, tmp_path / "2")().read_bytes() == CONTENT
        assert not http.seen and not socks.seen


@pytest.mark.parametrize("why", ["nothing listens", "wrong password", "no password", "no SOCKS", "unreachable"])
def test_a_socks_proxy_that_does_not_serve(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    endpoint = nothing_listens() if why == "unreachable" else standin.endpoint
    with socks_proxy("me:right" if "password" in why else "") as server:
        server.garbage = b"HTTP/1.1 400 Bad Request\r\n\r\n" if why == "no SOCKS" else b""
        address = nothing_listens().removeprefix("http://") if why == "nothing listens" else f"127.0.0.1:{server.port}"
        login = "me:wrong@" if why == "wrong password" else ""
        monkeypatch.setenv("all_proxy", f"socks5://{login}{address}")
        for source in (HubSource("hub", endpoint), ModelScopeSource(endpoint)):
            with pytest.raises(NetworkError, match=r"proxy for 127\.0\.0\.1") as caught:
                Puller(tmp_path, source)()
            assert "all_proxy" in caught.value.hint and "wrong" not in caught.value.message + caught.value.hint


def test_redirects_without_end(standin: StandIn, tmp_path: Path) -> None:
    for source in (hub(standin), ModelScopeSource(standin.endpoint)):
        standin.answers.extend([(302, {"Location": standin.endpoint})] * 200)
        with pytest.raises(NetworkError, match="in circles"):
            Puller(tmp_path, source)()
        standin.answers.clear()


@pytest.mark.parametrize("where", ["file:///etc/passwd", "http://[", "http://host:99999/x", "ftp://host/x"])
def test_redirects_to_what_is_no_server(standin: StandIn, tmp_path: Path, where: str) -> None:
    standin.hashes = False
    for source in (hub(standin), ModelScopeSource(standin.endpoint)):
        source.files(REPO, "")
        standin.answers.append((302, {"Location": where, "X-Repo-Commit": COMMIT}))
        with pytest.raises(NetworkError, match=r"invalid address|like a hub"):
            Puller(tmp_path, Listed(source))()
    assert not list(tmp_path.rglob("*.gguf"))


class Listed:
    """A source that lists without asking, so that the first answer is that to the request for bytes."""

    name = "listed"

    def __init__(self, source: Source) -> None:
        self.files = lambda repo, revision: [RemoteFile(NAME, None, None)]
        self.locate = source.locate
