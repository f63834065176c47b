"""A model spread over a peer by llama.cpp's RPC: the same text, how fast it is beside this machine alone, lost peers.

    python -m tests.bench.rpc [--model FILE] [--rounds 3] [--tokens 64]

Needs a llama-cpp-python that was built with RPC (`qwenchat doctor` says so). The peer is a server on loopback with half
of the cores; this machine computes with the other half, alone or together with the peer, so that the shares compare.
Ends with an error where a check fails; prints a Markdown table.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from qwenchat.chat.events import Delta
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.devices import ask_worker, usable_cores
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.local.loaded_model import PlannedModel
from qwenchat.engines.local.peers import faults
from qwenchat.engines.local.protocol import Device, DeviceShare
from qwenchat.engines.local.saved_kv import SavedKV
from qwenchat.errors import EngineDied
from qwenchat.models.gguf import read_header
from tests.bench.synthetic import model_file
from tests.fakes.commands import environment
from tests.fakes.engines import Answer, answer, planned, questions, request

PEER = "127.0.0.1:50955"
QUESTION = "Explain how a sailing ship can go against the wind. " * 12
N_CTX = 4096
GONE_S = 20.0
"""Seconds within which a lost peer must be explained."""


@contextmanager
def peer(threads: int) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a server and wait until it answers."""
    host, _colon, port = PEER.rpartition(":")
    command = [sys.executable, "-P", "-m", "qwenchat.engines.worker.rpc_server", host, port, str(threads), ""]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    ) as child:
        try:
            while faults([PEER]):
                assert child.poll() is None, "the RPC server ended"
            yield child
        finally:
            child.kill()


def planner(model: Path, threads: int, far_layers: int) -> Callable[[Sequence[Device]], PlannedModel]:
    """Return a planner that puts the last `far_layers` layers, and the output matrix, on the peer."""

    def plan(devices: Sequence[Device]) -> PlannedModel:
        made = planned(model, n_ctx=N_CTX, threads=threads)
        far = [device for device in devices if device.peer]
        if not far_layers or not far:
            return replace(made, peers=(PEER,) if far_layers else ())
        split = (DeviceShare(far[0].name, float(far_layers)),)
        spread = msgspec.structs.replace(made.plan, gpu_layers=far_layers + 1, split=split, peers=(PEER,))
        return replace(made, plan=spread)

    return plan


@asynccontextmanager
async def engine(model: Path, folder: Path, *, threads: int, far_layers: int) -> AsyncIterator[LocalEngine]:
    """Run an engine."""
    made = LocalEngine(planner(model, threads, far_layers), folder / "engine.log", SavedKV(folder / "kv", 1 << 20))
    try:
        yield made
    finally:
        await made.close()


async def measured(model: Path, folder: Path, *, threads: int, far_layers: int, tokens: int) -> tuple[Answer, float]:
    """Return an answer and the seconds that loading took."""
    async with engine(model, folder, threads=threads, far_layers=far_layers) as made:
        info = await made.load()
        assert info.host == (PEER if far_layers else "")
        if far_layers:
            assert "another program" in faults([PEER])[PEER], "a peer serves one program"
        return await answer(made, questions(QUESTION), Sampling(temperature=0.0, max_tokens=tokens)), info.load_s


async def lost(model: Path, folder: Path, *, threads: int, far_layers: int) -> tuple[float, int]:
    """Kill the peer in mid-answer; return the seconds until that is explained, and the characters that had come."""
    text, killed = "", 0.0
    with peer(threads) as child:
        async with engine(model, folder, threads=threads, far_layers=far_layers) as made:
            try:
                async for event in made.generate(request(questions(QUESTION), Sampling(temperature=0.0))):
                    text += event.text if isinstance(event, Delta) else ""
                    if len(text) > 40 and not killed:
                        child.kill()
                        killed = time.perf_counter()
            except EngineDied as error:
                spent = time.perf_counter() - killed
                assert PEER in error.message and len(text) > 40, (error.message, text)
                return spent, len(text)
    raise AssertionError("the answer came to its end without the peer")


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=os.environ.get("QWENCHAT_REAL_MODEL"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    hello = await asyncio.to_thread(ask_worker)
    if not (hello and hello.rpc):
        sys.exit("llama-cpp-python was built without RPC: build it with CMAKE_ARGS=-DGGML_RPC=ON")
    threads = max(1, usable_cores() // 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = Path(options.model) if options.model else model_file(folder)
        layers = read_header(model).layers
        shares = {"this machine alone": 0, "half on the peer": layers // 2, "all layers on the peer": layers}
        found: dict[str, list[tuple[Answer, float]]] = {words: [] for words in shares}
        for _round in range(options.rounds):
            for words, far in shares.items():
                with peer(threads):
                    found[words].append(
                        await measured(model, folder, threads=threads, far_layers=far, tokens=options.tokens)
                    )
        texts = {made.text for answers in found.values() for made, _load_s in answers}
        assert len(texts) == 1, "the text must not depend on where it is computed"
        print("| layers | load, s | prefill, tokens/s | decode, tokens/s | beside alone |\n|---|---|---|---|---|")
        alone = statistics.median(made.timings.decode_tps for made, _load_s in found["this machine alone"])
        for words, answers in found.items():
            load = statistics.median(load_s for _made, load_s in answers)
            prefill = statistics.median(made.timings.prefill_tps for made, _load_s in answers)
            decode = statistics.median(made.timings.decode_tps for made, _load_s in answers)
            print(f"| {words} | {load:.2f} | {prefill:.1f} | {decode:.1f} | {decode / alone:.2f} |")
        spent, characters = await lost(model, folder, threads=threads, far_layers=layers // 2)
        assert spent < GONE_S
        print(f"\nA peer killed in mid-answer was named after {spent:.1f} s; {characters} characters had come.")


if __name__ == "__main__":
    asyncio.run(main())
