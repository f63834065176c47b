"""Models laid out on disk as other programs do it."""

import json
import os
from pathlib import Path

from tests.fakes.ggufs import write_model

COMMIT = "c" * 40


def hf_model(cache: Path, repo: str, name: str, *, sha256: str, seed: int = 0, commit: str = COMMIT) -> Path:
    """Put a model into a Hugging Face cache and return the link that has its name."""
    folder = cache / ("models--" + repo.replace("/", "--"))
    blob = folder / "blobs" / sha256
    blob.parent.mkdir(parents=True, exist_ok=True)
    write_model(blob, seed=seed)
    link = folder / "snapshots" / commit / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    return link


def ollama_model(models: Path, name: str, tag: str, sha256: str, seed: int = 0) -> Path:
    """Put a model into Ollama's folder and return its blob."""
    manifest = models / "manifests/registry.ollama.ai/library" / name / tag
    manifest.parent.mkdir(parents=True, exist_ok=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:" + "0" * 64, "size": 3},
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{sha256}", "size": 5},
    ]
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    (models / "blobs").mkdir(exist_ok=True)
    return write_model(models / "blobs" / f"sha256-{sha256}", seed=seed, name="Qwen2-7B-Instruct")
