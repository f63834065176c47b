"""How much of llama.cpp's speed arrives: a bare loop, the binding's own class, our engine, and `qwenchat ask`.

    python -m tests.bench.engine [--model FILE] [--rounds 3] [--tokens 512 2000] [--skip-binding] [--plain-buffers]

Makes a full-shape synthetic Qwen2-0.5B q4_k_m (400 MB, in a temporary folder) unless a model is given. Each
measure runs in a process of its own, in turns, and the medians are compared: machines are noisy, ratios less so.
Where llama.cpp was compiled with an AMX that crashes (see `engines.local.engine`), the bare loop has to do without it
too: `--plain-buffers`, and `--skip-binding`, which can't.
Prints a Markdown table.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import psutil
from msgspec.structs import replace

from qwenchat.chat.events import Delta, Finished, Prefilling
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.devices import usable_cores
from tests.bench.synthetic import model_file
from tests.fakes.commands import environment
from tests.fakes.engines import LIKELIEST, answer, engine, prefilling, questions, request

N_CTX = 8192
SYSTEM = "You are a helpful assistant."
PROMPT = "word " * 340  # about 1,000 tokens of the synthetic vocabulary
LONG = "word " * 1330  # about 4,000
SAMPLING = Sampling(temperature=0.7, top_k=20, top_p=0.8, repeat_penalty=1.1, seed=1)

_BARE = """
import ctypes, json, os, sys, time
from llama_cpp import llama_cpp as c
path, tokens, prompt, n_ctx, threads = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), *map(int, sys.argv[4:])
c.llama_backend_init()
model_params = c.llama_model_default_params()
model_params.use_extra_bufts = "PLAIN_BUFFERS" not in os.environ
model = c.llama_model_load_from_file(path.encode(), model_params)
params = c.llama_context_default_params()
params.n_ctx, params.n_batch, params.n_ubatch, params.n_outputs_max = n_ctx, 512, 512, 1
params.n_threads = params.n_threads_batch = threads
ctx, vocab = c.llama_init_from_model(model, params), c.llama_model_get_vocab(model)
chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
for sampler in (c.llama_sampler_init_penalties(c.llama_vocab_n_tokens(vocab), 64, 1.1, 0, 0),
                c.llama_sampler_init_top_k(20), c.llama_sampler_init_top_p(0.8, 1),
                c.llama_sampler_init_temp(0.7), c.llama_sampler_init_dist(1)):
    c.llama_sampler_chain_add(chain, sampler)
started = time.perf_counter()
for i in range(0, len(prompt), 512):
    part = prompt[i:i + 512]
    array = (ctypes.c_int32 * len(part))(*part)
    c.llama_decode(ctx, c.llama_batch_get_one(array, len(part)))
c.llama_synchronize(ctx)
token = c.llama_sampler_sample(chain, ctx, -1)
prefilled = time.perf_counter()
one = (ctypes.c_int32 * 1)()
for _ in range(tokens):
    one[0] = token
    c.llama_decode(ctx, c.llama_batch_get_one(one, 1))
    token = c.llama_sampler_sample(chain, ctx, -1)
decoded = time.perf_counter()
status = open("/proc/self/status").read()
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
rates = {"prefill": len(prompt) / (prefilled - started), "decode": tokens / (decoded - prefilled)}
print(json.dumps({**rates, "peak": peak}))
"""

_BINDING = """
import json, sys, time
from llama_cpp import Llama
path, tokens, text, n_ctx, threads = sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:])
llama = Llama(path, n_ctx=n_ctx, n_threads=threads, n_threads_batch=threads, verbose=False)
messages = [{"role": "user", "content": text}]
first, count = 0.0, 0
for chunk in llama.create_chat_completion(messages, stream=True, max_tokens=tokens, temperature=0.7, top_k=20,
                                          top_p=0.8, repeat_penalty=1.1, seed=1):
    count += 1
    first = first or time.perf_counter()
print(json.dumps({"decode": count / (time.perf_counter() - first)}))
"""


def child(script: str, *words: str) -> dict[str, float]:
    """Run a script in a process of its own and return what it measured."""
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, check=True, env=environment(), text=True
    )
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def bare(model: Path, tokens: int, prompt: list[int]) -> dict[str, float]:
    """(a) A loop over the C API and nothing else."""
    return child(_BARE, str(model), str(tokens), json.dumps(prompt), str(N_CTX), str(usable_cores()))


def binding(model: Path, tokens: int) -> dict[str, float]:
    """(b) The binding's own high-level class, streaming."""
    return child(_BINDING, str(model), str(tokens), PROMPT, str(N_CTX), str(usable_cores()))


