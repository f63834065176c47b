"""`qwenchat bench`: llama-bench's lines and field names, and speeds that the fit table then knows."""

import json
import re
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from qwenchat.cli import bench
from qwenchat.engines.local.loaded_model import PlannedModel
from qwenchat.errors import CannotLoad
from tests.fakes import ggufs
from tests.fakes.commands import environment, qwenchat

# As llama-bench prints them on a processor.
HEAD = (
    "| model                          |       size |     params | backend    | threads "
    "|            test |                  t/s |\n"
    "| ------------------------------ | ---------: | ---------: | ---------- | ------: "
    "| --------------: | -------------------: |\n"
)
LINE = re.compile(
    r"\| qwen2 .{24} \| {3,}\d+\.\d\d MiB \| {3,}\d+\.\d\d M \| CPU {7} \| {7}2 "
    r"\| +(\S.*\S) \| +\d+\.\d\d ± \d+\.\d\d \|"
)
FIELDS = """backends model_filename model_type model_size model_n_params n_batch n_ubatch n_threads type_k type_v
    n_gpu_layers flash_attn n_prompt n_gen n_depth test_time avg_ns stddev_ns avg_ts stddev_ts samples_ns
    samples_ts build_commit cpu_info gpu_info"""


@pytest.fixture(scope="module")
def roomy(models: Path) -> Path:
    """A model with a window in which there is room before a prompt."""
    return ggufs.write_model(models / "roomy.gguf", shape=ggufs.Shape(context=8192))


def test_the_table_is_llama_benchs(roomy: Path) -> None:
    done = qwenchat("bench", "-m", roomy, "-p", "64", "-n", "4", "-d", "0,512", "-r", "2", "--threads", "2")
    assert (done.returncode, done.stderr) == (0, "")
    table, waits = done.stdout.split("\n\n")
    assert table.startswith(HEAD)
    names = [match[1] if (match := LINE.fullmatch(line)) else line for line in table.splitlines()[2:]]
    assert names == ["pp64", "tg4", "pp64 @ d512", "tg4 @ d512"]
    first, line, *rows = waits.splitlines()
    assert len({len(row) for row in (first, line, *rows)}) == 1
    assert [row.split("|")[1].strip() for row in rows] == [
        "load",
        "first token, 64 tokens",
        "first token, resumed at 512 tokens",
    ]


def test_json_has_the_same_under_llama_benchs_names_and_the_fit_table_learns_it(roomy: Path) -> None:
    before = json.loads(qwenchat("models", "fit", roomy, "--json").stdout)["models"][0]
    assert not before["measured"]
    done = json.loads(qwenchat("bench", "-m", roomy, "-r", "3", "--json").stdout)
    prompt, generated = done["results"]
    for result in (prompt, generated):
        assert set(result) == set(FIELDS.split())
        tokens = result["n_prompt"] + result["n_gen"]
        assert result["samples_ts"] == [pytest.approx(1e9 * tokens / spent) for spent in result["samples_ns"]]
        assert result["avg_ts"] == pytest.approx(statistics.mean(result["samples_ts"]))
        assert result["stddev_ts"] == pytest.approx(statistics.stdev(result["samples_ts"]))
    assert [(r["n_prompt"], r["n_gen"], r["n_depth"]) for r in done["results"]] == [(512, 0, 0), (0, 128, 0)]
    assert done["first_token"]["n_tokens"] == done["resume"]["n_tokens"] == 512
    assert done["load_s"] > 0 < done["resume"]["avg_s"]
    after = json.loads(qwenchat("models", "fit", roomy, "--json").stdout)["models"][0]
    assert after["measured"] and after["decode_tps"] == pytest.approx(generated["avg_ts"])


def test_nothing_is_left_behind(roomy: Path, home: Path) -> None:
    assert qwenchat("bench", "-m", roomy, "-p", "300", "-n", "0", "-r", "1", "--threads", "1").returncode == 0
    assert not list((home / "cache").iterdir())
    assert not (home / "data" / "models" / "measured.json").exists()  # with other threads than usual


@pytest.mark.parametrize(
    ("words", "code"),
    [(["-d", "8192"], 2), (["-p", "many"], 2), (["-p", "-1"], 2), (["-r", "0"], 2), (["-p", "0", "-n", "0"], 2)],
)
def test_what_makes_no_sense_is_refused(words: list[str], code: int, roomy: Path) -> None:
    done = qwenchat("bench", "-m", roomy, *words)
    assert (done.returncode, done.stdout) == (code, "")


def test_advice_names_this_commands_own_options() -> None:
    def no_room(_devices: object) -> PlannedModel:
        raise CannotLoad("It needs more.", "Use --ctx 5.")

    with pytest.raises(CannotLoad, match="needs more") as caught:
        bench._with_bench_hint(no_room)([])
    assert "--depth" in caught.value.hint and "--ctx" not in caught.value.hint


def test_without_a_model_it_says_where_to_get_one() -> None:
    done = qwenchat("bench")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 2)


def test_ctrl_c_ends_it_and_leaves_nothing_running(roomy: Path) -> None:
    words = ["bench", "-m", str(roomy), "-n", "4000", "-r", "1000"]
    bench = subprocess.Popen(
        [sys.executable, "-m", "qwenchat", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert bench.stdout and bench.stderr
    assert bench.stdout.readline().startswith(b"| model")
    children = psutil.Process(bench.pid).children(recursive=True)
    bench.send_signal(signal.SIGINT)
    assert (bench.wait(60), bench.stderr.read().strip()) == (130, b"")
    assert psutil.wait_procs(children, 10)[1] == []
