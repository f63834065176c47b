"""`qwenchat serve` serves and lends only where the user may, and says so otherwise."""

import socket

import pytest

from tests.fakes.commands import qwenchat


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ((), 3, "No model is chosen"),
        (("-m", "nothing"), 3, "No model named"),
        (("--cache",), 2, "--cache"),
        (("-m", "guide", "--host", "no such host"), 2, "not an address of this computer"),
        (("-m", "guide", "--host", "0.0.0.0"), 2, "--api-key-env"),
        (("-m", "guide", "--api-key-env", "NO_SUCH_VARIABLE"), 2, "NO_SUCH_VARIABLE is not set"),
        (("--rpc", "-m", "guide"), 2, "can't be combined"),
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


def test_a_port_in_use_is_said_before_a_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = qwenchat("serve", "-m", "guide", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 4 and len(done.stderr.splitlines()) == 2 and "--port" in done.stderr
