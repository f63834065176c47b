"""The Qwen2 family as data (`catalogue.toml`): published files, their sizes and licences.

It works without a connection. With one, the hub's data takes precedence; nothing here can block a download.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

import msgspec
from msgspec import Struct

from qwenchat.i18n import language
from qwenchat.models.file_names import quant_label, split_name

_BELOW_FOUR_BITS = ("q2", "q3")
"""Prefixes of the labels of quantisations below four bits per weight."""


class PublishedPart(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a quantisation. Unknown facts are None or empty."""

    bytes: int | None = None
    sha256: str = ""


class Experts(Struct, frozen=True, forbid_unknown_fields=True):
    """The mixture of experts in 57B-A14B: feed-forward parts, of which each token uses a few."""

    count: int
    used: int
    ff: int
    shared_ff: int


class ModelShape(Struct, frozen=True, forbid_unknown_fields=True):
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
        """The number of weights, without the few thousand in norms and biases."""
        return self._embeddings(1 if self.tied else 2) + self._blocks(self.experts.count if self.experts else 0)

    @property
    def active_parameters(self) -> int:
        """The number of weights that decoding one token reads: one embedding matrix, and only the experts in use."""
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
    parts: tuple[PublishedPart, ...]
    about_gb: float = 0.0

    @property
    def size(self) -> int:
        """Bytes of all parts; an estimate unless `exact`."""
        known = [part.bytes for part in self.parts if part.bytes is not None]
        return sum(known) if self.exact else round(self.about_gb * 1e9)

    @property
    def rough(self) -> bool:
        """Whether it has fewer than four bits per weight, which users notice in the answers."""
        return self.label.startswith(_BELOW_FOUR_BITS)

    @property
    def exact(self) -> bool:
        """Whether every part's size is known."""
        return all(part.bytes is not None for part in self.parts)


class CatalogueModel(Struct, frozen=True, forbid_unknown_fields=True):
    """One size of the family."""

    size: str
    """The name that users type, such as `7b`."""
    title: str
    repo: str
    """The repository with the GGUF files."""
    stem: str
    original: str
    """The repository with the weights that the files were made from."""
    base: str
    """The repository of the model without instruction tuning; no GGUF of it is published."""
    licence: str
    licence_url: str
    must_accept: bool
    """Whether the licence has terms that the user must accept before the download."""
    context: int
    yarn_context: int
    """Tokens with YaRN rope scaling; 0 if the model's makers do not advise it."""
    advice: dict[str, str]
    shape: ModelShape
    quantisations: tuple[Quantisation, ...]

    def quantisation(self, label: str) -> Quantisation | None:
        """Return a quantisation by its label, in any spelling."""
        wanted = quant_label(label)
        return next((quant for quant in self.quantisations if quant.label == wanted), None)

    @property
    def offered(self) -> Sequence[Quantisation]:
        """The quantisations worth choosing by default, smallest first.

        Half precision is excluded: it is twice as slow as q8_0, and its answers are no better. If the width is not a
        multiple of 256, everything below q4 is excluded too: most tensors then fall back to larger types, which saves
        little.
        """
        quants = [q for q in self.quantisations if q.label != "f16"]
        if self.shape.width % 256:
            quants = [q for q in quants if not q.rough]
        return sorted(quants, key=lambda quant: quant.size)

    def file_names(self, quant: Quantisation) -> list[str]:
        """Return the names of a quantisation's files in the repository, part by part."""
        name = f"{self.stem}-{'fp16' if quant.label == 'f16' else quant.label}"
        count = len(quant.parts)
        return [f"{name}.gguf"] if count == 1 else [split_name(name, part, count) for part in range(1, count + 1)]

    def advice_here(self) -> str:
        """Return the advice about this model, one line, in the user's language."""
        return self.advice.get(language(), self.advice["en"])


@dataclass(frozen=True)
class Catalogue:
    """All models, smallest first."""

    models: tuple[CatalogueModel, ...]

    def get(self, size: str) -> CatalogueModel | None:
        """Return a model by its size, in any case."""
        return self._by_size.get(size.lower())

    def by_repo(self, repo: str) -> CatalogueModel | None:
        """Return the model whose GGUF repository this is."""
        return next((model for model in self.models if model.repo.lower() == repo.lower()), None)

    def by_sha256(self, sha256: str) -> "PublishedModel | None":
        """Return what has a file with this sha256 as its first; None for an empty or unknown one."""
        return self._by_sha256.get(sha256) if sha256 else None

    def by_file_name(self, name: str) -> "PublishedModel | None":
        """Return what has a file of this name, in any case, as its first."""
        return self._by_file_name.get(name.lower())

    def by_title(self, title: str, label: str) -> "PublishedModel | None":
        """Return a quantisation by the title in its file's header, however its words are joined, and its label."""
        return self._by_title.get((re.sub(r"[\s_]+", "-", title.lower()), label))

    @cached_property
    def _by_size(self) -> dict[str, CatalogueModel]:
        return {model.size: model for model in self.models}

    @cached_property
    def _published(self) -> "tuple[PublishedModel, ...]":
        return tuple(PublishedModel(model, quant) for model in self.models for quant in model.quantisations)

    @cached_property
    def _by_sha256(self) -> "dict[str, PublishedModel]":
        return {each.quant.parts[0].sha256: each for each in self._published if each.quant.parts[0].sha256}

    @cached_property
    def _by_file_name(self) -> "dict[str, PublishedModel]":
        return {each.model.file_names(each.quant)[0].lower(): each for each in self._published}

    @cached_property
    def _by_title(self) -> "dict[tuple[str, str], PublishedModel]":
        return {
            (title, each.quant.label): each
            for each in self._published
            for title in (f"qwen2-{each.model.size}-instruct", each.model.stem)
        }


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A quantisation of the catalogue with the facts that `fit` needs, named as in `gguf.ModelHeader`."""

    model: CatalogueModel
    quant: Quantisation

    @property
    def reference(self) -> str:
        """The model reference."""
        return f"{self.model.size}:{self.quant.label}"

    @property
    def file_size(self) -> int:
        """Bytes."""
        return self.quant.size

    @property
    def active_bytes(self) -> int:
        """Bytes that decoding one token reads, assuming that all weights have the same size."""
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


def load() -> Catalogue:
    """Read the catalogue that comes with the program."""
    text = files(__package__).joinpath("catalogue.toml").read_text("utf-8")
    return Catalogue(msgspec.convert(tomllib.loads(text)["models"], tuple[CatalogueModel, ...]))
