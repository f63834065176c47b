"""Headers are read completely and quickly, and a hostile one causes nothing worse than an error."""

import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenchat.chat.sampling import Sampling
from qwenchat.errors import CannotLoad, FileError, NotFound, QwenchatError
from qwenchat.models.file_names import split_paths
from qwenchat.models.gguf import check, identity, read_header
from tests.fakes.ggufs import CHATML, Experts, Shape, Vocabulary, entry, header, word, write_model


def test_the_facts_of_a_dense_model(tmp_path: Path) -> None:
    vocabulary = Vocabulary.small()
    path = write_model(tmp_path / "m.gguf", name="Qwen2 \x1b[31mTest", file_type=15, vocabulary=vocabulary)
    facts = check(read_header(path))
    assert (facts.architecture, facts.name, facts.quantisation) == ("qwen2", "Qwen2 [31mTest", "q4_k_m")
    assert (facts.layers, facts.width, facts.heads, facts.kv_heads, facts.key_length) == (2, 128, 4, 2, 32)
    assert (facts.ff, facts.context_length, facts.vocab_size) == (256, 4096, len(vocabulary.tokens))
    assert (facts.tokenizer, facts.chat_template, facts.rope.freq_base) == ("gpt2", CHATML, 1_000_000.0)
    assert facts.file_size == path.stat().st_size > facts.tensor_bytes == facts.active_bytes
    assert facts.tensor_bytes == 4 * 128 * facts.vocab_size + 4 * (128 + 2 * _block_elements())


def _block_elements() -> int:
    return 128 * 128 * 2 + 128 + 2 * (64 * 128 + 64) + 2 * 128 + 3 * 128 * 256


@pytest.mark.parametrize(("temp", "advised"), [(0.25, Sampling(temperature=0.25, top_k=3)), (-1.0, Sampling())])
def test_sampling_that_the_makers_advise(tmp_path: Path, temp: float, advised: Sampling) -> None:
    keys = (
        entry("general.sampling.temp", 6, struct.pack("<f", temp)),
        entry("general.sampling.top_k", 4, struct.pack("<I", 3)),
    )
    path = tmp_path / "m.gguf"
    path.write_bytes(header(body=keys))
    assert read_header(path).advised == advised


def test_only_the_experts_in_use_count_as_active(tmp_path: Path) -> None:
    shape = Shape(experts=Experts(count=8, used=2, ff=64, shared_ff=128), tied=False)
    facts = check(read_header(write_model(tmp_path / "m.gguf", shape=shape)))
    assert (facts.architecture, facts.experts, facts.experts_used) == ("qwen2moe", 8, 2)
    assert (facts.expert_ff, facts.shared_ff) == (64, 128)
    experts = 2 * 3 * 8 * 64 * 128 * 4
    assert facts.active_bytes == facts.tensor_bytes - experts * 6 // 8 - facts.vocab_size * 128 * 4


def test_joined_parts_of_a_split_model_are_known(tmp_path: Path) -> None:
    first = write_model(tmp_path / "m.gguf", tensors_per_part=10)
    parts = [part.read_bytes() for part in split_paths(first)]
    for name in ("joined.gguf", "joined-00001-of-00003.gguf"):
        joined = tmp_path / name
        joined.write_bytes(b"".join(parts))
        with pytest.raises(CannotLoad, match="can't be used joined") as caught:
            check(read_header(joined))
        assert "Download the parts" in caught.value.hint
    assert not read_header(first).is_joined
    padded = tmp_path / "padded.gguf"
    padded.write_bytes(write_model(tmp_path / "whole.gguf").read_bytes() + bytes(100))
    assert not check(read_header(padded)).is_joined


@pytest.mark.skipif(os.name == "nt", reason="its command is another one")
@pytest.mark.parametrize("endings", [(".part1of2", ".part2of2"), ("-split-a", "-split-b"), ("-part1of2", "-part2of2")])
def test_the_pieces_of_a_cut_file_say_how_to_join_them(endings: tuple[str, str], tmp_path: Path) -> None:
    content = write_model(tmp_path / "whole.gguf").read_bytes()
    folder = tmp_path / "my folder"
    folder.mkdir()
    one, two = (folder / f"m.Q8_0.gguf{ending}" for ending in endings)
    for piece, data in ((one, content[:50_000]), (two, content[50_000:])):
        piece.write_bytes(data)
    for number, piece in enumerate((one, two), 1):
        with pytest.raises(CannotLoad, match=f"piece {number} of 2") as caught:
            read_header(piece)
        command = caught.value.hint.partition(": ")[2]
        subprocess.run(["sh", "-c", command], check=True)
        assert (folder / "m.Q8_0.gguf").read_bytes() == content
    if "split" not in endings[0]:
        two.unlink()
        with pytest.raises(CannotLoad) as caught:
            read_header(one)
        assert f"Download {two.name}" in caught.value.hint


