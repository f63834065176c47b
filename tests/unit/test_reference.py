"""A model reference has one meaning, and the error for a wrong one suggests similar names."""

import os
from pathlib import Path

import pytest

from qwenchat.errors import NotFound, Recovery, RecoveryKind, WrongUse
from qwenchat.models import catalogue
from qwenchat.models.reference import (
    CatalogueReference,
    FileReference,
    GuideReference,
    HubReference,
    NameReference,
    RemoteReference,
    parse,
    path_in,
    remote_in,
    revision_in,
    unknown,
)

CATALOG = catalogue.load()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("7b", "7b"),
        ("7B:Q4_K_M", "7b:q4_k_m"),
        (" 57b-a14b:fp16 ", "57b-a14b:f16"),
        ("qwen2-1.5b-instruct:q8_0", "1.5b:q8_0"),
        ("Qwen2-0_5B", "0.5b"),
        ("Qwen/Qwen2-7B-Instruct-GGUF:q5_k_m", "7b:q5_k_m"),
        ("qwen/qwen2-72b-instruct-gguf/qwen2-72b-instruct-q8_0-00001-of-00002.gguf", "72b:q8_0"),
        ("https://huggingface.co/Qwen/Qwen2-7B-Instruct-GGUF/resolve/main/qwen2-7b-instruct-q2_k.gguf", "7b:q2_k"),
        ("qwen2.5-7b", "qwen2.5-7b"),
        ("qwen2.5:7b", "qwen2.5-7b"),
        ("qwen2.5:7b:q8_0", "qwen2.5-7b:q8_0"),
        ("Coder:0.5B:Q4_K_M", "coder-0.5b:q4_k_m"),
        ("coder-0.5b:q4_k_m", "coder-0.5b:q4_k_m"),
        ("Qwen2.5 Coder 7B Instruct", "coder-7b"),
        ("qwen2.5-coder:1.5b", "coder-1.5b"),
        ("qwen2.5-coder-7b", "coder-7b"),  # not the base model
        ("1m:14b", "qwen2.5-1m-14b"),
        ("Qwen2.5-7B-Instruct-1M:q6_k", "qwen2.5-1m-7b:q6_k"),
        ("qwen2-math:7b", "qwen2-math-7b"),
        ("math:7b", "math-7b"),
        ("qwq", "qwq-32b"),
        ("QwQ:q8_0", "qwq-32b:q8_0"),
        ("qwq:32b", "qwq-32b"),
        ("deepseek-r1:14b", "r1-14b"),
        ("DeepSeek-R1-Distill-Qwen-1.5B", "r1-1.5b"),
        ("coder-base:3b", "coder-base-3b"),
        ("Qwen/Qwen2.5-Coder-7B-Instruct-GGUF:q5_k_m", "coder-7b:q5_k_m"),
        ("bartowski/DeepSeek-R1-Distill-Qwen-7B-GGUF/DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf", "r1-7b:q4_k_m"),
    ],
)
def test_models_of_the_catalogue(text: str, shown: str) -> None:
    reference = parse(text, CATALOG)
    assert isinstance(reference, CatalogueReference)
    assert str(reference) == shown


def test_other_models_of_a_hub() -> None:
    assert parse("me/my-GGUF:Q6_K", CATALOG) == HubReference("me/my-GGUF", quant="q6_k")
    assert parse("me/my-GGUF/sub/m.gguf", CATALOG) == HubReference("me/my-GGUF", file="sub/m.gguf")
    assert parse("hf.co/me/my-GGUF", CATALOG) == HubReference("me/my-GGUF")
    assert parse("https://hf.co/me/my/blob/main/m.gguf?download=true", CATALOG) == HubReference("me/my", file="m.gguf")
    assert parse("https://hf.co/me/my/tree/v2", CATALOG) == HubReference("me/my")
    assert parse("https://hf.co/me/my/tree/v2/tree/x.gguf", CATALOG) == HubReference("me/my", file="tree/x.gguf")
    assert [revision_in(f"https://hf.co/me/my/tree/{rest}") for rest in ("v2", "v2/", "v2/a")] == ["v2"] * 3


def test_files_names_and_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7b").write_bytes(b"")
    for text in ("7b", "./none.gguf", "/none.gguf", "models/none.gguf", "~/m", "C:\\m.gguf", "~nobody-here/m.gguf"):
        assert isinstance(parse(text, CATALOG), FileReference), text
    assert parse("qwen2:7b", CATALOG) == NameReference("qwen2:7b")
    for text in ("qwen2.5:latest", "qwen2.5:7b-instruct-q4_K_M", "deepseek-r1:8b", "coder", "coder:", "qwen3:4b"):
        assert parse(text, CATALOG) == NameReference(text)
    assert parse("Guide", CATALOG) == GuideReference()
    assert isinstance(parse("x" * 5000, CATALOG), NameReference)


