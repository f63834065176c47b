"""How long 200 models take to list, cold and warm, and one header against the gguf package's own reader.

    python -m tests.bench.models [FOLDER]

Makes 200 files below FOLDER (1.2 GB, removed at the end): full vocabularies of 151,936 tokens, 339 tensors, the
weights' place empty. Prints a Markdown table. Cold: no header was cached by us; the disk's own cache is warm, and
dropped for the line that says so.
"""

import gc
import os
import random
import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gguf import GGUFReader

from qwenchat.models import catalogue, fit
from qwenchat.models.folders import ModelFolders
from qwenchat.models.gguf import identity, read_header
from qwenchat.models.library import Library
from tests.fakes.ggufs import CHATML, entry, header, word

COUNT = 200


def main() -> None:
    """Make the files, measure, print."""
    root = Path(tempfile.mkdtemp(dir=sys.argv[1] if len(sys.argv) > 1 else None))
    try:
        files = make(root / "models")
        folders = ModelFolders(
            own=(), folders=(root / "models",), hf=root / "none", llama_cpp=(), ollama=(), lmstudio=()
        )
        machine = fit.Resources(16 << 30, 12 << 30)

        def listing() -> None:
            assert len(Library(folders, root / "cache", catalogue.load(), lambda: machine).usable()) == COUNT

        def cold() -> None:
            shutil.rmtree(root / "cache", ignore_errors=True)
            listing()

        def from_disk() -> None:
            for file in files:
                with file.open("rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            cold()

        one = files[0]
        rows = [
            ("list 200 models, cold, from the disk itself", timed(from_disk, 1)),
            ("list 200 models, cold", timed(cold)),
            ("list 200 models, warm", timed(listing)),
            ("one header, qwenchat", timed(lambda: read_header(one), 20)),
            ("one header, gguf.GGUFReader", timed(lambda: GGUFReader(one), 3)),
            ("identity of one model", timed(lambda: identity(one), 20)),
        ]
        print("| what | median ms |\n|---|---|")
        for name, seconds in rows:
            print(f"| {name} | {seconds * 1000:.1f} |")
    finally:
        shutil.rmtree(root)


def timed(what: Callable[[], object], times: int = 5) -> float:
    """Return the median seconds that a call takes."""
    seconds = []
    for _run in range(times):
        gc.collect()
        start = time.perf_counter()
        what()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def make(folder: Path) -> list[Path]:
    """Write the models and return their paths."""
    folder.mkdir()
    rng = random.Random(0)
    lengths = [rng.choice([2, 3, 4, 5, 6, 7, 8, 9, 12, 16]) for _token in range(151_936)]
    tokens = b"".join(word("x" * length) for length in lengths)
    merges = b"".join(word("xx " + "x" * length) for length in lengths[:151_387])
    kinds = struct.pack("<IQ", 5, len(lengths)) + struct.pack("<i", 1) * len(lengths)
    shape = [("block_count", 28), ("embedding_length", 3584), ("context_length", 32768), ("feed_forward_length", 18944)]
    shape += [("attention.head_count", 28), ("attention.head_count_kv", 4)]
    tail = [
        entry("tokenizer.ggml.model", 8, word("gpt2")),
        entry("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, len(lengths)) + tokens),
        entry("tokenizer.ggml.token_type", 9, kinds),
        entry("tokenizer.ggml.merges", 9, struct.pack("<IQ", 8, 151_387) + merges),
        entry("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 151_645)),
        entry("tokenizer.chat_template", 8, word(CHATML)),
        entry("general.quantization_version", 4, struct.pack("<I", 2)),
        entry("general.file_type", 4, struct.pack("<I", 15)),
    ]
    infos = b"".join(
        word(f"blk.{index // 12}.attn_{index}.weight") + struct.pack("<IQQIQ", 2, 3584, 3584, 12, index * 7_225_344)
        for index in range(339)
    )
    paths = []
    for number in range(COUNT):
        first = [entry("general.architecture", 8, word("qwen2")), entry("general.name", 8, word(f"Model {number}"))]
        first += [entry(f"qwen2.{key}", 4, struct.pack("<I", value)) for key, value in shape]
        path = folder / f"model-{number}.gguf"
        with path.open("wb") as file:
            file.write(header(tensors=339, body=[*first, *tail]) + infos)
            file.truncate(2_500_000_000)
        paths.append(path)
    return paths


if __name__ == "__main__":
    main()
