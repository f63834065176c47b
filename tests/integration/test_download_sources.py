"""What hubs, mirrors, URLs and folders answer, and how each failure is reported to the user."""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qwenchat.errors import FileError, NetworkError, NotFound, QwenchatError
from qwenchat.models.download.destination import CacheDestination, FolderDestination
from qwenchat.models.download.plan import FileSelection
from qwenchat.models.download.progress import DownloadProgress, FileCompleted, PullEvent, StartedOver
from qwenchat.models.download.retry import SourceError, explain
from qwenchat.models.sources.folder import FolderSource
from qwenchat.models.sources.huggingface import HubSource
from qwenchat.models.sources.modelscope import ModelScopeSource
from qwenchat.models.sources.source import RemoteFile, Source
from qwenchat.models.sources.url import UrlSource
from tests.fakes.pulling import NAME, REPO, Puller, model_bytes, without_proxies
from tests.fakes.standin_hub import COMMIT, StandIn, Trouble

CONTENT = model_bytes(200_000)
TOKEN = "hf_" + "s" * 30


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with without_proxies(monkeypatch):
        yield


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as hub:
        hub.put(REPO, NAME, CONTENT)
        yield hub


def hub(standin: StandIn, token: str | None = None) -> HubSource:
    return HubSource("hf", standin.endpoint, token)


def test_a_listing_has_sizes_and_hashes(standin: StandIn) -> None:
    file = RemoteFile(NAME, len(CONTENT), standin.digest(REPO, NAME))
    assert hub(standin).files(REPO, "") == [file]
    assert hub(standin).files(REPO, COMMIT) == [file]
    assert ModelScopeSource(standin.endpoint).files(REPO, "main") == [file]


def test_a_listing_of_ten_thousand_files(standin: StandIn, tmp_path: Path) -> None:
    for number in range(10_000):
        standin.repos[REPO][f"checkpoint-{number}/weights.bin"] = b"x"
    standin.hashes = False
    assert len(hub(standin).files(REPO, "")) == 10_001
    assert Puller.of(standin, tmp_path)().read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("selection", "words", "exit_code"),
    [
        (FileSelection("nobody/nothing", NAME), "no repository", 3),
        (FileSelection("not a repo", NAME), "no repository", 3),
        (FileSelection(REPO, NAME, revision="v9"), "no such revision", 3),
        (FileSelection(REPO, "other.gguf"), "no file other.gguf", 3),
        (FileSelection(REPO, quant="q9_9"), "no file q9_9", 3),
        (FileSelection(REPO, "../../.bashrc.gguf"), "leads out", 4),
    ],
)
def test_what_a_hub_does_not_have(
    standin: StandIn, tmp_path: Path, selection: FileSelection, words: str, exit_code: int
) -> None:
    with pytest.raises(QwenchatError, match=words) as caught:
        Puller.of(standin, tmp_path)(selection, FolderDestination(tmp_path / "out"))
    assert caught.value.exit_code == exit_code
    assert caught.value.hint


def test_without_a_hash_a_file_with_the_same_name_and_size_is_not_downloaded_again(
    standin: StandIn, tmp_path: Path
) -> None:
    standin.hashes = False
    first = Puller.of(standin, tmp_path)()
    assert Puller.of(standin, tmp_path)() == first
    standin.commit = "d" * 40
    later = Puller.of(standin, tmp_path)()
    assert (later.parent.name, first.parent.name) == (standin.commit, COMMIT)
    assert later.read_bytes() == first.read_bytes() == CONTENT
    assert standin.bytes_sent() == len(CONTENT)
    standin.put(REPO, NAME, CONTENT + b"more")
    assert Puller.of(standin, tmp_path)().read_bytes() == CONTENT + b"more"


def test_a_file_that_went_between_listing_and_download(standin: StandIn, tmp_path: Path) -> None:
    source = hub(standin)
    with pytest.raises(SourceError) as caught:
        source.locate(REPO, "", "gone.gguf")
    assert isinstance(explain(caught.value, "gone.gguf"), NotFound)


