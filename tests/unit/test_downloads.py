"""The parts of a download that need no server: names, plans, the retry policy, speed."""

import hashlib
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.config import HubSettings
from qwenchat.errors import Interrupted, NetworkError, NotFound, WrongUse
from qwenchat.models import catalogue, fit
from qwenchat.models.download.destination import CacheDestination, FolderDestination
from qwenchat.models.download.part import RunningHash
from qwenchat.models.download.plan import DownloadPlanner, FileSelection, select_files
from qwenchat.models.download.progress import PullEvent, Retrying, SpeedMeter
from qwenchat.models.download.retry import Attempts, RetryPolicy, SourceError, SourceFault, explain
from qwenchat.models.file_names import is_safe, relative_path, split_names
from qwenchat.models.sources.folder import FolderSource
from qwenchat.models.sources.huggingface import HubSource
from qwenchat.models.sources.modelscope import ModelScopeSource
from qwenchat.models.sources.registry import find_source, is_offline
from qwenchat.models.sources.source import RemoteFile
from qwenchat.models.sources.url import UrlSource
from qwenchat.text.safe import human_time

UNSAFE = [
    "", ".", "..", "../a", "a/../b", "a//b", "/a", "a/", "a\\b", "C:a", "C:/a", "//host/share", "a\0b", "a\nb",
    "a\x1b[0m", "con", "CON.gguf", "x/nul", "lpt1.txt", "com¹", "a.", "a ", "a?", "a*", "a|b", "a<b", "\u202egpj.gguf",
    "\ud800",     "x" * 256, "é" * 128, "a/" * 600 + "a",
]  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_names(name: str) -> None:
    assert not is_safe(name)
    with pytest.raises(ValueError, match="unsafe"):
        relative_path(name)


@pytest.mark.parametrize(
    "name", ["a.gguf", "q4/a-00001-of-00002.gguf", "千问.gguf", ".hidden", "a b", "console.gguf", "..a"]
)
def test_safe_names(name: str) -> None:
    assert is_safe(name)


@given(st.text(alphabet=st.sampled_from("./\\:aC \0\n"), max_size=12))
def test_a_safe_name_stays_below_its_folder(name: str) -> None:
    if is_safe(name):
        folder = Path("/folder")
        path = Path(*(folder / relative_path(name)).parts)
        assert path.is_relative_to(folder) and path != folder and ".." not in path.parts


def files(*names: str) -> list[RemoteFile]:
    return [RemoteFile(name, 100 * (index + 1), None) for index, name in enumerate(names)]


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (FileSelection("r", "m-q8_0.gguf"), "m-q8_0.gguf"),
        (FileSelection("r", quant="q4_k_m"), "m.Q4_K_M.gguf"),
        (FileSelection("r", quant="f16"), "m-fp16.gguf"),
        (FileSelection("r", "gone.gguf", "q8_0"), "m-q8_0.gguf"),
        (FileSelection("r", "gone.gguf", instead=("gone-2.gguf", "m-q8_0.gguf", "m-fp16.gguf")), "m-q8_0.gguf"),
        (FileSelection("r", quant="k_m"), ""),
        (FileSelection("r", "gone.gguf"), ""),
        (FileSelection("r", memory=350), "m-fp16.gguf"),
        (FileSelection("r", memory=250), "m-q8_0.gguf"),
        (FileSelection("r", memory=50), "m.Q4_K_M.gguf"),
    ],
)
def test_choosing(selection: FileSelection, chosen: str) -> None:
    listed = files("m.Q4_K_M.gguf", "m-q8_0.gguf", "m-fp16.gguf", "mmproj-f32.gguf", "README.md", "../evil-q2_k.gguf")
    if chosen:
        assert [file.name for file in select_files(listed, selection, "hf")] == [chosen]
    else:
        with pytest.raises(NotFound) as caught:
            select_files(listed, selection, "hf")
        assert "m-q8_0.gguf" in caught.value.hint and "evil" not in caught.value.hint


def test_parts_are_in_order() -> None:
    names = [f"m-q8_0-{part:05}-of-00003.gguf" for part in (1, 2, 3)]
    shuffled = random.Random(1).sample(files(*names), 3)
    assert [file.name for file in select_files(shuffled, FileSelection("r", quant="q8_0"), "hf")] == names
    assert split_names(names[1]) == names
    assert split_names("m-00004-of-00003.gguf") == ["m-00004-of-00003.gguf"]
    assert split_names("m-00002-of-00002.GGUF") == ["m-00001-of-00002.GGUF", "m-00002-of-00002.GGUF"]
    assert [file.name for file in select_files(shuffled, FileSelection("r", names[0]), "hf")] == names


