"""Qwen2 and its relatives as data: published files, their sizes and licences, sampling parameters, abilities.

Qwen2 itself is in `catalogue.toml`; the families of the same architecture that came after it are in `relatives.toml`.
It works without a connection. With one, the hub's data takes precedence; nothing here can block a download.
"""

import re
import tomllib
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import cached_property
from importlib.resources import files
from typing import Literal

import msgspec
from msgspec import Struct

from qwenchat.chat.sampling import UNSET, Sampling
from qwenchat.i18n import language
from qwenchat.models.file_names import quant_label, split_name, whole_name

QWEN2 = "qwen2"
"""The family that is shown, recommended and named first: its models need no other name than their size."""
_FILES = ("catalogue.toml", "relatives.toml")
_BELOW_FOUR_BITS = ("q2", "q3")
"""Prefixes of the labels of quantisations below four bits per weight."""
ToolCalls = Literal["yes", "weak", "no"]
"""How well a model calls tools: `weak` where it is luck whether it calls at all."""
_WIDTH_OF_7B = 3584
"""Of Qwen2 with 7B parameters, and of 57B-A14B; smaller models call unreliably."""


def tools_by_width(width: int) -> ToolCalls:
    """Return how well an instruct model calls tools, by the width of its embedding."""
    return "yes" if width >= _WIDTH_OF_7B else "weak"


class Purpose(StrEnum):
    """What a model is for."""

    CHAT = "chat"
    REASONING = "reasoning"
    """It thinks before it answers."""
    COMPLETION = "completion"
    """It continues a text: a base model."""


class Family(Struct, frozen=True, forbid_unknown_fields=True):
    """Models of several sizes that were trained for the same work."""

    name: str
    """The name that users type, such as `coder`."""
    title: str
    about: dict[str, str]
    aliases: tuple[str, ...] = ()

    def about_here(self) -> str:
        """Return what the family is for, one line, in the user's language."""
        return self.about.get(language(), self.about["en"])


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
    """Whether the files have one matrix as embedding and output matrix."""
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
    """One size of a family."""

    size: str
    """Such as `7b`."""
    title: str
    repo: str
    """The repository with the GGUF files."""
    stem: str
    """The beginning of the files' names; the quantisation follows, in capitals if the stem has any."""
    original: str
    """The repository with the weights that the files were made from."""
    base: str
    """The repository of the model that it was trained from."""
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
    family: str = QWEN2
    """The family's name."""
    purpose: Purpose = Purpose.CHAT
    tools: ToolCalls | None = None
    """How well it calls tools, where its size does not say it."""
    sampling: Sampling = UNSET
    """What its makers advise, where it is not what they advise for Qwen2 (`chat.sampling.qwen2_defaults`)."""

    @property
    def name(self) -> str:
        """The name that users type: its size, after the family's name unless that is Qwen2."""
        return self.size if self.family == QWEN2 else f"{self.family}-{self.size}"

    @property
    def is_from_its_makers(self) -> bool:
        """Whether those who made the model publish these files."""
        return self.repo.partition("/")[0] == self.original.partition("/")[0]

    @property
    def calls_tools(self) -> ToolCalls:
        """How well it calls tools."""
        return self.tools or tools_by_width(self.shape.width)

    def reference(self, quant: Quantisation) -> str:
        """Return the model reference of a quantisation."""
        return f"{self.name}:{quant.label}"

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
        label = "fp16" if quant.label == "f16" else quant.label
        name = f"{self.stem}-{label if self.stem.islower() else label.upper()}"
        count = len(quant.parts)
        return [f"{name}.gguf"] if count == 1 else [split_name(name, part, count) for part in range(1, count + 1)]

    def advice_here(self) -> str:
        """Return the advice about this model, one line, in the user's language."""
        return self.advice.get(language(), self.advice["en"])


