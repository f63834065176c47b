"""`qwenchat models pull` as a user or a script runs it, from a hub on loopback."""

import hashlib
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from qwenchat.cli.output import Output
from qwenchat.cli.pull import ProgressLines
from qwenchat.models.download.progress import DownloadProgress, PartProgress, Retrying, progress_text
from tests.fakes.commands import environment, qwenchat
from tests.fakes.ggufs import write_model
from tests.fakes.layouts import ollama_model
from tests.fakes.pulling import NAME, REPO, model_bytes
from tests.fakes.standin_hub import COMMIT, StandIn, Trouble

LARGE = "Qwen/Qwen2-72B-Instruct-GGUF"
TOKEN = "hf_" + "s" * 30


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let no model, proxy or login of the machine that runs the tests be found."""
    for name in ("HF_HUB_CACHE", "XDG_CACHE_HOME", "HTTP_PROXY", "http_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("LLAMA_CACHE", "OLLAMA_MODELS"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    return write_model(tmp_path / "source.gguf").read_bytes()


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch, model: bytes) -> Iterator[StandIn]:
    with StandIn() as hub:
        hub.put(REPO, NAME, model)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def test_pull_in_a_pipe(standin: StandIn, model: bytes, elsewhere: Path) -> None:
    done = qwenchat("models", "pull", "7b:q4_k_m")
    path = Path(done.stdout.strip())
    assert path.read_bytes() == model
    assert all(REPO in request.path for request in standin.requests())  # nothing else is asked, or told, by the way
    assert path == elsewhere / "hf/hub/models--Qwen--Qwen2-7B-Instruct-GGUF/snapshots" / COMMIT / NAME
    assert done.returncode == 0
    assert "\x1b" not in done.stderr and "100%" not in done.stderr
    assert not [r for r in standin.log if TOKEN in str(r.headers)]  # the endpoint is not the token's hub
    listed = json.loads(qwenchat("models", "list", "--json").stdout)
    assert [row["path"] for row in listed] == [str(path)]


def test_an_endpoint_with_spaces_around_it(standin: StandIn, model: bytes) -> None:
    done = qwenchat("models", "pull", "7b:q4_k_m", HF_ENDPOINT=f" {standin.endpoint}/\n", HF_HUB_ETAG_TIMEOUT="")
    assert Path(done.stdout.strip()).read_bytes() == model


def test_events_as_json(standin: StandIn, model: bytes) -> None:
    standin.troubles.append(Trouble(cut=len(model) // 2))
    done = qwenchat("models", "pull", f"{REPO}:Q4_K_M", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert set(kinds) >= {"retrying", "progress", "checking", "completed", "done"}
    last = [event for event in events if event["event"] == "progress"][-1]
    assert (last["done"], last["total"]) == (len(model), len(model))
    assert last["parts"] == [{"name": NAME, "done": len(model), "size": len(model)}]
    assert events[-1]["model"] == "7b:q4_k_m" and Path(events[-1]["path"]).read_bytes() == model
    assert not done.stderr


def test_ctrl_c_leaves_a_part_that_the_next_run_carries_on(standin: StandIn, model: bytes, elsewhere: Path) -> None:
    half = len(model) // 2
    standin.troubles.append(Trouble(cut=half, stall=True))
    with subprocess.Popen(
        [sys.executable, "-m", "qwenchat", "models", "pull", "7b:q4_k_m", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout and process.stderr
        for line in process.stdout:
            if json.loads(line).get("done") == half:
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
        talk = process.stderr.read()
        assert process.wait(20) == 130
    assert "what was downloaded so far is saved" in talk and "Traceback" not in talk
    done = qwenchat("models", "pull", "7b:q4_k_m")
    assert Path(done.stdout.strip()).read_bytes() == model
    assert standin.bytes_sent() == len(model)


def test_a_bar_on_a_terminal(standin: StandIn, model: bytes) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "qwenchat", "models", "pull", "7b:q4_k_m"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(TERM="xterm", COLUMNS="120"),
    )
    os.close(theirs)
    drawn = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        drawn += piece
    out, _err = process.communicate()
    os.close(ours)
    assert Path(out.decode().strip()).read_bytes() == model
    assert b"100%" in drawn and b"\x1b[" in drawn


@pytest.mark.parametrize(
    ("words", "exit_code", "talk"),
    [
        (["9b"], 3, 'No model named "9b"'),
        (["nobody/nothing"], 3, "no repository nobody/nothing"),
        ([f"{REPO}:q9_9"], 3, "q9_9"),
        (["7b:q4_k_m", "--revision", "v9"], 3, "no such revision"),
        (["7b:q4_k_m", "--from", "nonsense"], 2, "nonsense is not a source"),
        (["7b:q4_k_m", "--from", "file:/no/such/folder"], 4, "can't be read"),
        (["https://127.0.0.1/page"], 2, "not the URL of a model file"),
        (["guide"], 2, "comes with the program"),
        (["./missing.gguf"], 3, "There is no file"),
    ],
)
def test_one_line_says_what_is_wrong_and_one_what_to_do(
    standin: StandIn, words: list[str], exit_code: int, talk: str
) -> None:
    done = qwenchat("models", "pull", *words)
    assert done.returncode == exit_code
    assert not done.stdout
    assert talk in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_licence_of_its_own_is_accepted_first(standin: StandIn, model: bytes) -> None:
    standin.put(LARGE, "qwen2-72b-instruct-q2_k.gguf", model)
    refused = qwenchat("models", "pull", "72b:q2_k")
    assert refused.returncode == 2
    assert "Tongyi Qianwen" in refused.stderr and "--yes" in refused.stderr
    assert not standin.log
    accepted = qwenchat("models", "pull", "72b:q2_k", "--yes")
    assert accepted.returncode == 0 and "Tongyi Qianwen" not in accepted.stderr


def test_offline_opens_no_socket(standin: StandIn, model: bytes) -> None:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        script = (
            "import sys\n"
            "def look(name, _):\n"
            "    if name.startswith('socket.'): raise SystemExit('a socket')\n"
            "sys.addaudithook(look)\n"
            "from qwenchat.cli.main import main\n"
            "sys.exit(main(['models', 'pull', *sys.argv[1:]]))\n"
        )
        command = [sys.executable, "-c", script, *words]
        return subprocess.run(command, env=environment(HF_HUB_OFFLINE="1"), capture_output=True, text=True, check=False)

    refused = run("7b:q4_k_m")
    assert refused.returncode == 4 and "offline" in refused.stderr
    path = qwenchat("models", "pull", "7b:q4_k_m").stdout.strip()
    assert run("7b:q4_k_m").stdout.strip() == path
    assert run(f"{REPO}/{NAME}").stdout.strip() == path


def test_what_another_program_has_is_not_fetched(standin: StandIn, model: bytes, tmp_path: Path) -> None:
    digest = standin.digest(REPO, NAME)
    blobs, manifest = tmp_path / "ollama/blobs", tmp_path / "ollama/manifests/registry.ollama.ai/library/qwen2/7b"
    for folder in (blobs, manifest.parent):
        folder.mkdir(parents=True)
    (blobs / f"sha256-{digest}").write_bytes(model)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": len(model)}
    manifest.write_text(json.dumps({"layers": [layer]}))
    done = qwenchat("models", "pull", "7b:q4_k_m", OLLAMA_MODELS=str(tmp_path / "ollama"))
    assert done.stdout.strip() == str(blobs / f"sha256-{digest}")
    assert "already" in done.stderr
    assert not standin.requests("cdn")


@pytest.mark.parametrize("place", [".lmstudio/models/them/theirs", "flat", "stick/deep"])
def test_what_another_program_has_without_a_sha256_is_not_fetched(
    standin: StandIn, model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "flat"))
    monkeypatch.setenv("QWENCHAT_HUB_FOLDERS", str(tmp_path / "stick"))
    folder = tmp_path / place
    folder.mkdir(parents=True)
    other = write_model(folder / "a.gguf", seed=9)
    (folder / "theirs.gguf").write_bytes(model)
    assert other.stat().st_size == len(model)
    done = qwenchat("models", "pull", "7b:q4_k_m")
    assert done.stdout.strip() == str(folder / "theirs.gguf"), done.stderr
    assert "already" in done.stderr and not standin.requests("cdn")
    (folder / "theirs.gguf").unlink()
    assert str(tmp_path / "hf") in qwenchat("models", "pull", "7b:q4_k_m").stdout


def test_from_machine_to_machine_by_stick(standin: StandIn, model: bytes, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    qwenchat("models", "pull", "7b:q4_k_m")
    assert qwenchat("models", "export", "7b:q4_k_m", stick).returncode == 0
    pull = ("models", "pull", "7b:q4_k_m", "--from", f"file:{stick}", "--json")
    done = qwenchat(*pull, HF_HOME=str(tmp_path / "other"), HF_HUB_OFFLINE="1")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["verified"] for event in events if event["event"] == "completed"] == [True]
    assert Path(events[-1]["path"]).read_bytes() == model
    assert str(tmp_path / "other") in events[-1]["path"]
    third, fresh = str(tmp_path / "third"), str(tmp_path / "fresh")
    here = ("models", "pull", "--from", f"file:{stick}")
    done = qwenchat(*here, "7b", HF_HOME=third, QWENCHAT_HOME=fresh)  # which would choose another one itself
    assert done.returncode == 0 and Path(done.stdout.strip()).read_bytes() == model, done.stderr
    done = qwenchat(*here, "7b:q8_0", HF_HOME=third, QWENCHAT_HOME=fresh)
    assert done.returncode == 3 and str(stick) in done.stderr and "q4_k_m" in done.stderr


def exported(*words: str | Path, stick: Path, model: bytes) -> tuple[str, Path]:
    """Export a model, run the line that this prints as on another machine, and return its model and where it lies."""
    said = qwenchat("models", "export", *words, stick).stderr.splitlines()[-1]
    line = shlex.split(said.partition(": qwenchat ")[2].replace("FOLDER", str(stick)))
    assert line[:2] == ["models", "pull"], said
    with pytest.MonkeyPatch.context() as other:
        other.setenv("HF_HUB_OFFLINE", "1")
        other.setenv("OLLAMA_MODELS", str(stick))
        for name in ("HF_HOME", "QWENCHAT_HOME"):
            other.setenv(name, str(stick.parent / "other" / name))
        done = qwenchat(*line)
        path = Path(done.stdout.strip())
        assert path.read_bytes() == model, done.stderr
        assert stick.parent / "other" in path.parents
        assert json.loads(qwenchat("models", "list", "--json").stdout)[0]["path"] == str(path)
    return line[2], path


def test_the_line_after_an_export_works_on_another_machine(standin: StandIn, model: bytes, tmp_path: Path) -> None:
    qwenchat("models", "pull", "7b:q4_k_m")
    assert exported("7b:q4_k_m", stick=tmp_path / "1/stick", model=model)[0] == "7b:q4_k_m"
    standin.put("acme/tiny", "sub/tiny-q8_0.gguf", model + b"1")
    qwenchat("models", "pull", "acme/tiny:q8_0")
    assert exported("acme/tiny:q8_0", stick=tmp_path / "2/stick", model=model + b"1")[0] == "tiny-q8_0.gguf"


@pytest.mark.parametrize("name", ["mine.gguf", "my own model.GGUF", "a:b.gguf"])
def test_the_line_after_an_export_of_a_local_file_works(model: bytes, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(model)
    told, path = exported(tmp_path / name, stick=tmp_path / "there/stick", model=model)
    assert told == path.name == name.replace(":", "-")


def test_the_line_after_an_export_from_ollama_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    blob = ollama_model(tmp_path / "ollama", "tiny", "latest", "5" * 64)
    sha256 = hashlib.sha256(blob.read_bytes()).hexdigest()
    blob.unlink()
    blob = ollama_model(tmp_path / "ollama", "tiny", "latest", sha256)
    told, _path = exported("tiny", stick=tmp_path / "there/stick", model=blob.read_bytes())
    assert told == "tiny-latest.gguf"


def test_files_of_one_name_from_two_addresses_are_two_files(standin: StandIn, model: bytes, home: Path) -> None:
    standin.hashes = False
    for repo in ("acme/a", "acme/b"):
        standin.put(repo, "model.gguf", model + repo.encode())
    for repo in ("acme/a", "acme/b"):
        path = Path(qwenchat("models", "pull", f"{standin.cdn}/{repo}/model.gguf").stdout.strip())
        assert path.read_bytes() == model + repo.encode()
        assert (path.name, path.parents[1]) == ("model.gguf", home / "data/models")
    sent = standin.bytes_sent()
    assert qwenchat("models", "pull", f"{standin.cdn}/{repo}/model.gguf").stdout.strip() == str(path)
    assert standin.bytes_sent() == sent
    assert qwenchat("models", "remove", path, "--yes").returncode == 0
    assert not path.parent.exists() and len(list((home / "data/models").rglob("model.gguf"))) == 1


def test_the_revision_in_an_address_is_the_one_that_comes(standin: StandIn, elsewhere: Path) -> None:
    standin.tags |= {"v1.0", "refs/pr/1", "v2"}

    def asked(*words: str) -> str:
        standin.log.clear()
        done = qwenchat("models", "pull", *words)
        assert done.returncode == 0, done.stderr
        (listing,) = (urlsplit(r.path).path for r in standin.log if r.path.startswith("/api/models/"))
        return unquote(listing.partition("/revision/")[2])

    address = f"https://huggingface.co/{REPO}/{{}}/{NAME}"
    assert asked(address.format("resolve/v1.0")) == "v1.0"
    assert asked(address.format("blob/refs%2Fpr%2F1") + "?download=true") == "refs/pr/1"
    assert asked(address.format("resolve/v1.0"), "--revision", "v2") == "v2"
    assert asked(f"{REPO}/{NAME}") == ""
    assert (elsewhere / "hf/hub/models--Qwen--Qwen2-7B-Instruct-GGUF/refs/v1.0").read_text() == COMMIT
    missing = qwenchat("models", "pull", address.format("resolve/v9"))
    assert missing.returncode == 3 and "no such revision" in missing.stderr


def test_into_the_users_own_folder(standin: StandIn, model: bytes, tmp_path: Path) -> None:
    done = qwenchat("models", "pull", "7b:q4_k_m", "--to", tmp_path / "mine")
    assert done.stdout.strip() == str(tmp_path / "mine" / NAME)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [NAME]
    by_setting = qwenchat("models", "pull", "7b:q4_k_m", QWENCHAT_HUB_FOLDER=str(tmp_path / "set"))
    # the same bytes are on this machine, but where the person wants them is asked for
    assert by_setting.stdout.strip() == str(tmp_path / "set" / REPO / NAME)


def test_after_a_download_elsewhere_the_line_that_it_says_makes_it_found_and_removable(
    standin: StandIn, model: bytes, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    assert qwenchat("config", "set", "hub.folders", tmp_path / "other").returncode == 0
    mine = write_model(tmp_path / "other" / "mine.gguf", seed=7)
    done = qwenchat("models", "pull", "7b:q4_k_m", "--to", tmp_path / "a disk")
    path = Path(done.stdout.strip())
    assert qwenchat("models", "info", "7b:q4_k_m").returncode == 3
    line = shlex.split(done.stderr.splitlines()[-1].partition(": qwenchat ")[2])
    assert line[:3] == ["config", "set", "hub.folders"] and qwenchat(*line).returncode == 0
    assert json.loads(qwenchat("models", "info", "7b:q4_k_m", "--json").stdout)["path"] == str(path)
    assert qwenchat("models", "info", mine).returncode == 0
    again = qwenchat("models", "pull", "7b:q4_k_m", "--to", tmp_path / "a disk")
    assert "hub.folders" not in again.stderr
    assert qwenchat("models", "remove", mine, "--yes").returncode == 2 and mine.exists()
    assert qwenchat("models", "remove", "7b:q4_k_m", "--yes").returncode == 0 and not path.exists()


def test_only_downloaded_files_are_removed_from_the_users_folder(
    standin: StandIn, model: bytes, tmp_path: Path
) -> None:
    def run(*words: str | Path) -> "subprocess.CompletedProcess[str]":
        return qwenchat("models", *words, QWENCHAT_HUB_FOLDER=str(tmp_path / "set"))

    standin.put(REPO, "qwen2-7b-instruct-q8_0.gguf", model_bytes(5000))
    (tmp_path / "set" / REPO).mkdir(parents=True)
    mine = write_model(tmp_path / "set" / REPO / "mine.gguf", seed=7)
    same = tmp_path / "set" / REPO / "qwen2-7b-instruct-q8_0.gguf"
    same.write_bytes(model_bytes(5000))
    assert run("pull", "7b:q8_0").stdout.strip() == str(same)  # it was there
    path = Path(run("pull", "7b:q4_k_m").stdout.strip())
    assert json.loads(run("info", path, "--json").stdout)["from"] == "qwenchat"
    for kept in (mine, same):
        refused = run("remove", kept, "--yes", "--json")
        assert refused.returncode == 2 and "not downloaded by qwenchat" in refused.stderr and kept.exists()
    assert run("remove", "7b:q4_k_m", "--yes").returncode == 0 and not path.exists()
    path.write_bytes(model)
    assert run("remove", "7b:q4_k_m", "--yes").returncode == 2 and path.exists()


def test_downloads_in_the_users_folder_are_found_by_their_hub_names(
    standin: StandIn, model: bytes, tmp_path: Path
) -> None:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return qwenchat("models", *words, QWENCHAT_HUB_FOLDER=str(tmp_path / "set"))

    def path_of(name: str) -> str:
        return str(json.loads(run("info", name, "--json").stdout)["path"])

    standin.put("acme/tiny", "sub/tiny-q8_0.gguf", model)
    path = run("pull", "acme/tiny:q8_0").stdout.strip()
    assert path == str(tmp_path / "set/acme/tiny/sub/tiny-q8_0.gguf")
    (tmp_path / "set/my models/old").mkdir(parents=True)
    mine = write_model(tmp_path / "set/my models/old/mine.gguf", seed=7)
    loose = write_model(tmp_path / "set/loose.gguf", seed=8)
    names = [row["model"] for row in json.loads(run("list", "--json").stdout)]
    assert names == [str(loose), "acme/tiny/sub/tiny-q8_0.gguf", str(mine)]
    assert [path_of(name) for name in names] == [str(loose), path, str(mine)]
    assert path_of("acme/tiny:q8_0") == path_of("acme/tiny") == path


def test_without_a_quantisation_the_one_that_fits_is_taken(standin: StandIn, model: bytes) -> None:
    for name, size in (("a-q2_k.gguf", 10_000), ("a-q8_0.gguf", 20_000), ("mmproj-a-f16.gguf", 30_000)):
        standin.put("someone/a-GGUF", name, model_bytes(size))
    done = qwenchat("models", "pull", "someone/a-GGUF")
    assert Path(done.stdout.strip()).name == "a-q8_0.gguf"


def test_lines_come_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = ProgressLines(Output(sys.stdout, sys.stderr, colour=False), every_s=5, clock=lambda: now[0])
    for second in range(12):
        now[0] = second
        done = second * 1_000_000
        part = PartProgress("a\x1b.gguf", done, 50_000_000)
        lines(DownloadProgress((part,), done, 50_000_000, bytes_per_second=1e6, seconds_left=61.0))
    lines(Retrying("a.gguf", "It broke.", 2.0))
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "a.gguf: 5 MB of 50 MB  1 MB/s  1:01 left",
        "a.gguf: 10 MB of 50 MB  1 MB/s  1:01 left",
        "It broke. Trying again in 2 s.",
    ]


def test_figures_of_unknown_size() -> None:
    progress = DownloadProgress((), 1234, None, bytes_per_second=0.0, seconds_left=None)
    assert progress_text(progress) == "1.23 kB  0 B/s"