def test_a_gated_repository(standin: StandIn, tmp_path: Path) -> None:
    standin.gated.add(REPO)
    standin.token = TOKEN
    with pytest.raises(NetworkError, match="logged in and accepted"):
        Puller.of(standin, tmp_path)()
    with pytest.raises(NetworkError, match="not available to the account") as caught:
        Puller.of(standin, tmp_path, "hf_another")()
    assert "hf_another" not in caught.value.message + caught.value.hint
    assert Puller.of(standin, tmp_path, TOKEN)().read_bytes() == CONTENT


def test_the_token_goes_to_its_hub_alone(
    standin: StandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    Puller.of(standin, tmp_path / "1", TOKEN)()
    sent = {(r.origin, r.headers.get("Authorization", r.headers.get("authorization"))) for r in standin.log}
    assert sent == {("hub", f"Bearer {TOKEN}"), ("cdn", None)}
    assert TOKEN not in caplog.text
    monkeypatch.setenv("HF_TOKEN", TOKEN)  # a stored token, which belongs to huggingface.co
    standin.log.clear()
    mirror = HubSource.at("mirror", standin.endpoint)
    Puller(tmp_path / "2", mirror)()
    Puller(tmp_path / "3", HubSource.public({"HF_ENDPOINT": standin.endpoint}))()
    Puller(tmp_path / "4", ModelScopeSource(standin.endpoint))()
    assert standin.log
    assert not [r for r in standin.log if "authorization" in {name.lower() for name in r.headers}]
    assert TOKEN not in repr(mirror.locate(REPO, "", NAME))


def test_bytes_from_the_hub_itself_come_with_the_token(standin: StandIn, tmp_path: Path) -> None:
    standin.redirects = False
    standin.gated.add(REPO)
    standin.token = TOKEN
    assert Puller.of(standin, tmp_path, TOKEN)().read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "login"),
        (403, {}, "refuses access"),
        (404, {}, "404"),
        (418, {}, "418"),
        (429, {"Retry-After": "0"}, "too many requests"),
        (500, {}, "500"),
        (503, {"Retry-After": "0"}, "503"),
    ],
)
def test_a_hub_with_a_fault(standin: StandIn, tmp_path: Path, status: int, headers: dict[str, str], words: str) -> None:
    standin.answers.extend([(status, headers)] * 20)
    with pytest.raises(NetworkError, match=words):
        Puller.of(standin, tmp_path)()
    standin.answers.clear()
    standin.answers.append((503, {}))
    assert Puller.of(standin, tmp_path)().read_bytes() == CONTENT


def test_a_url_that_is_not_a_hub(standin: StandIn, tmp_path: Path) -> None:
    standin.answers.append((200, {}))
    with pytest.raises(NetworkError, match="does not respond like a hub"):
        Puller.of(standin, tmp_path)()
    standin.answers.append((200, {}))
    with pytest.raises(NetworkError, match="does not respond like a hub"):
        Puller(tmp_path, ModelScopeSource(standin.endpoint))()


@pytest.mark.parametrize(
    "wait",
    ["²", "9" * 5000, "Wed, 21 Oct 99999 07:28:00 GMT", "Wed, 99 Oct 2015 07:28:00 GMT"],
    ids=["superscript", "long", "year", "day"],
)
def test_a_hub_that_asks_to_wait_for_what_is_no_time(standin: StandIn, tmp_path: Path, wait: str) -> None:
    for source in (hub(standin), ModelScopeSource(standin.endpoint)):
        standin.answers.append((503, {"Retry-After": wait}))
        assert Puller(tmp_path, source)().read_bytes() == CONTENT


@pytest.mark.parametrize("length", ["²", "9" * 5000, "-1", "many"], ids=["superscript", "long", "negative", "word"])
def test_a_length_that_is_none(standin: StandIn, length: str) -> None:
    standin.answers.append((200, {"Content-Length": length}))
    source = UrlSource(f"{standin.endpoint}/{REPO}/resolve/main/{NAME}")
    assert source.files("", "") == [RemoteFile(NAME, None, None)]


def test_a_deeply_nested_response(standin: StandIn, tmp_path: Path) -> None:
    deep = b"[" * 100_000
    standin.put("api/models", REPO, deep)
    standin.put("api/v1", f"models/{REPO}/repo/files", deep)
    for source in (HubSource("hf", standin.cdn), ModelScopeSource(standin.cdn)):
        with pytest.raises(NetworkError, match="does not respond like a hub"):
            Puller(tmp_path, source)()
    for damaged in (b'{"files": [], "x": ' + deep, b'{"files": "\xff"}'):
        (tmp_path / "bundle.json").write_bytes(damaged)
        with pytest.raises(SourceError, match="SOURCE_READ"):
            FolderSource(tmp_path).files("", "")


