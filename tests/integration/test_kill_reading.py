"""kill -9 while documents are read, or while the answer is written, loses nothing that was read."""

import subprocess
import sys
from pathlib import Path

from qwenchat.chat.message import Message, Status
from qwenchat.chat.ports import Mode
from qwenchat.runtime.program import Program
from tests.fakes.commands import ROOT, environment
from tests.fakes.reading_child import BOOK, QUESTION, SESSION, ReadingEngine, turns_in

PARTS = 41
"""Of the book."""


def killed_after(word: str, times: int) -> None:
    """Run the child until it has printed a word so often, and kill it."""
    command = [sys.executable, "-m", "tests.fakes.reading_child"]
    with subprocess.Popen(command, text=True, cwd=ROOT, env=environment(), stdout=subprocess.PIPE) as child:
        assert child.stdout
        while times and (line := child.stdout.readline()):
            times -= line.strip() == word
        child.kill()
    assert not times


def interrupted(program: Program) -> Message:
    """Return the answer that the child left."""
    program.store.settle()
    question, answer = program.store.branch(program.store.session(SESSION).leaf)
    assert (question.text, question.attachments) == (QUESTION, (BOOK,))
    assert answer.status is Status.INTERRUPTED
    return answer


async def test_killed_while_it_reads_it_reads_on(home: Path) -> None:
    killed_after("judged", 15)
    program = Program.here()
    answer = interrupted(program)
    assert answer.parts == ()
    engine = ReadingEngine(("It has 214 steps [1].",))
    async for _event in turns_in(program, engine).continue_answer(answer):
        pass
    assert 0 < engine.judged <= PARTS - 15
    [again] = [each for each in program.store.tree(SESSION) if each.id == answer.id]
    assert (again.text, again.status) == ("It has 214 steps [1].", Status.COMPLETE)
    assert any("214 steps" in each.text for each in again.citations)
    program.close()


async def test_killed_while_it_answers_it_answers_on_from_the_same_passages(home: Path) -> None:
    killed_after("said", 150)
    program = Program.here()
    answer = interrupted(program)
    assert answer.citations and answer.text.startswith("word0 word1 ")
    engine = ReadingEngine((" and so on.",))
    async for _event in turns_in(program, engine).continue_answer(answer):
        pass
    assert engine.judged == 0 and [request.mode for request in engine.requests] == [Mode.CONTINUE]
    question, begun = engine.requests[0].turns
    assert all(each.text in question.text for each in answer.citations) and begun.text == answer.text
    [again] = [each for each in program.store.tree(SESSION) if each.id == answer.id]
    assert (again.text, again.citations) == (answer.text + " and so on.", answer.citations)
    program.close()