async def ours(model: Path, tokens: int, folder: Path) -> dict[str, float]:
    """(c) Our engine, timed in the parent: from the request to the last prefill report, from first to last piece."""
    turns = [Turn("system", SYSTEM), Turn("user", PROMPT)]
    async with engine(model, folder, n_ctx=N_CTX, threads=usable_cores()) as made:
        await made.load()
        started = time.perf_counter()
        first, last, pieces = 0.0, 0.0, 0
        async for event in made.generate(request(turns, replace(SAMPLING, max_tokens=tokens))):
            if isinstance(event, Delta):
                first = first or time.perf_counter()
                last = time.perf_counter()
                pieces += len(event.token_ids)
            elif isinstance(event, Finished):
                usage = event.usage
        worker = psutil.Process(made.worker_pid)
        peak = int(Path(f"/proc/{worker.pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
        return {
            "prefill": usage.prompt_tokens / (first - started),
            "decode": (pieces - 1) / (last - first),
            "peak": peak,
        }


def asked(model: Path, tokens: int, home: Path) -> dict[str, float]:
    """(d) The command, whose `--json` says what it measured; `wall` counts everything."""
    started = time.perf_counter()
    words = ["ask", "-m", str(model), "--no-save", "--json", "--max-tokens", str(tokens), "--ctx", str(N_CTX)]
    done = subprocess.run(
        [sys.executable, "-m", "qwenchat", *words, PROMPT],
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
        env=environment(QWENCHAT_HOME=str(home)),
    )
    timings = json.loads(done.stdout)["timings"]
    return {
        "prefill": timings["prefill_tps"],
        "decode": timings["decode_tps"],
        "wall": time.perf_counter() - started,
    }


async def resumed(model: Path, folder: Path) -> tuple[float, float, float, int, int]:
    """Return seconds of cold prefill and of a resumed first token, the second turn's fresh tokens, and the sizes."""
    long = [*questions(LONG)]
    limit = replace(LIKELIEST, max_tokens=8)
    async with engine(model, folder, n_ctx=N_CTX, threads=usable_cores()) as made:
        await made.load()
        cold = await answer(made, long, limit, cache_key="bench")
    follow = [*long, Turn("assistant", cold.text, cold.ids), Turn("user", "And now")]
    async with engine(model, folder, n_ctx=N_CTX, threads=usable_cores()) as made:
        await made.load()
        started = time.perf_counter()
        async with aclosing(made.generate(request(follow, limit, cache_key="bench"))) as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
        warm_s = time.perf_counter() - started
        again = await answer(made, follow, limit, cache_key="bench")
    fresh = again.usage.prompt_tokens - cold.usage.prompt_tokens - cold.usage.completion_tokens
    return cold.timings.prefill_s, warm_s, fresh, cold.usage.prompt_tokens, again.usage.cached_tokens


async def cancelled(model: Path, folder: Path, *, prefill: bool) -> float:
    """Return the seconds from cancelling to the end of the request, in a 4,000-token prefill or in decode."""
    async with engine(model, folder, n_ctx=N_CTX, threads=usable_cores()) as made:
        await made.load()
        asked_at = 0.0
        generation = made.generate(request(questions(LONG if prefill else "Hello"), Sampling(max_tokens=500)))
        async for event in generation:
            in_prefill = isinstance(event, Prefilling) and event.done > event.total / 3
            if not asked_at and (in_prefill if prefill else isinstance(event, Delta)):
                await asyncio.sleep(0.05)  # into the middle of a chunk
                asked_at = time.perf_counter()
                await generation.cancel()
        return time.perf_counter() - asked_at


def orphaned(model: Path, folder: Path) -> float:
    """Return the seconds from killing the parent in the middle of a prefill to the end of the worker."""
    parent, worker = prefilling(model, folder, LONG)
    killed = time.perf_counter()
    parent.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        while worker.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.002)
    took = time.perf_counter() - killed
    parent.wait()
    return took


def prompt_tokens(model: Path, folder: Path) -> list[int]:
    """Return the tokens of the prompt that our engine sends, for the bare loop to read the same."""
    script = """
import json, sys
from qwenchat.chat.prompt import Special, Turn
from qwenchat.engines.prompt_format import ChatMLFormat
from qwenchat.engines.worker.c_api import Abort, bindings
from qwenchat.engines.worker.llama import LlamaModel
from qwenchat.engines.local.protocol import LoadPlan
plan = LoadPlan(path=sys.argv[1].encode(), identity="", n_ctx=256, threads=1)
model = LlamaModel(bindings(), plan, Abort(), lambda fraction: True)
tokens = []
for part in ChatMLFormat().chatml([Turn("system", sys.argv[2]), Turn("user", sys.argv[3])]).parts:
    tokens += model.vocabulary.tokenise(part.text, special=isinstance(part, Special))
print(json.dumps(tokens))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(model), SYSTEM, PROMPT], capture_output=True, check=True, env=environment()
    )
    tokens: list[int] = json.loads(done.stdout)
    return tokens


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "qwenchat-bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2000])
    parser.add_argument("--skip-binding", action="store_true")
    parser.add_argument("--plain-buffers", action="store_true")
    options = parser.parse_args()
    folder: Path = options.folder
    if options.plain_buffers:
        os.environ["PLAIN_BUFFERS"] = "1"
    model = options.model or model_file(folder)
    prompt = prompt_tokens(model, folder)
    print(f"{os.cpu_count()} cores, {len(prompt)} prompt tokens, {options.rounds} rounds, medians\n")
    print("| tokens | measure | bare loop (a) | binding's class (b) | our engine (c) | `ask` (d) | c/a |")
    print("|---|---|---|---|---|---|---|")
    for tokens in options.tokens:
        rounds = [_round(model, tokens, prompt, folder, options.skip_binding) for _ in range(options.rounds)]
        for what, unit in (("prefill", "tokens/s"), ("decode", "tokens/s"), ("peak", "MB"), ("wall", "s")):
            print(_row(tokens, what, unit, rounds))
    _print_resume(model, folder, options.rounds)


def _round(
    model: Path, tokens: int, prompt: list[int], folder: Path, skip_binding: bool
) -> dict[str, dict[str, float]]:
    return {
        "a": bare(model, tokens, prompt),
        "b": {} if skip_binding else binding(model, tokens),
        "c": asyncio.run(ours(model, tokens, folder)),
        "d": asked(model, tokens, folder / "home"),
    }


def _row(tokens: int, what: str, unit: str, rounds: list[dict[str, dict[str, float]]]) -> str:
    scale = 1 / 2**20 if unit == "MB" else 1.0
    medians = {
        who: statistics.median(values) * scale
        for who in "abcd"
        if (values := [measured[who][what] for measured in rounds if what in measured[who]])
    }
    cells = [f"{medians[who]:.1f}" if who in medians else "" for who in "abcd"]
    ratio = f"{medians['c'] / medians['a']:.3f}" if "a" in medians and "c" in medians else ""
    return f"| {tokens} | {what}, {unit} | " + " | ".join(cells) + f" | {ratio} |"


def _print_resume(model: Path, folder: Path, rounds: int) -> None:
    def fresh_folder(run: Callable[[Path], float]) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            return run(Path(temporary))

    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        cold_s, warm_s, fresh, long, cached = asyncio.run(resumed(model, Path(temporary)))
    times = {
        "cancel in the middle of that prefill": lambda f: asyncio.run(cancelled(model, f, prefill=True)),
        "cancel in decode": lambda f: asyncio.run(cancelled(model, f, prefill=False)),
        "the worker's end after its parent's, in mid-prefill": lambda f: orphaned(model, f),
    }
    worst = {what: max(fresh_folder(run) for _ in range(rounds)) * 1000 for what, run in times.items()}
    print("\n| measure | target | measured |")
    print("|---|---|---|")
    print(f"| cold prefill of {long:,} tokens | | {cold_s:.2f} s |")
    resumed_row = "| first token of the resumed session, new process | at most 5 % of it |"
    print(f"{resumed_row} {warm_s:.3f} s, {warm_s / cold_s:.1%} |")
    print(f"| second turn: tokens already cached | all but the new message ({fresh:.0f}) | {cached:,} |")
    for (what, took), bound in zip(worst.items(), ("100 ms", "100 ms", "1 s"), strict=True):
        print(f"| {what} | {bound} | {took:.0f} ms (worst of {rounds}) |")


if __name__ == "__main__":
    main()