def test_modelscope(standin: StandIn, tmp_path: Path) -> None:
    puller = Puller(tmp_path / "hub", ModelScopeSource(standin.endpoint))
    standin.troubles.extend([Trouble(cut=100_000), Trouble(status=503)])
    path = puller()
    assert path.read_bytes() == CONTENT
    assert path.parent.name == "modelscope"
    assert puller.seen(FileCompleted) == [FileCompleted(NAME, path, verified=True)]
    for selection, words in (
        (FileSelection("nobody/nothing", NAME), "no repository"),
        (FileSelection(REPO, NAME, revision="v9"), "no such revision"),
        (FileSelection(REPO, "other.gguf"), "no file"),
    ):
        with pytest.raises(NotFound, match=words):
            puller(selection)


def test_half_from_the_hub_and_half_from_modelscope(standin: StandIn, tmp_path: Path) -> None:
    puller = Puller.of(standin, tmp_path)
    standin.troubles.extend([Trouble(cut=100_000), Trouble(status=404)])
    with pytest.raises(NetworkError):
        puller()
    assert Puller(tmp_path, ModelScopeSource(standin.endpoint))().read_bytes() == CONTENT
    assert standin.bytes_sent() == len(CONTENT)


def url_puller(standin: StandIn, tmp_path: Path) -> tuple[Puller, FolderDestination]:
    url = f"{standin.cdn}/{REPO}/{NAME}"
    return Puller(tmp_path, UrlSource(url)), FolderDestination(tmp_path)


def test_one_file_behind_an_address(standin: StandIn, tmp_path: Path) -> None:
    puller, destination = url_puller(standin, tmp_path)
    standin.troubles.append(Trouble(cut=100_000))
    assert puller(FileSelection(""), destination) == tmp_path / NAME
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert standin.bytes_sent() == len(CONTENT)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == [NAME]


def test_an_address_tells_the_hash_if_it_is_a_hubs(standin: StandIn, tmp_path: Path) -> None:
    puller = Puller(tmp_path, UrlSource(f"{standin.endpoint}/{REPO}/resolve/main/{NAME}"))
    puller(FileSelection(""), FolderDestination(tmp_path))
    assert puller.seen(FileCompleted) == [FileCompleted(NAME, tmp_path / NAME, verified=True)]


@pytest.mark.parametrize("status", [403, 405, 501])
def test_an_address_on_a_server_that_knows_get_alone(standin: StandIn, tmp_path: Path, status: int) -> None:
    standin.answers.append((status, {}))
    puller = Puller(tmp_path, UrlSource(f"{standin.endpoint}/{REPO}/resolve/main/{NAME}"))
    assert puller(FileSelection(""), FolderDestination(tmp_path)).read_bytes() == CONTENT
    assert [request.method for request in standin.requests("hub")] == ["HEAD", "GET"]


@pytest.mark.parametrize("etag", ['"v1"', '"v2"'])
def test_a_later_run_carries_on_only_the_same_version(standin: StandIn, tmp_path: Path, etag: str) -> None:
    puller, destination = url_puller(standin, tmp_path)
    standin.troubles.extend([Trouble(cut=100_000), Trouble(status=404)])
    with pytest.raises(NetworkError):
        puller(FileSelection(""), destination)
    standin.troubles.append(Trouble(etag=etag))
    again, destination = url_puller(standin, tmp_path)
    assert again(FileSelection(""), destination).read_bytes() == CONTENT
    assert bool(again.seen(StartedOver)) is (etag == '"v2"')
    assert standin.bytes_sent() == len(CONTENT) + (100_000 if etag == '"v2"' else 0)


def test_an_address_of_unknown_length(standin: StandIn, tmp_path: Path) -> None:
    puller, destination = url_puller(standin, tmp_path)
    standin.troubles.extend([Trouble(chunked=True, status=0)])
    assert puller(FileSelection(""), destination).read_bytes() == CONTENT


