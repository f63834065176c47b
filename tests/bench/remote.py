"""What the remote path costs: our engine against a bare HTTP client, both with the same llama-server.

    python -m tests.bench.remote [--model FILE] [--rounds 5] [--tokens 256]

Makes a full-shape synthetic Qwen2-0.5B q4_k_m (400 MB, in a temporary folder) unless a model is given. Both clients run
in processes of their own, in turns, and send prompts of token ids with the same sampling; medians are compared. The
first token is measured behind a prompt that the server has in its cache but for its last token, where the cost of the
path shows most, and behind one that it has not. Prints a Markdown table.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import psutil

from qwenchat.chat.events import Delta
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.devices import usable_cores
from tests.bench.synthetic import model_file
from tests.fakes.commands import environment
from tests.fakes.engines import questions, remote_engine, request
from tests.fakes.llama_server import llama_server

N_CTX = 4096
SAMPLING = Sampling(temperature=0.7, top_k=20, top_p=0.8, min_p=0.0, repeat_penalty=1.1, seed=1)
ASKED = "Write a long story about this word."
CACHED = "word " * 100 + ASKED
FIRST = 4
"""Tokens of an answer whose first one is measured: a token may have no text."""
MEASURES = (
    "first token, prompt cached, ms",
    "first token, 500 new tokens, ms",
    "decode, tokens/s",
    "memory of the client, MB",
)


def fresh_prompt(round_: int, who: str) -> str:
    """Return a prompt that was not sent before."""
    return f"{who} {round_} " + "word " * 160 + ASKED


async def engine_times(url: str, model: str, tokens: int, round_: int) -> list[float]:
    """Return the two times to the first token, and the decode speed, of our engine."""
    async with remote_engine(url, model) as made:
        await made.load()

        async def first_token(text: str) -> float:
            began = time.perf_counter()
            generation = made.generate(request(questions(text), limited(FIRST)))
            times = [time.perf_counter() - began async for event in generation if isinstance(event, Delta)]
            return times[0]

        await first_token(CACHED)
        cached, fresh = await first_token(CACHED), await first_token(fresh_prompt(round_, "engine"))
        generation = made.generate(request(questions(CACHED), limited(tokens)))
        stamps = [time.perf_counter() async for event in generation if isinstance(event, Delta)]
        return [cached, fresh, (len(stamps) - 1) / (stamps[-1] - stamps[0])]


async def bare_times(url: str, tokens: int, round_: int) -> list[float]:
    """Return the same of a client that does nothing but read the stream."""
    async with httpx2.AsyncClient(base_url=url, timeout=600) as client:

        async def prompt(text: str) -> Any:
            turns = "".join(f"<|im_start|>{turn.role}\n{turn.text}<|im_end|>\n" for turn in questions(text))
            body = {"content": f"{turns}<|im_start|>assistant\n", "parse_special": True}
            return (await client.post("/tokenize", json=body)).json()["tokens"]

        async def stamps(ids: Any, limit: int) -> list[float]:
            body = {
                "prompt": ids,
                "n_predict": limit,
                "stream": True,
                "return_tokens": True,
                "samplers": ["penalties", "top_k", "top_p", "min_p", "temperature"],
                "temperature": 0.7,
                "top_k": 20,
                "top_p": 0.8,
                "min_p": 0.0,
                "repeat_penalty": 1.1,
                "seed": 1,
            }
            found = []
            async with client.stream("POST", "/completion", json=body) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: ") and json.loads(line[6:])["content"]:
                        found.append(time.perf_counter())
            return found

        async def first_token(text: str) -> float:
            began = time.perf_counter()
            return (await stamps(await prompt(text), FIRST))[0] - began

        await first_token(CACHED)
        cached, fresh = await first_token(CACHED), await first_token(fresh_prompt(round_, "bare"))
        found = await stamps(await prompt(CACHED), tokens)
        return [cached, fresh, (len(found) - 1) / (found[-1] - found[0])]


def limited(tokens: int) -> Sampling:
    """Return the sampling of an answer of at most so many tokens."""
    return Sampling(max_tokens=tokens).over(SAMPLING)


def measured(who: str, url: str, model: str, tokens: int, round_: int) -> list[float]:
    """Measure once in a process of its own, and return the figures in the order of MEASURES."""
    words = [sys.executable, "-m", "tests.bench.remote", "--measure", who, url, model, str(tokens), str(round_)]
    out = subprocess.run(words, capture_output=True, text=True, env=environment(), check=True).stdout
    cached, fresh, speed, memory = json.loads(out)
    return [cached * 1000, fresh * 1000, speed, memory]


def measure(who: str, url: str, model: str, tokens: int, round_: int) -> None:
    """Measure here, and print the figures."""
    times = engine_times(url, model, tokens, round_) if who == "engine" else bare_times(url, tokens, round_)
    figures = asyncio.run(times)
    memory = psutil.Process().memory_full_info().uss / 1e6
    print(json.dumps([*figures, memory]))


def print_table(bare: Sequence[Sequence[float]], ours: Sequence[Sequence[float]]) -> None:
    """Print medians and their ratios."""
    print("| measure | bare client (a) | our engine (b) | b/a |\n|---|---|---|---|")
    for name, a, b in zip(MEASURES, zip(*bare, strict=True), zip(*ours, strict=True), strict=True):
        one, other = statistics.median(a), statistics.median(b)
        print(f"| {name} | {one:,.1f} | {other:,.1f} | {other / one:.3f} |")


def main() -> None:
    """Start the server, measure in turns, print."""
    if sys.argv[1:2] == ["--measure"]:
        who, url, model, tokens, round_ = sys.argv[2:]
        measure(who, url, model, int(tokens), int(round_))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=256)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.model or model_file(Path(folder))
        with llama_server(path, context=N_CTX, alias="bench", threads=usable_cores()) as server:
            rounds = [
                [measured(who, server.url, "bench", options.tokens, round_) for who in ("bare", "engine")]
                for round_ in range(options.rounds)
            ]
    print_table(*zip(*rounds, strict=True))


if __name__ == "__main__":
    main()
