"""Reads a trained guide back from its GGUF file, to train it further."""

from pathlib import Path

import torch
from gguf import GGUFReader, quants

from qwenchat.models.guide.network import Qwen2, Shape
from qwenchat.models.guide.tokens import Codec


def read(path: Path) -> tuple[Qwen2, Codec]:
    """Return the network, as exact as its quantisation left it, and its tokens."""
    reader = GGUFReader(path)
    tokens = _texts(reader, "tokenizer.ggml.tokens")
    merges = (merge.partition(" ") for merge in _texts(reader, "tokenizer.ggml.merges"))
    network = Qwen2(Shape(len(tokens)))
    network.load_state_dict(
        {
            tensor.name: torch.from_numpy(quants.dequantize(tensor.data, tensor.tensor_type).copy())
            for tensor in reader.tensors
        }
    )
    return network, Codec(tokens, tuple((left, right) for left, _space, right in merges))


def _texts(reader: GGUFReader, key: str) -> tuple[str, ...]:
    return tuple(reader.fields[key].contents())
