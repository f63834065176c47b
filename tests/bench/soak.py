"""Half an hour of everything at once, by script, with a real model: is anything leaked, damaged or lost?

    QWENCHAT_REAL_MODEL=MODEL.gguf python -m tests.bench.soak [--minutes 30] [--home FOLDER]

Two programs run in emulated terminals, on one home folder. The steady one lives as long as the run: it chats, calls
tools, reads documents, downloads and is resized, and what it and its worker take is sampled between the steps. Its
worker is killed in the first half only, so that the last one lives for half of the run. The other program is killed in
mid-answer, with and without its worker, and started again. Commands run beside both. Prints a table, and exits with 1
where something leaked, was damaged or lost.
"""

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from qwenchat.chat.message import Message, Status, ToolCall
from tests.bench.soak_record import Record
from tests.bench.soak_samples import Course, Sample, children_of, command_of, courses, sample
from tests.fakes.ggufs import write_model
from tests.fakes.standin_hub import StandIn
from tests.tui.terminal import CTRL_Q, ENTER, ESCAPE, Terminal

READY = "Ask anything"
CTRL_N, CTRL_O, CTRL_R = "\x0e", "\x0f", "\x12"
SIZE = (100, 30)
REPO = "soak/models-GGUF"
PACE = 2_000_000
"""Bytes a second that the hub sends."""
FILE_BYTES = 8_000_000
LONG = "Write a long story about the sea, with many details."
ENGINE = "qwenchat.engines.worker"


