"""Memory that can't be had is called that, with the numbers, wherever the worker or the program runs into it."""

import sys
from pathlib import Path

import psutil
import pytest

from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.local.loaded_model import PlannedModel
from qwenchat.engines.local.saved_kv import SavedKV
from qwenchat.errors import CannotLoad, Recovery, RecoveryKind
from tests.cli.test_broken_binding import broken
from tests.fakes.commands import ROOT, qwenchat
from tests.fakes.engines import planned

pytestmark = pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="this system has no such limit")
_LIMITED = """
import os, resource, sys
limit = int(sys.argv[1]) << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("more_mib", [0, 4, 24])
async def test_a_worker_that_gets_no_memory(more_mib: int, tiny: Path, tmp_path: Path) -> None:
    """Threads, the model and the KV cache fail each in its own way."""

    def limited(_devices: object) -> PlannedModel:
        worker = psutil.Process(made.worker_pid)
        limit = worker.memory_info().vms + (more_mib << 20)
        worker.rlimit(psutil.RLIMIT_AS, (limit, limit))
        return planned(tiny, n_ctx=1 << 17)

    made = LocalEngine(limited, tmp_path / "engine.log", SavedKV(tmp_path / "kv", 0))
    with pytest.raises(CannotLoad, match=r"not enough memory for tiny\.gguf\..* free") as caught:
        await made.load()
    assert Recovery(RecoveryKind.SMALLER_CONTEXT, 65536) in caught.value.recoveries
    assert made.worker_pid is None


def test_a_program_that_gets_no_memory(tiny: Path) -> None:
    """64 MiB hold Python and the command, and nothing that answers."""
    said = failing_within(64, "ask", "-m", tiny, "--force", "hi")
    assert "not enough memory" in said and "ulimit -v limits it to 67.1 MB" in said


@pytest.mark.parametrize("command", ["ask", "doctor", "serve"])
def test_a_worker_that_fails_in_other_words(command: str, tiny: Path, tmp_path: Path) -> None:
    """Where addresses are scarce, even the list of installed packages can come back empty."""
    options: dict[str, list[str | Path]] = {"ask": ["-m", tiny, "--force", "hi"], "serve": ["--rpc"]}
    said = failing_within(900, command, *options.get(command, []), path=broken("half there", tmp_path))
    assert "not enough memory" in said and "ulimit -v limits it to 944 MB" in said
    assert "llama-cpp-python can't be used" not in said and "--force-reinstall" not in said


def failing_within(mib: int, *words: str | Path, path: str = str(ROOT)) -> str:
    """Run a command with so much room for addresses, see that it can't load a model, and return what it says."""
    done = qwenchat(*words, by=(sys.executable, "-c", _LIMITED, str(mib)), PYTHONPATH=path)
    assert done.returncode == 5, done.stderr
    return done.stdout + done.stderr