def bundle(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)
    entry = {"name": NAME, "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()} | changes
    (folder / "bundle.json").write_text(json.dumps({"files": [entry]}))
    return folder


def test_a_bundle_on_a_stick(tmp_path: Path) -> None:
    puller = Puller(tmp_path / "hub", FolderSource(bundle(tmp_path / "stick")))
    assert puller().read_bytes() == CONTENT
    assert [event.verified for event in puller.events if isinstance(event, FileCompleted)] == [True]


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "stick")
    (folder / "bundle.json").unlink()
    puller = Puller(tmp_path / "hub", FolderSource(folder))
    assert puller(FileSelection(REPO, quant="q4_k_m")).read_bytes() == CONTENT
    assert [event.verified for event in puller.events if isinstance(event, FileCompleted)] == [False]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "0" * 64}, "wrong sha256"),
        ({"size": 5}, "different length"),
        ({"name": "missing-q4_k_m.gguf"}, "no file"),
        ({"name": "../stick/qwen2-7b-instruct-q4_k_m.gguf"}, "no file"),
        ({"size": "much"}, "can't be read"),
    ],
)
def test_a_bundle_that_is_wrong(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    puller = Puller(tmp_path / "hub", FolderSource(bundle(tmp_path / "stick", **changes)))
    with pytest.raises(QwenchatError, match=words):
        puller(FileSelection(REPO, quant="q4_k_m"))
    assert not puller.parts or words == "different length"


def test_a_stick_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="can't be read"):
        Puller(tmp_path / "hub", FolderSource(tmp_path / "gone"))()


EVIL = [
    "../evil.gguf",
    "/etc/evil.gguf",
    "a/../../evil.gguf",
    "C:\\evil.gguf",
    "CON.gguf",
    "nul",
    "a\x1b[2Jb.gguf",
    "x\u202efugg.gguf",
]


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("scope", [False, True])
def test_names_never_leave_the_folder(standin: StandIn, tmp_path: Path, name: str, scope: bool) -> None:
    standin.put(REPO, name, CONTENT)
    source: Source = ModelScopeSource(standin.endpoint) if scope else hub(standin)
    for destination in (FolderDestination(tmp_path / "out"), CacheDestination(tmp_path / "hub", REPO, "hf")):
        with pytest.raises(NetworkError, match="leads out"):
            Puller(tmp_path / "hub", source)(FileSelection(REPO, name), destination)
    assert Puller(tmp_path / "hub", source)(FileSelection(REPO, quant="q4_k_m")).read_bytes() == CONTENT
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


NO_HASHES = ["../../../../notes.txt", "notes.txt", "g" * 64, "0" * 63, "0" * 64 + "/x"]


@pytest.mark.parametrize("sha256", NO_HASHES)
@pytest.mark.parametrize("kind", ["hub", "modelscope", "stick"])
def test_a_sha256_never_becomes_a_path(standin: StandIn, tmp_path: Path, sha256: str, kind: str) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    told = str(notes) if sha256 == "notes.txt" else sha256
    standin.lie_about[NAME] = told
    sources: dict[str, Source] = {
        "hub": hub(standin),
        "modelscope": ModelScopeSource(standin.endpoint),
        "stick": FolderSource(bundle(tmp_path / "stick", sha256=told)),
    }
    for destination in (None, FolderDestination(tmp_path / "out")):
        with pytest.raises(NetworkError, match="sha256"):
            Puller(tmp_path / "hub", sources[kind])(destination=destination)
    assert notes.read_text() == "mine"
    assert not (tmp_path / "hub").exists() and not (tmp_path / "out").exists()


def test_a_sha256_in_capitals_is_the_same(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "stick", sha256=hashlib.sha256(CONTENT).hexdigest().upper())
    puller = Puller(tmp_path / "hub", FolderSource(folder))
    assert puller().read_bytes() == CONTENT
    assert [event.verified for event in puller.events if isinstance(event, FileCompleted)] == [True]


def parts_of(standin: StandIn, count: int = 4) -> dict[str, bytes]:
    files = {f"big-q8_0-{n:05}-of-{count:05}.gguf": model_bytes(50_000, n) for n in range(1, count + 1)}
    for name, content in files.items():
        standin.put(REPO, name, content)
    return files