def test_a_path_that_is_not_text_has_an_address_that_is(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9 50% #1.gguf")
    reference = parse(str(path), CATALOG)
    assert reference == FileReference(path)
    assert str(reference) == f"{tmp_path.as_uri()}/caf%E9%2050%25%20%231.gguf"
    assert parse(str(reference), CATALOG) == reference
    assert str(parse("./plain.gguf", CATALOG)) == "plain.gguf"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "7b\x1b[31m",
        "7b:",
        "coder-7b:",
        "coder:7b:",
        "a/b/../c.gguf",
        "a/b/c.txt",
        "a/b:q4/c",
        "-a/b",
        "a//b.gguf/",
        "ftp://x/y",
        "7b\udce9",
        "me/model/caf\udce9.gguf",
        "me/\ud800.gguf",
    ],
)
def test_what_means_nothing(text: str) -> None:
    with pytest.raises(WrongUse) as error:
        parse(text, CATALOG)
    assert error.value.hint or error.value.recoveries


def test_a_quantisation_that_is_not_published() -> None:
    with pytest.raises(NotFound, match="IQ1_S") as error:
        parse("7b:IQ1_S", CATALOG)
    assert "q4_k_m" in error.value.hint


def test_near_matches() -> None:
    assert "7b" in unknown(parse("7bb", CATALOG), CATALOG).hint
    assert "my-model" in unknown(parse("my-modl", CATALOG), CATALOG, ["my-model"]).hint
    assert unknown(parse("7b:q4_0", CATALOG), CATALOG).recoveries == (Recovery(RecoveryKind.DOWNLOAD, name="7b:q4_0"),)
    assert "no file" in unknown(parse("./x.gguf", CATALOG), CATALOG).message
    assert "7b:q4_k_m" in unknown(parse("zzzzzz", CATALOG), CATALOG).hint
    assert "not part" in unknown(parse("guide", CATALOG), CATALOG).message
    assert "coder-7b" in unknown(parse("codr-7b", CATALOG), CATALOG).hint


def test_a_family_is_not_a_model() -> None:
    error = unknown(parse("Coder", CATALOG), CATALOG)
    assert error.message == "Coder is a family of models, not one model."
    assert "coder-0.5b" in error.hint and "coder-32b" in error.hint and "base" not in error.hint
    assert "57b-a14b" in unknown(parse("qwen2", CATALOG), CATALOG).hint


@pytest.mark.parametrize(
    ("text", "engine", "model"),
    [
        ("@lab/Qwen/Qwen2-72B-Instruct", "lab", "Qwen/Qwen2-72B-Instruct"),
        ("@box/qwen2:72b", "box", "qwen2:72b"),
        (" @My-Lab ", "my-lab", ""),
        ("@lab//models/qwen2-7b.gguf", "lab", "/models/qwen2-7b.gguf"),
        ("@lab/qwen2.gguf", "lab", "qwen2.gguf"),
        ("@lab/@a/b c", "lab", "@a/b c"),
    ],
)
def test_models_elsewhere(text: str, engine: str, model: str) -> None:
    reference = parse(text, CATALOG)
    assert reference == RemoteReference(engine, model) == remote_in(text)
    assert parse(str(reference), CATALOG) == reference
    assert path_in(text.strip()) is None


@pytest.mark.parametrize("text", ["@", "@/x", "@lab/", "@my_lab/x", "@lab:7b", "@lab/a\x1b[2J", "@lab/a\nb"])
def test_what_is_no_model_elsewhere(text: str) -> None:
    with pytest.raises(WrongUse, match="not a model of an engine") as caught:
        parse(text, CATALOG)
    assert "\x1b" not in caught.value.message + caught.value.hint
    assert remote_in(text) is None


def test_a_file_does_not_pass_for_a_model_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "@lab").mkdir()
    (tmp_path / "@lab" / "m.gguf").write_bytes(b"")
    assert parse("@lab/m.gguf", CATALOG) == RemoteReference("lab", "m.gguf")
    assert isinstance(parse("./@lab/m.gguf", CATALOG), FileReference)


def test_a_model_elsewhere_is_named_without_the_path_of_its_file() -> None:
    assert RemoteReference("lab", "/srv/models/qwen2-7b.gguf").name == "qwen2-7b.gguf"
    assert RemoteReference("lab", "Qwen/Qwen2-72B-Instruct").name == "Qwen/Qwen2-72B-Instruct"


def test_a_model_elsewhere_has_no_file_here() -> None:
    error = unknown(RemoteReference("lab", "x"), CATALOG)
    assert isinstance(error, WrongUse)
    assert "@lab/x" in error.message
