"""A GGUF with the exact shape of Qwen2-0.5B, made here: random weights, and a vocabulary of its size.

Speed and memory of llama.cpp do not depend on the weights' values, so such a file stands in for the real one; what
it says is noise. The vocabulary is bytes, ChatML's markers and made-up words up to Qwen2's 151,936 tokens.
"""

import itertools
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from tests.fakes.ggufs import CHATML, END_OF_TEXT, TURN_END, TURN_START, Shape, Vocabulary, blocks, describe, finish

QWEN2_05B = Shape(layers=24, width=896, heads=14, kv_heads=2, ff=4864, context=32768)
VOCABULARY = 151_936
_Q4_K_M = 15  # LLAMA_FTYPE_MOSTLY_Q4_K_M


def model_file(folder: Path) -> Path:
    """Return the model in q4_k_m, made in about a minute where it is not there yet."""
    done = folder / "synthetic-qwen2-0.5b-q4_k_m.gguf"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        full = folder / "synthetic-qwen2-0.5b-q8_0.gguf"
        _write(full)
        _quantise(full, done)
        full.unlink()
    return done


def vocabulary() -> Vocabulary:
    """Return tokens up to Qwen2's number; made-up words have no merges, so that they are sampled but never read."""
    small = Vocabulary.small()
    words = ("".join(letters).encode() for letters in itertools.product(string.ascii_lowercase, repeat=4))
    known = set(small.tokens)
    extra = itertools.islice((b" " + word for word in words if word not in known), VOCABULARY - len(small.tokens))
    return Vocabulary((*small.tokens[:-3], *extra, END_OF_TEXT, TURN_START, TURN_END), small.merges)


def _write(path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = GGUFWriter(path, "qwen2")
    describe(writer, QWEN2_05B, "Synthetic Qwen2 0.5B", vocabulary(), CHATML)
    for name, dims in (("token_embd.weight", (VOCABULARY, QWEN2_05B.width)), *blocks(QWEN2_05B)):
        if len(dims) == 1:
            writer.add_tensor(name, np.full(dims, "norm" in name, np.float32))
            continue
        quants = np.empty((dims[0], dims[1] // 32, 34), np.uint8)  # q8_0: a scale in f16, then 32 int8
        quants[..., :2] = np.frombuffer(np.float16(0.02 / 64).tobytes(), np.uint8)
        quants[..., 2:] = rng.integers(0, 256, (*quants.shape[:2], 32), dtype=np.uint8)
        writer.add_tensor(name, quants.reshape(dims[0], -1), raw_dtype=GGMLQuantizationType.Q8_0)
    finish(writer)


def _quantise(source: Path, target: Path) -> None:
    """Quantise in a process whose chatter goes nowhere."""
    script = (
        "import ctypes, sys\n"
        "from llama_cpp import llama_cpp as c\n"
        "params = c.llama_model_quantize_default_params()\n"
        f"params.ftype, params.allow_requantize, params.nthread = {_Q4_K_M}, True, 2\n"
        "sys.exit(c.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(params)))\n"
    )
    subprocess.run([sys.executable, "-c", script, source, target], check=True, capture_output=True)
