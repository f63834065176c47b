"""An adapter that can't be used is refused with its name and the reason; what is accepted, llama.cpp accepts too."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qwenchat.engines.local.protocol import LoadPlan, Lora
from qwenchat.engines.worker.c_api import Abort, LoadFailed, bindings
from qwenchat.engines.worker.llama import LlamaModel
from qwenchat.errors import ExitCode, QwenchatError
from qwenchat.models.adapter import check_adapters
from qwenchat.models.gguf import read_header
from tests.fakes import ggufs
from tests.fakes.commands import qwenchat
from tests.fakes.ggufs import Shape, write_lora


def load(model: Path, adapter: Path) -> None:
    plan = LoadPlan(path=os.fsencode(model), identity="x", n_ctx=256, threads=1, loras=(Lora(os.fsencode(adapter)),))
    LlamaModel(bindings(), plan, Abort(), lambda fraction: True)


def cut(path: Path, length: int) -> None:
    write_lora(path)
    path.write_bytes(path.read_bytes()[:length])


def peft(folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(b"weights")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "another width": (lambda path: write_lora(path, shape=Shape(width=256)), "256 × 256, and the model's is 128 × 128"),
    "another architecture": (lambda path: write_lora(path, arch="llama"), "for llama, and the model is qwen2"),
    "cut in its weights": (lambda path: cut(path, 1000), "incomplete"),
    "cut in its header": (lambda path: cut(path, 200), "middle of its header"),
    "a model": (ggufs.write_model, "is a model, not an adapter"),
    "a control vector": (lambda path: write_lora(path, kind="controlvector"), "contains controlvector"),
    "another kind": (lambda path: write_lora(path, form="ia3"), "contains ia3"),
    "one half": (lambda path: write_lora(path, halves=["lora_a"]), "has no pair"),
    "another layer": (lambda path: write_lora(path, tensor="blk.99.attn_output.weight"), "blk.99.attn_output.weight"),
    "not GGUF": (lambda path: path.write_bytes(b"PK weights"), "not a GGUF file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "a folder": (lambda path: path.mkdir(), "not a GGUF adapter"),
    "a PEFT folder": (peft, "convert_lora_to_gguf.py"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_which_adapter_and_why(kind: str, tiny: Path, tmp_path: Path) -> None:
    make, why = REFUSED[kind]
    good, bad = write_lora(tmp_path / "good.gguf"), tmp_path / "bad \x1b[31m.gguf"
    make(bad)
    with pytest.raises(QwenchatError) as caught:
        check_adapters([good, bad], read_header(tiny))
    error = caught.value
    assert why in error.message + error.hint and error.message.startswith("bad [31m.gguf") and error.hint
    assert error.exit_code in (ExitCode.CANNOT_LOAD, ExitCode.FILE)
    with pytest.raises(LoadFailed):
        load(tiny, bad)


def test_an_adapter_without_weights_is_refused_although_llama_cpp_takes_it(tiny: Path, tmp_path: Path) -> None:
    empty = write_lora(tmp_path / "empty.gguf", halves=[])
    load(tiny, empty)
    with pytest.raises(QwenchatError, match=r"empty.gguf contains no weights"):
        check_adapters([empty], read_header(tiny))


def test_what_is_accepted_can_be_loaded(tmp_path: Path) -> None:
    model = ggufs.write_model(tmp_path / "m.gguf", tensors_per_part=10)
    adapter = write_lora(tmp_path / "good.gguf", rank=3)
    check_adapters([adapter], read_header(model))
    load(model, adapter)


def test_weights_that_peft_saved_name_their_folder(tiny: Path, tmp_path: Path) -> None:
    peft(tmp_path / "my adapter")
    for given in (tmp_path / "my adapter", tmp_path / "my adapter/adapter_model.safetensors"):
        done = qwenchat("ask", "-m", tiny, "--lora", given, "hi")
        assert done.returncode == 5 and done.stdout == ""
        assert f"convert_lora_to_gguf.py '{tmp_path}/my adapter'" in done.stderr
