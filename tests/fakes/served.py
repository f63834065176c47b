"""`qwenchat serve` in a process of its own, for tests with real clients."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.fakes.commands import environment

_SERVED = re.compile(r"is served at (http://\S+)/v1\.")


@dataclass
class ServeProcess:
    """A server that runs."""

    url: str
    process: "subprocess.Popen[str]"

    @property
    def address(self) -> tuple[str, int]:
        host, _colon, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    @property
    def worker(self) -> psutil.Process:
        """The process that computes."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if "qwenchat.engines.worker.main" in child.cmdline())

    def post(self, path: str, body: object) -> Any:
        """Send a request and return the JSON of the response, whatever its status is."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as refused:
            with refused:
                return json.load(refused)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=60) as response:
            text: str = response.read().decode()
            return text

    def number(self, name: str) -> float:
        """Return a number of `/metrics`."""
        found = re.search(rf"^qwenchat_{name} (.*)$", self.get("/metrics"), re.MULTILINE)
        assert found
        return float(found[1])

    def wait_for(self, name: str, value: float) -> None:
        """Wait until a number of `/metrics` has a value."""
        while self.number(name) != value:
            pass


@contextmanager
def serve(model: Path, *options: str, **environ: str) -> Iterator[ServeProcess]:
    """Serve a model on a free port; at the end, Ctrl-C has to end the server and its worker."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "qwenchat", "serve", "-m", str(model), "--port", str(port), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(**environ))
    assert process.stderr
    try:
        line = process.stderr.readline()
        served = _SERVED.search(line)
        assert served, line + process.stderr.read()
        yield ServeProcess(served[1], process)
        children = [] if process.poll() is not None else psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
        psutil.wait_procs(children, timeout=10)
        assert not any(child.is_running() for child in children)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
