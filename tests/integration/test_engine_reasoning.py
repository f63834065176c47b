"""Reasoning: its markers come in pieces of their own, and a template that opens it in the prompt is followed."""

import itertools
from pathlib import Path

import jinja2
import pytest

from qwenchat.chat.events import Finished
from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.message import Message, Reasoning, Role, Text
from qwenchat.chat.ports import Mode
from qwenchat.chat.prompt import Plain, Special, Tokens, Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.chat.streaming import StreamingAnswer
from qwenchat.chat.turn import Turns
from qwenchat.engines.chat_template import ChatTemplate
from qwenchat.engines.prompt_format import PromptFormat, prompt_format_for
from tests.fakes import ggufs
from tests.fakes.engines import LIKELIEST, Answer, answer, engine, questions

R1 = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
"""A template of another family that opens the reasoning too."""


@pytest.fixture(scope="module")
def thinker(models: Path) -> ggufs.Chain:
    """A model that reasons before it answers."""
    return ggufs.write_chain(models / "thinker.gguf", ggufs.REASONING)


def parts(said: Answer, *, inside: bool = False) -> list[tuple[type, str, tuple[int, ...]]]:
    """Return the parts that an answer is stored as."""
    empty = Message(id="a", session="s", parent=None, role=Role.ASSISTANT, parts=(), created=0)
    streaming = StreamingAnswer(empty, inside_reasoning=inside)
    for delta in said.deltas:
        streaming.add(delta)
    streaming.finish()
    return [
        (type(part), part.text, part.token_ids)
        for part in streaming.snapshot().parts
        if isinstance(part, Text | Reasoning)
    ]


async def test_markers_of_reasoning_come_apart_from_the_text_around_them(thinker: ggufs.Chain, tmp_path: Path) -> None:
    async with engine(thinker.path, tmp_path) as made:
        assert not (await made.load()).opens_reasoning
        said = await answer(made, questions("Hello"))
    assert said.text == thinker.text and said.ids == thinker.ids
    texts = [delta.text for delta in said.deltas]
    assert [text for text in texts if text in ("<think>", "</think>", "\n\n")] == ["<think>", "</think>", "\n\n"]
    assert not any("think>" in text or "\n" in text for text in texts if text not in ("<think>", "</think>", "\n\n"))
    assert parts(said) == [
        (Reasoning, "Let me see.", thinker.ids[:5]),
        (Text, "It is 42.", thinker.ids[5:]),
    ]


async def test_an_answer_with_reasoning_can_be_continued(thinker: ggufs.Chain, tmp_path: Path) -> None:
    async with engine(thinker.path, tmp_path) as made:
        for tokens in (2, 6):  # inside the reasoning, and behind it
            begun = await answer(made, questions("Hi"), LIKELIEST.over(Sampling(max_tokens=tokens)))
            turns = [*questions("Hi"), Turn("assistant", begun.text, begun.ids)]
            rest = await answer(made, turns, LIKELIEST, mode=Mode.CONTINUE)
            assert begun.ids + rest.ids == thinker.ids
            assert rest.usage.cached_tokens == rest.usage.prompt_tokens - 1


@pytest.mark.parametrize("template", [ggufs.THINKING, R1], ids=["chatml", "own template"])
async def test_a_template_may_open_the_reasoning_in_the_prompt(template: str, models: Path, tmp_path: Path) -> None:
    tokens = ggufs.REASONING[1:]
    path = models / f"opening-{len(template)}.gguf"
    thinker = ggufs.write_chain(path, tokens, chat_template=template)
    async with engine(thinker.path, tmp_path) as made:
        assert (await made.load()).opens_reasoning
        begun = await answer(made, questions("Hi"), LIKELIEST.over(Sampling(max_tokens=2)))
        turns = [*questions("Hi"), Turn("assistant", begun.text, begun.ids)]
        rest = await answer(made, turns, LIKELIEST, mode=Mode.CONTINUE)
        said = await answer(made, questions("Hi"))
    assert begun.ids + rest.ids == said.ids == thinker.ids
    assert rest.usage.cached_tokens == rest.usage.prompt_tokens - 1  # the opening was in front of it again
    assert parts(said, inside=True) == [
        (Reasoning, "Let me see.", thinker.ids[:4]),
        (Text, "It is 42.", thinker.ids[4:]),
    ]


async def opened(template: str, *, chatml: bool = True) -> PromptFormat:
    """Return the format of a model with a chat template."""
    return await prompt_format_for(ChatTemplate(source=template, bos="", eos=""), chatml=chatml)


async def test_the_prompt_is_the_template_s_own() -> None:
    turns = [Turn("system", "S"), Turn("user", "Q")]
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    text = jinja2.Template(ggufs.THINKING).render(messages=messages, add_generation_prompt=True)
    prompt = (await (await opened(ggufs.THINKING)).prompt(turns, continuing=False)).parts
    assert "".join(part.text for part in prompt if not isinstance(part, Tokens)) == text
    assert prompt[-1] == Special("<think>\n")


async def test_what_is_continued_as_text_says_itself_where_its_reasoning_is() -> None:
    made = await opened(ggufs.THINKING)
    before = [Turn("system", "S"), Turn("user", "Q")]
    as_text = await made.prompt([*before, Turn("assistant", "Yes")], continuing=True)
    as_tokens = await made.prompt([*before, Turn("assistant", "Yes", (1, 2))], continuing=True)
    empty = await made.prompt([*before, Turn("assistant", "")], continuing=True)
    assert as_text.parts[-1] == Plain("assistant\nYes")
    assert as_tokens.parts[-2:] == [Special("<think>\n"), Tokens((1, 2))]
    assert empty.parts[-1] == Special("<think>\n")


async def test_a_template_that_only_mentions_reasoning_opens_none() -> None:
    mentions = "{% if false %}<think>{% endif %}" + ggufs.CHATML
    assert (await opened(mentions)).opening == ""
    assert (await opened("{{ raise_exception('no <think>') }}", chatml=False)).opening == ""


@pytest.mark.parametrize("opens", [False, True])
async def test_earlier_thoughts_are_not_sent_again(opens: bool, models: Path, tmp_path: Path) -> None:
    """Each turn adds its question and the words of the answer before, whatever was thought."""
    path = models / f"forgetting-{opens}.gguf"
    chat_template = ggufs.THINKING if opens else ggufs.CHATML
    ggufs.write_chain(path, ggufs.REASONING[1:] if opens else ggufs.REASONING, chat_template=chat_template)
    store, ids = MemoryStore(), itertools.count()
    store.create(Session(id="s", created=0, updated=0))
    prompts = []
    async with engine(path, tmp_path) as made:
        turns = Turns(store=store, engine=made, new_id=lambda: f"{next(ids)}", clock=lambda: 0)
        for _turn in range(3):
            async for event in turns.ask("s", "Hi"):
                if isinstance(event, Finished):
                    prompts.append(event.usage.prompt_tokens)
        answers = [message for message in store.branch(store.session("s").leaf) if message.role is Role.ASSISTANT]
        words = answers[0].parts[1]
        assert isinstance(words, Text)
        turn = [Turn("user", "Hi"), Turn("assistant", words.text, words.token_ids)]
        added = sum((await made.count(turn)).values)
    assert [(answer.reasoning, answer.text) for answer in answers] == [("Let me see.", "It is 42.")] * 3
    assert prompts == [prompts[0] + number * added for number in range(3)]
