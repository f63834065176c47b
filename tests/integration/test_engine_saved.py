"""A session's saved KV cache: read where it fits, ignored and removed where it is damaged."""

import asyncio
import os
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from qwenchat.chat.message import FinishReason
from qwenchat.chat.ports import Generation
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.protocol import Lora
from qwenchat.engines.local.saved_kv import SavedKV
from tests.fakes import ggufs
from tests.fakes.engines import LIKELIEST, answer, engine, questions, read, request

LONG = "word " * 3000


async def test_a_saved_session_is_resumed_without_reading_it_again(tiny: Path, tmp_path: Path) -> None:
    turns = questions("word " * 400)
    limit = replace(LIKELIEST, max_tokens=10)
    async with engine(tiny, tmp_path) as made:
        first = await answer(made, turns, limit, cache_key="s1")
        await answer(made, questions("another"), limit, cache_key="s2")
        back = await answer(made, turns, limit, cache_key="s1")
    assert back.usage.cached_tokens == back.usage.prompt_tokens - 1
    assert back.text == first.text
    turns += [Turn("assistant", first.text, first.ids), Turn("user", "more")]
    async with engine(tiny, tmp_path) as made:
        resumed = await answer(made, turns, limit, cache_key="s1")
    assert resumed.usage.cached_tokens >= first.usage.prompt_tokens + first.usage.completion_tokens - 1
    async with engine(tiny, tmp_path, identity="another file") as made:
        other = await answer(made, turns, limit, cache_key="s1")
    assert other.usage.cached_tokens == 0
    assert other.text == resumed.text


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "sidecar"])
async def test_a_damaged_saved_session_is_ignored_and_removed(damage: str, tiny: Path, tmp_path: Path) -> None:
    turns, limit = questions("word " * 400), Sampling(temperature=0.0, max_tokens=10)
    async with engine(tiny, tmp_path) as made:
        first = await answer(made, turns, limit, cache_key="s1")
    (state,) = (tmp_path / "kv").glob("*.kv")
    data = bytearray(state.read_bytes())
    if damage == "sidecar":
        state.with_suffix(".json").write_text("{}")
    elif damage == "flip":
        data[len(data) // 2] ^= 255
    if damage in ("cut", "empty"):
        del data[0 if damage == "empty" else -100 :]
    state.write_bytes(data)
    async with engine(tiny, tmp_path, kv_limit=0) as made:
        again = await answer(made, turns, limit, cache_key="s1")
    assert again.usage.cached_tokens == 0
    assert again.text == first.text
    assert not list((tmp_path / "kv").iterdir())


@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        ({"n_ctx": 8192}, True),
        ({"n_ctx": 1024}, True),
        ({"n_ctx": 512}, False),
        ({"yarn_factor": 2.0, "native_ctx": 2048}, False),
        ({"kv_type": "q8_0"}, False),
        ({"loras": True}, False),
        ({"loras": True, "scale": 2.0}, False),
    ],
    ids=str,
)
async def test_a_saved_session_is_only_read_where_it_fits(
    changed: dict[str, Any], fits: bool, tiny: Path, models: Path, tmp_path: Path
) -> None:
    """A state that fits is read; what would change a single number in it is never read, and the answer is right."""
    plan = dict(changed)
    if plan.pop("loras", False):
        lora = ggufs.write_lora(models / "kv-lora.gguf")
        plan["loras"] = (Lora(os.fsencode(lora), plan.pop("scale", 1.0)),)
    turns, limit = questions("word " * 100), replace(LIKELIEST, max_tokens=10)
    long = [*turns, Turn("assistant", "Hello " * 150), Turn("user", "again")]
    async with engine(tiny, tmp_path / "a", n_ctx=4096) as made:
        first = await answer(made, turns, limit, cache_key="s1")
        if "n_ctx" in changed:
            await answer(made, long, limit, cache_key="s1")
        used = first.usage.prompt_tokens
    async with engine(tiny, tmp_path / "a", **plan) as made:
        resumed = await answer(made, turns, limit, cache_key="s1")
    async with engine(tiny, tmp_path / "b", **plan) as made:
        fresh = await answer(made, turns, limit)
    assert resumed.usage.cached_tokens == (used - 1 if fits else 0)
    assert (resumed.text, resumed.ids) == (fresh.text, fresh.ids)


