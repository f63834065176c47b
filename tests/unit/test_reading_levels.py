"""Levels 2 and 3, and the choice between them: every chunk is judged, nothing is read twice, nothing is invented."""

from collections.abc import Callable
from contextlib import aclosing

import pytest

from qwenchat.chat.events import Reading
from qwenchat.chat.ports import Capabilities
from qwenchat.documents.document import Document
from qwenchat.documents.levels.choice import (
    PATIENT_S,
    QUICK_S,
    STEPS,
    Speed,
    chosen_level,
    predicted_seconds,
)
from qwenchat.documents.levels.finding import find
from qwenchat.documents.levels.quotes import quotes, sentences
from qwenchat.errors import EngineDied
from qwenchat.text.safe import fenced
from tests.fakes.reading import OWNER, ReadingEngine, found, indexed, paragraphs

FACTS = (
    "In spring the geese came back.",
    "Nora mended the wheel with a spoon.",
    "Nobody counted the sheep.",
    "A goat was drowned.",
    "The priest fell asleep.",
    "A second spoon was bought.",
)
QUESTION = "What tool did the repair take?"
"""It has no word of the chunk with the answer."""
FAST, SLOW = Speed(prefill_tps=5000.0, decode_tps=200.0), Speed(prefill_tps=20.0, decode_tps=5.0)


def judged(asked: str) -> str:
    """Answer as a model that understands would."""
    return "A spoon." if "spoon" in asked and "assage:" in asked else "None"


def judgements(engine: ReadingEngine) -> int:
    """Return how many chunks were judged."""
    return sum(each.scored_turns > 0 and fenced("") not in each.turns[1].text for each in engine.requests)


async def test_a_chunk_is_found_by_what_it_means() -> None:
    index = indexed(paragraphs(FACTS))
    engine = ReadingEngine(says=judged)
    passages, progress = await found(engine, index, QUESTION, level=2, room=3_500, speed=SLOW)
    assert "with a spoon" in "".join(each.text for each in passages)
    assert "second spoon" in "".join(each.text for each in passages)
    assert judgements(engine) == len(index.chunks(passages[0].digest)) == 6
    assert [each.done for each in progress if each.total] == [*range(7)]
    assert progress[-1].found == 2
    assert progress[-1].seconds_left == 0
    assert "spoon" in progress[-1].latest
    assert {each.cache_key for each in engine.requests} == {""}
    assert not any(each.sampling.is_repeatable for each in engine.requests)


async def test_an_answer_is_asked_for_after_the_passage_as_it_was_scored() -> None:
    engine = ReadingEngine(says=judged)
    await found(engine, indexed(paragraphs(FACTS)), QUESTION, level=2)
    spoons = [each.turns for each in engine.requests if len(each.turns) > 1 and "spoon. The" in each.turns[1].text]
    scored, answered = spoons[:2]
    passage = scored[1].text.removesuffix("Write a question that the passage above answers.")
    assert scored[0] == answered[0]
    assert "with a spoon" in passage and answered[1].text.startswith(passage)
    assert scored[2].text == QUESTION in answered[1].text


async def test_only_the_beginning_of_a_long_question_is_scored() -> None:
    engine = ReadingEngine(says=judged)
    await found(engine, indexed(paragraphs(FACTS)), f"{QUESTION} {'Think well. ' * 500}", level=2)
    assert {len(each.turns[-1].text) for each in engine.requests if each.scored_turns} == {400}


async def test_sentences_stand_for_chunks_that_would_take_all_the_room() -> None:
    facts = [f"In year {year} the spoon cost {year + 7} crowns." for year in range(100, 112)]
    engine = ReadingEngine(says=lambda asked: "spoon crowns" if "crowns" in asked else "None")
    passages, _progress = await found(engine, indexed(paragraphs(facts)), QUESTION, level=2, room=3_000)
    text = "\n".join(each.text for each in passages)
    assert all(fact in text for fact in facts)


async def test_stopping_loses_nothing_and_reading_goes_on() -> None:
    index = indexed(paragraphs(FACTS))
    engine, again = ReadingEngine(says=judged), ReadingEngine(says=judged)
    async with aclosing(find(engine, index, index.owned(OWNER), QUESTION, room=4_000, level=2)) as events:
        async for event in events:
            if isinstance(event, Reading) and event.done == 4:
                break
    assert judgements(engine) == 4
    passages, progress = await found(again, index, QUESTION, level=2, speed=SLOW)
    assert judgements(again) == 2
    assert [each.done for each in progress if each.total] == [4, 5, 6]
    whole, _progress = await found(ReadingEngine(says=judged), indexed(paragraphs(FACTS)), QUESTION, level=2)
    assert passages == whole


