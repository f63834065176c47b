"""Reading with llama.cpp in its worker: what the chunks of a document share is prefilled once, and nothing is saved."""

from contextlib import aclosing
from pathlib import Path

from qwenchat.chat.events import Reading
from qwenchat.documents.levels.choice import Speed
from qwenchat.documents.levels.finding import find
from qwenchat.documents.levels.small_request import SmallRequests
from tests.fakes import ggufs
from tests.fakes.engines import engine
from tests.fakes.reading import OWNER, found, indexed, paragraphs

TEXT = paragraphs(f"In {year} the {thing} was sold." for year, thing in ((1801, "boat"), (1802, "mill"), (1803, "inn")))
SPEED = Speed(prefill_tps=100.0, decode_tps=10.0)


async def test_what_small_requests_share_is_prefilled_once(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path, threads=1) as here:
        requests = SmallRequests(engine=here, info=await here.load())
        shared = "Question: What was sold in the second year? " * 5
        chunks = ("The boat was sold.", "A mill was sold.", "A mill was sold.")
        replies = [await requests.ask("You read.", f"{shared}{chunk}", max_tokens=1) for chunk in chunks]
        alone = await requests.ask("You read.", chunks[0], max_tokens=1)
    first, second, third = (reply.usage for reply in replies)
    assert first.cached_tokens == 0
    assert second.cached_tokens >= first.prompt_tokens - alone.usage.prompt_tokens
    assert third.cached_tokens == third.prompt_tokens - 1


async def test_every_chunk_is_read_and_no_kv_cache_is_saved(tiny: Path, tmp_path: Path) -> None:
    index = indexed(TEXT)
    async with engine(tiny, tmp_path, threads=1) as here:
        passages, progress = await found(here, index, "What was sold?", room=1_500, level=2)
    assert progress[-1].done == progress[-1].total == 3
    assert [each.number for each in passages] == [1]
    assert not [*tmp_path.rglob("kv/**/*")]


async def test_leaving_stops_the_worker_and_the_next_reading_goes_on(endless: ggufs.Chain, tmp_path: Path) -> None:
    index = indexed(TEXT)
    async with engine(endless.path, tmp_path, n_ctx=8192, threads=1) as here:
        async with aclosing(find(here, index, index.owned(OWNER), "What was sold?", room=1_500, level=2)) as events:
            async for event in events:
                if isinstance(event, Reading) and event.total and event.done == 1:
                    break
        _passages, progress = await found(here, index, "What was sold?", room=1_500, level=2, speed=SPEED)
    assert [each.done for each in progress if each.total] == [1, 2, 3]