class Soak:
    """The programs, what they were asked, and what went wrong."""

    def __init__(self, home: Path, model: Path, hub: StandIn) -> None:
        self.home, self.model, self.hub = home, model, hub
        self.record, self.chance = Record(home, hub.endpoint), random.Random(1)
        self.problems = list[str]()
        self.samples = list[Sample]()
        self.worker_samples = dict[int, list[Sample]]()
        self.kills_workers = True
        self.steady = self.start()

    # Programs

    def start(self, *words: str) -> Terminal:
        """Start the program in a terminal and return when it is ready."""
        command = [sys.executable, "-m", "qwenchat", "--model", str(self.model), *words]
        terminal = Terminal(command, *SIZE, self.record.env)
        terminal.shows(READY)
        return terminal

    def until(self, terminal: Terminal, state: Callable[[], object], what: str, seconds: float = 300) -> None:
        """Let the terminal show what comes until a state is reached; the state is looked at twice a second."""
        end = time.monotonic() + seconds
        while not state():
            assert time.monotonic() < end, f"{what}; the terminal shows:\n{terminal.text}"
            _show(terminal, 0.5)

    def worker(self, terminal: Terminal) -> psutil.Process | None:
        """Return the worker of a program."""
        return next((each for each in children_of(terminal.process.pid) if ENGINE in " ".join(command_of(each))), None)

    # Questions

    def ask(self, terminal: Terminal, words: str) -> str:
        """Send a question that is not like any other, and return it when it is on disk."""
        question = f"Q{len(self.record.questions) + 1:04} {words}"
        terminal.send(question)
        terminal.shows(question[:5])  # what comes together with Enter is a paste, which sends nothing
        terminal.send(ENTER)
        self.until(terminal, lambda: self.record.is_stored(question), f"{question!r} was not stored")
        self.record.questions.append(question)
        self.record.counts["questions"] += 1
        return question

    def answer(self, terminal: Terminal, question: str, number: int = 1) -> Message:
        """Return an answer once it has ended, and remember its text."""

        def has_ended() -> bool:
            answers = self.record.answers(question)
            return len(answers) >= number and answers[number - 1].status is not Status.STREAMING

        self.until(terminal, has_ended, f"{question!r} was not answered")
        answer = self.record.answers(question)[number - 1]
        self.record.counts[f"answers {answer.status}"] += 1
        self.record.finished[answer.id] = answer.text
        return answer

    def begun(self, terminal: Terminal, question: str, number: int = 1) -> Message:
        """Return an answer that has words and goes on."""

        def has_words() -> bool:
            answers = self.record.answers(question)
            return len(answers) >= number and bool(answers[number - 1].text)

        self.until(terminal, has_words, f"{question!r} got no first word")
        return self.record.answers(question)[number - 1]

    # Steps

    def steps(self) -> Iterator[Callable[[], None]]:
        """Yield the steps of a round."""
        yield self.chat
        yield self.resize
        yield self.queue
        yield self.stop_and_regenerate
        yield self.call_a_tool
        yield self.read_a_document
        yield self.read_a_folder
        yield self.download_in_the_screen
        yield self.download_in_the_shell
        if self.kills_workers:
            yield self.kill_the_worker
        yield self.kill_the_program
        yield self.search

    def new_chat(self) -> None:
        """Open a new chat in the steady program."""
        self.steady.send(CTRL_N)
        self.steady.shows(READY)
        _show(self.steady, 0.5)

    def chat(self) -> None:
        """Ask twice in a new chat, in both languages."""
        self.new_chat()
        self.answer(self.steady, self.ask(self.steady, "Name three birds that can't fly."))
        self.answer(self.steady, self.ask(self.steady, "用一句话介绍长城。🐼"))

    def resize(self) -> None:
        """Change the size of the terminal while an answer streams."""
        question = self.ask(self.steady, LONG)
        self.begun(self.steady, question)
        for _time in range(6):
            self.steady.resize(self.chance.randrange(20, 200), self.chance.randrange(6, 60))
            _show(self.steady, 0.3)
            self.record.counts["resizes"] += 1
        self.steady.resize(*SIZE)
        self.answer(self.steady, question)
        self.steady.shows("F1 help")

    def queue(self) -> None:
        """Ask three questions without waiting."""
        asked = [self.ask(self.steady, f"What is {number} times 2?") for number in range(3)]
        for question in asked:
            self.answer(self.steady, question)

    def stop_and_regenerate(self) -> None:
        """Stop an answer, and ask for another one."""
        self.new_chat()
        question = self.ask(self.steady, LONG)
        self.begun(self.steady, question)
        self.steady.send(ESCAPE)
        self.answer(self.steady, question)
        self.steady.send(CTRL_R)
        self.answer(self.steady, question, 2)

    def call_a_tool(self) -> None:
        """Ask what needs a tool; a small model does not always call it."""
        self.new_chat()
        one, other = self.chance.randrange(20, 99), self.chance.randrange(20, 99)
        answer = self.answer(self.steady, self.ask(self.steady, f"What is {one}*{other}? Use the calculator."))
        self.record.counts["tool calls"] += sum(isinstance(part, ToolCall) for part in answer.parts)

    def read_a_document(self) -> None:
        """Send a document with a question."""
        number = len(self.record.questions)
        file = self.home / f"report-{number}.md"
        lines = [
            f"In year {year} the harbour had {year * 7 % 113} ships and {year * 3 % 41} cranes.\n" for year in range(60)
        ]
        file.write_text(f"# Report {number}\n\n" + "\n".join([*lines, f"The password is marmalade-{number}."]))
        self.with_file(file, "What is the password?")

    def read_a_folder(self) -> None:
        """Send a folder with a question: it is read in parts."""
        folder = self.home / f"notes-{len(self.record.questions)}"
        folder.mkdir()
        for number in range(12):
            text = f"# Note {number}\n\n" + f"The owl of tower {number} eats at {number} o'clock. " * 40
            (folder / f"note{number}.txt").write_text(text)
        self.with_file(folder, "When does the owl of tower 7 eat?")

    def with_file(self, path: Path, words: str) -> None:
        """Attach a path in a new chat, and ask about it."""
        self.new_chat()
        self.steady.paste(str(path))
        self.until(self.steady, lambda: _is_read(self.steady.text, path.name), f"{path.name} was not read")
        question = self.ask(self.steady, words)
        self.answer(self.steady, question)
        asked = self.record.message(question)
        assert asked and asked.attachments, f"{path.name} did not go with the question"
        self.record.counts["documents"] += len(asked.attachments)

    def download_in_the_screen(self) -> None:
        """Download a model by the list of models, while a question is answered."""
        name = self.publish()
        self.new_chat()
        self.steady.send(CTRL_O)
        self.steady.shows("Type to filter")
        self.steady.send(f"{REPO}/{name}")
        self.steady.shows(f"Download {REPO}/{name}")
        self.steady.send(ENTER)
        self.until(self.steady, lambda: self.hub.requests("cdn", "GET"), "the download did not begin")
        self.steady.send(ESCAPE)
        self.until(self.steady, lambda: "Open file" not in self.steady.text, "the dialog did not close")
        self.answer(self.steady, self.ask(self.steady, "Name a river."))
        self.until(self.steady, lambda: self.has_downloaded(name), f"{name} was not downloaded")

    def download_in_the_shell(self) -> None:
        """Kill a download by command, and resume it."""
        name = self.publish()
        killed = self.record.command("models", "pull", f"{REPO}/{name}")
        self.until(self.steady, lambda: self.hub.requests("cdn", "GET"), "the download did not begin")
        _show(self.steady, 1)
        killed.kill()
        killed.communicate()
        self.record.run("models", "pull", f"{REPO}/{name}")
        assert self.has_downloaded(name), f"{name} was not downloaded"
        self.record.counts["kills of a download"] += 1

    def publish(self) -> str:
        """Put a model on the hub, forget what was asked of it so far, and return the name of the file."""
        name = f"model-{self.chance.getrandbits(32):08x}.gguf"
        file = write_model(self.home / name, seed=self.chance.getrandbits(16))
        with file.open("ab") as stream:
            stream.write(self.chance.randbytes(FILE_BYTES - file.stat().st_size))
        self.hub.put(REPO, name, file)
        self.hub.log.clear()
        return name

    def has_downloaded(self, name: str) -> bool:
        """Return whether a model is in the cache, whole."""
        found = next(Path(self.record.env["HF_HOME"]).rglob(f"snapshots/*/{name}"), None)
        if found is None:
            return False
        assert hashlib.sha256(found.read_bytes()).hexdigest() == self.hub.digest(REPO, name), f"{name} is damaged"
        self.record.counts["downloads"] += 1
        return True

    def kill_the_worker(self) -> None:
        """Kill the steady program's worker in mid-answer; the next answer comes from a new one."""
        self.new_chat()
        question = self.ask(self.steady, LONG)
        self.begun(self.steady, question)
        worker = self.worker(self.steady)
        assert worker, "no worker while an answer streams"
        worker.kill()
        self.record.counts["kills of the worker"] += 1
        self.answer(self.steady, question)
        self.answer(self.steady, self.ask(self.steady, "Are you there?"))

    def kill_the_program(self) -> None:
        """Kill another program in mid-answer, sometimes its worker first; nothing that was on disk is lost."""
        other = self.start()
        try:
            question = self.ask(other, LONG)
            self.begun(other, question)
            children = children_of(other.process.pid)
            worker = self.worker(other)
            if worker and self.chance.random() < 0.5:
                worker.kill()
            else:
                _show(other, self.chance.random())
            before = self.record.answers(question)[0]
            other.process.kill()
            other.process.wait()
        finally:
            other.close()
        self.record.counts["kills of the program"] += 1
        left = psutil.wait_procs(children, 10)[1]
        assert not left, f"the killed program left {[command_of(each) for each in left]}"
        self.record.check_databases()
        again = self.start("--session", before.session)
        try:
            self.until(again, lambda: self.record.answers(question)[0].status is not Status.STREAMING, "it stays open")
            after = self.record.answers(question)[0]
            assert after.text.startswith(before.text), "words that were on disk are lost"
            self.record.finished[after.id] = after.text
            self.answer(again, self.ask(again, "And then?"))
            again.send(CTRL_Q)
            assert again.end() == 0, "it did not end as it should"
        finally:
            again.close()

    def search(self) -> None:
        """Find a question by a command."""
        question = self.chance.choice(self.record.questions)
        assert question[:5] in self.record.run("sessions", "search", question[:5]), f"{question!r} is not found"

    # Checks

    def attempt(self, step: Callable[[], None]) -> None:
        """Carry out a step; what fails is a problem, and the run goes on from the prompt."""
        try:
            step()
        except (AssertionError, subprocess.TimeoutExpired) as failure:
            self.problems.append(f"{step.__name__}: {failure}")
            print(self.problems[-1], file=sys.stderr, flush=True)
            if self.steady.process.poll() is None:
                self.steady.resize(*SIZE)
                self.steady.send(ESCAPE)
                _show(self.steady, 1)

    def end(self) -> None:
        """End the steady program as a user does."""
        self.steady.send(CTRL_Q)
        assert self.steady.end() == 0, "it did not end as it should"

    def last_worker(self) -> list[list[Sample]]:
        """Return the samples of the worker that lived longest after all kills, if any."""
        return list(self.worker_samples.values())[-1:]

    def sample(self) -> None:
        """Take down what the steady program and its worker have, once both are idle."""
        _show(self.steady, 2)
        self.samples.append(sample(psutil.Process(self.steady.process.pid)))
        if worker := self.worker(self.steady):
            self.worker_samples.setdefault(worker.pid, []).append(sample(worker))


