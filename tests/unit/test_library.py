"""Models of other programs are found and used in place; damaged ones are reported."""

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from qwenchat.errors import FileError, Interrupted, NotFound
from qwenchat.files import free_bytes
from qwenchat.models import catalogue, fit, folders
from qwenchat.models.download.progress import Checking, PullEvent
from qwenchat.models.download.pull import existing_copy
from qwenchat.models.file_names import title_in
from qwenchat.models.folders import ModelFolders, UsedModels
from qwenchat.models.gguf import read_header
from qwenchat.models.library import Library, LocalModel, as_rows
from qwenchat.models.reference import FileReference, parse, path_reference
from qwenchat.models.sources.source import RemoteFile
from qwenchat.text.safe import clean_line
from tests.fakes.ggufs import Shape, write_chain, write_model
from tests.fakes.layouts import COMMIT, hf_model, model_bytes, ollama_model

CATALOG = catalogue.load()
ROOMY = fit.Resources(64 << 30, 60 << 30)


def library(home: Path, environ: dict[str, str] | None = None, folders: tuple[Path, ...] = ()) -> Library:
    found = ModelFolders.find(environ or {}, own=(home / "ours",), folders=folders, home=home)
    return Library(replace(found, ollama=found.ollama[:1]), home / "cache", CATALOG, lambda: ROOMY)


def origins(models: list[LocalModel]) -> dict[str, str]:
    return {model.file.origin: model.reference for model in models}


