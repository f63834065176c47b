"""A real llama-server for tests: `python -m tests.fakes.llama_server MODEL` serves a model on a free port of loopback.

It is llama.cpp's own server, in a process of its own, so that it can be killed. The first line that it prints is its
URL. It ends when its standard input is closed.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.commands import environment


@dataclass
class LlamaServer:
    """A server that runs."""

    url: str
    process: "subprocess.Popen[str]"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def llama_server(
    model: Path, *, context: int = 4096, slots: int = 1, alias: str = "", key: str = "", port: int = 0, threads: int = 1
) -> Iterator[LlamaServer]:
    """Run a server; each slot has `context` tokens. With a `key`, requests need it.

    More than one of the `threads` would wait for each other where the cores are shared with other tests.
    """
    options = [
        f"--context={context}",
        f"--slots={slots}",
        f"--alias={alias}",
        f"--key={key}",
        f"--port={port}",
        f"--threads={threads}",
    ]
    command = [sys.executable, "-m", "tests.fakes.llama_server", str(model), *options]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )
    assert process.stdin and process.stdout
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), "the server did not start"
        yield LlamaServer(url, process)
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def main() -> None:
    """Serve until standard input is closed."""
    import xllamacpp  # noqa: PLC0415 - the tests themselves never load llama.cpp

    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--context", type=int)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--alias")
    parser.add_argument("--key")
    parser.add_argument("--port", type=int)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.n_ctx = options.context * options.slots
    params.n_parallel = options.slots
    params.port = options.port
    params.hostnames = ["127.0.0.1"]
    params.warmup = False
    params.endpoint_slots = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    if options.alias:
        params.model_alias = {options.alias}
    if options.key:
        params.api_keys = [options.key]
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    sys.exit(0)


if __name__ == "__main__":
    main()
