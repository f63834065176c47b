"""What `qwenchat bench` writes: llama-bench's Markdown table line by line, a table of waits, or one JSON object.

Column widths, units and field names are llama-bench's own, so that lines and objects compare with its.
"""

import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from unicodedata import east_asian_width

from qwenchat.cli.output import Output
from qwenchat.engine.bench import Facts, Result, deviation
from qwenchat.engine.hardware import processor
from qwenchat.engine.protocol import CHUNK
from qwenchat.i18n import _
from qwenchat.text import clean_line

_COLUMNS = {"model": -30, "size": 10, "params": 10, "backend": -10, "ngl": 3, "threads": 7, "test": 15, "t/s": 20}
"""Widths; what stands left is negative."""
_WAITS = {"wait": -42, "s": 20}


class BenchOutput:
    """Writes figures as they come."""

    def __init__(self, output: Output, *, as_json: bool) -> None:
        self._output, self._as_json = output, as_json
        self._results: list[dict[str, object]] = []
        self._live = output.err.isatty()

    def begin(self, facts: Facts) -> None:
        """Write the table's head."""
        self._facts = facts
        self._columns = {name: width for name, width in _COLUMNS.items() if name != "ngl" or facts.backend != "CPU"}
        self._head(self._columns)

    def doing(self, what: str) -> None:
        """Show on a terminal what is being measured; the next line that is written takes its place."""
        if self._live:
            self._output.err.write(f"\r\x1b[K{clean_line(what)}...")
            self._output.err.flush()

    def result(self, result: Result) -> None:
        """Write the figures of a run."""
        self._results.append(_fields(self._facts, result))
        self._row(
            self._columns,
            {
                "model": clean_line(self._facts.ready.description, 30).replace("|", "/"),
                "size": _size(self._facts.ready.tensor_bytes),
                "params": _count(self._facts.ready.parameters),
                "backend": self._facts.backend,
                "ngl": str(self._facts.plan.gpu_layers),
                "threads": str(self._facts.plan.threads),
                "test": result.run.name,
                "t/s": _mean(result.speeds),
            },
        )

    def end(self, new: tuple[int, Sequence[float]], resumed: tuple[int, float | None]) -> None:
        """Write the waits: how many tokens, and how many seconds each time."""
        (prompt, firsts), (held, again) = new, resumed
        self._clear()
        if self._as_json:
            waits = {
                "load_s": self._facts.ready.load_s,
                "first_token": _wait(prompt, firsts),
                "resume": _wait(held, [again] if again else []),
            }
            self._output.json({"results": self._results, **waits})
            return
        self._output.piece("\n")
        self._head(_WAITS, {"wait": _("wait")})
        self._row(_WAITS, {"wait": _("load"), "s": f"{self._facts.ready.load_s:.2f}"})
        if firsts:
            self._row(_WAITS, {"wait": _("first token, {count} tokens").format(count=prompt), "s": _mean(firsts)})
        if again:
            what = _("first token, resumed at {count} tokens").format(count=held)
            self._row(_WAITS, {"wait": what, "s": f"{again:.2f}"})

    def _head(self, columns: dict[str, int], shown: Mapping[str, str] | None = None) -> None:
        self._row(columns, {name: name for name in columns} | dict(shown or {}))
        self._row(columns, {name: "-" * (abs(width) - 1) + "-:"[width > 0] for name, width in columns.items()})

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


def _fields(facts: Facts, result: Result) -> dict[str, object]:
    """Return llama-bench's fields as far as this program has a say in them."""
    plan, ready, run = facts.plan, facts.ready, result.run
    times = result.nanoseconds
    return {
        "build_commit": f"llama-cpp-python {facts.hello.binding}",
        "cpu_info": processor(),
        "gpu_info": ", ".join(device.description for device in facts.hello.devices),
        "backends": facts.backend,
        "model_filename": plan.path,
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


def _padded(text: str, width: int) -> str:
    """Return text with spaces up to a width in terminal columns, on its left where the width is positive."""
    spaces = " " * (abs(width) - len(text) - sum(east_asian_width(character) in "WF" for character in text))
    return spaces + text if width > 0 else text + spaces


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f} ± {deviation(values):.2f}"


def _size(count: int) -> str:
    return f"{count / 2**20:.2f} MiB" if count < 2**30 else f"{count / 2**30:.2f} GiB"


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number < 1e9 else f"{number / 1e9:.2f} B"