def test_retry_policy() -> None:
    policy = RetryPolicy()
    dropped, expired = SourceError(SourceFault.DROPPED), SourceError(SourceFault.URL_EXPIRED)
    assert policy.allows(dropped, 3, has_data=False) and not policy.allows(dropped, 4, has_data=False)
    assert policy.allows(dropped, 11, has_data=True) and not policy.allows(dropped, 12, has_data=True)
    assert policy.allows(expired, 2, has_data=True) and not policy.allows(expired, 3, has_data=True)
    assert not policy.allows(SourceError(SourceFault.FORBIDDEN), 1, has_data=True)
    assert not policy.allows(SourceError(SourceFault.TLS), 1, has_data=True)
    assert not policy.allows(SourceError(SourceFault.BUSY, retry_after=3600), 1, has_data=True)
    assert policy.wait_s(SourceError(SourceFault.BUSY, retry_after=7), 1) == 7
    assert all(0.3 < policy.wait_s(dropped, 1) < 0.7 for _round in range(20))
    assert all(policy.wait_s(dropped, 50) <= 75 for _round in range(20))


def test_attempts_count_from_the_last_progress() -> None:
    reports: list[PullEvent] = []
    policy = RetryPolicy(first_wait_s=0, attempts_before_data=2, attempts_after_data=3)
    attempts = Attempts(policy, "m.gguf", reports.append, threading.Event())
    dropped = SourceError(SourceFault.DROPPED, "host")
    attempts.wait_after(dropped)
    for _round in range(3):
        attempts.wait_after(dropped, progressed=True)
        attempts.wait_after(dropped)
    with pytest.raises(SourceError):
        attempts.wait_after(dropped)
    assert len(reports) == 7 and all(isinstance(report, Retrying) for report in reports)


def test_a_stop_ends_the_wait() -> None:
    stop = threading.Event()
    attempts = Attempts(RetryPolicy(first_wait_s=60), "m.gguf", lambda event: stop.set(), stop)
    with pytest.raises(Interrupted):
        attempts.wait_after(SourceError(SourceFault.DROPPED))


def test_scripts_rely_on_the_names_of_events() -> None:
    kinds = {event.kind for event in get_args(PullEvent)}
    assert kinds == {
        "arriving", "at_hand", "checking", "completed", "following", "progress", "retrying", "started_over",
    }  # fmt: skip


@pytest.mark.parametrize("fault", SourceFault)
def test_every_fault_has_words(fault: SourceFault) -> None:
    error = explain(SourceError(fault, "a.host", status=599, detail="reason"), "a/subject")
    assert error.message and (error.hint or error.recoveries) and "{" not in error.message + error.hint
    assert isinstance(error, NotFound | NetworkError)


def test_speed_over_a_window() -> None:
    now = [0.0]
    meter = SpeedMeter(10, lambda: now[0])
    assert meter.speed(1000) == 0  # what was there before is no speed
    for second in range(1, 31):
        now[0] = second
        speed = meter.speed(1000 + 100 * second if second <= 15 else 2500 + 10 * (second - 15))
    assert speed == pytest.approx(10)
    now[0] = 31
    assert meter.speed(0) == 0  # started over


def test_durations() -> None:
    assert [human_time(seconds) for seconds in (0, 59.6, 61, 3600 * 5 + 61)] == ["0:00", "1:00", "1:01", "5:01:01"]


def test_a_running_hash_starts_over(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"first")
    running = RunningHash(file)
    running.grow(5)
    while not running.caught_up(1):
        pass
    assert running.hexdigest() == hashlib.sha256(b"first").hexdigest()
    running.restart()
    file.write_bytes(b"other")
    running.grow(3)
    running.grow(5)
    while not running.caught_up(1):
        pass
    assert running.hexdigest() == hashlib.sha256(b"other").hexdigest()
    running.close()


def test_sources_by_name(tmp_path: Path) -> None:
    def kind(text: str) -> type:
        return type(find_source(text, {}))

    assert [kind(text) for text in ("", "hf", "hf-mirror", "https://hub.example")] == [HubSource] * 4
    assert kind("modelscope") is ModelScopeSource
    assert kind("https://host.example/m.GGUF") is UrlSource
    assert [kind(f"file:{tmp_path}"), kind(str(tmp_path)), kind(f"file://{tmp_path}")] == [FolderSource] * 3
    for text in ("nonsense", "ftp://host/x.gguf", "https://", "http://host:99999", "http://["):
        with pytest.raises(WrongUse):
            find_source(text, {})


