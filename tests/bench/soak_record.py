"""What a soak asked and got, on one home folder, and whether all of it is there and nothing else is left.

The store is read beside the programs that write it. Nothing here drives a program.
"""

import json
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from zipfile import ZipFile

from qwenchat.chat.message import Message, Role
from qwenchat.runtime.program import Program
from tests.bench.soak_samples import processes_with
from tests.fakes.commands import ROOT, environment

EXPORTS = ("json", "md", "html", "txt", "jsonl")
RECENT = 5
"""Chats among which a question is looked for."""


class Record:
    """Questions and answers by their texts, and the commands that run beside the programs."""

    def __init__(self, home: Path, endpoint: str) -> None:
        """`endpoint` is the address of the hub."""
        self.home, self.env = home, _environment(home, endpoint)
        self.program = Program({"QWENCHAT_HOME": self.env["QWENCHAT_HOME"]})
        self.questions = list[str]()
        """All that was asked and reached the disk."""
        self.finished = dict[str, str]()
        """The text of each answer that has ended, by its id."""
        self.counts: Counter[str] = Counter()

    def command(self, *words: str) -> subprocess.Popen[str]:
        """Start a command beside the programs."""
        command = [sys.executable, "-m", "qwenchat", *words]
        return subprocess.Popen(
            command, env=self.env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, *words: str) -> str:
        """Run a command to its end and return what it printed."""
        done = self.command(*words)
        output, _none = done.communicate(timeout=300)
        assert done.returncode == 0, f"{words}: {done.returncode}: {output}"
        return output

    def is_stored(self, question: str) -> bool:
        """Return whether a question is in a chat or waits for its turn."""
        recent = [listed.session.id for listed in self.program.store.listing.newest(RECENT)]
        waiting = (each.text for session in recent for each in self.program.store.waiting(session))
        return self.message(question) is not None or question in waiting

    def message(self, question: str) -> Message | None:
        """Return the message of a question, from the chats that were written to last."""
        store = self.program.store
        trees = (store.tree(listed.session.id) for listed in store.listing.newest(RECENT))
        return next((each for tree in trees for each in tree if each.role is Role.USER and each.text == question), None)

    def answers(self, question: str) -> list[Message]:
        """Return the answers to a question, oldest first."""
        asked = self.message(question)
        return self.program.store.tree(asked.session).children(asked.id) if asked else []

    # Checks

    def check_databases(self) -> None:
        """Check that every database is whole."""
        for file in sorted(self.home.rglob("*.db")):
            with closing(sqlite3.connect(file)) as plain:
                found = plain.execute("PRAGMA integrity_check").fetchall()
                foreign = plain.execute("PRAGMA foreign_key_check").fetchall()
            assert (found, foreign) == ([("ok",)], []), f"{file.name} is damaged: {found[:3]} {foreign[:3]}"
            self.counts["databases checked"] += 1

    def check_words(self) -> None:
        """Check that every question and every finished answer is in the store and in each export."""
        stored = [each for session in self.program.store.sessions() for each in self.program.store.tree(session.id)]
        asked = Counter(each.text for each in stored if each.role is Role.USER)
        texts = {each.id: each.text for each in stored}
        lost = [question for question in self.questions if asked[question] != 1]
        assert not lost, f"lost or doubled questions: {lost}"
        changed = [text[:60] for key, text in self.finished.items() if texts.get(key) != text]
        assert not changed, f"lost or changed answers: {changed}"
        for name in EXPORTS:
            file = self.home / f"export.{name}.{'zip' if name in ('md', 'html', 'txt') else name}"
            self.run("sessions", "export", "--all", "--all-branches", "-f", name, "-o", str(file))
            self.check_export(name, file)

    def check_export(self, name: str, file: Path) -> None:
        """Check that an export has every question, and that of all fields, `json`, every finished answer as it is."""
        words = _text_of(file)
        lost = [question for question in self.questions if question[:5] not in words]
        assert not lost, f"{name} lacks {lost}"
        if name == "json":
            there = {each["id"]: each["text"] for chat in json.loads(words) for each in chat["messages"]}
            assert all(there.get(key) == text for key, text in self.finished.items()), "json lacks answers"
        self.counts["exports checked"] += 1

    def check_left(self) -> None:
        """Check that no process and no file is left that belongs to nobody."""
        end = time.monotonic() + 10
        while (left := processes_with(self.env["QWENCHAT_HOME"])) and time.monotonic() < end:
            time.sleep(0.1)
        assert not left, f"processes that are left: {left}"
        patterns = ("*.part", "*.incomplete", "*.tmp", "*-wal", "*-shm", "*-journal", "tmp/*")
        files = [str(file.relative_to(self.home)) for pattern in patterns for file in self.home.rglob(pattern)]
        assert not files, f"files that are left: {files}"


def _environment(home: Path, endpoint: str) -> dict[str, str]:
    """Return the environment of all that is started: folders below `home`, the hub on loopback, short answers."""
    (home / "tmp").mkdir()
    (home / "files").mkdir()
    found = environment(
        TERM="xterm-256color",
        COLORTERM="truecolor",
        LANG="C.UTF-8",
        HOME=str(home / "user"),
        TMPDIR=str(home / "tmp"),
        HF_HOME=str(home / "hf"),
        HF_ENDPOINT=endpoint,
        QWENCHAT_HOME=str(home / "qwenchat"),
        QWENCHAT_SAMPLING_MAX_TOKENS="64",
        QWENCHAT_MODEL_CONTEXT="4096",
        QWENCHAT_TOOLS_ENABLED="true",
        QWENCHAT_TOOLS_FOLDERS=str(home / "files"),
    )
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    for name in ("PYTHONDONTWRITEBYTECODE", *proxies, *map(str.lower, proxies)):
        found.pop(name, None)
    return found


def _text_of(export: Path) -> str:
    """Return the text of an export; of an archive, that of all files in it."""
    if export.suffix != ".zip":
        return export.read_text("utf-8")
    with ZipFile(export) as archive:
        return "\n".join(archive.read(name).decode("utf-8", "replace") for name in archive.namelist())
