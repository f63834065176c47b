"""The catalogue is whole and agrees with itself and with what its makers say of their models."""

import re
import tomllib
from importlib.resources import files

import pytest

from qwenchat.chat.sampling import Sampling
from qwenchat.i18n import use_language
from qwenchat.models import catalogue
from qwenchat.models.catalogue import QWEN2, CatalogueModel, Family, PublishedModel, Purpose
from qwenchat.models.file_names import quant_label
from qwenchat.models.fit import KV_BYTES, memory_needed
from qwenchat.models.reference import CatalogueReference, parse

CATALOG = catalogue.load()
LICENCES = {
    "Apache-2.0": False,
    "MIT": False,
    "Qwen": True,
    "Qwen Research": True,
    "Tongyi Qianwen": True,
}
"""Each licence, and whether it has terms that the user must accept."""
UNDER_TERMS = {
    "72b": "Tongyi Qianwen",
    "qwen2.5-3b": "Qwen Research",
    "qwen2.5-72b": "Qwen",
    "coder-3b": "Qwen Research",
    "coder-base-3b": "Qwen Research",
    "math-72b": "Qwen",
    "qwen2-math-72b": "Tongyi Qianwen",
}
BY_BITS = ("q2_k", "q3_k_m", "q4_0", "q4_k_m", "q5_0", "q5_k_m", "q6_k", "q8_0", "f16")
each_model = pytest.mark.parametrize("model", CATALOG.models, ids=lambda model: model.name)
each_family = pytest.mark.parametrize("family", CATALOG.families, ids=lambda family: family.name)


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        ("0.5b", 0.49, 0.49),
        ("1.5b", 1.54, 1.54),
        ("7b", 7.62, 7.07),
        ("57b-a14b", 57.4, 13.7),
        ("72b", 72.7, 71.5),
        ("qwen2.5-0.5b", 0.63, 0.49),  # its files have the output matrix apart
        ("qwen2.5-3b", 3.4, 3.09),
        ("qwen2.5-14b", 14.77, 13.99),
        ("qwen2.5-32b", 32.76, 31.98),
        ("math-1.5b", 1.54, 1.54),
        ("r1-1.5b", 1.78, 1.54),
        ("coder-base-3b", 3.09, 3.09),
    ],
)
def test_shapes_give_the_published_sizes(name: str, billions: float, active: float) -> None:
    model = CATALOG.get(name)
    assert model
    assert model.shape.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert model.shape.active_parameters / 1e9 == pytest.approx(active, rel=0.01)


@each_model
def test_every_model_is_whole(model: CatalogueModel) -> None:
    assert CATALOG.by_repo(model.repo.lower()) is model
    assert set(model.advice) == {"en", "zh_CN"} and model.advice_here() == model.advice["en"]
    assert model.must_accept == LICENCES[model.licence]
    assert model.licence == UNDER_TERMS.get(model.name, "MIT" if model.family == "r1" else "Apache-2.0")
    assert model.sampling.check() == model.sampling
    labels = [quant.label for quant in model.quantisations]
    assert len(set(labels)) == len(labels) and set(labels) <= set(BY_BITS)
    assert {"q4_k_m", "q8_0", "f16"} <= set(labels) or model.family != QWEN2
    assert {"q4_k_m", "q8_0"} & set(labels) and model.offered
    names = [name for quant in model.quantisations for name in model.file_names(quant)]
    assert len(set(names)) == len(names)
    for quant in model.quantisations:
        bits = quant.size * 8 / model.shape.parameters
        expected = 16 if quant.label == "f16" else int(quant.label[1])
        assert expected * 0.95 <= bits <= expected + 3.6
        assert all(re.fullmatch(r"([0-9a-f]{64})?", part.sha256) for part in quant.parts)
        assert quant_label(quant.label) == quant.label


@each_model
def test_more_bits_take_more_bytes(model: CatalogueModel) -> None:
    quants = sorted(model.quantisations, key=lambda quant: BY_BITS.index(quant.label))
    if model.shape.width % 256:  # then what has fewer than four bits falls back to larger types
        quants = [quant for quant in quants if not quant.rough and quant.label != "q5_0"]
    sizes = [quant.size for quant in quants]
    assert sizes == sorted(set(sizes))


@each_model
def test_every_entry_is_found_by_each_of_its_names(model: CatalogueModel) -> None:
    for quant in model.quantisations:
        reference = parse(model.reference(quant), CATALOG)
        assert reference == CatalogueReference(model, quant) and str(reference) == model.reference(quant)
        assert parse(f"{model.repo}:{quant.label}", CATALOG) == reference
        (first, *_others) = model.file_names(quant)
        found = CATALOG.by_file_name(first.upper())
        assert found and (found.model, found.quant) == (model, quant)
    for name in (model.name, model.name.upper(), model.reference(model.quantisations[0]).partition(":")[0]):
        assert CATALOG.get(name) is model
    assert CATALOG.by_title(model.title, model.shape.layers, model.shape.width) is model
    assert CATALOG.by_title(model.stem, model.shape.layers, model.shape.width) is model
    assert CATALOG.by_title(model.title, model.shape.layers + 1, model.shape.width) is None