def test_a_split_model_is_one_model(tmp_path: Path) -> None:
    whole = read_header(write_model(tmp_path / "whole.gguf"))
    first = write_model(tmp_path / "m.gguf", tensors_per_part=10)
    facts = check(read_header(first))
    assert (facts.split_count, len(facts.parts), facts.missing) == (3, 3, ())
    assert (facts.tensor_count, facts.tensor_bytes) == (whole.tensor_count, whole.tensor_bytes)
    assert facts.file_size == sum(part.stat().st_size for part in facts.parts)
    with pytest.raises(CannotLoad, match="part 2 of 3") as second:
        check(read_header(facts.parts[1]))
    assert first.name in second.value.hint
    renamed = first.rename(tmp_path / "renamed.gguf")
    with pytest.raises(CannotLoad, match="does not say so"):
        check(read_header(renamed))
    renamed.rename(first)
    before = identity(first)
    facts.parts[2].unlink()
    lacking = read_header(first)
    assert lacking.missing == (facts.parts[2],)
    with pytest.raises(CannotLoad, match="00003-of-00003"):
        check(lacking)
    with pytest.raises(NotFound):
        identity(first)
    assert len(before) == 32


@pytest.mark.parametrize("arch", ["bert", "clip", "nomic-bert-moe", "t5encoder"])
def test_encoders_can_not_chat(tmp_path: Path, arch: str) -> None:
    with pytest.raises(CannotLoad, match=arch):
        check(read_header(write_model(tmp_path / "m.gguf", arch=arch)))


def test_adapters_and_bare_vocabularies_can_not_chat(tmp_path: Path) -> None:
    with pytest.raises(CannotLoad, match="adapter"):
        check(read_header(write_model(tmp_path / "a.gguf", kind="adapter")))
    with pytest.raises(CannotLoad, match="vocabulary"):
        check(read_header(write_model(tmp_path / "v.gguf", weights=False)))


def test_without_a_file_type_the_heaviest_tensors_name_the_quantisation(tmp_path: Path) -> None:
    tensor = struct.pack("<Q", 6) + b"weight" + struct.pack("<IQIQ", 1, 64, 8, 0)
    path = tmp_path / "m.gguf"
    path.write_bytes((header(tensors=1) + tensor).ljust(256, b"\0"))
    assert read_header(path).quantisation == "q8_0"


