"""`qwenchat bench`: measures how fast a model runs on this machine and how long a user waits for it.

It measures the engine process that also answers questions, and `models fit` uses the saved speeds in its estimates. The
output is a Markdown table, printed line by line, and a table of waits; or one JSON object. Column widths, units and
field names are those of llama-bench, so that results can be compared.
"""

import asyncio
import os
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

import click
from click.decorators import FC

from qwenchat.cli import completion
from qwenchat.cli.output import Output
from qwenchat.engines.local.bench import (
    BenchedModel,
    BenchEngine,
    BenchResult,
    BenchRun,
    deviation,
    random_tokens,
    runs,
)
from qwenchat.engines.local.devices import processor
from qwenchat.engines.local.loaded_model import PlannedModel, Planner
from qwenchat.engines.local.protocol import CHUNK, MAX_THREADS, Device
from qwenchat.engines.local.saved_kv import WORTH_SAVING, SavedKV
from qwenchat.errors import CannotLoad, WrongUse
from qwenchat.i18n import _
from qwenchat.models import gguf
from qwenchat.models.context_sizes import context_sizes
from qwenchat.paths import private_folder
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.model_choice import default_model, no_model
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line

_COLUMNS = {"model": -30, "size": 10, "params": 10, "backend": -10, "ngl": 3, "threads": 7, "test": 15, "t/s": 20}
"""Widths in characters; negative: aligned left."""
_WAITS = {"wait": -42, "s": 20}


class BenchOutput:
    """Writes each result as soon as it is measured."""

    def __init__(self, output: Output, *, as_json: bool) -> None:
        self._output, self._as_json = output, as_json
        self._results: list[dict[str, object]] = []
        self._live = output.colour

    def begin(self, model: BenchedModel) -> None:
        """Write the table's head."""
        self._model = model
        self._columns = {name: width for name, width in _COLUMNS.items() if name != "ngl" or model.backend != "CPU"}
        self._head(self._columns)

    def measuring(self, test: str) -> None:
        """Show on a terminal which test runs, until the next line is written."""
        if self._live:
            self._output.err.write(f"\r\x1b[K{clean_line(test)}...")
            self._output.err.flush()

    def result(self, result: BenchResult) -> None:
        """Write the result of a run."""
        self._results.append(_fields(self._model, result))
        self._row(
            self._columns,
            {
                "model": clean_line(self._model.ready.description, 30).replace("|", "/"),
                "size": _size(self._model.ready.tensor_bytes),
                "params": _count(self._model.ready.parameters),
                "backend": self._model.backend,
                "ngl": str(self._model.plan.gpu_layers),
                "threads": str(self._model.plan.threads),
                "test": result.run.name,
                "t/s": _mean(result.speeds),
            },
        )

    def end(
        self, *, prompt: int, first_token_s: Sequence[float], resumed_prompt: int, resumed_s: Sequence[float]
    ) -> None:
        """Write the waits: the prompts in tokens and the seconds to the first token, in new and resumed sessions."""
        self._clear()
        if self._as_json:
            waits = {
                "load_s": self._model.ready.load_s,
                "first_token": _wait(prompt, first_token_s),
                "resume": _wait(resumed_prompt, resumed_s),
            }
            self._output.json({"results": self._results, **waits})
            return
        self._output.piece("\n")
        self._head(_WAITS, {"wait": _("wait")})
        self._row(_WAITS, {"wait": _("load"), "s": f"{self._model.ready.load_s:.2f}"})
        if first_token_s:
            label = _("first token, {count} tokens").format(count=prompt)
            self._row(_WAITS, {"wait": label, "s": _mean(first_token_s)})
        if resumed_s:
            label = _("first token, resumed at {count} tokens").format(count=resumed_prompt)
            self._row(_WAITS, {"wait": label, "s": f"{statistics.fmean(resumed_s):.2f}"})

    def _head(self, columns: dict[str, int], shown: Mapping[str, str] | None = None) -> None:
        self._row(columns, {name: name for name in columns} | dict(shown or {}))
        self._row(columns, {name: _rule(width) for name, width in columns.items()})

    def _row(self, columns: dict[str, int], values: dict[str, str]) -> None:
        if self._as_json:
            return
        self._clear()
        cells = " | ".join(_padded(values[name], width) for name, width in columns.items())
        self._output.piece(f"| {cells} |\n")

    def _clear(self) -> None:
        if self._live:
            self._output.err.write("\r\x1b[K")
            self._output.err.flush()