def test_all_parts_of_a_split_model_come(standin: StandIn, tmp_path: Path) -> None:
    files = parts_of(standin)
    puller = Puller.of(standin, tmp_path)
    standin.troubles.extend([Trouble(cut=20_000), Trouble(), Trouble(cut=10, reset=True)])
    first = puller(FileSelection(REPO, quant="Q8_0"))
    assert first.name == "big-q8_0-00001-of-00004.gguf"
    assert {path.name: path.read_bytes() for path in first.parent.iterdir()} == files
    whole = [event for event in puller.events if isinstance(event, DownloadProgress)][-1]
    assert [part.done for part in whole.parts] == [50_000] * 4
    assert whole.done == whole.total == 200_000


def commits(standin: StandIn, puller: Puller) -> None:
    """Let the repository get a new commit whenever a file is complete; the files stay as they are."""

    def commit(event: PullEvent) -> None:
        if isinstance(event, FileCompleted):
            standin.commit = hashlib.sha1(standin.commit.encode(), usedforsecurity=False).hexdigest()

    puller.each = commit
    puller.options = replace(puller.options, files_at_once=1)


def test_commits_during_a_download_do_not_part_a_split_model(standin: StandIn, tmp_path: Path) -> None:
    files = parts_of(standin)
    puller = Puller.of(standin, tmp_path)
    commits(standin, puller)
    first = puller(FileSelection(REPO, quant="q8_0"))
    assert {path.name: path.read_bytes() for path in first.parent.iterdir()} == files
    assert {path.parent for path in tmp_path.rglob("big-*")} == {first.parent}


def test_a_split_model_half_from_one_hub_and_half_from_another(standin: StandIn, tmp_path: Path) -> None:
    files = parts_of(standin)
    puller = Puller.of(standin, tmp_path / "hub")
    commits(standin, puller)
    standin.troubles.extend([Trouble(), Trouble(), Trouble(cut=10_000), Trouble(status=404)])
    with pytest.raises(NetworkError, match="404"):
        puller(FileSelection(REPO, quant="q8_0"))
    with StandIn() as mirror:
        parts_of(mirror)
        mirror.commit = "d" * 40
        for source in (HubSource("mirror", mirror.endpoint), ModelScopeSource(mirror.endpoint)):
            first = Puller(tmp_path / "hub", source)(FileSelection(REPO, quant="q8_0"))
            assert {path.name: path.read_bytes() for path in first.parent.iterdir()} == files
        assert mirror.bytes_sent() == 90_000


def test_a_split_model_with_a_part_missing_is_refused_before_anything_comes(standin: StandIn, tmp_path: Path) -> None:
    parts_of(standin)
    del standin.repos[REPO]["big-q8_0-00003-of-00004.gguf"]
    with pytest.raises(NotFound, match="00003-of-00004"):
        Puller.of(standin, tmp_path)(FileSelection(REPO, "big-q8_0-00001-of-00004.gguf"))
    assert not standin.requests("cdn")


def test_one_part_that_fails_stops_the_others(standin: StandIn, tmp_path: Path) -> None:
    parts_of(standin)
    puller = Puller.of(standin, tmp_path)
    standin.troubles.extend([Trouble(cut=10_000, stall=True), Trouble(status=404), Trouble(cut=10_000, stall=True)])
    puller.options = type(puller.options)(report_every_s=0.01)  # its patience is long: only the abort can end it
    with pytest.raises(NetworkError, match="404"):
        puller(FileSelection(REPO, quant="q8_0"))
    assert puller.parts


def test_the_users_own_folder(standin: StandIn, tmp_path: Path) -> None:
    destination = FolderDestination(tmp_path / "mine")
    standin.put(REPO, f"sub/{NAME}", CONTENT)
    path = Puller.of(standin, tmp_path)(FileSelection(REPO, f"sub/{NAME}"), destination)
    assert path == tmp_path / "mine" / "sub" / NAME
    sent = standin.bytes_sent()
    assert Puller.of(standin, tmp_path)(FileSelection(REPO, f"sub/{NAME}"), destination) == path  # checked, not fetched
    assert standin.bytes_sent() == sent
    for other in (b"mine", CONTENT[:-1] + b"?"):
        path.write_bytes(other)
        with pytest.raises(FileError, match="already exists"):
            Puller.of(standin, tmp_path)(FileSelection(REPO, f"sub/{NAME}"), destination)
        assert path.read_bytes() == other
