"""`ask` saves its turn, resumes a session, and saves nothing with --no-save."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qwenchat.paths import Paths
from qwenchat.sessions.store import Store
from tests.fakes import ggufs
from tests.fakes.commands import environment, qwenchat


def asked(*words: str | Path) -> dict[str, object]:
    done = qwenchat("ask", "--json", "--max-tokens", "6", *words)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def listed() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(qwenchat("sessions", "list", "--json").stdout)["sessions"]
    return found


def test_a_question_makes_a_session_and_continuing_adds_to_it(tiny: Path) -> None:
    first = asked("-m", tiny, "Hello there")
    second = asked("-c", "And then?")  # the model is the session's
    third = asked("--session", str(first["session"])[:18], "-s", "Be brief", "At last?")
    assert first["session"] == second["session"] == third["session"]
    (session,) = listed()
    assert (session["title"], session["messages"]) == ("Hello there", 6)
    shown = qwenchat("sessions", "show", str(first["session"])).stdout
    assert shown.index("Hello there") < shown.index("And then?") < shown.index("At last?")


def test_the_next_process_reads_only_what_is_new(tiny: Path) -> None:
    asked("-m", tiny, "word " * 300)
    second = asked("-c", "more")
    usage = second["usage"]
    assert isinstance(usage, dict)
    assert usage["cached_tokens"] > 900
    assert usage["prompt_tokens"] - usage["cached_tokens"] < 40


def test_a_model_named_from_one_folder_is_found_from_another(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny.parent)
    asked("-m", f"./{tiny.name}", "Hello")
    monkeypatch.chdir(tmp_path)
    asked("-c", "and on")


def test_a_file_is_a_model_like_others_and_no_export_has_its_folder(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "private folder/qwen-tiny-f32.gguf"
    file.parent.mkdir()
    file.hardlink_to(tiny)
    answer = asked("-m", file, "Hello")
    assert answer["model"] == str(file)  # scripts resume with it
    (row,) = json.loads(qwenchat("models", "list", "--json").stdout)
    assert (row["model"], row["name"], row["quantisation"], row["from"]) == (str(file), "Test", "f32", "file")
    for form in ("md", "json"):
        done = qwenchat("sessions", "export", str(answer["session"]), "-f", form)
        assert done.returncode == 0 and "private folder" not in done.stdout and "Test · f32" in done.stdout
    shown = qwenchat("sessions", "show", str(answer["session"])).stdout
    assert "Test · f32:" in shown and "private folder" not in shown
    assert asked("-m", "Test · f32", "--no-save", "Hello")["text"]
    refused = qwenchat("ask", "-m", file, "--ctx", "100000", "Hello")
    assert refused.returncode == 5 and refused.stderr.startswith("error: The context window of Test · f32 is")


def test_deleting_forever_deletes_the_saved_kv(tiny: Path, home: Path) -> None:
    first = asked("-m", tiny, "word " * 300)
    assert list(home.rglob("*.kv"))
    assert qwenchat("sessions", "delete", str(first["session"]), "--forever", "--yes").returncode == 0
    assert not list(home.rglob("*.kv"))


def test_an_unsaved_session_writes_nothing(tiny: Path, home: Path) -> None:
    asked("-m", tiny, "--no-save", "a secret " * 100)
    assert listed() == []
    kept = [file for file in home.rglob("*") if file.is_file() and b"secret" in file.read_bytes()]
    assert kept == []
    assert not list(home.rglob("*.kv"))


def test_a_killed_ask_leaves_an_interrupted_answer(endless: ggufs.Chain) -> None:
    asking = subprocess.Popen(
        [sys.executable, "-m", "qwenchat", "ask", "-m", str(endless.path), "--ctx", "32768", "Tell me"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert asking.stdout
    asking.stdout.read(2000)  # more than the first piece, which is saved at once
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    (session,) = listed()
    exported = json.loads(qwenchat("sessions", "export", str(session["id"]), "-f", "json").stdout)
    question, answer = exported[0]["messages"]
    assert [part["text"] for part in question["parts"]] == ["Tell me"]
    assert answer["status"] == "interrupted"
    [text] = [part["text"] for part in answer["parts"]]
    assert text.startswith("once")
    assert (endless.text * 2000).startswith(text)


def test_a_model_that_is_not_there_leaves_no_trace(tiny: Path) -> None:
    assert qwenchat("ask", "-m", "nonsense", "hi").returncode == 3
    assert listed() == []
    asked("-m", tiny, "Hello")
    assert qwenchat("ask", "-c", "-m", tiny.with_name("gone.gguf"), "hi").returncode == 3
    asked("-c", "Still the model that answered before")
    (session,) = listed()
    assert session["messages"] == 4


def test_wrong_sessions(tiny: Path) -> None:
    assert qwenchat("ask", "-m", tiny, "-c", "hi").returncode == 3
    assert qwenchat("ask", "-m", tiny, "--session", "nothing", "hi").returncode == 3
    assert qwenchat("ask", "-m", tiny, "-c", "--no-save", "hi").returncode == 2


def test_a_session_in_use_stays_as_it_is(tiny: Path, home: Path) -> None:
    session = str(asked("-m", tiny, "Hello")["session"])
    store = Store(Paths.find({"QWENCHAT_HOME": str(home)}).database)
    before = store.session(session)
    with store.streaming(session):
        assert qwenchat("ask", "-c", "-s", "You are a pirate", "hi").returncode == 7
    assert store.session(session) == before
    store.close()


def test_a_session_in_the_trash_is_not_written_into(tiny: Path) -> None:
    session = str(asked("-m", tiny, "Hello")["session"])
    assert qwenchat("sessions", "delete", session).returncode == 0
    refused = qwenchat("ask", "--session", session[:18], "And then?")
    assert refused.returncode == 3 and f"qwenchat sessions restore {session}" in refused.stderr
    shown = qwenchat("sessions", "show", session).stdout
    assert "Hello" in shown and "And then?" not in shown
    assert qwenchat("sessions", "restore", session).returncode == 0
    asked("--session", session, "And then?")


def test_a_question_that_can_not_fit_leaves_no_trace(tiny: Path) -> None:
    words = ("ask", "-m", tiny, "--ctx", "512", "--max-tokens", "4")
    for more in (("q" * 3000,), ("Hi", "-s", "s" * 3000)):
        done = qwenchat(*words, "--json", *more)
        assert (done.returncode, done.stdout) == (2, "")
        assert ("question" if len(more) == 1 else "system prompt") + " is too long" in done.stderr
        assert len(done.stderr.splitlines()) == 2
    assert json.loads(qwenchat("sessions", "list", "--json").stdout)["total"] == 0
    assert qwenchat(*words, "Hello", "-s", "Be brief").returncode == 0
    before = qwenchat("sessions", "export", "--all", "-f", "json").stdout
    for more in (("q" * 3000,), ("Hi", "-s", "s" * 3000)):
        assert qwenchat(*words, "-c", *more).returncode == 2
    after = qwenchat("sessions", "export", "--all", "-f", "json").stdout
    assert json.loads(after) == json.loads(before)


def test_what_was_trimmed_is_told_at_the_end_and_as_it_happens(tiny: Path) -> None:
    words = ("ask", "-m", tiny, "--ctx", "512", "--max-tokens", "4", "--temperature", "0")
    assert "trimmed" not in json.loads(qwenchat(*words, "--json", "the " * 150).stdout)
    once = json.loads(qwenchat(*words, "-c", "--json", "Hello " * 150).stdout)
    assert list(once["trimmed"]) == ["messages", "tokens", "first_seen"]
    assert once["trimmed"]["messages"] == 2 and once["trimmed"]["tokens"] > 150
    assert once["usage"]["prompt_tokens"] <= 512 - 4
    lines = [json.loads(line) for line in qwenchat(*words, "-c", "--jsonl", "world").stdout.splitlines()]
    (event,) = [line for line in lines if line["event"] == "trimmed"]
    assert lines[-1]["trimmed"] == {name: event[name] for name in ("messages", "tokens", "first_seen")}
