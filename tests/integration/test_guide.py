"""The committed guide, through real llama.cpp: it still knows what its card says, stops by itself, and is small."""

import re
from pathlib import Path

import pytest

from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.prompt import Turn
from qwenchat.chat.session import Session
from qwenchat.chat.turn import Turns
from qwenchat.models.gguf import check, read_header
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.program import Program
from tests.fakes import guide
from tests.fakes.engines import GREEDY, answer
from tests.fakes.guide import Question
from training.guide import corpus

MAY_DIFFER = 0.04
"""By how much a score may lie below the card's: another processor rounds differently, and decides a close call so."""


def committed(label: str, language: str) -> float:
    """Return a score of the tests' sample that the guide's card states, from 0 to 1."""
    card = (guide.GUIDE / "README.md").read_text("utf-8")
    (row,) = re.findall(rf"^\| {re.escape(label)}, the tests' sample \|([^|]*)\|([^|]*)\|", card, re.MULTILINE)
    shown: str = row[corpus.LANGUAGES.index(language)]
    return float(shown.split("%", maxsplit=1)[0]) / 100


@pytest.mark.parametrize("language", corpus.LANGUAGES)
@pytest.mark.parametrize("label", guide.SETS)
async def test_it_knows_what_its_card_says(tmp_path: Path, label: str, language: str) -> None:
    async with guide.guide(tmp_path) as made:
        said = await guide.put(made, guide.sampled(guide.SETS[label](language)))
    assert guide.share(said) >= committed(label, language) - MAY_DIFFER
    assert sum(one.ended for one in said) >= guide.SAMPLE - 1


@pytest.mark.parametrize(
    ("language", "text", "topic"),
    [
        ("en", "How do I export a session as HTML?", "export"),
        ("zh", "怎么删除一个会话？", "delete"),
        ("en", "Which model fits my computer?", "fit"),
        ("zh", "你是谁", "who"),
        ("en", "What is the capital of France?", "outside"),
    ],
)
async def test_what_everyone_asks(tmp_path: Path, language: str, text: str, topic: str) -> None:
    async with guide.guide(tmp_path) as made:
        (said,) = await guide.put(made, [Question(language, (topic,), text)])
    assert said.topic == topic


async def test_each_question_of_a_chat_is_answered_by_itself(tmp_path: Path) -> None:
    """What was said before changes no answer, and the program sends none of it."""
    program = Program({"QWENCHAT_HOME": str(tmp_path)})
    engine, store, ids = program.engine("guide", LoadOptions()), MemoryStore(), UUIDv7()
    turns = Turns(store=store, engine=engine, new_id=ids, clock=unix_ms)
    known = {words["en"] for words in corpus.answers().values()}
    asked = ["how do i export a chat", "what is the capital of France", "delete a chat", "how do i export a chat"] * 2
    store.create(session := Session(id=ids(), created=0, updated=0, model="guide"))
    try:
        for text in asked:
            turn = turns.ask(session.id, text)
            async for _event in turn:
                pass
        answers = [message.text for message in store.branch(store.session(session.id).leaf)[1::2]]
        assert len(answers) == len(asked) and set(answers) <= known
        assert answers[0] == answers[3] == answers[4] == answers[7]
    finally:
        await engine.close()


async def test_it_still_answers_well_in_a_long_chat(tmp_path: Path) -> None:
    """Later questions are answered as first ones are, and every answer ends by itself."""
    asked = [Question("en", ("export",), "how do i export a chat"), Question("zh", ("delete",), "怎么删除会话")] * 5
    turns, right = list[Turn](), 0
    known = corpus.answers()
    async with guide.guide(tmp_path) as made:
        for question in asked:
            turns.append(Turn("user", question.text))
            given = await answer(made, turns[-7:], GREEDY)
            turns.append(Turn("assistant", given.text, given.ids))
            assert given.finished.reason == "stop"
            right += given.text == known[question.topics[0]][question.language]
    assert right >= 8  # of 10


def test_the_file_says_what_it_is() -> None:
    header = check(read_header(guide.MODEL))
    assert (header.architecture, header.name, header.quantisation) == ("qwen2", "Guide", "q8_0")
    assert header.kv_heads < header.heads
    assert header.advised.temperature == 0
    assert guide.MODEL.stat().st_size <= 6_000_000
