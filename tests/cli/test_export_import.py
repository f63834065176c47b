"""`sessions export` and `import`: what goes where, what is reported, the exit code."""

import json
import sys
import zipfile
from dataclasses import dataclass
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import click
import pytest

from qwenchat.cli import export_import
from qwenchat.errors import ExitCode, FileError, NotFound, WrongUse
from tests.fakes.archives import MemoryArchives, branching, exported, talk
from tests.fakes.foreign import CLAUDE, OPENAI


@dataclass
class Fake:
    """The part of the program that these commands use."""

    store: MemoryArchives

    def model_name(self, reference: str) -> str:
        return reference


def run(store: MemoryArchives, command: click.Command, *words: object) -> object:
    return command.main([str(word) for word in words], standalone_mode=False, obj=Fake(store))


def test_one_session_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    run(MemoryArchives(branching()), export_import.export, "s1", "-f", "txt")
    said = capsys.readouterr()
    assert said.out == exported("txt", branching())
    assert said.err == ""


def test_all_of_them_into_a_zip_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = MemoryArchives(branching(), talk("Q", "A", session="s2"))
    file = tmp_path / "all.zip"
    run(store, export_import.export, "--all", "-f", "json", "-o", file)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"2 sessions written to {file}.\n")
    other = MemoryArchives()
    assert run(other, export_import.import_, file) == ExitCode.DONE
    assert other.archives.keys() == store.archives.keys()
    assert (
        capsys.readouterr().err == f"{file} (qwenchat json): 2 new or updated, 0 already there, 0 empty, 0 skipped.\n"
    )


def test_ids_and_all_exclude_each_other() -> None:
    for words in ([], ["s1", "--all"]):
        with pytest.raises(WrongUse):
            run(MemoryArchives(branching()), export_import.export, *words)
    with pytest.raises(NotFound):
        run(MemoryArchives(branching()), export_import.export, "nothing")
    with pytest.raises(click.BadParameter):
        run(MemoryArchives(branching()), export_import.export, "s1", "-f", "docx")


def test_a_session_named_twice_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    run(MemoryArchives(branching()), export_import.export, "s1", "s", "-f", "jsonl", "--all-branches", "-o", "-")
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_force_replaces(tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text("mine")
    with pytest.raises(FileError):
        run(MemoryArchives(branching()), export_import.export, "s1", "-o", file)
    run(MemoryArchives(branching()), export_import.export, "s1", "-o", file, "--force")
    assert file.read_text("utf-8") == exported("md", branching())


def test_bad_records_are_named_and_the_rest_is_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "talks.jsonl"
    file.write_text('{"messages":[{"role":"user","content":"Q"}]}\n{"messages":[{"role":5,"content":"x"}]}\n')
    missing = tmp_path / "missing.json"
    store = MemoryArchives()
    assert run(store, export_import.import_, missing, file, "--json") == ExitCode.FILE
    said = capsys.readouterr()
    assert f"{file}, line 2: skipped: none of its messages can be read: it has no speaker." in said.err
    assert f"{missing}: It can't be read: No such file or directory." in said.err
    first, second = json.loads(said.out)
    assert (first["new"], len(first["problems"])) == (0, 1)
    assert (second["new"], second["there_already"], second["problems"][0]["place"]) == (1, 0, "line 2")
    assert second["sessions"] == list(store.archives)
    run(store, export_import.import_, file)
    assert "0 new or updated, 1 already there" in capsys.readouterr().err


def test_standard_input_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(exported("json", branching()).encode())))
    store = MemoryArchives()
    assert run(store, export_import.import_, "-") == ExitCode.DONE
    assert list(store.archives) == ["s1"]


def test_no_control_sequence_of_a_file_reaches_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = StringIO(), StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    file = tmp_path / "a\x1b[31m.json"
    file.write_text(
        json.dumps([{"messages": [{"role": "\x1b]0;x\x07", "content": 5}]}, {"messages": []}, talk("x").session.id])
    )
    run(MemoryArchives(), export_import.import_, file)
    run(MemoryArchives(talk("\x1b[2J", title="\x1b[31m")), export_import.export, "s1")
    assert "\x1b" not in out.getvalue() + err.getvalue()
    assert "skipped" in err.getvalue()


def test_good_files_go_in_beside_bad_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = {
        "empty.json": b"",
        "none.json": b"[]",
        "none.zip": zipped({"user.txt": "x"}),
        "foreign.json": b'{"a": 1}',
        "picture.png": b"\x89PNG\r\n\x1a\n\0",
        "cut.json": b'[{"messages": [{"ro',
        "claude.json": json.dumps([CLAUDE]).encode(),
        "mixed.zip": zipped({"a.json": json.dumps(OPENAI), "../b.json": "", "c.json": "{", "d.json": '{"a": 1}'}),
    }
    files = [tmp_path / name for name in contents]
    for file, data in zip(files, contents.values(), strict=True):
        file.write_bytes(data)
    store = MemoryArchives()
    assert run(store, export_import.import_, *files, "--json") == ExitCode.FILE
    said = capsys.readouterr()
    assert len(store.archives) == 2
    reports = {Path(report["file"]).name: report for report in json.loads(said.out)}
    assert {name: [problem["reason"] for problem in report["problems"]] for name, report in reports.items()} == {
        "empty.json": ["The file is empty."],
        "none.json": ["It contains no chats."],
        "none.zip": ["It contains no chats."],
        "foreign.json": ["It contains no chats; record 1: it is not a chat in a known format."],
        "picture.png": ["This is not JSON."],
        "cut.json": ["This is not JSON: it is incomplete: it ends too early."],
        "claude.json": [],
        "mixed.zip": [
            "The file is empty",
            "This is not JSON: it is incomplete: it ends too early",
            "it is not a chat in a known format",
        ],
    }
    assert [name for name, report in reports.items() if report["new"] == 1] == ["claude.json", "mixed.zip"]
    assert f"error: {tmp_path}/none.json: It contains no chats.\nSupported formats: " in said.err


def test_messages_that_are_left_out_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "play.json"
    lines = [{"role": "user", "content": "Q"}, *[{"role": "nar\x1b[2Jrator", "content": "x"}] * 2]
    file.write_text(json.dumps({"messages": lines}))
    assert run(MemoryArchives(), export_import.import_, file, "--json") == ExitCode.DONE
    said = capsys.readouterr()
    assert f"{file}: 2 messages were left out: its speaker “nar[2Jrator” is unknown.\n" in said.err
    assert json.loads(said.out)[0]["left_out"] == [{"reason": "its speaker “nar[2Jrator” is unknown", "count": 2}]


def test_sessions_that_a_format_can_not_hold_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = MemoryArchives(talk("Q", "A"), talk("only a question", session="s2"), talk(session="s3"))
    file = tmp_path / "pairs.json"
    run(store, export_import.export, "--all", "-f", "sharegpt", "-o", file)
    assert capsys.readouterr().err == (
        f"1 session written to {file}.\n2 sessions have nothing that sharegpt can hold and were left out.\n"
    )
    run(store, export_import.export, "--all", "-f", "jsonl", "-o", tmp_path / "folder/")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["Talk.jsonl", "Talk (2).jsonl"]
    assert "1 session has nothing that jsonl can hold and was left out." in capsys.readouterr().err
    run(store, export_import.export, "s2", "-f", "sharegpt")
    said = capsys.readouterr()
    assert said.out == "[]\n"
    assert "1 session has nothing" in said.err


def zipped(members: dict[str, str]) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return packed.getvalue()