def test_every_layout_is_found(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    write_model(tmp_path / "ours" / "mine.gguf", seed=1)
    hf_model(tmp_path / ".cache/huggingface/hub", "me/my-GGUF", "sub/m-Q6_K.gguf", sha256="1" * 64, seed=2)
    (tmp_path / ".cache/llama.cpp").mkdir()
    write_model(tmp_path / ".cache/llama.cpp/me_flat.gguf", seed=3)
    ollama_model(tmp_path / ".ollama/models", "qwen2", "7b", "2" * 64, seed=4)
    (tmp_path / ".lmstudio/models/them/theirs").mkdir(parents=True)
    write_model(tmp_path / ".lmstudio/models/them/theirs/t.gguf", seed=5)
    (tmp_path / "stick/deep").mkdir(parents=True)
    write_model(tmp_path / "stick/deep/s.gguf", seed=6)
    models = library(tmp_path, folders=(tmp_path / "stick",)).models()
    assert not [model.problem for model in models if model.problem]
    assert origins(models) == {
        "qwenchat": str(tmp_path / "ours/mine.gguf"),
        "hf": "me/my-GGUF/sub/m-Q6_K.gguf",
        "llama.cpp": str(tmp_path / ".cache/llama.cpp/me_flat.gguf"),
        "ollama": "qwen2:7b",
        "lmstudio": "them/theirs/t.gguf",
        "folder": str(tmp_path / "stick/deep/s.gguf"),
    }
    found = library(tmp_path, folders=(tmp_path / "stick",))
    for model in models:
        for name in (model.reference, str(model.path)):
            assert found.find(parse(name, CATALOG)) == model.path
    assert found.find(parse("me/my-gguf:q6_k", CATALOG)) == models[1].path
    assert found.find(parse("s.gguf", CATALOG)) == found.find(parse("s", CATALOG)) == tmp_path / "stick/deep/s.gguf"
    json.dumps(list(as_rows(models)))


def test_every_listed_name_is_a_reference_of_that_model(tmp_path: Path) -> None:
    ollama, hub, stick = tmp_path / ".ollama/models", tmp_path / ".cache/huggingface/hub", tmp_path / "a stick"
    hosts = ("registry.ollama.ai/someone", "hub.example:5000/team", "hf.co/me", "registry.ollama.ai/library")
    tags = ("v1", "latest", "Q4_K_M", "my-tag")
    for number, (host, tag) in enumerate((host, tag) for host in hosts for tag in tags):
        ollama_model(ollama, "mine", tag, f"{number:064x}", host=host)
    ollama_model(ollama, "7b", "q4_k_m", "a" * 64)
    ollama_model(ollama, "qwen2-7b", "latest", "b" * 64)
    hf_model(hub, "me/mine", "x/m-Q4_K_M.gguf", sha256="c" * 64)
    hf_model(hub, "me/mine", "m.gguf", sha256="d" * 64)
    stick.mkdir()
    names = (
        "plain.gguf",
        "7b:q4_k_m.gguf",
        "two  spaces.gguf",
        "red\x1b[31m.gguf",
        "宽\u3000.gguf",
        "50%.gguf",
        "~.gguf",
    )
    for name in names:
        (stick / name).write_bytes(model_bytes())
    shape = Shape(layers=24, width=896, heads=14, kv_heads=2, ff=64)
    published = write_model(stick / "m.gguf", shape=shape, name="Qwen2 0.5B Instruct", file_type=7, seed=40)
    shutil.copy(published, stick / "second.gguf")  # both are 0.5b:q8_0
    (stick / "broken").mkdir()
    (stick / "broken/qwen2-0_5b-instruct-q8_0.gguf").write_bytes(b"GGUF")
    found = library(tmp_path, folders=(stick,))
    models = found.models()
    assert len(models) == 16 + 2 + 2 + len(names) + 3
    assert len({model.reference for model in models}) == len(models)
    for model in models:
        assert found.model(found.parse(model.reference)).path == model.path, model.reference
        assert clean_line(model.reference, 500) == model.reference
    assert {"someone/mine:v1", "hub.example:5000/team/mine:latest", "hf.co/me/mine:my-tag", "mine:latest"} <= {
        model.reference for model in models
    }
    for name in ("Someone/Mine", "mine", "me/mine:latest", "Test · f32", "plain"):
        assert found.find(found.parse(name)), name
    with pytest.raises(NotFound):
        found.locate(found.parse("hub.example:5000/team/other:latest"))


def test_a_service_s_ollama_is_looked_at_beside_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = (tmp_path / "usr/models", tmp_path / "var")
    monkeypatch.setattr(folders, "SYSTEM_OLLAMA", service)
    for seed, place in enumerate((*service, tmp_path / ".ollama/models", tmp_path / "set")):
        ollama_model(place, f"m{seed}", "latest", f"{seed:064x}", seed=seed)
    found = ModelFolders.find(
        {"OLLAMA_MODELS": str(tmp_path / "set")}, own=(tmp_path / "ours",), folders=(), home=tmp_path
    )
    models = Library(found, tmp_path / "cache", CATALOG, lambda: ROOMY).models()
    assert [model.reference for model in models] == ["m3:latest", "m2:latest", "m0:latest", "m1:latest"]
    real = ("/usr/share/ollama/.ollama/models", "/var/lib/ollama", "/var/lib/ollama/.ollama/models")
    monkeypatch.undo()
    assert tuple(map(str, folders.SYSTEM_OLLAMA)) == real


def test_a_folder_that_can_not_be_read_is_a_problem_and_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, scandir = tmp_path / ".ollama/models/manifests", os.scandir

    def guarded(folder: Path) -> object:  # tests may run as root, whom nothing is closed to
        if Path(folder) == closed:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    (tmp_path / "file").write_text("")
    (tmp_path / "stick").mkdir()
    write_model(tmp_path / "stick/m.gguf")
    monkeypatch.setattr(os, "scandir", guarded)
    added = (tmp_path / "gone", tmp_path / "file", tmp_path / "stick")
    models, problems = library(tmp_path, folders=added).survey()
    assert [model.path.name for model in models] == ["m.gguf"]
    assert [(problem.folder, problem.origin, problem.reason) for problem in problems] == [
        (closed, "ollama", "Permission denied"),
        (tmp_path / "gone", "folder", "it does not exist"),
        (tmp_path / "file", "folder", "it is not a folder"),
    ]
    *_rows, last = as_rows(models, problems)
    assert (last["model"], last["path"], last["bytes"]) == ("", str(tmp_path / "file"), 0)
    assert "not a folder" in str(last["problem"]) and set(last) == set(next(as_rows(models)))


def test_lm_studio_s_home_and_downloads_may_be_elsewhere(tmp_path: Path) -> None:
    for seed, place in enumerate((".lmstudio/models", "moved home/models", "moved downloads")):
        folder = tmp_path / place / "them/theirs"
        folder.mkdir(parents=True)
        write_model(folder / f"m{seed}.gguf", seed=seed)
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{tmp_path}/moved home\n")
    settings = tmp_path / "moved home/settings.json"
    settings.write_text(json.dumps({"downloadsFolder": str(tmp_path / "moved downloads"), "language": "en"}))
    assert len(library(tmp_path).models()) == 3
    for damaged in (b"\xff{", b'{"downloadsFolder": 3}', b'{"downloadsFolder": "relative"}'):
        settings.write_bytes(damaged)
        (tmp_path / ".lmstudio-home-pointer").write_bytes(b"\0relative")
        assert [model.path.name for model in library(tmp_path).models()] == ["m0.gguf"]


def test_linked_folders_are_entered_once_and_each_name_of_a_file_is_one(tmp_path: Path) -> None:
    stick, disk = tmp_path / "stick", tmp_path / "disk"
    for folder in (stick / "real", disk):
        folder.mkdir(parents=True)
    write_model(stick / "real/m.gguf", seed=1)
    write_model(disk / "far.gguf", seed=2)
    (stick / "a link").symlink_to("real")  # sorts before what it leads to
    (stick / "disk").symlink_to(disk)
    (stick / "real/loop").symlink_to("..")
    (disk / "back").symlink_to(stick)
    (stick / "gone").symlink_to("nowhere")
    (stick / "itself").symlink_to("itself")
    (stick / "other name.gguf").symlink_to("real/m.gguf")
    (stick / ".hidden").symlink_to(disk)
    found = library(tmp_path, folders=(stick,))
    paths = {model.path for model in found.models()}
    assert len(paths) == 2 and stick / "disk/far.gguf" in paths
    mine = next(model for model in found.models() if model.path != stick / "disk/far.gguf")
    names = ("m.gguf", "other name", str(stick / "a link/m.gguf"), str(stick / "real/loop/real/m.gguf"))
    for name in names:
        assert found.locate(found.parse(name)).samefile(mine.path), name
    assert not found.survey()[1]


def test_a_used_file_is_a_model_like_others_while_it_exists(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    path = write_model(
        tmp_path / "far/Qwen2.5-Coder_x-q4_k_m.gguf", name="Qwen2.5 Coder 0.5B Instruct AWQ", file_type=15
    )
    found = library(tmp_path)
    used = UsedModels(tmp_path / "ours")
    assert found.models() == [] and used.references() == []
    for reference in (path_reference(path), "7b", path_reference(tmp_path / "gone.gguf"), "7b"):
        used.add(reference)
    assert used.references() == ["7b", str(tmp_path / "gone.gguf"), str(path)]
    (model,) = found.models()
    assert (model.path, model.file.origin, str(model.name)) == (path, "file", "Qwen2.5 Coder 0.5B Instruct · q4_k_m")
    assert found.find(found.parse("Qwen2.5 Coder 0.5B Instruct · q4_k_m")) == path
    path.unlink()
    assert found.models() == []
    (tmp_path / "ours/used.json").write_bytes(b'{"\xff')
    assert used.references() == []


def test_a_name_for_users_has_no_folder(tmp_path: Path) -> None:
    found = library(tmp_path)
    path = write_model(tmp_path / "m.gguf", name="Qwen2.5 Coder 0.5B Instruct", file_type=15)
    known = "Qwen2.5 Coder 0.5B Instruct · q4_k_m"
    assert str(found.name_of(str(path))) == known
    path.unlink()
    names = {
        str(path): "M",
        "/home/me/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf": known,
        "C:\\Users\\me\\qwen2.5-coder-0.5b-instruct-q4_k_m-00001-of-00002.gguf": known,
        "file:///home/me/caf%E9-q8_0.gguf": "Caf · q8_0",
        "~/models/\x1b[31mred.gguf": "[31mred",
        "7b:q4_k_m": "7b:q4_k_m",
        "someone/mine:v1": "someone/mine:v1",
        "guide": "guide",
    }
    assert {reference: str(found.name_of(reference)) for reference in names} == names


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("Qwen2.5 Coder 0.5B Instruct AWQ", "Qwen2.5 Coder 0.5B Instruct"),
        ("qwen2-0_5b-instruct", "Qwen2 0.5B Instruct"),
        ("Qwen2-57B-A14B-Instruct-fp16.gguf", "Qwen2 57B A14B Instruct"),
        ("/home/me/models/DeepSeek-R1-Distill-Qwen-7B/", "DeepSeek R1 Distill Qwen 7B"),
        ("mistral-7b-v0.3.Q4_K_M.gguf", "Mistral 7B v0.3"),
        ("Models", ""),
        ("sha256-" + "ab1" * 21 + "c", ""),
        (".", ""),
    ],
)
def test_a_title_is_words(name: str, title: str) -> None:
    assert title_in(name) == title


