"""How long it takes from the start of a process to the first text, where `qwenchat serve` has the model loaded.

    python -m tests.bench.warm [--model FILE] [--rounds 15]

Makes a full-shape synthetic Qwen2-0.5B q4_k_m (400 MB, in a temporary folder) unless a model is given. In turns, `ask`
attaches to the server, `ask --no-attach` loads the model itself, and `curl` asks the server over HTTP, all with the
same question, which the server has in its KV cache but for the last token. What the worker itself needed for its first
token (`ttft_s`) is subtracted of the first two. Prints a Markdown table of medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.synthetic import model_file
from tests.fakes.commands import environment

QUESTION = "Write a long story about the sea."


@contextmanager
def served(model: Path, home: str) -> Iterator[str]:
    """Serve a model; yields the URL."""
    command = [sys.executable, "-m", "qwenchat", "serve", "-m", str(model), "--port", "18080", "--ctx", "4096"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(QWENCHAT_HOME=home)) as server:
        try:
            assert server.stderr
            for line in server.stderr:
                if "http://" in line:
                    break
            yield "http://127.0.0.1:18080/v1/chat/completions"
        finally:
            server.terminate()


def first_text(command: list[str], home: str, has_text: Callable[[str], bool]) -> tuple[float, str]:
    """Return the seconds from the start of a command to its first text, and its last line of output."""
    started, first, last = time.perf_counter(), 0.0, ""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment(QWENCHAT_HOME=home)
    ) as program:
        assert program.stdout
        for line in program.stdout:
            if not first and has_text(line):
                first = time.perf_counter() - started
            last = line if line.strip() else last
    assert first, last
    return first, last


def asked(model: Path, home: str, *options: str) -> tuple[float, float]:
    """Return the seconds to the first text of `ask`, and the same without the worker's own time."""
    command = [sys.executable, "-m", "qwenchat", "ask", "-m", str(model), "--jsonl", "--max-tokens", "8", *options]
    first, last = first_text([*command, QUESTION], home, lambda line: '"delta"' in line)
    return first, first - json.loads(last)["timings"]["ttft_s"]


def curled(url: str, home: str) -> float:
    """Return the seconds to the first text of `curl`."""
    body = {"model": "default", "stream": True, "max_tokens": 8, "messages": [{"role": "user", "content": QUESTION}]}
    command = ["curl", "-sN", url, "-H", "Content-Type: application/json", "-d", json.dumps(body)]
    return first_text(command, home, lambda line: '"content":"' in line.replace(" ", "") and '""' not in line)[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        model = given.model or model_file(Path(home))
        seconds: dict[str, list[float]] = {}
        with served(model.absolute(), home) as url:
            for round_number in range(given.rounds + 1):
                warm, warm_alone = asked(model.absolute(), home)
                cold, cold_alone = asked(model.absolute(), home, "--no-attach")
                found = {
                    "`ask`, attached": warm,
                    "`ask`, attached, without the worker's own time": warm_alone,
                    "`ask --no-attach`": cold,
                    "`ask --no-attach`, without the worker's own time": cold_alone,
                    "`curl`": curled(url, home),
                }
                for name, value in found.items():
                    seconds.setdefault(name, []).extend([value] * bool(round_number))  # the first round warms up
    print(f"From the start of the process to the first text, {os.cpu_count()} cores, {given.rounds} rounds\n")
    print("| | median, s | fastest, s |\n| --- | --- | --- |")
    for name, values in seconds.items():
        print(f"| {name} | {statistics.median(values):.3f} | {min(values):.3f} |")


if __name__ == "__main__":
    main()