def _fields(model: BenchedModel, result: BenchResult) -> dict[str, object]:
    """Return the fields of llama-bench's JSON that this program knows."""
    plan, ready, run = model.plan, model.ready, result.run
    times = result.nanoseconds
    return {
        "build_commit": f"llama-cpp-python {model.hello.binding}",
        "cpu_info": processor(),
        "gpu_info": ", ".join(device.description for device in model.hello.devices),
        "backends": model.backend,
        "model_filename": os.fsdecode(plan.path),
        "model_type": ready.description,
        "model_size": ready.tensor_bytes,
        "model_n_params": ready.parameters,
        "n_batch": CHUNK,
        "n_ubatch": CHUNK,
        "n_threads": plan.threads,
        "type_k": plan.kv_type,
        "type_v": plan.kv_type,
        "n_gpu_layers": plan.gpu_layers,
        "flash_attn": -1,
        "n_prompt": run.prompt,
        "n_gen": run.generate,
        "n_depth": run.depth,
        "test_time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "avg_ns": round(statistics.fmean(times)),
        "stddev_ns": round(deviation(times)),
        "avg_ts": result.mean,
        "stddev_ts": deviation(result.speeds),
        "samples_ns": list(times),
        "samples_ts": result.speeds,
    }


def _wait(tokens: int, seconds: Sequence[float]) -> dict[str, object] | None:
    if not seconds:
        return None
    return {"n_tokens": tokens, "avg_s": statistics.fmean(seconds), "stddev_s": deviation(seconds)}


def _rule(width: int) -> str:
    """Return the line below a column's heading; in Markdown, a colon at its end aligns the column right."""
    return "-" * (width - 1) + ":" if width > 0 else "-" * -width


def _padded(text: str, width: int) -> str:
    """Return text padded to a width in terminal columns, on the left where the width is positive."""
    spaces = " " * (abs(width) - len(text) - sum(east_asian_width(character) in "WF" for character in text))
    return spaces + text if width > 0 else text + spaces


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f} ± {deviation(values):.2f}"


def _size(count: int) -> str:
    return f"{count / 2**20:.2f} MiB" if count < 2**30 else f"{count / 2**30:.2f} GiB"


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number < 1e9 else f"{number / 1e9:.2f} B"


_MARGIN = 64
"""Tokens of the window beyond the longest run."""
_ENOUGH_TOKENS = 64
"""Shorter runs say too little about speed to be saved."""
_FOLLOW_UP = 16
"""Tokens of the question in a resumed session."""


class Counts(click.ParamType[tuple[int, ...]]):
    """Numbers of tokens separated by commas, as llama-bench takes them."""

    name = "counts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers."""
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isascii() and word.isdigit() and len(word) < 8 for word in words):
            self.fail(_("{value} is not a list of numbers such as 0,4096.").format(value=value), param, ctx)
        return tuple(map(int, words))


def _counts(name: str, long: str, default: str, text: str) -> Callable[[FC], FC]:
    return click.option(name, long, type=Counts(), default=default, metavar="N,...", show_default=True, help=text)


