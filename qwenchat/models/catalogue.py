"""The Qwen2 family as data (`catalogue.toml`): what is published, how large, under which licence.

It serves where there is no connection. With one, what the hub says wins; nothing here can block a download.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

import msgspec
from msgspec import Struct

from qwenchat.i18n import language

_ROUGH = ("q2", "q3")
"""How labels of quantisations below four bits begin."""


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a quantisation as far as it is known exactly."""

    bytes: int | None = None
    sha256: str = ""


class Experts(Struct, frozen=True, forbid_unknown_fields=True):
    """The mixture of 57B-A14B: feed-forward parts of which a token uses a few."""

    count: int
    used: int
    ff: int
    shared_ff: int


class Shape(Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes of a model, from its makers' `config.json`."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    """Elements of one head."""
    ff: int
    vocabulary: int
    tied: bool
    """Whether the output matrix is the embedding."""
    experts: Experts | None = None

    @property
    def parameters(self) -> int:
        """All weights, without the few thousand of norms and biases."""
        return self._embeddings(1 if self.tied else 2) + self._blocks(self.experts.count if self.experts else 0)

    @property
    def active_parameters(self) -> int:
        """Weights that decoding one token reads: one embedding matrix, of the experts only those in use."""
        return self._embeddings(1) + self._blocks(self.experts.used if self.experts else 0)

    def _embeddings(self, count: int) -> int:
        return count * self.vocabulary * self.width

    def _blocks(self, experts: int) -> int:
        attention = 2 * self.width * self.head * (self.heads + self.kv_heads)
        mix = self.experts
        rows = experts * mix.ff + mix.shared_ff if mix else self.ff
        return self.layers * (attention + 3 * self.width * rows)


class Quantisation(Struct, frozen=True, forbid_unknown_fields=True):
    """One published quantisation."""

    label: str
    parts: tuple[Part, ...]
    about_gb: float = 0.0

    @property
    def size(self) -> int:
        """Bytes of all parts, exact where `exact` says so."""
        known = [part.bytes for part in self.parts if part.bytes is not None]
        return sum(known) if self.exact else round(self.about_gb * 1e9)

    @property
    def rough(self) -> bool:
        """Whether it has fewer than four bits a weight, which people notice in the answers."""
        return self.label.startswith(_ROUGH)

    @property
    def exact(self) -> bool:
        """Whether every part's size is known."""
        return all(part.bytes is not None for part in self.parts)


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """One size of the family."""

    size: str
    """What a person calls it, such as `7b`."""
    title: str
    repo: str
    """Of the GGUF files."""
    stem: str
    original: str
    """The repository with the weights that the files were made from."""
    base: str
    """The repository of the model without instruction tuning; no GGUF of it is published."""
    licence: str
    licence_url: str
    must_accept: bool
    """Whether the licence has terms that a person has to accept before the download."""
    context: int
    yarn_context: int
    """Tokens with YaRN rope scaling; 0 where its makers advise none."""
    advice: dict[str, str]
    shape: Shape
    quantisations: tuple[Quantisation, ...]

    def quantisation(self, label: str) -> Quantisation | None:
        """Return a quantisation by its label, in any spelling."""
        wanted = quant_label(label)
        return next((quant for quant in self.quantisations if quant.label == wanted), None)

    @property
    def offered(self) -> Sequence[Quantisation]:
        """The quantisations worth taking by default, smallest first.

        Not half precision, which is twice as slow as q8_0 and no better to read; and where the width is no multiple
        of 256 nothing below q4, as most tensors then fall back to larger types and little is saved.
        """
        quants = [q for q in self.quantisations if q.label != "f16"]
        if self.shape.width % 256:
            quants = [q for q in quants if not q.rough]
        return sorted(quants, key=lambda quant: quant.size)

    def file_names(self, quant: Quantisation) -> list[str]:
        """Return the names of a quantisation's files in the repository, part by part."""
        name = f"{self.stem}-{'fp16' if quant.label == 'f16' else quant.label}"
        count = len(quant.parts)
        if count == 1:
            return [f"{name}.gguf"]
        return [f"{name}-{part:05}-of-{count:05}.gguf" for part in range(1, count + 1)]

    def advice_here(self) -> str:
        """Return the line of advice in the language being spoken."""
        return self.advice.get(language(), self.advice["en"])


@dataclass(frozen=True)
class Catalog:
    """All sizes, smallest first."""

    models: tuple[Model, ...]

    def get(self, size: str) -> Model | None:
        """Return a model by its size, in any case."""
        return self._by_size.get(size.lower())

    def by_repo(self, repo: str) -> Model | None:
        """Return the model whose GGUF repository this is."""
        return next((model for model in self.models if model.repo.lower() == repo.lower()), None)

    @cached_property
    def _by_size(self) -> dict[str, Model]:
        return {model.size: model for model in self.models}


@dataclass(frozen=True, slots=True)
class Published:
    """A quantisation with what `fit` needs to know of it, in a file's terms (see `gguf.Header`)."""

    model: Model
    quant: Quantisation

    @property
    def reference(self) -> str:
        """What to type to get it."""
        return f"{self.model.size}:{self.quant.label}"

    @property
    def file_size(self) -> int:
        """Bytes."""
        return self.quant.size

    @property
    def active_bytes(self) -> int:
        """Bytes that decoding one token reads, as if all weights were equally large."""
        return self.quant.size * self.model.shape.active_parameters // self.model.shape.parameters

    @property
    def layers(self) -> int:
        """Blocks."""
        return self.model.shape.layers

    @property
    def kv_heads(self) -> int:
        """KV heads of a layer."""
        return self.model.shape.kv_heads

    @property
    def key_length(self) -> int:
        """Elements of one key."""
        return self.model.shape.head

    @property
    def value_length(self) -> int:
        """Elements of one value."""
        return self.model.shape.head


def load() -> Catalog:
    """Read the catalogue that comes with the program."""
    text = files(__package__).joinpath("catalogue.toml").read_text("utf-8")
    return Catalog(msgspec.convert(tomllib.loads(text)["models"], tuple[Model, ...]))


def quant_label(word: str) -> str:
    """Return a quantisation's label as used here, whatever way it was spelt: `Q4_K_M`, `fp16`."""
    label = word.lower().replace("-", "_")
    return {"fp16": "f16", "fp32": "f32"}.get(label, label)