async def test_a_model_that_dies_leaves_its_verdicts() -> None:
    index, judged_before = indexed(paragraphs(FACTS)), 0

    def dying(asked: str) -> str:
        nonlocal judged_before
        judged_before += "rain" in asked
        if judged_before == 4:
            raise EngineDied("The engine process ended.", "Ask again.")
        return "None"

    with pytest.raises(EngineDied):
        await found(ReadingEngine(says=dying), index, QUESTION, level=2)
    again = ReadingEngine(says=judged)
    await found(again, index, QUESTION, level=2)
    assert judgements(again) == 3


async def test_verdicts_are_those_of_one_question_and_one_model() -> None:
    index = indexed(paragraphs(FACTS))
    await found(ReadingEngine(says=judged), index, QUESTION, level=2)
    for engine, question, new in (
        (ReadingEngine(says=judged), QUESTION, 0),
        (ReadingEngine(says=judged, file="1" * 32), QUESTION, 6),
        (ReadingEngine(says=judged), "What was drowned?", 6),
    ):
        await found(engine, index, question, level=2)
        assert judgements(engine) == new


async def test_a_document_that_is_added_is_read_alone() -> None:
    index = indexed(paragraphs(FACTS))
    await found(ReadingEngine(says=judged), index, QUESTION, level=2)
    index.add(OWNER, [Document(name="new.md", media_type="text/plain", text="They had only one spoon.")])
    again = ReadingEngine(says=judged)
    passages, _progress = await found(again, index, QUESTION, level=2, room=8_000)
    assert judgements(again) == 1
    assert "new.md" in {each.document for each in passages}


async def test_what_the_model_invents_is_not_found() -> None:
    engine = ReadingEngine(says=lambda asked: "A golden screwdriver." if "assage:" in asked else "")
    _passages, progress = await found(engine, indexed(paragraphs(FACTS)), QUESTION, level=2)
    assert progress[-1].found == 0


@pytest.mark.parametrize("nothing", ["None", " none.", "Not mentioned", "No answer", "无", "没有提到", "未提及", ""])
async def test_no_answer_is_none_whatever_it_is_called(nothing: str) -> None:
    engine = ReadingEngine(says=lambda asked: nothing, capabilities=Capabilities(exact_counts=True))
    _passages, progress = await found(engine, indexed(paragraphs(FACTS)), "Is none of it known?", level=2)
    assert progress[-1].found == 0


async def test_an_engine_that_can_not_score_says_what_it_finds() -> None:
    engine = ReadingEngine(says=judged, capabilities=Capabilities(exact_counts=True))
    passages, progress = await found(engine, indexed(paragraphs(FACTS)), QUESTION, level=2, room=3_500)
    assert judgements(engine) == 0
    assert progress[-1].found == 2
    assert "with a spoon" in "".join(each.text for each in passages)


async def test_a_stored_verdict_that_is_damaged_is_made_again() -> None:
    index = indexed(paragraphs(FACTS[:1]))
    engine = ReadingEngine(says=judged)
    await found(engine, index, QUESTION, level=2)
    digest = index.owned(OWNER)[0].digest
    with index._write() as connection:
        connection.execute("UPDATE verdicts SET verdict = '[1.0,[[0,'")
    again = ReadingEngine(says=judged)
    await found(again, index, QUESTION, level=2)
    assert judgements(again) == 1
    assert index.chunks(digest)


async def test_steps_end_when_enough_is_known_repeats_or_is_too_much() -> None:
    endless = iter(("Where is the goat?", "Who slept?", "What was bought?", "Who counted?", "What else?", "And then?"))
    plans: dict[str, Callable[[str], str]] = {
        "enough": lambda asked: '{"enough": true, "question": ""}' if "→" in asked else plan("Who slept?"),
        "repeats": lambda asked: plan("Who slept?"),
        "endless": lambda asked: plan(next(endless)),
        "is cut off": lambda asked: plan("Who slept?")[:-8],
        "no JSON": lambda asked: "Who slept?",
        "nothing": lambda asked: "",
    }

    def plan(question: str) -> str:
        return f'{{"enough": false, "question": "{question}"}}'

    steps = {}
    for name, planned in plans.items():

        def says(asked: str, planned: Callable[[str], str] = planned) -> str:
            return planned(asked) if "JSON" in asked else "The priest."

        engine = ReadingEngine(says=says)
        passages, progress = await found(
            engine, indexed(paragraphs(FACTS)), "Who is the sleepiest?", level=3, speed=SLOW, room=2_000
        )
        steps[name] = progress[-1].done
        assert progress[-1].level == 3
        assert passages
        if steps[name]:
            assert progress[-1].latest.endswith("→ The priest.")
    assert steps == {"enough": 1, "repeats": 1, "endless": STEPS, "is cut off": 0, "no JSON": 1, "nothing": 0}


