"""The catalogue is whole and agrees with itself and with what its makers say of their models."""

import re

import pytest

from qwenchat.models import catalogue
from qwenchat.models.catalogue import CatalogueModel, PublishedModel
from qwenchat.models.file_names import quant_label
from qwenchat.models.fit import KV_BYTES, memory_needed

CATALOG = catalogue.load()


@pytest.mark.parametrize(
    ("size", "billions", "active"),
    [("0.5b", 0.49, 0.49), ("1.5b", 1.54, 1.54), ("7b", 7.62, 7.07), ("57b-a14b", 57.4, 13.7), ("72b", 72.7, 71.5)],
)
def test_shapes_give_the_published_sizes(size: str, billions: float, active: float) -> None:
    model = CATALOG.get(size)
    assert model
    assert model.shape.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert model.shape.active_parameters / 1e9 == pytest.approx(active, rel=0.01)


@pytest.mark.parametrize("model", CATALOG.models, ids=lambda model: model.size)
def test_every_model_is_whole(model: CatalogueModel) -> None:
    assert CATALOG.by_repo(model.repo.lower()) is model
    assert set(model.advice) == {"en", "zh_CN"} and model.advice_here() == model.advice["en"]
    assert model.must_accept == (model.size == "72b")
    labels = [quant.label for quant in model.quantisations]
    assert len(set(labels)) == len(labels) and {"q4_k_m", "q8_0", "f16"} <= set(labels)
    names = [name for quant in model.quantisations for name in model.file_names(quant)]
    assert len(set(names)) == len(names)
    for quant in model.quantisations:
        bits = quant.size * 8 / model.shape.parameters
        expected = 16 if quant.label == "f16" else int(quant.label[1])
        assert expected * 0.95 <= bits <= expected + 3.6
        assert all(re.fullmatch(r"([0-9a-f]{64})?", part.sha256) for part in quant.parts)
        assert quant_label(quant.label) == quant.label


def test_names_of_files() -> None:
    model = CATALOG.get("72b")
    assert model
    q8, half = model.quantisation("Q8_0"), model.quantisation("fp16")
    assert q8 and half
    assert model.file_names(q8)[1] == "qwen2-72b-instruct-q8_0-00002-of-00002.gguf"
    assert model.file_names(half)[0] == "qwen2-72b-instruct-fp16-00001-of-00004.gguf"


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