def test_folders_follow_the_environment(tmp_path: Path) -> None:
    hf_model(tmp_path / "hf/hub", "a/b", "m.gguf", sha256="1" * 64)
    hf_model(tmp_path / "llama", "a/b", "m.gguf", sha256="2" * 64, seed=1)
    ollama_model(tmp_path / "ollama", "q", "latest", "3" * 64, seed=2)
    environ = {
        "HF_HOME": str(tmp_path / "hf"),
        "LLAMA_CACHE": str(tmp_path / "llama"),
        "OLLAMA_MODELS": str(tmp_path / "ollama"),
    }
    assert set(origins(library(tmp_path, environ).models())) == {"hf", "llama.cpp", "ollama"}
    environ["HF_HUB_CACHE"] = str(tmp_path / "none")
    assert set(origins(library(tmp_path, environ).models())) == {"llama.cpp", "ollama"}
    assert library(tmp_path, environ).find(parse("q", CATALOG))


def test_a_model_in_two_places_or_revisions_is_one(tmp_path: Path) -> None:
    cache = tmp_path / ".cache/huggingface/hub"
    hf_model(cache, "a/b", "m.gguf", sha256="1" * 64)
    older = cache / "models--a--b/snapshots" / ("0" * 40) / "m.gguf"
    older.parent.mkdir()
    older.symlink_to("../../blobs/" + "1" * 64)
    models = library(tmp_path, folders=(cache,)).models()
    assert [model.path.parent.name for model in models] == [COMMIT]