async def test_a_file_that_another_chat_began_with_is_not_read_again(tiny: Path, tmp_path: Path) -> None:
    short = replace(LIKELIEST, max_tokens=5)
    async with engine(tiny, tmp_path) as made:
        first = await answer(made, questions("word " * 300 + "What is it?"), short, cache_key="s1")
        await answer(made, questions("else " * 300), short, cache_key="s2")
    async with engine(tiny, tmp_path) as made:
        other = await answer(made, questions("word " * 300 + "Who wrote it?"), short, cache_key="s3")
        private = await answer(made, questions("else " * 300), short)
    async with engine(tiny, tmp_path / "fresh") as made:
        fresh = await answer(made, questions("word " * 300 + "Who wrote it?"), short)
    assert other.usage.cached_tokens > first.usage.prompt_tokens - 30
    assert other.ids == fresh.ids
    assert private.usage.cached_tokens < 30


async def test_the_smallest_file_serves_where_several_begin_alike(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, short = Turn("system", "rule " * 100), replace(LIKELIEST, max_tokens=5)
    read: list[Path] = []
    monkeypatch.setattr(SavedKV, "check", lambda self, path: read.append(path))
    async with engine(tiny, tmp_path) as made:
        await answer(made, [system, Turn("user", "Tell " * 300)], short, cache_key="long")
        await answer(made, [system, Turn("user", "Hello")], short, cache_key="short")
    smallest = min((tmp_path / "kv").glob("*.kv"), key=lambda file: file.stat().st_size)
    async with engine(tiny, tmp_path) as made:
        await answer(made, [system, Turn("user", "And you")], short, cache_key="new")
    assert read == [smallest]


async def test_a_chat_too_long_for_this_window_stays_saved(tiny: Path, tmp_path: Path) -> None:
    short = replace(LIKELIEST, max_tokens=5)
    async with engine(tiny, tmp_path) as made:
        await answer(made, questions("word " * 400), short, cache_key="long")
    (saved,) = (tmp_path / "kv").glob("*.kv")
    async with engine(tiny, tmp_path, n_ctx=512) as made:
        again = await answer(made, questions("word " * 60), short, cache_key="other")
    assert again.usage.cached_tokens == 0 and saved.exists()


async def test_tools_are_not_read_again_after_a_question_without_them(tiny: Path, tmp_path: Path) -> None:
    with_tools, short = Turn("system", "tool " * 150), replace(LIKELIEST, max_tokens=5)
    async with engine(tiny, tmp_path) as made:
        first = await answer(made, [with_tools, Turn("user", "Call")], short, cache_key="s")
        await answer(made, questions("Answer"), short, cache_key="s")
        second = await answer(made, [with_tools, Turn("user", "Call again")], short, cache_key="s")
    assert second.usage.cached_tokens > first.usage.prompt_tokens - 30


async def test_nothing_of_a_deleted_chat_stays(tiny: Path, tmp_path: Path) -> None:
    short = replace(LIKELIEST, max_tokens=5)
    sessions = {"s1", "s2"}
    saved, other = SavedKV(tmp_path / "kv", 1 << 30, sessions.__contains__), SavedKV(tmp_path / "kv", 0)
    async with engine(tiny, tmp_path, saved=saved) as made:
        for key in ("s1", "s2"):
            await answer(made, questions("word " * 300), short, cache_key=key)
        sessions.clear()  # another program deletes both, the second of which is still in the worker's KV cache
        other.forget_session("s1")
        assert not list(saved.folder.iterdir())
        other.forget_session("s2")
    assert not list(saved.folder.iterdir())


async def test_one_that_is_cancelled_while_the_kv_cache_is_saved_for_it_generates_nothing(
    endless: ggufs.Chain, tmp_path: Path
) -> None:
    """It is cancelled before the worker knows of it, and the worker is asked for other things between the two."""
    short, long = replace(LIKELIEST, max_tokens=5), questions("word " * 300)
    running, cancelling, loop = list[Generation](), list[Future[None]](), asyncio.get_running_loop()

    class Saved(SavedKV, frozen=True):
        def temporary(self, cache_key: str, path: Path) -> Path | None:
            for each in running:
                cancelling.append(asyncio.run_coroutine_threadsafe(each.cancel(), loop))
                cancelling[-1].result()
            return super().temporary(cache_key, path)

    async with engine(endless.path, tmp_path, saved=Saved(tmp_path / "kv", 1 << 30)) as made:
        await answer(made, long, short, cache_key="one")
        running.append(made.generate(request(questions("else"), LIKELIEST, cache_key="two")))
        stopped = await read(running[0])
        assert cancelling and stopped.finished.reason is FinishReason.CANCELLED and not stopped.ids
        again = await answer(made, long, short, cache_key="one")
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1
