"""What the guide was taught is true of the program: a command, key or setting that goes away fails here."""

import random
import re

import pytest

from qwenchat.sessions import exporters
from qwenchat.tui import slash_commands
from tests.fakes import spoken
from training.guide import corpus, noise
from training.guide.dialogues import Dialogues


@pytest.mark.parametrize("language", corpus.LANGUAGES)
def test_every_answer_is_true_of_the_program(language: str) -> None:
    problems = [
        f"{topic}: {found}"
        for topic, words in corpus.answers().items()
        for span in spoken.spans(words[language])
        if (found := spoken.problem(span))
    ]
    assert not problems
    assert not spoken.key_clashes()


def test_false_claims_are_found() -> None:
    for span in (
        "qwenchat sessions destroy ID",
        "qwenchat ask --loud",
        "qwenchat config set model.colour red",
        "git log | qwenchat answer",
        "--loud",
        "/dance",
        "model.colour",
        "Ctrl+K",
        "F11",
        "z",
    ):
        assert spoken.problem(span), span


SINCE_TRAINED: set[str] = set()
"""Commands that the committed model does not name: put them into `answers.toml` before the next training."""


@pytest.mark.parametrize("language", corpus.LANGUAGES)
def test_both_languages_say_the_same(language: str) -> None:
    for topic, words in corpus.answers().items():
        assert set(words) == set(corpus.LANGUAGES), topic
        named = {span.split()[0] for span in spoken.spans(words[language]) if not span.startswith("qwenchat")}
        others = {span.split()[0] for span in spoken.spans(words["en"]) if not span.startswith("qwenchat")}
        assert named == others, topic


def test_lists_in_answers_are_whole() -> None:
    known = corpus.answers()
    for language in corpus.LANGUAGES:
        assert all(name in known["export"][language] for name in exporters.names())
        assert all(f"`/{name}`" in known["slash"][language] for name in {*slash_commands.commands()} - SINCE_TRAINED)


def test_every_topic_has_wordings_and_every_wording_a_topic() -> None:
    wordings = corpus.wordings()
    for language in corpus.LANGUAGES:
        counts = dict.fromkeys(corpus.answers(), 0)
        for wording in wordings:
            counts[wording.topic] += wording.language == language
        assert min(counts.values()) >= 25
    assert not [one.text for one in wordings if re.search(r"[()|]", re.sub(r"\([^()]*\|[^()]*\)", "", one.text))]


def test_judged_questions_are_never_drawn() -> None:
    judged = corpus.judged_questions()
    assert len(judged) > 700
    drawn = Dialogues(corpus.wordings(), random.Random(1), avoided=judged)
    asked = [turn.text for _draw in range(2000) for turn in drawn.draw() if turn.role == "user"]
    assert not {corpus.plain(text) for text in asked} & judged


def test_noise_keeps_a_question_a_question() -> None:
    chance = random.Random(1)
    for text, language in (("how do i export a chat", "en"), ("怎么导出会话", "zh")):
        typed = {noise.noisy(text, language, chance) for _draw in range(300)}
        assert len(typed) > 20
        assert all(abs(len(one) - len(text)) <= 12 for one in typed)