@click.command()
@click.option(
    "-m", "--model", default="", metavar="REF", shell_complete=completion.local_models, help="Model to measure."
)
@_counts("-p", "--prompt", "512", "Prompt tokens; 0: skip this measurement.")
@_counts("-n", "--generate", "128", "Tokens to generate; 0: skip this measurement.")
@_counts("-d", "--depth", "0", "Tokens already in the context.")
@click.option("-r", "--repetitions", type=click.IntRange(1, 1000), default=5, show_default=True, help="Number of runs.")
@click.option("--threads", type=click.IntRange(1, MAX_THREADS), help="Compute threads.")
@click.option("--gpu-layers", type=click.IntRange(-1, 2**31 - 1), help="Layers on the GPU; -1: as many as fit.")
@click.option("--no-rpc", "with_peers", flag_value=False, default=True, help="Use no peers of llama.cpp's RPC.")
@click.option("--kv-type", type=click.Choice(["f16", "q8_0"]), help="KV cache type.")
@click.option("--force", is_flag=True, help="Load the model even if it is not expected to fit into memory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def bench(program: Program, /, **options: Any) -> None:
    """Measure how fast a model runs on this machine.

    Prints llama-bench's table, in tokens per second: ppN reads a prompt of N tokens, tgN generates N tokens, and "@ dN"
    starts with N tokens already in the context. Each test runs once to warm up, then as many times as -r says. A second
    table shows the seconds to load the model, to the first token for a new prompt, and to the first token of a session
    resumed in a new process. --json uses llama-bench's field names in "results".

    The speeds are saved for `qwenchat models fit`. Run nothing else at the same time.
    """
    model = options["model"] or default_model(program)
    if not model:
        raise no_model()
    lengths = (options["prompt"], options["generate"], options["depth"])
    header = gguf.check(gguf.read_header(program.model_file(model)))
    n_ctx = _n_ctx(model, context_sizes(header, program.catalogue).limit, *lengths)
    given = {name: options[name] for name in ("threads", "gpu_layers", "kv_type")}
    wishes = LoadOptions(ctx=n_ctx, force=options["force"], with_peers=options["with_peers"], draft="off", **given)
    planner = _with_bench_hint(program.planner(model, wishes))
    output = BenchOutput(Output.standard(), as_json=options["as_json"])
    benched = _Bench(program, planner, output, header.vocab_size)
    results = asyncio.run(benched.run(*lengths, options["repetitions"]))
    is_usual = all(value is None for value in given.values())  # other options say nothing about normal use
    if is_usual and not benched.uses_peers:
        _save(program, gguf.identity(header.path), results)


def _n_ctx(model: str, limit: int, prompts: Sequence[int], generates: Sequence[int], depths: Sequence[int]) -> int:
    """Return the context window that the longest run needs. Raises WrongUse where the model's is smaller."""
    longest = max(*prompts, *generates)
    if not longest:
        raise WrongUse(_("Nothing to measure."), _("Set --prompt or --generate to a number above 0."))
    n_ctx = max(depths) + longest + _MARGIN
    if n_ctx > limit:
        raise WrongUse(
            _("{name} has a context window of at most {limit:,} tokens; these options need {asked:,}.").format(
                name=model, limit=limit, asked=n_ctx
            ),
            _("Use a smaller --depth, --prompt or --generate."),
        )
    return n_ctx


def _with_bench_hint(planner: Planner) -> Planner:
    """Return a planner whose hint for a model that does not fit names the options of this command."""

    def plan(devices: Sequence[Device]) -> PlannedModel:
        try:
            return planner(devices)
        except CannotLoad as error:
            hint = _("Use a smaller --depth or --prompt, --kv-type q8_0, a smaller quantisation, or --force.")
            raise CannotLoad(error.message, hint) from error

    return plan


class _Bench:
    """Runs one measurement after another and writes each result."""

    def __init__(self, program: Program, planner: Planner, output: BenchOutput, vocabulary: int) -> None:
        self._program, self._planner, self._output, self._vocabulary = program, planner, output, vocabulary
        self.uses_peers = False
        """Whether other machines took part in what was measured."""

    async def run(
        self, prompts: Sequence[int], generates: Sequence[int], depths: Sequence[int], repetitions: int
    ) -> list[BenchResult]:
        """Measure everything and return the results of the runs."""
        output, results = self._output, []
        prompt, resumed_prompt = max(prompts), max(depths) or max(prompts)
        can_resume = resumed_prompt >= WORTH_SAVING
        with tempfile.TemporaryDirectory(dir=private_folder(self._program.paths.cache)) as folder:
            saved_kv = SavedKV(Path(folder), 1 << 50)
            async with self._engine(saved_kv) as engine:
                model = await engine.benched_model()
                self.uses_peers = bool(model.plan.peers)
                can_resume = can_resume and not self.uses_peers  # then no KV cache is saved
                output.begin(model)
                for run in runs(prompts, generates, depths):
                    output.measuring(run.name)
                    results.append(await engine.measure(run, repetitions))
                    output.result(results[-1])
                output.measuring(_("first token"))
                firsts = [await engine.first_token(self._tokens(prompt, seed)) for seed in range(repetitions) if prompt]
                if can_resume:
                    await engine.first_token(self._tokens(resumed_prompt, repetitions), "bench")
            resumed = [await self._resumed(saved_kv, self._tokens(resumed_prompt, repetitions))] if can_resume else []
        output.end(prompt=prompt, first_token_s=firsts, resumed_prompt=resumed_prompt, resumed_s=resumed)
        return results

    async def _resumed(self, saved_kv: SavedKV, tokens: list[int]) -> float:
        """Return the seconds to the first token in a new process that loads the tokens from a saved KV cache."""
        async with self._engine(saved_kv) as engine:
            await engine.load()
            return await engine.first_token([*tokens, *self._tokens(_FOLLOW_UP, 0)], "bench")

    def _tokens(self, count: int, seed: int) -> list[int]:
        return random_tokens(self._vocabulary, count, seed)

    @asynccontextmanager
    async def _engine(self, saved_kv: SavedKV) -> AsyncIterator[BenchEngine]:
        engine = BenchEngine(self._planner, self._program.paths.engine_log, saved_kv)
        try:
            yield engine
        finally:
            await engine.close()


def _save(program: Program, identity: str, results: Sequence[BenchResult]) -> None:
    """Save the prefill and decode speed of the longest runs that began with an empty context."""
    speeds = {"prefill": 0.0, "decode": 0.0}
    for result in sorted(results, key=lambda result: _length(result.run)):
        if not result.run.depth and _length(result.run) >= _ENOUGH_TOKENS:
            speeds["prefill" if result.run.prompt else "decode"] = result.mean
    if any(speeds.values()):
        program.machine.measured.record(identity, prefill_tps=speeds["prefill"], decode_tps=speeds["decode"])


def _length(run: BenchRun) -> int:
    return run.prompt + run.generate
