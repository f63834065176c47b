"""`qwenchat web` says what is wrong before it serves, and to whom the page is open."""

import socket
import subprocess
import sys

import pytest

from tests.fakes.commands import environment, qwenchat
from tests.fakes.web_tabs import serving


@pytest.mark.parametrize("host", ["no such host", "http://127.0.0.1"])
def test_an_address_that_is_none_is_refused(host: str) -> None:
    done = qwenchat("web", "--host", host)
    assert (done.returncode, done.stdout) == (2, "") and "not an address of this computer" in done.stderr


def test_offline_nobody_else_may_come() -> None:
    done = qwenchat("web", "--host", "0.0.0.0", QWENCHAT_HUB_OFFLINE="true")
    assert done.returncode == 4 and "offline" in done.stderr


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = qwenchat("web", "--port", str(taken.getsockname()[1]))
    assert (done.returncode, done.stdout) == (4, "") and "in use" in done.stderr


@pytest.mark.parametrize("missing", ["textual_serve", "aiohttp"])
def test_without_the_extra_it_says_how_to_install_it(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from qwenchat.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "web"], capture_output=True, text=True, env=environment(), check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'qwenchat[web]'" in done.stderr


def test_it_prints_the_address_and_ends_with_ctrl_c() -> None:
    with serving() as web:
        assert web.page.startswith("http://127.0.0.1:") and len(web.page) > 50
        assert web.interrupt() == 0
        assert web.process.stderr
        assert "Warning" not in web.process.stderr.read()


def test_an_open_network_is_warned_of() -> None:
    with serving("--host", "0.0.0.0") as web:
        assert socket.gethostname() in web.page
        web.interrupt()
        assert web.process.stderr
        assert "nothing is encrypted" in web.process.stderr.read()