def test_a_source_that_is_closed_to_us_is_a_folder(tmp_path: Path) -> None:
    closed = find_source(f"{tmp_path}/{'x' * 300}", {})
    assert isinstance(closed, FolderSource)
    with pytest.raises(SourceError, match="SOURCE_READ"):
        closed.files("", "")


def test_offline() -> None:
    assert is_offline({"HF_HUB_OFFLINE": "1"}, False) and is_offline({}, True)
    assert not is_offline({"HF_HUB_OFFLINE": "0"}, False)


@pytest.fixture
def planner(tmp_path: Path) -> DownloadPlanner:
    resources = fit.Resources(ram_total=16 << 30, ram_available=12 << 30)
    return DownloadPlanner(
        catalogue=catalogue.load(),
        settings=HubSettings(),
        environ={},
        hub_cache=tmp_path / "hub",
        own_folder=tmp_path / "own",
        resources=lambda: resources,
    )


@pytest.mark.parametrize("free", [1, 3.5, 4, 8])
def test_a_size_alone_never_means_fewer_than_four_bits(planner: DownloadPlanner, free: float) -> None:
    little = fit.Resources(ram_total=16 << 30, ram_available=round(free * (1 << 30)))
    here = replace(planner, resources=lambda: little)
    for size in ("1.5b", "7b", "72b"):
        assert not here.plan(size).selection.quant.startswith(("q2", "q3"))


@pytest.mark.parametrize(
    ("reference", "listed"),
    [
        ("coder-14b:q4_k_m", ["qwen2.5-coder-14b-instruct-q4_k_m-00001-of-00002.gguf", "…-00002-of-00002.gguf"]),
        ("qwen2.5-7b:q4_k_m", ["qwen2.5-7b-instruct-q4_k_m.gguf"]),
        ("r1-7b:q8_0", ["deepseek-r1-distill-qwen-7b.Q8_0.gguf"]),
        ("math-72b:q4_k_m", ["Q4_K_M/Qwen2.5-Math-72B-Q4_K_M-00001-of-00002.gguf", "…-00002-of-00002.gguf"]),
    ],
)
def test_the_hub_s_list_decides_where_the_catalogue_is_mistaken(
    planner: DownloadPlanner, reference: str, listed: list[str]
) -> None:
    """Neither the number of parts nor the names need to be the catalogue's."""
    names = [name.replace("…", listed[0].removesuffix("-00001-of-00002.gguf")) for name in listed]
    selection = planner.plan(reference).selection
    found = select_files(files(*names, "other-q5_0.gguf", "other-q2_k.gguf"), selection, "hf")
    assert [file.name for file in found] == names


def test_plans(planner: DownloadPlanner, tmp_path: Path) -> None:
    plan = planner.plan("7b:q4_k_m")
    assert plan.selection == FileSelection("Qwen/Qwen2-7B-Instruct-GGUF", "qwen2-7b-instruct-q4_k_m.gguf", "q4_k_m")
    assert isinstance(plan.destination, CacheDestination) and plan.may_use_copy
    assert planner.plan("7b").selection.quant in ("q6_k", "q8_0", "q5_k_m")
    assert isinstance(planner.plan("7b", folder=tmp_path).destination, FolderDestination)
    with pytest.raises(WrongUse, match="already on this computer"):
        planner.plan(f"{tmp_path}/{'x' * 300}/m.gguf")
    for text in ("72b", "Qwen/Qwen2-72B-Instruct-GGUF", "Qwen/Qwen2-72B-Instruct-GGUF:q2_k"):
        model = planner.plan(text).model
        assert model and model.must_accept
    page = planner.plan("https://huggingface.co/someone/m-GGUF/blob/main/m-q8_0.gguf")
    assert (page.selection.repo, page.selection.file) == ("someone/m-GGUF", "m-q8_0.gguf")
    assert planner.plan("https://host.example/m.gguf").selection == FileSelection("")
    with pytest.raises(WrongUse):
        planner.plan("https://host.example/m.bin")
    offline = replace(planner, settings=HubSettings(offline=True))
    assert offline.plan("7b").source is None
    assert offline.plan("7b", source=f"file:{tmp_path}").source is not None
