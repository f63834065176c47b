"""How fast a download is, and what it costs: `python -m tests.bench.download [--size GB] [--rounds N]`.

Prints a Markdown table. The server is the tests' stand-in on loopback, which hands the file to the kernel (sendfile);
it runs in this process and every client in one of its own. Each round takes all clients in turn.
"""

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.fakes.pulling import NAME, REPO
from tests.fakes.standin_hub import StandIn

ROOT = Path(__file__).parents[2]
_HF = """
import sys
from huggingface_hub import hf_hub_download
hf_hub_download(sys.argv[1], sys.argv[2], endpoint=sys.argv[3], cache_dir=sys.argv[4], token=False)
"""


@dataclass(frozen=True)
class Run:
    """What one client took."""

    seconds: float
    processor_s: float
    peak_mb: float


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser()
    options.add_argument("--size", type=float, default=2.0, help="GB")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--kills", type=int, default=20)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name, StandIn() as standin:
        folder = Path(name)
        file = write_file(folder / "source", round(chosen.size * 1e9))
        standin.put(REPO, NAME, file)
        print(f"{chosen.size:g} GB from loopback, median of {chosen.rounds} rounds (fastest-slowest)\n")
        print("| client | seconds | processor s | peak memory MB |\n|---|---|---|---|")
        for label, runs in compare(standin, folder, chosen.rounds).items():
            print(row(label, runs))
        print(f"\n{chosen.kills} kills (SIGKILL) at random places of one download\n")
        print("| the server sends | sha256 | MB that left it | over the size |\n|---|---|---|---|")
        for pace, label in ((100_000_000, "100 MB/s"), (0, "as fast as loopback goes")):
            standin.pace = pace
            print(f"| {label} | {kills(standin, folder / label, file.stat().st_size, chosen.kills)} |")


def write_file(path: Path, size: int) -> Path:
    """Write what passes for a model, of bytes that no disk compresses."""
    block = b"GGUF" + random.Random(1).randbytes((1 << 24) - 4)
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
        file.flush()
        os.fsync(file.fileno())
    return path


def clients(standin: StandIn, out: Path) -> dict[str, list[str]]:
    """Return the commands to compare, writing below `out`."""
    url = f"{standin.endpoint}/{REPO}/resolve/main/{NAME}"
    curl = f"curl -sfL -C - -o {out}/file '{url}'"
    return {
        "qwenchat, sha256 checked": [sys.executable, "-m", "tests.fakes.pull_child", standin.endpoint, str(out)],
        "`curl -C -`, then `sha256sum`": ["sh", "-c", f"{curl} && sha256sum {out}/file"],
        "`curl -C -`, then `openssl dgst -sha256`": ["sh", "-c", f"{curl} && openssl dgst -sha256 {out}/file"],
        "`hf_hub_download`, nothing checked": [sys.executable, "-c", _HF, REPO, NAME, standin.endpoint, str(out)],
    }


def compare(standin: StandIn, folder: Path, rounds: int) -> dict[str, list[Run]]:
    """Run all clients in turn, `rounds` times."""
    out = folder / "out"
    runs: dict[str, list[Run]] = {}
    for _round in range(rounds):
        for label, command in clients(standin, out).items():
            out.mkdir()
            runs.setdefault(label, []).append(measured(command))
            shutil.rmtree(out)
    return runs


def measured(command: list[str]) -> Run:
    """Run a command to its end. Its memory is that of the process with the most."""
    environment = {**os.environ, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    began, peak = time.perf_counter(), 0.0
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        peak = max(peak, peak_mb(process.pid))
        time.sleep(0.02)
    seconds, (_pid, status, usage) = time.perf_counter() - began, ended
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak)


def peak_mb(pid: int) -> float:
    """Return the most memory that a process or one below it has had so far."""
    with suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        pids = [pid, *(below.pid for below in process.children(recursive=True))]
        texts = [Path(f"/proc/{each}/status").read_text("ascii") for each in pids]
        return max((int(found[1]) for text in texts if (found := re.search(r"VmHWM:\s+(\d+)", text))), default=0) / 1024
    return 0.0


def row(label: str, runs: list[Run]) -> str:
    """Return one client's line of the table."""
    seconds = sorted(run.seconds for run in runs)
    processor, peak = (
        statistics.median(values) for values in zip(*((r.processor_s, r.peak_mb) for r in runs), strict=True)
    )
    spread = f"{statistics.median(seconds):.2f} ({seconds[0]:.2f}-{seconds[-1]:.2f})"
    return f"| {label} | {spread} | {processor:.2f} | {peak:.0f} |"


def kills(standin: StandIn, cache: Path, size: int, count: int) -> str:
    """Kill a download `count` times, let it end, and say what it took: what lay in the kernel's buffers counts too."""
    chance = random.Random(7)
    before = standin.bytes_sent()
    for place in sorted(chance.uniform(0, size) for _kill in range(count)):
        process = child(standin, cache)
        while process.poll() is None and part_size(cache) < place:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = child(standin, cache).communicate()[0].strip()
    with Path(done).open("rb") as file:
        right = hashlib.file_digest(file, "sha256").hexdigest() == standin.digest(REPO, NAME)
    sent = standin.bytes_sent() - before
    return f"{'right' if right else 'WRONG'} | {sent / 1e6:,.0f} | {100 * (sent / size - 1):.2f} %"


def child(standin: StandIn, cache: Path) -> "subprocess.Popen[str]":
    """Start a download."""
    command = [sys.executable, "-m", "tests.fakes.pull_child", standin.endpoint, str(cache)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def part_size(cache: Path) -> int:
    """Return the bytes on disk so far."""
    return sum(path.stat().st_size for path in cache.glob("*/blobs/*.incomplete"))


if __name__ == "__main__":
    main()