class Catalogue(Struct, frozen=True, dict=True):
    """All models, Qwen2's first; those of one family together, smallest first."""

    models: tuple[CatalogueModel, ...]
    families: tuple[Family, ...]

    @property
    def relatives(self) -> Sequence[Family]:
        """The families beside Qwen2."""
        return [family for family in self.families if family.name != QWEN2]

    def of(self, family: str) -> Sequence[CatalogueModel]:
        """Return the models of the family with this name, smallest first."""
        return [model for model in self.models if model.family == family]

    def family(self, name: str) -> Family | None:
        """Return a family by its name or another one that it is known under, in any case."""
        return self._by_family.get(name.lower())

    def get(self, name: str) -> CatalogueModel | None:
        """Return a model by its name, in any case and however its words are joined; `-instruct` may be left out.

        Names are a size of Qwen2, a family and a size, and a title.
        """
        return self._by_name.get(_without_instruct(name))

    def by_repo(self, repo: str) -> CatalogueModel | None:
        """Return the model whose GGUF repository this is."""
        return next((model for model in self.models if model.repo.lower() == repo.lower()), None)

    def by_sha256(self, sha256: str) -> "PublishedModel | None":
        """Return what has a file with this sha256 as its first; None for an empty or unknown one."""
        return self._by_sha256.get(sha256) if sha256 else None

    def by_file_name(self, name: str) -> "PublishedModel | None":
        """Return what has a file of this name, in any case, as its first or only one."""
        return self._by_file_name.get(whole_name(name).lower())

    def by_title(self, title: str, layers: int, width: int) -> CatalogueModel | None:
        """Return the model with the title and the shape of a file's header, however the title's words are joined."""
        model = self._by_title.get(_hyphenated(title))
        return model if model and (model.shape.layers, model.shape.width) == (layers, width) else None

    def by_served_name(self, name: str) -> CatalogueModel | None:
        """Return the model that a server calls `Qwen/QwQ-32B`, `qwq:32b` or by the path of its file."""
        last = re.split(r"[\\/]", name)[-1]
        published = self.by_file_name(last)
        return published.model if published else self.get(last.replace(":", "-"))

    @cached_property
    def _by_family(self) -> dict[str, Family]:
        return {name: family for family in self.families for name in (family.name, *family.aliases)}

    @cached_property
    def _by_name(self) -> dict[str, CatalogueModel]:
        found: dict[str, CatalogueModel] = {}
        for model in self.models:
            for name in (model.name, *self._other_names(model)):
                found.setdefault(_without_instruct(name), model)
        return found

    def _other_names(self, model: CatalogueModel) -> Iterator[str]:
        family = self._by_family[model.family]
        names = (family.name, *family.aliases)
        yield from (f"{name}-{model.size}" for name in names)
        yield model.title
        if len(self.of(family.name)) == 1:
            yield from names

    @cached_property
    def _published(self) -> "tuple[PublishedModel, ...]":
        return tuple(PublishedModel(model, quant) for model in self.models for quant in model.quantisations)

    @cached_property
    def _by_sha256(self) -> "dict[str, PublishedModel]":
        return {each.quant.parts[0].sha256: each for each in self._published if each.quant.parts[0].sha256}

    @cached_property
    def _by_file_name(self) -> "dict[str, PublishedModel]":
        return {whole_name(each.model.file_names(each.quant)[0]).lower(): each for each in self._published}

    @cached_property
    def _by_title(self) -> dict[str, CatalogueModel]:
        return {_hyphenated(title): model for model in self.models for title in (model.title, model.stem)}


def _hyphenated(name: str) -> str:
    """Return a name in lower case with hyphens between its words and points in its numbers."""
    return re.sub(r"[\s_]+", "-", re.sub(r"(?<=\d)_(?=\d)", ".", name.lower()))


def _without_instruct(name: str) -> str:
    return _hyphenated(name).removesuffix("-instruct")


class PublishedModel(Struct, frozen=True):
    """A quantisation of the catalogue with the facts that `fit` needs, named as in `gguf.ModelHeader`."""

    model: CatalogueModel
    quant: Quantisation

    @property
    def reference(self) -> str:
        """The model reference."""
        return self.model.reference(self.quant)

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


class _CatalogueFile(Struct, frozen=True, forbid_unknown_fields=True):
    families: tuple[Family, ...]
    models: tuple[CatalogueModel, ...]


def load() -> Catalogue:
    """Read the catalogue that comes with the program."""
    folder = files(__package__)
    read = [msgspec.convert(tomllib.loads(folder.joinpath(name).read_text("utf-8")), _CatalogueFile) for name in _FILES]
    return Catalogue(
        models=tuple(model for file in read for model in file.models),
        families=tuple(family for file in read for family in file.families),
    )