def _is_read(shown: str, name: str) -> bool:
    """Return whether the chip of a file has the counted tokens, after which it says how the model gets the file."""
    return any(name in line and "token" in line for line in shown.splitlines())


def _show(terminal: Terminal, seconds: float) -> None:
    """Let the terminal show what comes for so long."""
    end = time.monotonic() + seconds
    terminal.until(lambda _text: time.monotonic() >= end, seconds + 30)


def soak(minutes: float, home: Path, model: Path) -> Soak:
    """Carry out rounds of steps until the time is over, then end the program and check everything."""
    with StandIn() as hub:
        hub.pace = PACE
        it = Soak(home, model, hub)
        began = time.monotonic()
        try:
            while time.monotonic() < began + minutes * 60:
                it.kills_workers = time.monotonic() < began + minutes * 30
                for step in it.steps():
                    it.attempt(step)
                    it.sample()
                    print(f"{time.monotonic() - began:5.0f} s  {step.__name__}", file=sys.stderr, flush=True)
                it.record.counts["rounds"] += 1
            it.attempt(it.end)
        finally:
            it.steady.close()
        it.attempt(it.record.check_databases)
        it.attempt(it.record.check_words)
        it.record.program.close()
        it.attempt(it.record.check_left)
    return it


def table(it: Soak) -> Iterator[str]:
    """Yield what was done, how each figure went and what is wrong, as Markdown."""
    yield "| what was done | times |\n|---|---|"
    for name, count in sorted(it.record.counts.items()):
        yield f"| {name} | {count} |"
    yield "\n| process | figure | after the warm-up | at the end | in 10 minutes | |\n|---|---|---|---|---|---|"
    lives = [("the program", it.samples), *(("its last worker", samples) for samples in it.last_worker())]
    for name, samples in lives:
        found = courses(samples)
        for course in found:
            yield f"| {name} | {_course(course)} |"
        if not found:
            yield f"| {name} | too few samples to judge ({len(samples)}) | | | | |"
        it.problems += [f"{name}: {course.name} grows" for course in found if not course.is_flat]
    yield "\n" + ("\n".join(f"- {problem}" for problem in it.problems) or "Nothing leaked, was damaged or lost.")


def _course(course: Course) -> str:
    figures = f"{course.first:.1f} | {course.last:.1f} | {course.slope:+.2f}"
    return f"{course.name} | {figures} | {'flat' if course.is_flat else '**grows**'}"


def main() -> None:
    """Soak, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--home", type=Path, help="an empty folder, which stays; default: a temporary one")
    chosen = parser.parse_args()
    with _folder(chosen.home) as home:
        it = soak(chosen.minutes, home, Path(os.environ["QWENCHAT_REAL_MODEL"]).absolute())
        print("\n".join(table(it)))
    sys.exit(1 if it.problems else 0)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given:
        given.mkdir(parents=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        yield Path(folder)


if __name__ == "__main__":
    main()
