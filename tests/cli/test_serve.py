"""`qwenchat serve` lends this machine only where the user may, and says so otherwise."""

import socket

import pytest

from tests.fakes.commands import qwenchat


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ((), 2, "nothing to serve"),
        (("--rpc", "--host", "::1"), 2, "not an IPv4 address"),
        (("--rpc", "--host", "studio"), 2, "not an IPv4 address"),
        (("--rpc", "--port", "0"), 2, "--port"),
    ],
)
def test_what_can_t_be_served(words: tuple[str, ...], code: int, why: str) -> None:
    done = qwenchat("serve", *words)
    assert (done.returncode, done.stdout) == (code, "") and why in done.stderr


def test_offline_nobody_else_may_come() -> None:
    done = qwenchat("serve", "--rpc", "--host", "0.0.0.0", QWENCHAT_HUB_OFFLINE="true")
    assert done.returncode == 4 and "offline" in done.stderr


def test_a_port_in_use_or_a_build_without_rpc() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = qwenchat("serve", "--rpc", "--port", str(taken.getsockname()[1]))
    assert (done.returncode, "already in use" in done.stderr, "-DGGML_RPC=ON" in done.stderr) in (
        (4, True, False),
        (5, False, True),
    )