HUGE = struct.pack("<Q", 1 << 63)
DAMAGED = {
    "empty": (b"", "empty"),
    "web page": (b"\n<!DOCTYPE html><title>Sign in</title>", "web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "LFS"),
    "noise": (bytes(range(256)) * 4, "not a GGUF"),
    "old": (header(version=1), "version"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version"),
    "magic alone": (b"GGUF", "ends"),
    "tensors": (header(tensors=1 << 63), "more tensors"),
    "keys": (header(keys=1 << 63), "more tensors"),
    "key length": (header(keys=1, body=[HUGE]).ljust(100, b"k"), "ends"),
    "text length": (header(body=[entry("general.name", 8, HUGE)]), "ends"),
    "array length": (header(body=[entry("a", 9, struct.pack("<I", 4) + HUGE)]), "ends"),
    "texts length": (header(body=[entry("a", 9, struct.pack("<I", 8) + HUGE)]), "more"),
    "inner length": (header(body=[entry("a", 9, struct.pack("<IQ", 8, 1) + HUGE)]), "ends"),
    "deep arrays": (header(body=[entry("a", 9, struct.pack("<IQ", 9, 1) * 1000)]), "unknown kind"),
    "kind": (header(body=[entry("a", 99, b"1234")]), "unknown kind"),
    "dimensions": (header(tensors=1, body=[]) + word("t") + struct.pack("<I", 1 << 31) + b"\0" * 64, "dimensions"),
    "tensor type": (header(tensors=1) + word("t") + struct.pack("<IQIQ", 1, 1, 999, 0), "type"),
    "tensor size": (
        header(tensors=1) + word("t") + struct.pack("<IQQIQ", 2, 1 << 62, 1 << 62, 0, 1 << 63),
        "incomplete",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_reported(tmp_path: Path, name: str) -> None:
    content, reason = DAMAGED[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(CannotLoad, match=reason) as error:
        read_header(path)
    assert error.value.hint


def test_a_header_larger_than_any_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    with path.open("wb") as file:
        file.write(header(body=[entry("a", 9, struct.pack("<IQ", 4, 1 << 30))]))
        file.truncate(8 << 30)
    with pytest.raises(CannotLoad, match="unreasonably long"):
        read_header(path)


def test_a_vocabulary_that_looks_like_keys_is_walked_through(tmp_path: Path) -> None:
    bait = struct.pack("<Q", 19) + b"tokenizer.ggml.bait" + struct.pack("<I", 77)
    texts = [word(f"token {index}") for index in range(2000)]
    texts[1990] = struct.pack("<Q", len(bait)) + bait
    tokens = entry("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, len(texts)) + b"".join(texts))
    path = tmp_path / "m.gguf"
    path.write_bytes(header(body=[tokens, entry("tokenizer.chat_template", 8, word("hi")), entry("x", 4, b"1234")]))
    facts = read_header(path)
    assert (facts.vocab_size, facts.chat_template) == (2000, "hi")


@pytest.mark.parametrize("length", [0, 1, 3, 40, 90])
@pytest.mark.parametrize("count", [1001, 150_000])
def test_vocabularies_of_any_length_are_passed_over(tmp_path: Path, length: int, count: int) -> None:
    """Short texts end before the leap does, long ones after it is given up: both are then walked through."""
    texts = struct.pack("<IQ", 8, count) + word("x" * length) * count
    kinds = struct.pack("<IQ", 5, count) + bytes(4 * count)
    body = [entry("tokenizer.ggml.tokens", 9, texts), entry("tokenizer.ggml.token_type", 9, kinds)]
    body += [entry("tokenizer.ggml.merges", 9, texts), entry("tokenizer.chat_template", 8, word("hi"))]
    path = tmp_path / "m.gguf"
    path.write_bytes(header(body=[*body, entry("general.name", 8, word("Last"))]))
    facts = read_header(path)
    assert (facts.vocab_size, facts.chat_template, facts.name) == (count, "hi", "Last")


def test_what_is_no_readable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound):
        read_header(tmp_path / "none.gguf")
    for act in (read_header, identity):
        with pytest.raises(FileError, match="not a file"):
            act(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(FileError, match="not a file"):
        read_header(tmp_path / "pipe.gguf")
    with pytest.raises(QwenchatError):
        read_header(Path("nul\0byte.gguf"))
    path = write_model(tmp_path / "m.gguf")

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")  # root may read everything

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(FileError, match="Permission denied"):
        read_header(path)


def test_identity_follows_the_contents(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf")
    first = identity(path)
    assert identity(path.rename(tmp_path / "other.gguf")) == first
    assert identity(write_model(tmp_path / "m.gguf", seed=1)) != first


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_model(tmp_path_factory.mktemp("model") / "m.gguf").read_bytes()


def _reads_or_tells(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        check(read_header(path))
    except CannotLoad as error:
        assert error.hint


def _at_any_place(example: Callable[..., None]) -> Callable[..., None]:
    quiet = [HealthCheck.function_scoped_fixture]
    return settings(max_examples=200, deadline=None, suppress_health_check=quiet)(example)


@_at_any_place
@given(at=st.integers(0, 1 << 62))
def test_a_file_truncated_anywhere_is_reported(tmp_path: Path, model: bytes, at: int) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(model[: at % (len(model) - 64)])
    with pytest.raises(CannotLoad):
        read_header(path)


@_at_any_place
@given(at=st.integers(0, 12_000), noise=st.binary(min_size=1, max_size=16))
def test_noise_anywhere_in_the_header_is_read_or_reported(tmp_path: Path, model: bytes, at: int, noise: bytes) -> None:
    _reads_or_tells(tmp_path / "m.gguf", model[:at] + noise + model[at + len(noise) :])