def test_damage_is_an_entry_with_its_reason(tmp_path: Path) -> None:
    ours, ollama = tmp_path / "ours", tmp_path / ".ollama/models"
    ours.mkdir()
    (ours / "page.gguf").write_text("<html>")
    (ours / "folder.gguf").mkdir()
    (ours / "gone.gguf").symlink_to("nowhere")
    split = write_model(ours / "split.gguf", tensors_per_part=10)
    (ours / "split-00003-of-00003.gguf").unlink()
    (ours / "late-00002-of-00003.gguf").write_bytes((ours / "split-00002-of-00003.gguf").read_bytes())
    ollama_model(ollama, "qwen2", "7b", "2" * 64).unlink()
    for name, text in {"bad": "{", "evil": json.dumps({"layers": [{"digest": "sha256:../../x"}]}), "odd": "[]"}.items():
        (ollama / "manifests/registry.ollama.ai/library/qwen2" / name).write_text(text)
    (ollama / "manifests/registry.ollama.ai/library/qwen2/deep").write_text('{"x": ' + "[" * 100_000)
    (ollama / "manifests/registry.ollama.ai/library/qwen2/bytes").write_bytes(b'{"layers": "\xff"}')
    problems = {model.file.name: model.problem for model in library(tmp_path).models()}
    assert "web page" in problems["page.gguf"]
    assert "00003-of-00003" in problems[split.name]
    assert "part 2 of 3" in problems["late-00002-of-00003.gguf"]
    assert "no file" in problems["qwen2:7b"] and "no file" in problems["gone.gguf"]
    assert "manifest" in problems["qwen2:bad"] and "manifest" in problems["qwen2:odd"]
    assert "manifest" in problems["qwen2:deep"] and "manifest" in problems["qwen2:bytes"]
    assert len(problems) == 9


def test_a_model_of_the_catalogue_is_known_by_hash_name_or_header(tmp_path: Path) -> None:
    model = CATALOG.get("7b")
    assert model
    by_hash = model.quantisations[3].parts[0].sha256
    hf_model(tmp_path / ".cache/huggingface/hub", "someone/else", "renamed.gguf", sha256=by_hash)
    (tmp_path / "ours").mkdir()
    write_model(tmp_path / "ours/Qwen2-7B-Instruct-Q8_0.gguf", seed=1)
    shape = Shape(layers=24, width=896, heads=14, kv_heads=2, ff=64)
    write_model(tmp_path / "ours/x.gguf", shape=shape, name="Qwen2 0.5B Instruct", file_type=7)
    models = library(tmp_path).models()
    assert sorted(model.reference for model in models) == ["0.5b:q8_0", "7b:q4_k_m", "7b:q8_0"]
    found = library(tmp_path)
    assert found.find(parse("7b:q4_k_m", CATALOG)) == models[2].path
    assert found.find(parse("7b", CATALOG)) in (models[0].path, models[2].path)
    assert found.find(parse("7b:q2_k", CATALOG)) is None
    with pytest.raises(NotFound, match="7b:q2_k"):
        found.locate(parse("7b:q2_k", CATALOG))


