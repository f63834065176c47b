"""The engine that can be timed: an answer after a timed run is the same, and a resumed session is not read again."""

from pathlib import Path

from msgspec.structs import replace

from qwenchat.chat.ports import Mode
from qwenchat.chat.prompt import Turn
from qwenchat.engines.local.bench import BenchEngine, BenchRun, random_tokens
from qwenchat.engines.local.saved_kv import SavedKV
from tests.fakes import ggufs
from tests.fakes.engines import LIKELIEST, answer, planned, questions


def bench_engine(path: Path, folder: Path) -> BenchEngine:
    return BenchEngine(lambda devices: planned(path), folder / "engine.log", SavedKV(folder / "kv", 1 << 30))


async def test_timed_runs_and_answers_go_together(chain: ggufs.Chain, tmp_path: Path) -> None:
    engine = bench_engine(chain.path, tmp_path)
    try:
        before = await answer(engine, questions("Hi"), cache_key="s")
        timed = await engine.measure(BenchRun(generate=8, depth=600), 2)
        after = await answer(engine, questions("Hi"), cache_key="s")
        model = await engine.benched_model()
    finally:
        await engine.close()
    assert before.text == after.text == chain.text
    assert after.usage.cached_tokens == 0  # what the timed run left in the cache was nobody's
    assert len(timed.speeds) == len(timed.nanoseconds) == 2 and timed.run.name == "tg8 @ d600"
    assert model.backend == "CPU" and model.ready.parameters > 0 and model.ready.description.startswith("qwen2")


async def test_a_resumed_session_finds_its_tokens(tiny: Path, tmp_path: Path) -> None:
    tokens = random_tokens(256, 400, seed=1)
    first = bench_engine(tiny, tmp_path)
    try:
        assert await first.first_token(tokens, "bench") > 0
    finally:
        await first.close()
    second = bench_engine(tiny, tmp_path)
    try:
        turns = [Turn("user", "", (*tokens, 1, 2, 3))]
        resumed = await answer(second, turns, replace(LIKELIEST, max_tokens=1), mode=Mode.COMPLETE, cache_key="bench")
    finally:
        await second.close()
    assert (resumed.usage.prompt_tokens, resumed.usage.cached_tokens) == (403, 400)
