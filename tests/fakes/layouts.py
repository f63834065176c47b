"""Models laid out on disk as other programs do it."""

import json
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fakes.ggufs import write_model

COMMIT = "c" * 40


@cache
def model_bytes(seed: int = 0, name: str = "Test") -> bytes:
    """Return the content of a model's file, made once."""
    with TemporaryDirectory() as folder:
        return write_model(Path(folder) / "m.gguf", seed=seed, name=name).read_bytes()


def hf_model(cache: Path, repo: str, name: str, *, sha256: str, seed: int = 0, commit: str = COMMIT) -> Path:
    """Put a model into a Hugging Face cache and return the link that has its name."""
    folder = cache / ("models--" + repo.replace("/", "--"))
    blob = folder / "blobs" / sha256
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(model_bytes(seed))
    link = folder / "snapshots" / commit / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    return link


def ollama_model(
    models: Path, name: str, tag: str, sha256: str, *, seed: int = 0, host: str = "registry.ollama.ai/library"
) -> Path:
    """Put a model into Ollama's folder, below a host and namespace, and return its blob."""
    manifest = models / "manifests" / host / name / tag
    manifest.parent.mkdir(parents=True, exist_ok=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:" + "0" * 64, "size": 3},
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{sha256}", "size": 5},
    ]
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    (models / "blobs").mkdir(exist_ok=True)
    blob = models / "blobs" / f"sha256-{sha256}"
    blob.write_bytes(model_bytes(seed))
    return blob
