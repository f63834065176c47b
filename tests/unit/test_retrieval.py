"""Level 1: what is searched for, and which passages a question gets."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from qwenchat.chat.events import Reading
from qwenchat.chat.message import Citation, Message, Role, Text
from qwenchat.chat.passages import passage_text
from qwenchat.chat.ports import Capabilities
from qwenchat.chat.prompt import Turn
from qwenchat.documents.levels.passages import fitting
from qwenchat.documents.levels.question import (
    asks_for_all,
    asks_for_whole,
    languages_of,
    search_words,
    understood,
)
from qwenchat.documents.levels.small_request import SmallRequests
from tests.fakes.reading import ReadingEngine, found, indexed, paragraphs

FACTS = (
    "The crane Samson lifts seven tons.",
    "The bell is called Grey Margit.",
    "Herring are counted in crans.",
    "灯塔看守名叫沈半舟。",
    "The chain has 233 links.",
)


async def requests_of(engine: ReadingEngine) -> SmallRequests:
    return SmallRequests(engine=engine, info=await engine.load())


def said(role: Role, text: str) -> Message:
    return Message(id=text[:8], session="s", parent=None, role=role, parts=(Text(text),), created=0)


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("How many tons can Samson lift?", "seven tons"),
        ("What is the bell called?", "Margit"),
        ("灯塔的看守是谁？", "沈半舟"),
        ("links", "233"),
    ],
)
@pytest.mark.parametrize(
    "nonsense",
    ["", "Sorry, I can't.", "{" * 200, '{"keywords_en": ["rain", "written", "down", "went", "nothing"]}', '"\\ud800"'],
)
async def test_the_chunk_with_the_answer_is_found_whatever_the_model_writes(
    question: str, fact: str, nonsense: str
) -> None:
    engine = ReadingEngine(says=lambda asked: nonsense)
    passages, _progress = await found(engine, indexed(paragraphs(FACTS)), question, room=1_700)
    assert fact in passages[0].text
    assert len(passages) == 1


async def test_keywords_find_what_the_question_has_no_word_of() -> None:
    keywords = json.dumps({"keywords_en": ["bell"], "keywords_zh": ["沈半舟"]}, ensure_ascii=False)
    engine = ReadingEngine(says=lambda asked: keywords, token=4)
    passages, _progress = await found(engine, indexed(paragraphs(FACTS)), "Wie heißt die Glocke?", room=4_000)
    assert any("Margit" in each.text for each in passages)
    assert any("沈半舟" in each.text for each in passages)
    schema = json.loads(engine.requests[0].sampling.schema or "")
    assert [*schema["properties"]] == ["keywords_en"], "the documents are rather English"


@pytest.mark.parametrize(
    ("reply", "keywords"),
    [
        ('{"keywords_en": ["wind", "old mill"], "keywords_zh": ["风车"]}', ("wind", "old mill", "风车")),
        ('{"keywords_en": ["wind", "old mi', ("wind",)),
        ("wind, old mill\n- 风车", ("wind", "old mill", "风车")),
        ('{"keywords_en": ["1862", "  ", "' + "x" * 200 + '"]}', ("1862",)),
        ("", ()),
    ],
)
async def test_keywords_are_read_leniently(reply: str, keywords: tuple[str, ...]) -> None:
    engine = ReadingEngine(says=lambda asked: reply, capabilities=Capabilities())
    query, _reply = await understood(await requests_of(engine), "Who built it?", (), ("en", "zh"))
    assert query.keywords == keywords
    assert engine.requests[0].sampling.schema is None
    assert query.question == "Who built it?"


async def test_a_question_that_follows_others_is_understood_with_them() -> None:
    history = (said(Role.USER, "What is Samson?"), said(Role.ASSISTANT, "A crane."))
    engine = ReadingEngine(says=lambda asked: '{"question": "How much does the crane Samson lift?", "keywords_en": []}')
    query, _reply = await understood(await requests_of(engine), "How much does it lift?", history, ("en",))
    assert {"samson", "crane"} <= {*query.words}
    assert "How much does it lift?" in query.question
    assert "A crane." in engine.requests[0].turns[-1].text
    passages, _progress = await found(
        engine, indexed(paragraphs(FACTS)), "How much does it lift?", history=history, room=1_700
    )
    assert "seven tons" in passages[0].text


async def test_a_model_without_a_memory_is_not_asked() -> None:
    engine = ReadingEngine(reads_history=False)
    passages, progress = await found(engine, indexed(paragraphs(FACTS)), "Samson?", level=3, room=1_700)
    assert "seven tons" in passages[0].text
    assert not engine.requests
    assert {each.level for each in progress} <= {1, 3}


async def test_a_model_that_reasons_is_asked_not_to() -> None:
    engine = ReadingEngine(opens_reasoning=True, says=lambda asked: '{"keywords_en": ["crane"]}')
    await found(engine, indexed(paragraphs(FACTS)), "How strong is it?")
    assert engine.requests[0].turns[-1] == Turn("assistant", "<think>\n\n</think>\n\n")
    assert not engine.requests[0].cache_key


async def test_passages_come_in_the_order_of_the_documents_with_their_numbers_and_neighbours_joined() -> None:
    rain = "The rain went on and on. "
    first, second = paragraphs(FACTS[:3], rain), paragraphs(FACTS[3:], rain)
    passages, progress = await found(
        ReadingEngine(token=4), indexed(first, second), "Which crane, which bell and which links?", room=8_000
    )
    assert [each.number for each in passages] == [1, 2]
    assert [each.document for each in passages] == ["1.md", "2.md"]
    assert "seven tons" in passages[0].text
    assert "Margit" in passages[0].text
    assert "233" in passages[1].text
    for each, text in zip(passages, (first, second), strict=True):
        assert text[each.start :].startswith(each.text)
    assert passages[0].heading == "Part 1"
    assert isinstance(progress[0], Reading)


async def test_the_documents_begin_where_nothing_matches() -> None:
    passages, _progress = await found(ReadingEngine(), indexed(paragraphs(FACTS), "Short."), "Zebras?", room=4_000)
    assert [each.text[:9] for each in passages] == ["## Part 1", "Short."]


async def test_a_question_about_the_whole_gets_passages_from_all_parts() -> None:
    index = indexed(paragraphs(str(number) for number in range(40)))
    passages, _progress = await found(ReadingEngine(), index, "Summarise this document", room=9_000, level=None)
    length = len(index.text(passages[0].digest))
    starts = [each.start / length for each in passages]
    assert starts[0] == 0
    assert starts[-1] > 0.7
    assert max(later - before for before, later in pairwise(starts)) < 0.3


async def test_no_documents_give_no_passages() -> None:
    assert await found(ReadingEngine(), indexed(), "Anything?") == ([], [])
    assert (await found(ReadingEngine(), indexed("  \n"), "Anything?"))[0] == []


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(12)), room=st.integers(10, 9_000))
async def test_what_fits_is_as_it_stands_and_takes_no_more_than_the_room(order: list[int], room: int) -> None:
    index = indexed(paragraphs(str(number) for number in range(8)), paragraphs("abcd"))
    documents = index.owned("chat:s")
    every = [
        Citation(number=0, document=each.name, digest=each.digest, start=chunk.start, text=chunk.text)
        for each in documents
        for chunk in index.chunks(each.digest)
    ]
    ranked = [every[place % len(every)] for place in order]
    ranked += [replace(each, start=each.start + 5, text=each.text[5:30]) for each in ranked[:3]]
    requests = await requests_of(ReadingEngine())
    digests = [each.digest for each in documents]
    passages = await fitting(requests, ranked, question="?", room=room, digests=digests)
    taken = [await requests.count(passage_text(each, "?")) for each in passages]
    assert sum(taken) <= room or len(passages[0].text) == 1
    places = [(digests.index(each.digest), each.start, each.start + len(each.text)) for each in passages]
    assert all(one[0] < other[0] or one[2] <= other[1] for one, other in pairwise(places))
    assert all(index.text(each.digest)[each.start :].startswith(each.text) for each in passages)


@pytest.mark.parametrize(
    ("question", "is_whole"),
    [
        ("Summarise this.", True),
        ("What is the document about?", True),
        ("Please give me a brief summary of harbour.md", True),
        ("总结一下这份文档", True),
        ("这本书讲了什么？", True),
        ("请概括全文的主要内容", True),
        ("Summarise the chapter about gulls", False),
        ("总结水车的历史", False),
        ("What is the bell about to do?", False),
        ("Who paid for the lamp?", False),
    ],
)
def test_questions_about_the_whole(question: str, is_whole: bool) -> None:
    assert asks_for_whole(question, ("harbour.md",)) is is_whole


@pytest.mark.parametrize("question", ["List the ships", "How does each man vote?", "列出所有的船", "一共有哪些船？"])
def test_questions_for_all_of_something(question: str) -> None:
    assert asks_for_all(question)


def test_words_that_are_searched_for() -> None:
    assert search_words("What is the name of the bell?") == ("name", "bell")
    assert search_words("Who is it?") == ("who", "is", "it")
    assert search_words("灯塔在哪里？") == ("灯塔", "塔在", "在哪")
    assert search_words("") == ()


def test_languages() -> None:
    assert languages_of(["Hello there", "你好，世界"]) == ("en", "zh")
    assert languages_of(["你好，世界"]) == ("zh",)
    assert languages_of([]) == ("en",)
