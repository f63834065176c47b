"""The last tokens of the context window: what is counted is what is sent, and whatever helps is trimmed."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from qwenchat.chat.context import ContextPlan, MessageCounts, plan_context
from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.chat.ports import Mode
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.errors import PromptTooLong
from tests.fakes import ggufs
from tests.fakes.engines import LIKELIEST, answer, engine

N_CTX = 256
NOTED = (
    "{% for m in messages %}<{{ m.role }}>{{ 'note ' * loop.length if loop.last else '' }}{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<answer>{% endif %}"
)
"""A template whose text depends on the number of messages."""


def write(template: str, models: Path) -> Path:
    return ggufs.write_model(models / f"limit-{len(template)}.gguf", chat_template=template)


def said(texts: Sequence[str]) -> list[Message]:
    """Return questions and answers by turns."""
    roles = (Role.USER, Role.ASSISTANT)
    return [
        Message(id=f"m{n}", session="s", parent=None, role=roles[n % 2], parts=text_parts(text), created=n)
        for n, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("template", "max_tokens", "beyond"),
    [
        (ggufs.CHATML, 1, range(-32, 32)),
        (ggufs.CHATML, 2, range(-3, 3)),
        (ggufs.CHATML, 300, range(-3, 3)),
        (ggufs.THINKING, 1, range(-3, 3)),
        (NOTED, 1, range(-1, 2)),
    ],
    ids=["chatml", "chatml, 2", "chatml, 300", "opened reasoning", "own template"],
)
async def test_at_every_length_around_the_limit_counts_are_what_is_sent(
    template: str, max_tokens: int, beyond: range, models: Path, tmp_path: Path
) -> None:
    outcomes = set()
    room = N_CTX - min(max_tokens, N_CTX // 4)
    async with engine(write(template, models), tmp_path, n_ctx=N_CTX) as made:
        empty = await planned(made, [""], max_tokens)
        for tokens in beyond:
            question = "q" * (room + tokens - empty.used)
            for history in ([], ["x" * 20, "y" * 20]):
                outcomes.add(await check(made, [*history, question], max_tokens))
    assert outcomes == {"sent", "trimmed", "refused"}


async def check(made: LocalEngine, texts: Sequence[str], max_tokens: int) -> str:
    """Check that a question is sent with the tokens that were counted, or can't be sent; return which."""
    plan = await planned(made, texts, max_tokens)
    alone = await planned(made, texts[-1:], max_tokens)
    assert plan.too_long == (alone.used > plan.room)  # whatever helps is trimmed
    if plan.too_long:
        assert plan.used == alone.used
        with pytest.raises(PromptTooLong, match=f"takes {plan.used} tokens.* room for {plan.room}: 256 less"):
            plan.check()
        return "refused"
    given = await answer(made, plan.turns, LIKELIEST.over(Sampling(max_tokens=1)))
    assert given.usage.prompt_tokens == plan.used <= plan.room
    return "trimmed" if plan.trimmed else "sent"


async def planned(
    made: LocalEngine, texts: Sequence[str], max_tokens: int, *, mode: Mode = Mode.ANSWER, system: str = ""
) -> ContextPlan:
    info = await made.load()
    return await plan_context(
        made, info, said(texts), system=system, max_tokens=max_tokens, mode=mode, counts=MessageCounts()
    )


@pytest.mark.parametrize("mode", [Mode.ANSWER, Mode.CONTINUE, Mode.COMPLETE])
@pytest.mark.parametrize("template", [ggufs.CHATML, ggufs.THINKING, NOTED])
async def test_every_mode_is_counted_as_it_is_sent(template: str, mode: Mode, models: Path, tmp_path: Path) -> None:
    texts = ["Hello", "world", "你好"] if mode is not Mode.CONTINUE else ["Hello", "world"]
    async with engine(write(template, models), tmp_path, n_ctx=N_CTX) as made:
        for system in ("", "You are helpful"):
            plan = await planned(made, texts, 1, mode=mode, system=system)
            given = await answer(made, plan.turns, LIKELIEST.over(Sampling(max_tokens=1)), mode=mode)
            assert given.usage.prompt_tokens == plan.used
