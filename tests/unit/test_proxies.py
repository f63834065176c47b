"""Which proxy a URL goes through, as curl decides it."""

import pytest

from qwenchat.errors import WrongUse
from qwenchat.net.proxies import Proxy, proxy_for

HUB = "https://hub.example.com:8443/x"
SOCKS = "socks5://127.0.0.1:7897"


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({}, ""),
        ({"all_proxy": SOCKS}, "all_proxy"),
        ({"ALL_PROXY": SOCKS}, "ALL_PROXY"),
        ({"all_proxy": SOCKS, "https_proxy": "http://p:1"}, "https_proxy"),
        ({"all_proxy": SOCKS, "HTTPS_PROXY": "p:1"}, "HTTPS_PROXY"),
        ({"https_proxy": "p:1", "HTTPS_PROXY": "nonsense://"}, "https_proxy"),
        ({"https_proxy": "", "HTTPS_PROXY": "p:1"}, "HTTPS_PROXY"),
        ({"http_proxy": "p:1"}, ""),
    ],
)
def test_which_variable_counts(environ: dict[str, str], variable: str) -> None:
    found = proxy_for(HUB, environ)
    assert (found.variable if found else "") == variable


def test_a_header_is_not_taken_for_a_proxy() -> None:
    assert proxy_for("http://h/", {"HTTP_PROXY": "p:1"})
    assert not proxy_for("http://h/", {"HTTP_PROXY": "p:1", "REQUEST_METHOD": "GET"})


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("127.0.0.1:7890", Proxy("all_proxy", False, "127.0.0.1", 7890)),
        ("http://proxy/", Proxy("all_proxy", False, "proxy", 80)),
        ("HTTP://[::1]:8080", Proxy("all_proxy", False, "::1", 8080)),
        ("socks5://127.0.0.1", Proxy("all_proxy", True, "127.0.0.1", 1080)),
        ("socks5h://h:1", Proxy("all_proxy", True, "h", 1)),
        ("socks://h:1/", Proxy("all_proxy", True, "h", 1)),
        (" socks5://me:p%40ss@h:1\n", Proxy("all_proxy", True, "h", 1, ("me", "p@ss"))),
    ],
)
def test_what_a_proxy_is(value: str, proxy: Proxy) -> None:
    assert proxy_for(HUB, {"all_proxy": value}) == proxy
    assert "p@ss" not in repr(proxy)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("socks4://me:secret@h:1", "kind socks4"),
        ("sock5://me:secret@h:1", "kind sock5"),
        ("https://me:secret@h:1", "kind https"),
        ("http://me:secret@", "not an address"),
        ("http://me:secret@h:99999", "not an address"),
        ("socks5://me:secret@h:secret", "not an address"),
        ("socks5://[secret", "not an address"),
        ("://secret", "kind"),
        ("\x1b[31m://secret", "kind"),
        ("socks5://h:0", "not an address"),
    ],
)
def test_what_is_no_proxy_is_told_without_its_password(value: str, reason: str) -> None:
    with pytest.raises(WrongUse) as caught:
        proxy_for(HUB, {"ALL_PROXY": value})
    error = caught.value
    assert reason in error.message and "ALL_PROXY" in error.message
    assert "secret" not in error.message + error.hint and "\x1b" not in error.message


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", HUB, True),
        ("hub.example.com", HUB, True),
        ("example.com", HUB, True),
        (".example.com", HUB, True),
        ("*.example.com", HUB, True),
        ("EXAMPLE.com.", HUB, True),
        ("other, example.com", HUB, True),
        ("other example.com", HUB, True),
        ("ample.com", HUB, False),
        ("com.", HUB, True),
        ("hub.example.com:8443", HUB, True),
        ("hub.example.com:443", HUB, False),
        ("hub.example.com:443", "https://hub.example.com/", True),
        ("hub.example.com:80", "http://hub.example.com/", True),
        ("127.0.0.1", "http://127.0.0.1:8080/", True),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/", True),
        ("127.0.0.1:8081", "http://127.0.0.1:8080/", False),
        ("127.0.0.0/8", "http://127.1.2.3/", True),
        ("127.0.0.1/8", "http://127.1.2.3/", True),
        ("10.0.0.0/8", "http://127.1.2.3/", False),
        ("7.0.0.1", "http://127.0.0.1/", False),
        ("::1", "http://[::1]:8080/", True),
        ("[::1]", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("fe80::/10", "http://[fe80::1]/", True),
        (",, ,", HUB, False),
        ("/", HUB, False),
        ("[", HUB, False),
    ],
)
def test_who_is_reached_directly(no_proxy: str, url: str, *, direct: bool) -> None:
    proxies = {"http_proxy": "p:1", "https_proxy": "p:1"}
    assert (proxy_for(url, proxies | {"no_proxy": no_proxy}) is None) == direct
    assert (proxy_for(url, proxies | {"NO_PROXY": no_proxy}) is None) == direct
    assert (proxy_for(url, proxies | {"NO_PROXY": no_proxy, "no_proxy": "nobody"}) is None) is False
