"""What `qwenchat serve` is beside llama.cpp's own server, with the same model and the same client.

    python -m tests.bench.server [--model FILE] [--rounds 5] [--tokens 128] [--clients 1 2 4] [--minute]

Makes a full-shape synthetic Qwen2-0.5B q4_k_m (400 MB, in a temporary folder) unless a model is given. Both servers run
at the same time and are asked in turns, by OpenAI's chat interface with the same sampling; medians are compared. The
first token is measured behind a prompt of 500 tokens that no server has seen. Tokens/s are those of all clients
together, from the first request to the last token. `one by one` is our server without `--parallel`.

With --minute, 50 clients ask our server for a minute: requests, errors, memory. Prints Markdown tables.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import psutil

from qwenchat.engines.local.devices import usable_cores
from tests.bench.synthetic import model_file
from tests.fakes.llama_server import llama_server
from tests.fakes.served import ServeProcess, serve

N_CTX = 2048
SAMPLING = {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.0, "repeat_penalty": 1.1}
CLIENTS, MINUTE_S = 50, 60.0


def body(word: str, *, words: int, tokens: int) -> dict[str, object]:
    """Return a request with a prompt that was not sent before."""
    asked = f"{word} " + "word " * words + "Write a long story about this word."
    return {
        **SAMPLING,
        "messages": [{"role": "user", "content": asked}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def streamed(client: httpx2.AsyncClient, asked: dict[str, object]) -> tuple[float, int]:
    """Ask; return the seconds to the first token, and the number of tokens."""
    began, first, tokens = time.perf_counter(), 0.0, 0
    async with client.stream("POST", "/v1/chat/completions", json=asked) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            if not first and any(choice["delta"].get("content") for choice in chunk["choices"]):
                first = time.perf_counter() - began
            if usage := chunk.get("usage"):
                tokens = usage["completion_tokens"]
    return first, tokens


async def measured(url: str, name: str, tokens: int, clients: Sequence[int]) -> list[float]:
    """Return the milliseconds to the first token, and the tokens/s of so many clients."""
    limits = httpx2.Limits(max_keepalive_connections=0)  # llama-server may close one just when it is used again
    async with httpx2.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        first, _tokens = await streamed(client, body(f"{name} first", words=480, tokens=8))
        figures = [first * 1000]
        for count in clients:
            began = time.perf_counter()
            asked = (body(f"{name} {count} {place}", words=20, tokens=tokens) for place in range(count))
            answers = await asyncio.gather(*(streamed(client, each) for each in asked))
            figures.append(sum(tokens for _first, tokens in answers) / (time.perf_counter() - began))
        return figures


def print_table(names: Sequence[str], clients: Sequence[int], rounds: Sequence[Sequence[Sequence[float]]]) -> None:
    """Print medians, and those of our server as parts of the others'."""
    measures = ["first token, 500 new tokens, ms", *(f"{count} clients, tokens/s" for count in clients)]
    print("| measure | " + " | ".join(names) + " | b/a | b/c |\n" + "|---" * (len(names) + 3) + "|")
    for place, measure in enumerate(measures):
        a, b, c = (statistics.median(each[who][place] for each in rounds) for who in range(len(names)))
        print(f"| {measure} | {a:,.1f} | {b:,.1f} | {c:,.1f} | {b / a:.3f} | {b / c:.3f} |")


async def minute(server: ServeProcess) -> None:
    """Let many clients ask for a minute, and print what came of it."""
    answered, failed, until = 0, 0, time.monotonic() + MINUTE_S

    async def ask(client: httpx2.AsyncClient, number: int) -> None:
        nonlocal answered, failed
        asked = {**body(f"{number}", words=5, tokens=16), "stream": False}
        while time.monotonic() < until:
            response = await client.post("/v1/chat/completions", json=asked)
            answered += response.status_code == 200
            failed += response.status_code != 200

    def memory() -> float:
        return float(psutil.Process(server.process.pid).memory_full_info().uss) / 1e6

    before = memory()
    limits = httpx2.Limits(max_connections=CLIENTS)
    async with httpx2.AsyncClient(base_url=server.url, timeout=600, limits=limits) as client:
        await asyncio.gather(*(ask(client, number) for number in range(CLIENTS)))
    print(f"{CLIENTS} clients for {MINUTE_S:.0f} s: {answered} answers, {failed} failures, ", end="")
    print(f"{before:.0f} MB before and {memory():.0f} MB after")


def main() -> None:
    """Start the servers, measure in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--minute", action="store_true")
    options = parser.parse_args()
    most, threads = max(options.clients), usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        path = options.model or model_file(Path(folder))
        ours = ("--ctx", str(N_CTX), "--threads", str(threads))
        home = {"QWENCHAT_HOME": str(Path(folder) / "home")}
        with serve(path, *ours, "--parallel", str(most), **home) as together:
            if options.minute:
                asyncio.run(minute(together))
                return
            with (
                serve(path, *ours, **home) as alone,
                llama_server(path, context=N_CTX, slots=most, threads=threads) as peer,
            ):
                urls = (peer.url, together.url, alone.url)
                rounds = [
                    [asyncio.run(measured(url, f"{round_}", options.tokens, options.clients)) for url in urls]
                    for round_ in range(options.rounds)
                ]
    print_table(("llama-server (a)", "qwenchat serve (b)", "one by one (c)"), options.clients, rounds)


if __name__ == "__main__":
    main()