def test_no_two_models_share_a_name_a_repository_or_a_file() -> None:
    for values in (
        [model.name for model in CATALOG.models],
        [model.title for model in CATALOG.models],
        [model.repo for model in CATALOG.models],
        [file for model in CATALOG.models for quant in model.quantisations for file in model.file_names(quant)],
        [
            part.sha256
            for model in CATALOG.models
            for quant in model.quantisations
            for part in quant.parts
            if part.sha256
        ],
        [name for family in CATALOG.families for name in (family.name, *family.aliases)],
    ):
        assert len(set(map(str.lower, values))) == len(values)


@each_family
def test_every_family_is_whole(family: Family) -> None:
    models = CATALOG.of(family.name)
    first = CATALOG.models.index(models[0])
    assert CATALOG.models[first : first + len(models)] == tuple(models)
    assert [model.shape.parameters for model in models] == sorted(model.shape.parameters for model in models)
    assert len({model.purpose for model in models}) == 1
    for name in (family.name, *family.aliases):
        assert CATALOG.family(name.upper()) is family
        for model in models:
            assert CATALOG.get(f"{name}-{model.size}") is model
    assert family.about_here() == family.about["en"]
    use_language("zh_CN")
    assert family.about_here() == family.about["zh_CN"] != family.about["en"]


def test_qwen2_comes_first_and_needs_no_family_in_its_names() -> None:
    assert CATALOG.families[0].name == QWEN2 and len(CATALOG.relatives) == len(CATALOG.families) - 1
    assert [model.name for model in CATALOG.of(QWEN2)] == ["0.5b", "1.5b", "7b", "57b-a14b", "72b"]
    assert [model.name for model in CATALOG.models[:6]][-1] == "qwen2.5-0.5b"
    assert {model.family for model in CATALOG.models} == {family.name for family in CATALOG.families}
    assert sorted(model.size for model in CATALOG.of("qwen2.5")) == sorted(
        ["0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b"]
    )


def test_sampling_has_no_parameter_that_does_not_exist() -> None:
    """A struct would silently leave out what it does not know."""
    known = set(Sampling.__struct_fields__)
    for name in ("catalogue.toml", "relatives.toml"):
        text = files("qwenchat.models").joinpath(name).read_text("utf-8")
        for model in tomllib.loads(text)["models"]:
            assert set(model.get("sampling", {})) <= known


def test_what_kinds_of_models_there_are() -> None:
    purposes = {family.name: CATALOG.of(family.name)[0].purpose for family in CATALOG.families}
    assert {name for name, purpose in purposes.items() if purpose is Purpose.REASONING} == {"qwq", "r1"}
    assert {name for name, purpose in purposes.items() if purpose is Purpose.COMPLETION} == {"coder-base"}
    tools = {model.name: model.calls_tools for model in CATALOG.models}
    assert (tools["7b"], tools["1.5b"], tools["coder-32b"], tools["coder-3b"]) == ("yes", "weak", "yes", "weak")
    assert (tools["qwq-32b"], tools["r1-32b"], tools["math-72b"], tools["coder-base-7b"]) == ("yes", "no", "weak", "no")
    others = {model.repo.partition("/")[0] for model in CATALOG.models if not model.is_from_its_makers}
    assert others == {"bartowski", "ggml-org"}


@pytest.mark.parametrize(
    ("served", "name"),
    [
        ("Qwen/QwQ-32B", "qwq-32b"),
        ("qwq:32b", "qwq-32b"),
        ("deepseek-r1:7b", "r1-7b"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "r1-7b"),
        ("/srv/models/qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", "qwen2.5-7b"),
        ("C:\\models\\Qwen2.5-Coder-7B-Instruct-Q4_K_M.gguf", "coder-7b"),
        ("deepseek-r1:8b", ""),
        ("gpt-4", ""),
        ("", ""),
    ],
)
def test_models_as_servers_call_them(served: str, name: str) -> None:
    found = CATALOG.by_served_name(served)
    assert (found.name if found else "") == name


def test_names_of_files() -> None:
    model = CATALOG.get("72b")
    assert model
    q8, half = model.quantisation("Q8_0"), model.quantisation("fp16")
    assert q8 and half
    assert model.file_names(q8)[1] == "qwen2-72b-instruct-q8_0-00002-of-00002.gguf"
    assert model.file_names(half)[0] == "qwen2-72b-instruct-fp16-00001-of-00004.gguf"
    distilled, coder = CATALOG.get("r1-7b"), CATALOG.get("qwen2.5-14b")
    assert distilled and coder
    assert distilled.file_names(distilled.quantisations[2]) == ["DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf"]
    assert coder.file_names(coder.quantisations[3])[2] == "qwen2.5-14b-instruct-q4_k_m-00003-of-00003.gguf"


def test_what_is_offered() -> None:
    small, usual = CATALOG.get("0.5b"), CATALOG.get("7B")
    assert small and usual
    assert small.offered[0].label == "q4_0"
    assert [usual.offered[0].label, usual.offered[-1].label] == ["q2_k", "q8_0"]


def test_a_mixture_reads_only_its_active_experts() -> None:
    model = CATALOG.get("57b-a14b")
    assert model
    published = PublishedModel(model, model.quantisations[2])
    assert published.reference == "57b-a14b:q4_k_m"
    assert published.active_bytes / published.file_size == pytest.approx(13.7 / 57.4, rel=0.01)
    assert memory_needed(published, 4096, KV_BYTES["q8_0"]).total / 2**30 == pytest.approx(32.9, abs=0.1)
