"""A title comes out of whatever a model replies as one short clean line, and the first question stands in for none."""

import asyncio

import pytest

from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.chat.title import suggest, title_in
from qwenchat.errors import EngineDied
from tests.fakes.scripted import ScriptedEngine


def conversation(*texts: str) -> list[Message]:
    roles = (Role.USER, Role.ASSISTANT)
    return [
        Message(id=f"m{i}", session="s", parent=None, role=roles[i % 2], parts=text_parts(text), created=i)
        for i, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("reply", "title"),
    [
        ("Capital cities of Europe", "Capital cities of Europe"),
        ('\n  Title: "**Capital cities**."\nBecause it is about them.', "Capital cities"),
        ("标题：《北京旅行计划》。", "北京旅行计划"),
        ("# Using C++", "Using C++"),
        ("\x1b]0;owned\x07Red\tand\x1b[31m green", "]0;ownedRed and[31m green"),
        ("\u202egnol", "gnol"),
        ("word " * 30, "word " * 11 + "word…"),
        ("...\n\n", ""),
        ("", ""),
        ("\ud800half", "\ufffdhalf"),
    ],
)
def test_one_clean_line_comes_out_of_a_reply(reply: str, title: str) -> None:
    assert title_in(reply) == title
    assert len(title) <= 60


async def test_the_beginning_of_the_conversation_is_what_the_model_is_asked_about() -> None:
    engine = ScriptedEngine(["A trip to Paris"])
    said = conversation("Where to go?" + "!" * 5000, "To Paris.", "And then?", "Home.", "never read", "never read")
    assert await suggest(engine, said) == "A trip to Paris"
    [request] = engine.requests
    asked, sampling = request.turns[-1].text, request.sampling
    assert request.cache_key == ""
    assert "Where to go?" in asked and "To Paris." in asked and "never read" not in asked and len(asked) < 3000
    assert sampling.temperature == 0 and sampling.max_tokens


async def test_a_chinese_conversation_is_asked_about_in_chinese() -> None:
    engine = ScriptedEngine(["标题：北京之行"])
    assert await suggest(engine, conversation("我想去北京", "好的。")) == "北京之行"
    assert "标题" in engine.requests[0].turns[-1].text


@pytest.mark.parametrize(("reply", "n_ctx"), [("", 4096), ("***", 4096), ("never asked", 64)])
async def test_the_first_question_stands_in_for_a_title(reply: str, n_ctx: int) -> None:
    engine = ScriptedEngine([reply], n_ctx=n_ctx)
    assert await suggest(engine, conversation("", "?", "Why is the sky blue?\nTell me", "Light.")) == (
        "Why is the sky blue?"
    )


async def test_excerpts_shrink_to_a_small_window() -> None:
    engine = ScriptedEngine(["Short"], n_ctx=1000)
    assert await suggest(engine, conversation("x" * 5000, "y" * 5000)) == "Short"
    assert sum(len(turn.text) for turn in engine.requests[0].turns) < 900


async def test_nothing_is_asked_about_an_empty_conversation() -> None:
    engine = ScriptedEngine(["x"])
    assert await suggest(engine, []) == ""
    assert engine.requests == []


async def test_a_dead_engine_is_told() -> None:
    with pytest.raises(EngineDied):
        await suggest(ScriptedEngine(["one boom two"], die="boom"), conversation("Hi"))


async def test_the_user_can_stop_it() -> None:
    engine = ScriptedEngine(["never " * 1000], delay_s=0.001)
    suggesting = asyncio.create_task(suggest(engine, conversation("Hi")))
    async with asyncio.timeout(10):
        while not engine.requests:
            await asyncio.sleep(0)
    suggesting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await suggesting
    assert engine.is_cancelled


async def test_a_model_that_reads_no_conversation_is_not_asked_for_a_title() -> None:
    engine = ScriptedEngine(["Gibberish"], reads_history=False)
    assert await suggest(engine, conversation("How do I export?", "Ctrl+S", "And now?")) == "How do I export?"
    assert not engine.requests