def test_quotes_are_sentences_of_the_text() -> None:
    text = "The bell rang 7 times. It weighs 3.5 tons, they say!\n\nIt is called Grey Margit. 它重三吨。它叫灰姑娘。"
    assert [text[start:end] for start, end in sentences(text)] == [
        "The bell rang 7 times.",
        "It weighs 3.5 tons, they say!",
        "It is called Grey Margit.",
        "它重三吨。",
        "它叫灰姑娘。",
    ]
    for answer, quoted in (
        ("Grey Margit", ["It is called Grey Margit."]),
        ("It rang seven, that is 7, times.", ["The bell rang 7 times."]),
        ("3.5 tons; Margit", ["It weighs 3.5 tons, they say!", "It is called Grey Margit."]),
        ("灰姑娘", ["它叫灰姑娘。"]),
        ("Yes.", ["The bell rang 7 times."]),
        ("No, Margit", ["It is called Grey Margit."]),
        ("a golden spoon", []),
        ("", []),
    ):
        assert [text[start:end] for start, end in quotes(text, answer, ("bell",))] == quoted


def test_the_level_follows_from_time_and_question() -> None:
    assert chosen_level(5_000, FAST, for_all=False) == 2
    assert chosen_level(5_000, SLOW, for_all=False) == 1
    assert chosen_level(1_000_000, FAST, for_all=True) == 1
    between = next(size for size in range(1_000, 10**6, 1_000) if predicted_seconds(2, size, FAST) > 2 * QUICK_S)
    assert predicted_seconds(2, between, FAST) < PATIENT_S
    assert [chosen_level(between, FAST, for_all=each) for each in (False, True)] == [1, 2]


def test_predictions() -> None:
    # 1M tokens on two cores: about 97 minutes of prefill alone
    minutes = predicted_seconds(2, 1_000_000, Speed(prefill_tps=172.0, decode_tps=23.0)) / 60
    assert 97 < minutes < 140
    on_a_chip = predicted_seconds(2, 1_000_000, Speed(prefill_tps=20_000.0, decode_tps=300.0)) / 60
    assert 1 < on_a_chip < 4
    for speed in (FAST, SLOW):
        level_1, level_2, level_3 = (predicted_seconds(level, 50_000, speed, room=2_000) for level in (1, 2, 3))
        assert level_1 < level_2
        assert level_1 < level_3
        assert predicted_seconds(2, 100_000, speed) > 1.8 * predicted_seconds(2, 50_000, speed)


async def test_the_time_left_is_first_predicted_then_measured() -> None:
    index = indexed(paragraphs(FACTS))
    _passages, progress = await found(ReadingEngine(says=judged), index, QUESTION, level=2, speed=SLOW)
    left = [each.seconds_left for each in progress if each.total]
    assert left[0] > 60, "as a model as slow as SLOW would take"
    assert left[3] < left[0] / 2, "as this one takes"
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert all(left[:-1])


async def test_a_chunk_that_the_model_is_not_sure_of_counts_too() -> None:
    index = indexed(paragraphs(FACTS))

    class Unsure(ReadingEngine):
        """Never answers; only where the sheep are counted the question is a little likelier."""

        def logprob(self, asked: str, question: str) -> float:
            return -3.9 if "sheep" in asked else -4.0

    passages, progress = await found(Unsure(), index, "Wie viele Tiere?", level=2, room=1_700)
    assert progress[-1].found == 0
    assert "sheep" in passages[0].text


async def test_without_a_known_speed_the_first_chunk_is_the_prediction() -> None:
    index = indexed(paragraphs(FACTS))
    _passages, progress = await found(ReadingEngine(says=judged), index, QUESTION, level=2)
    assert [each.done for each in progress if each.total] == [*range(1, 7)]
    _passages, progress = await found(ReadingEngine(says=judged), index, QUESTION, level=2)  # all verdicts are known
    assert [(each.done, each.seconds_left) for each in progress if each.total] == [(6, 0.0)]