def test_relatives_are_known_by_the_names_of_their_files(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    for seed, name in enumerate(
        (
            "qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf",
            "Qwen2.5-14B-Instruct-Q4_K_M.gguf",  # in one file, where its makers publish three
            "DeepSeek-R1-Distill-Qwen-7B-Q8_0.gguf",
            "qwq-32b-q4_k_m.gguf",
        )
    ):
        write_model(tmp_path / "ours" / name, seed=seed)
    found = library(tmp_path)
    models = {model.reference: model for model in found.models()}
    assert set(models) == {"qwen2.5-7b:q4_k_m", "qwen2.5-14b:q4_k_m", "r1-7b:q8_0", "qwq-32b:q4_k_m"}
    assert str(models["r1-7b:q8_0"].name).startswith("DeepSeek R1 Distill Qwen 7B")
    assert {name: model.tools for name, model in models.items()} == {
        "qwen2.5-7b:q4_k_m": "yes",
        "qwen2.5-14b:q4_k_m": "yes",
        "r1-7b:q8_0": "no",
        "qwq-32b:q4_k_m": "yes",
    }
    for name in ("r1:7b", "deepseek-r1:7b", "r1-7b:q8_0"):
        assert found.find(found.parse(name)) == models["r1-7b:q8_0"].path


def test_ollama_s_own_name_comes_before_the_catalogue_s(tmp_path: Path) -> None:
    ollama_model(tmp_path / ".ollama/models", "qwen2.5", "7b", "2" * 64, seed=4)
    found = library(tmp_path)
    assert found.model(found.parse("qwen2.5:7b")).file.origin == "ollama"
    with pytest.raises(NotFound, match=r"qwen2\.5-14b is not on this computer"):
        found.model(found.parse("qwen2.5:14b"))


def test_a_base_model_is_the_default_only_where_there_is_no_other(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    base = write_model(tmp_path / "ours/qwen2.5-coder-7b-q8_0.gguf", shape=Shape(layers=4), seed=1)
    found = library(tmp_path)
    best = found.best()
    assert best and best.path == base and best.only_completes
    chatting = write_model(tmp_path / "ours/small.gguf", seed=2)
    best = found.best()
    assert best and best.path == chatting


def test_headers_are_cached_until_the_file_changes(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    path = write_chain(tmp_path / "ours/m.gguf", "one two", name="First").path
    assert next(as_rows(library(tmp_path).models()))["name"] == "First"
    cached = tmp_path / "cache/headers.json"
    assert cached.stat().st_mode & 0o077 == 0
    cached.write_text(cached.read_text().replace("First", "Cached"))
    assert next(as_rows(library(tmp_path).models()))["name"] == "Cached"
    os.utime(path, ns=(1, 1))
    assert next(as_rows(library(tmp_path).models()))["name"] == "First"
    for damaged in (b"{damaged", b'{"\xff": 1}'):
        cached.write_bytes(damaged)
        assert next(as_rows(library(tmp_path).models()))["name"] == "First"


def test_what_the_system_does_not_let_us_see_is_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    closed = tmp_path / ("x" * 300) / "m.gguf"  # as a folder of another person is: asking whether it is there fails
    found = library(tmp_path)
    assert found.find(FileReference(closed)) == closed
    assert "can't be read" in found.model(FileReference(closed)).problem
    with pytest.raises(FileError, match="can't be read"):
        read_header(found.locate(FileReference(closed)))
    assert found.find(FileReference(tmp_path / "none.gguf")) is None
    assert free_bytes(closed) == pytest.approx(free_bytes(tmp_path), rel=0.1)
    hub = tmp_path / ".cache/huggingface/hub"
    model = hf_model(hub, "a/b", "m.gguf", sha256="1" * 64)
    (hub / "models--c--d").symlink_to("x" * 300)
    assert [model.path for model in found.models()] == [model]


def test_looking_for_the_same_file_hashes_only_what_can_be_it_and_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    mine = write_model(tmp_path / "ours/m.gguf")
    told: list[PullEvent] = []

    def same(size: int, content: bytes, stop: threading.Event) -> Path | None:
        file = RemoteFile("x.gguf", size, hashlib.sha256(content).hexdigest())
        return existing_copy(library(tmp_path), file, told.append, stop)

    content, go_on = mine.read_bytes(), threading.Event()
    assert same(len(content) + 1, content, go_on) is None and not told
    assert same(len(content), content, go_on) == mine and told == [Checking("x.gguf")]
    assert same(len(content), b"other", go_on) is None
    go_on.set()
    with pytest.raises(Interrupted):
        same(len(content), content, go_on)


def test_odd_names_and_closed_folders_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/ours/\xff\x1b[31m.gguf"))
    write_model(odd)
    models = library(tmp_path).models()
    assert [model.path for model in models] == [odd] and not models[0].problem
    assert library(tmp_path / "nothing").models() == []
