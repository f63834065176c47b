"""`qwenchat models` as a user or a script runs it."""

import hashlib
import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qwenchat.cli.main import main
from qwenchat.text.safe import human_size
from tests.fakes.ggufs import Shape, write_model
from tests.fakes.layouts import COMMIT, hf_model, model_bytes, ollama_model
from tests.tui.terminal import qwenchat_in_terminal


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let no model of the machine that runs the tests be found."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "LLAMA_CACHE", "OLLAMA_MODELS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("LLAMA_CACHE", "OLLAMA_MODELS"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def ours(home: Path) -> Path:
    """The folder of this program's own models."""
    folder = home / "data" / "models" / "owner" / "repo"
    folder.mkdir(parents=True)
    return folder


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def qwenchat(*words: str | Path) -> Done:
    """Run a command in this process, which is ten times quicker than in one of its own."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(map(str, words)))
    return Done(code, out.getvalue(), err.getvalue())


def run(*words: str | Path) -> Any:
    done = qwenchat("models", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_list(ours: Path) -> None:
    done = qwenchat("models", "list")
    assert (done.returncode, done.stdout) == (0, "") and "models fit" in done.stderr
    write_model(ours / "m\x1b[31m.gguf", name="Mine \x07", file_type=15)
    (ours / "page.gguf").write_text("<!doctype html>")
    good, bad = run("list")
    assert (good["quantisation"], good["context"], good["from"], good["problem"]) == ("q4_k_m", 4096, "qwenchat", "")
    assert "web page" in bad["problem"]
    table = qwenchat("models", "list").stdout
    assert len(table.splitlines()) == 2 and "\x1b" not in table and "\x07" not in table


def test_a_folder_that_can_not_be_searched_is_reported_everywhere(ours: Path, elsewhere: Path) -> None:
    write_model(ours / "m.gguf")
    stick = elsewhere / "stick"
    done = qwenchat("config", "set", "hub.folders", f"{stick}, {elsewhere}/other")
    assert done.returncode == 0 and done.stderr.count("it does not exist") == 2
    done = qwenchat("models", "list")
    assert "\tTest\t" in done.stdout and f"{stick} can't be searched for models: it does not exist." in done.stderr
    assert [row["path"] for row in run("list") if not row["model"]] == [str(stick), f"{elsewhere}/other"]
    report = qwenchat("doctor")
    assert "stick can't be searched" in report.stdout and "hub.folders" in report.stdout
    stick.mkdir()
    done = qwenchat("config", "set", "hub.folders", str(stick))
    assert (done.returncode, done.stderr) == (0, "") and len(run("list")) == 1


@pytest.mark.parametrize("key", ["hub.folders", "hub.folder"])
@pytest.mark.parametrize(("value", "told"), [("models", "full path"), ("./x", "full path"), ("FILE", "not a folder")])
def test_what_can_never_be_a_folder_of_models_is_refused(key: str, value: str, told: str, elsewhere: Path) -> None:
    (elsewhere / "file").write_text("")
    done = qwenchat("config", "set", key, value.replace("FILE", f"{elsewhere}/file"))
    assert done.returncode == 2 and told in done.stderr
    assert qwenchat("config", "get", key).stdout.strip() == ""


def test_every_name_that_the_list_prints_is_accepted(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ollama, downloads = elsewhere / ".ollama/models", elsewhere / "down loads"
    downloads.mkdir()
    (downloads / "plain.gguf").write_bytes(model_bytes(4))
    for seed, host in enumerate(("registry.ollama.ai/someone", "hub.example:5000/team", "hf.co/me")):
        sha256 = hashlib.sha256(model_bytes(seed)).hexdigest()
        ollama_model(ollama, "mine", f"v{seed}", sha256, seed=seed, host=host)
    sha256 = hashlib.sha256(model_bytes(3)).hexdigest()
    hf_model(elsewhere / "hf/hub", "me/theirs", "x-Q4_K_M.gguf", sha256=sha256, seed=3)
    assert qwenchat("config", "set", "hub.folders", str(downloads)).returncode == 0
    names = [line.split("\t")[0] for line in qwenchat("models", "list").stdout.splitlines()]
    assert "someone/mine:v0" in names and "~/down loads/plain.gguf" in names and len(names) == 5
    monkeypatch.chdir(elsewhere)
    for name in names:
        path = run("info", name)["path"]
        assert run("fit", name)["models"][0]["here"] == path
        assert run("verify", name)[0]["path"] == path
        (file,) = run("export", name, elsewhere / f"out-{names.index(name)}")
        assert file["bytes"] == Path(path).stat().st_size
        assert qwenchat("models", "remove", name, "--yes").returncode == 2 and Path(path).exists()  # not ours


def test_catalog() -> None:
    catalog = run("catalog")
    assert [model["size"] for model in catalog] == ["0.5b", "1.5b", "7b", "57b-a14b", "72b"]
    assert catalog[-1]["must_accept"] and catalog[-1]["quantisations"][-1]["files"][0]["bytes"] == 37_605_849_472
    human = qwenchat("models", "catalog")
    assert "7b:q4_k_m\t4.68 GB\t32,768 (131,072 YaRN)\tApache-2.0" in human.stdout
    assert "72b:" in human.stderr
    assert "coder" not in human.stdout and "(0.5b, 1.5b, 3b, 7b, 14b, 32b)" in human.stderr


def test_catalog_of_another_family(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = run("catalog", "Coder")
    assert [model["name"] for model in catalog] == [f"coder-{size}b" for size in ("0.5", "1.5", 3, 7, 14, 32)]
    assert {model["licence"] for model in catalog} == {"Apache-2.0", "Qwen Research"}
    everything = {model["name"]: model for model in run("catalog", "--all")}
    assert list(everything)[:6] == ["0.5b", "1.5b", "7b", "57b-a14b", "72b", "qwen2.5-0.5b"] and len(everything) > 30
    assert everything["r1-7b"]["sampling"]["temperature"] == 0.6 and everything["7b"]["sampling"] == {}
    assert [everything[name]["purpose"] for name in ("7b", "qwq-32b", "coder-base-3b")] == [
        "chat",
        "reasoning",
        "completion",
    ]
    human = qwenchat("models", "catalog", "r1")
    assert "r1-7b:q4_k_m\t4.68 GB\t131,072\tMIT" in human.stdout and "\tabout 5.4" in human.stdout
    assert "catalog FAMILY" not in human.stderr
    monkeypatch.setenv("LANGUAGE", "zh_CN")
    assert "编写、讲解、修复约九十种语言的代码" in qwenchat("models", "catalog").stderr
    assert "适合 16 GB 内存的笔记本" in qwenchat("models", "catalog", "coder").stderr


def test_fit() -> None:
    told = run("fit")
    rows = told["models"]
    assert len(rows) == 44 and told["machine"]["bandwidth"] > 1e8
    assert {row["family"] for row in rows} == {"qwen2"}
    families = {each["family"]: each["recommended"] for each in told["families"]}
    assert list(families)[:3] == ["qwen2.5", "qwen2.5-1m", "coder"] and "qwen2" not in families
    assert all(best is None or best.startswith(f"{family}-") for family, best in families.items())
    assert told["recommended"] in (None, rows[0]["model"])
    human = qwenchat("models", "fit", "7b:q4_k_m")
    assert human.stdout.startswith("7b:q4_k_m\t") and "~" in human.stdout
    assert "estimate" in human.stderr


def test_fit_recommends_inside_what_was_asked_for() -> None:
    told = run("fit", "coder")
    assert {row["family"] for row in told["models"]} == {"coder"} and len(told["models"]) == 48
    assert told["recommended"] in (None, told["models"][0]["model"]) and told["families"] == []
    assert {row["model"].partition(":")[0] for row in run("fit", "qwen2.5:7b")["models"]} == {"qwen2.5-7b"}
    assert [row["model"] for row in run("fit", "r1:7b:q8_0")["models"]] == ["r1-7b:q8_0"]
    human = qwenchat("models", "fit")
    assert "coder" not in human.stdout and "coder: coder-" in human.stderr
    assert "coder: " not in qwenchat("models", "fit", "coder").stderr


def test_fit_of_a_model_that_is_not_of_the_catalogue(ours: Path) -> None:
    path = write_model(ours / "m.gguf")
    (row,) = run("fit", path)["models"]
    assert (row["context"], row["verdict"], row["here"]) == (4096, "comfortable", str(path))


def test_list_info_and_fit_agree_on_the_context_windows(ours: Path) -> None:
    write_model(ours / "stretched.gguf", shape=Shape(context=2048, yarn_factor=4.0))
    for row in (run("list")[0], facts := run("info", "stretched")):
        assert (row["context"], row["context_max"]) == (2048, 8192)
        assert row["tools"] == "weak"
    assert (facts["rope_scaling"], facts["rope_scaling_factor"], facts["rope_original_context"]) == ("yarn", 4.0, 2048)
    assert "2,048 (8,192 YaRN)" in qwenchat("models", "list").stdout
    assert "above 2,048 tokens, up to 8,192, use YaRN" in qwenchat("models", "info", "stretched").stderr
    for words, window in (((), 2048), (("--ctx", 4096), 4096), (("--ctx", 100_000), 8192)):
        assert run("fit", "stretched", *map(str, words))["models"][0]["context"] == window


def test_the_list_says_which_models_call_tools(ours: Path) -> None:
    write_model(ours / "small.gguf")
    write_model(ours / "base.gguf", chat_template=None)
    write_model(ours / "llama.gguf", chat_template="{% for m in messages %}[INST]{{ m.content }}[/INST]{% endfor %}")
    (ours / "damaged.gguf").write_bytes(b"GGUF")
    shown = [line.split("\t") for line in qwenchat("models", "list").stdout.splitlines()]
    words = {Path(row[0]).stem: row[5] for row in shown}
    assert words == {"small": "weak", "base": "none", "llama": "none", "damaged": ""}
    values = {Path(row["model"]).stem: row["tools"] for row in run("list")}
    assert values == {"small": "weak", "base": "no", "llama": "no", "damaged": None}


def test_info(ours: Path) -> None:
    path = write_model(ours / "m.gguf", chat_template=None)
    facts = run("info", "m")
    assert (facts["layers"], facts["path"], len(facts["identity"])) == (2, str(path), 32)
    human = qwenchat("models", "info", path)
    assert "layers: 2" in human.stdout and "continues text" in human.stderr
    with qwenchat_in_terminal("models", "info", path) as terminal:
        assert terminal.end() == 0
    words = " ".join(terminal.text.split())
    assert f"size {human_size(path.stat().st_size)}" in words and "layers 2" in words and "kv_heads" not in words


def test_a_base_model_is_one_whatever_its_template_says(ours: Path) -> None:
    write_model(ours / "qwen2.5-coder-7b-q8_0.gguf")
    (row,) = run("list")
    assert (row["model"], row["name"], row["tools"]) == ("coder-base-7b:q8_0", "Qwen2.5 Coder 7B", "no")
    assert "continues text" in qwenchat("models", "info", "coder-base:7b").stderr


def test_verify(elsewhere: Path, ours: Path) -> None:
    content = write_model(ours / "m.gguf").read_bytes()
    (unknown,) = run("verify", "m.gguf")
    sha256 = hashlib.sha256(content).hexdigest()
    assert (unknown["is"], unknown["sha256"]) == ("unknown", sha256)
    path = hf_model(elsewhere / "hf/hub", "a/b", "x.gguf", sha256=sha256)
    path.resolve().write_bytes(content)
    assert run("verify", "a/b")[0]["is"] == "ok"
    path.resolve().write_bytes(content[:-1] + b"\xff")
    done = qwenchat("models", "verify", "a/b", "--json")
    assert done.returncode == 5 and json.loads(done.stdout)[0]["is"] == "damaged"
    assert "download it again" in done.stderr and json.loads(done.stdout)[0]["recorded"] == sha256


def test_the_catalogue_verifies_only_its_own_repositories(ours: Path) -> None:
    write_model(ours / "qwen2-7b-instruct-q4_k_m.gguf")
    done = qwenchat("models", "verify", "7b:q4_k_m", "--json")
    assert done.returncode == 5 and json.loads(done.stdout)[0]["is"] == "differs"
    assert "replaced it" in done.stderr
    assert len(run("export", "7b:q4_k_m", ours.parent / "stick")) == 1  # a table that is wrong blocks nothing
    write_model(ours / "Qwen2-7B-Instruct-Q8_0.gguf")
    assert run("verify", "7b:q8_0")[0]["is"] == "unknown"


def test_remove_asks_and_deletes_what_is_ours(ours: Path) -> None:
    first = write_model(ours / "m.gguf", tensors_per_part=10)
    other = write_model(ours.parent / "other.gguf")
    asked = qwenchat("models", "remove", first)
    assert (asked.returncode, first.exists()) == (2, True) and "--yes" in asked.stderr
    told = run("remove", first, "--yes")
    assert len(told["files"]) == 3 and told["freed"] > 100_000
    assert not ours.exists() and other.exists()
    assert qwenchat("models", "remove", first, "--yes").returncode == 3


def test_remove_in_the_cache_only_when_asked_and_only_that_file(elsewhere: Path) -> None:
    cache = elsewhere / "hf/hub"
    path = hf_model(cache, "a/b", "x-q4_0.gguf", sha256="1" * 64)
    again = hf_model(cache, "a/b", "x-q4_0.gguf", sha256="1" * 64, commit="d" * 40)
    kept = hf_model(cache, "a/b", "x-q8_0.gguf", sha256="2" * 64, commit=COMMIT)
    refused = qwenchat("models", "remove", "a/b:q4_0", "--yes")
    assert refused.returncode == 2 and "--hf-cache" in refused.stderr
    size = path.stat().st_size
    assert run("remove", "a/b:q4_0", "--yes", "--hf-cache")["freed"] == size
    assert not path.is_symlink() and not again.is_symlink() and not (cache / "models--a--b/blobs" / ("1" * 64)).exists()
    assert kept.exists()


def test_other_programs_files_are_never_deleted(elsewhere: Path) -> None:
    folder = elsewhere / ".lmstudio/models/p/m"
    folder.mkdir(parents=True)
    path = write_model(folder / "m.gguf")
    done = qwenchat("models", "remove", "p/m", "--yes", "--hf-cache")
    assert done.returncode == 2 and "lmstudio" in done.stderr and path.exists()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there every name is text")
def test_a_name_that_is_not_text(ours: Path, tmp_path: Path) -> None:
    path = write_model(ours / "plain.gguf").rename(ours / os.fsdecode(b"caf\xe9.gguf"))
    (row,) = run("list")
    assert row["model"] == f"{ours.as_uri()}/caf%E9.gguf" and not row["problem"]
    for name in (row["model"], str(path)):
        assert run("info", name)["model"] == row["model"]
        assert run("fit", name)["models"][0]["model"] == row["model"]
        assert run("verify", name)[0]["is"] == "unknown"
    assert "caf.gguf" in qwenchat("models", "info", path).stdout
    assert [file["name"] for file in run("export", path, tmp_path / "stick")] == ["caf.gguf"]
    assert qwenchat("config", "set", "model.default", str(path)).returncode == 2
    assert qwenchat("config", "set", "model.default", row["model"]).returncode == 0
    assert qwenchat("models", "remove", row["model"], "--yes").returncode == 0 and not path.exists()
    gone = qwenchat("models", "info", path)
    assert gone.returncode == 3 and "caf%E9" in gone.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there the system itself refuses")
def test_a_model_in_use_is_not_deleted(ours: Path) -> None:
    path = write_model(ours / "m.gguf")
    code = (
        "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ); "
        "f.close(); print('mapped', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == b"mapped\n"
        refused = qwenchat("models", "remove", path, "--yes")
        assert refused.returncode == 8 and str(holder.pid) in refused.stderr and path.exists()
        holder.communicate()
    assert qwenchat("models", "remove", path, "--yes").returncode == 0


def test_export(elsewhere: Path, ours: Path) -> None:
    first = write_model(ours / "m.gguf", tensors_per_part=10)
    stick = elsewhere / "stick"
    files = run("export", first, stick)
    assert [file["name"] for file in files] == [f"m-0000{part}-of-00003.gguf" for part in (1, 2, 3)]
    for file in json.loads((stick / "bundle.json").read_text())["files"]:
        assert hashlib.sha256((stick / file["name"]).read_bytes()).hexdigest() == file["sha256"]
    assert sorted(path.name for path in stick.iterdir()) == ["bundle.json", *(file["name"] for file in files)]
    write_model(ours / "other.gguf")
    assert len(run("export", "other", stick)) == 4
    assert len(run("export", "other", stick)) == 4
    (stick / "other.gguf").write_bytes(b"mine")
    refused = qwenchat("models", "export", "other", stick)
    assert refused.returncode == 8 and (stick / "other.gguf").read_bytes() == b"mine"
    (stick / "bundle.json").write_bytes(b'{"files": "\xff"}')
    assert qwenchat("models", "export", first, stick).returncode == 8


def test_a_damaged_model_is_not_exported(elsewhere: Path) -> None:
    hf_model(elsewhere / "hf/hub", "a/b", "x.gguf", sha256="1" * 64)
    done = qwenchat("models", "export", "a/b", elsewhere / "stick")
    assert done.returncode == 5 and "sha256" in done.stderr
    assert list((elsewhere / "stick").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["info", "8b"], 3, "Did you mean"),
        (["info", "coder"], 3, "coder-7b"),
        (["pull", "r1"], 3, "r1-14b"),
        (["catalog", "llama"], 3, "qwen2.5-1m"),
        (["fit", "qwen3"], 3, "No model named"),
        (["info", "7b:q4_k_m"], 3, "models pull 7b:q4_k_m"),
        (["verify", "7b:q9"], 3, "q8_0"),
        (["info", "./none.gguf"], 3, "no file"),
        (["info", "https://example.com/m.gguf"], 2, "models pull"),
        (["fit", "a/b"], 3, "not on this computer"),
        (["info", "\x1b[31m"], 2, "control"),
        (["export", "guide/..", "/proc/nope"], 2, "not a model"),
    ],
)
def test_wrong_use(words: list[str], code: int, told: str) -> None:
    done = qwenchat("models", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr and len(done.stderr.splitlines()) == 2
