"""A model that one program has loaded and others use: what is shared, whose turn it is, what hostile programs do."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from msgspec import structs

from qwenchat.chat.events import Delta, Prefilling
from qwenchat.chat.message import FinishReason
from qwenchat.chat.ports import Mode
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.tools import ToolSpec
from qwenchat.engines.local import attached, protocol
from qwenchat.engines.local.attached import AttachedWorker, SharedModel, shared_models
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.local.loaded_model import PlannedModel
from qwenchat.engines.local.protocol import FRAME, Cancel, Count, Done, Generate, Load, PlainText, TokenIds
from qwenchat.engines.local.saved_kv import SavedKV
from qwenchat.engines.local.sharing import LARGEST_FRAME, MOST_PROGRAMS, MOST_REQUESTS, sharing
from qwenchat.errors import CannotLoad, EngineDied, QueueFull
from qwenchat.paths import Paths
from tests.fakes import ggufs
from tests.fakes.engines import GREEDY, LIKELIEST, answer, engine, planned, questions, read, request
from tests.fakes.ggufs import Chain
from tests.fakes.sharing import Alone, shared_engine, sharing_process

LIMIT_S = 60
"""No wait ends before the machine allows; without a bound, none of them ends at all."""


@pytest.fixture
def run(home: Path) -> Path:
    return home / "run"


async def attach() -> tuple[AttachedWorker, PlannedModel] | None:
    """Attach to whatever is shared."""
    async with aclosing(shared_models(Paths.find(os.environ).runtime)) as found:
        async for worker in found:
            plan = worker.shared.plan
            made = planned(Path(os.fsdecode(plan.path)))
            return worker, structs.replace(made, plan=plan)
    return None


@asynccontextmanager
async def client(path: Path, folder: Path) -> AsyncIterator[LocalEngine]:
    """Run an engine that attaches where it can."""
    made = LocalEngine(
        lambda _devices: planned(path), folder / "own.log", SavedKV(folder / "own", 1 << 30), attach=attach
    )
    try:
        yield made
    finally:
        await made.close()


async def test_an_answer_is_the_same_and_no_worker_is_started(chain: Chain, tmp_path: Path) -> None:
    async with shared_engine(chain.path, tmp_path) as owner, client(chain.path, tmp_path) as made:
        before = {child.pid for child in psutil.Process().children()}
        info = await made.load()
        got = await answer(made, questions("hi"), cache_key="chat")
        counts = await made.count(questions("hi"))
        alone = await answer(owner, questions("hi"))
        assert {child.pid for child in psutil.Process().children()} == before
        assert info.is_shared and info.load_s == 0 and made.loaded is None
    assert (got.text, got.ids) == (alone.text, alone.ids) and got.ids == chain.ids
    assert counts.total == got.usage.prompt_tokens and counts.exact
    assert not (tmp_path / "own").exists() and not (tmp_path / "own.log").exists()


async def test_all_that_an_engine_does_is_done(tiny: Path, tmp_path: Path) -> None:
    tool = ToolSpec(
        name="add", description="", parameters='{"type": "object", "properties": {"x": {"type": "integer"}}}'
    )
    bound = Sampling(temperature=1.0, seed=1, max_tokens=40, schema='{"enum": ["yes", "no"]}')
    async with shared_engine(tiny, tmp_path) as owner, client(tiny, tmp_path) as made:
        for each in (owner, made):
            assert (await answer(each, questions("?"), bound)).text in ('"yes"', '"no"')
            turns = [Turn("system", "", tools=(tool,)), Turn("user", "add")]
            assert (await answer(each, turns, structs.replace(LIKELIEST, max_tokens=8))).usage.completion_tokens
            part = [*questions("go"), Turn("assistant", "", (5, 6, 7))]
            assert (await answer(each, part, structs.replace(GREEDY, max_tokens=3), mode=Mode.CONTINUE)).ids
        likely = made.generate(request(questions("go"), structs.replace(LIKELIEST, max_tokens=2), chances=3))
        assert all(len(each) == 3 for delta in (await read(likely)).deltas for each in delta.chances)


async def test_requests_of_all_programs_wait_in_one_line(endless: Chain, tmp_path: Path) -> None:
    short = structs.replace(GREEDY, max_tokens=5)
    async with shared_engine(endless.path, tmp_path, n_ctx=2048) as owner, client(endless.path, tmp_path) as made:
        await made.load()
        first = owner.generate(request(questions("go"), structs.replace(GREEDY, max_tokens=200)))
        await anext(first)
        second = asyncio.create_task(answer(made, questions("go"), short))
        async for _event in first:
            assert not second.done()
        assert (await second).ids
        await asyncio.gather(*(answer(each, questions("go"), short) for each in (owner, made) * 4))


class Full(Alone):
    """A program in which too many requests wait."""

    def turn(self) -> AbstractAsyncContextManager[object]:
        raise QueueFull("Too many requests are waiting.")


async def test_what_the_owner_refuses_is_said(tiny: Path, tmp_path: Path, run: Path) -> None:
    async with engine(tiny, tmp_path, n_ctx=512) as owner, client(tiny, tmp_path) as made:
        await owner.load()
        async with sharing(run, Full(owner)):
            with pytest.raises(EngineDied, match="Too many requests are waiting"):
                await answer(made, questions("go"), GOOD)


@pytest.mark.parametrize("when", [Prefilling, Delta])
async def test_a_request_is_cancelled(when: type, endless: Chain, tmp_path: Path) -> None:
    async with shared_engine(endless.path, tmp_path, n_ctx=8192) as owner, client(endless.path, tmp_path) as made:
        running = made.generate(request(questions("long " * 500), GREEDY))
        async for event in running:
            if isinstance(event, when):
                await running.cancel()
        waiting_for = owner.generate(request(questions("go"), GREEDY))
        await anext(waiting_for)
        waiting = made.generate(request(questions("go"), GREEDY))
        while not made._worker or not made._worker._waiting:
            await asyncio.sleep(0)
        await waiting.cancel()
        assert (await read(waiting)).finished.reason is FinishReason.CANCELLED
        await waiting_for.cancel()
        await read(waiting_for)


async def test_a_request_that_is_cancelled_as_soon_as_it_is_sent_ends(shared_tiny: LocalEngine) -> None:
    """Its owner reads both at once, before anything was done for it."""
    found = await attach()
    assert found
    link, _plan = found
    job = Generate(link.number(), [PlainText("x")], GOOD)
    asking = asyncio.create_task(link.ask_once(job))
    await asyncio.sleep(0)
    link.cancel(job.id)
    assert isinstance(reply := await asking, Done) and reply.reason is FinishReason.CANCELLED
    await link.close()


async def test_one_that_the_owner_fails_to_check_ends(
    shared_tiny: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_sampling: Sampling) -> None:
        raise OSError("no process can be started")

    monkeypatch.setattr(shared_tiny, "check", fails)
    found = await attach()
    assert found
    link, _plan = found
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(EngineDied):
            await link.ask_once(Generate(link.number(), [PlainText("x")], GOOD))
    await link.close()


async def test_a_program_that_leaves_is_cancelled(endless: Chain, tmp_path: Path) -> None:
    async with shared_engine(endless.path, tmp_path, n_ctx=8192) as owner, asyncio.timeout(LIMIT_S):
        for at_once in (True, False):
            async with client(endless.path, tmp_path) as made:
                running = made.generate(request(questions("go"), GREEDY))
                while not isinstance(await anext(running), Delta):
                    pass
                await made.close(at_once=at_once)
            assert (await answer(owner, questions("go"), structs.replace(GREEDY, max_tokens=3))).ids


async def test_when_the_owner_dies_the_answer_fails_and_the_next_is_made_here(endless: Chain, tmp_path: Path) -> None:
    with sharing_process(endless.path, tmp_path, "n_ctx=2048") as (owner, worker):
        async with client(endless.path, tmp_path) as made, asyncio.timeout(LIMIT_S):
            text = ""
            with pytest.raises(EngineDied, match="has ended"):
                async for event in made.generate(request(questions("Go"))):
                    if isinstance(event, Delta):
                        text += event.text
                        owner.kill()
            assert text.startswith("once")
            owner.wait(LIMIT_S)  # until then the system still takes connections for it
            again = await answer(made, questions("Go"), structs.replace(GREEDY, max_tokens=3))
            assert again.ids and made.loaded
        worker.wait(LIMIT_S)
    assert not [*Path(os.environ["QWENCHAT_HOME"], "run").glob("*.sock")]


async def test_a_model_that_is_unloaded_meanwhile_is_loaded_here(tiny: Path, tmp_path: Path) -> None:
    short = structs.replace(GREEDY, max_tokens=3)
    async with client(tiny, tmp_path) as made, shared_engine(tiny, tmp_path) as owner:
        await answer(made, questions("Go"), short)
        assert owner._worker and made._worker
        link = made._worker
        owner._worker.kill()
        await link.died.wait()
        await answer(made, questions("Go"), short)
        assert made.loaded and not (await made.load()).is_shared


async def test_a_model_that_is_unloaded_before_the_question_is_there(tiny: Path, tmp_path: Path) -> None:
    async with client(tiny, tmp_path) as made:
        async with shared_engine(tiny, tmp_path):
            await made.start()
        assert isinstance(made._begun, tuple)
        await made._begun[0].died.wait()
        await answer(made, questions("Go"), structs.replace(GREEDY, max_tokens=3))
        assert made.loaded


async def test_an_answer_that_must_be_repeatable_is_made_here_where_others_are_decoded_beside_it(
    tiny: Path, tmp_path: Path
) -> None:
    async with shared_engine(tiny, tmp_path, parallel=2), client(tiny, tmp_path) as made:
        await answer(made, questions("Go"), structs.replace(LIKELIEST, max_tokens=3))
        assert made.loaded is None
        await answer(made, questions("Go"), structs.replace(GREEDY, max_tokens=3))
        assert made.loaded


async def test_nothing_of_it_is_saved_by_the_owner(chain: Chain, tmp_path: Path) -> None:
    long = "word " * 300
    async with shared_engine(chain.path, tmp_path) as owner, client(chain.path, tmp_path) as made:
        await answer(owner, questions(long), cache_key="one")
        await answer(made, questions("secret " * 300), cache_key="private")
        saved = {path.name for path in (tmp_path / "kv").iterdir()}
        await answer(owner, questions(long), cache_key="two")
    assert len(saved) == 2  # the owner's own first chat, and what describes it
    assert len([*(tmp_path / "kv").glob("*.kv")]) == 2


async def test_who_may_connect(tiny: Path, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shared_engine(tiny, tmp_path):
        (path,) = run.iterdir()
        assert (run.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
        found = await attach()
        assert found
        await found[0].close()
        with monkeypatch.context() as another_user:
            another_user.setattr(os, "geteuid", lambda: 12345)
            assert await attach() is None
        run.chmod(0o750)
        assert await attach() is None
        run.chmod(0o700)
        with monkeypatch.context() as another_version:
            another_version.setattr(attached, "__version__", "0")
            assert await attach() is None


async def test_where_nothing_can_be_shared(tiny: Path, tmp_path: Path, run: Path) -> None:
    async with shared_engine(tiny, tmp_path) as owner:
        async with sharing(tmp_path / ("long" * 40), Alone(owner)) as is_possible:
            assert not is_possible
        open_folder = tmp_path / "open"
        open_folder.mkdir(mode=0o755)
        async with sharing(open_folder, Alone(owner)) as is_possible:
            assert not is_possible
    (run / "a.sock").write_text("no socket")
    assert await attach() is None


async def test_a_socket_left_behind_is_removed(tiny: Path, tmp_path: Path, run: Path) -> None:
    run.mkdir(parents=True, mode=0o700)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(run / "1-00.sock"))
    left.close()
    async with shared_engine(tiny, tmp_path):
        assert len([*run.iterdir()]) == 1
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(run / "1-00.sock"))
    left.close()
    assert await attach() is None and not [*run.iterdir()]


async def test_one_that_says_nothing_or_nonsense_is_passed_over(
    tiny: Path, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attached, "INTRODUCTION_S", 0.2)

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def nonsense(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FRAME.pack(1) + b"?")

    async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FRAME.pack(0xFFFFFFFF) + b"?" * 1000)

    async with shared_engine(tiny, tmp_path):
        servers = [
            await asyncio.start_unix_server(each, run / f"9-{each.__name__}.sock")
            for each in (silent, nonsense, endless)
        ]
        found = await attach()
        assert found
        await found[0].close()
        for server in servers:
            server.close()


def frame(message: Any) -> bytes:
    body = msgspec.msgpack.encode(message)
    return FRAME.pack(len(body)) + body


GOOD = Sampling(temperature=0.0, max_tokens=3)


async def hostile(run: Path, *sent: bytes) -> bytes:
    """Send bytes to whatever is shared, and return what comes back until it hangs up or has nothing to say."""
    (path,) = run.glob("*.sock")
    reader, writer = await asyncio.open_unix_connection(path)
    (length,) = FRAME.unpack(await reader.readexactly(FRAME.size))
    assert msgspec.msgpack.decode(await reader.readexactly(length), type=SharedModel).plan.n_ctx == 512
    for each in sent:
        writer.write(each)
    writer.write_eof()
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00",
        b"\xff\xff\xff\xff",
        FRAME.pack(LARGEST_FRAME + 1),
        FRAME.pack(1000) + b"half",
        FRAME.pack(3) + b"???",
        frame({"type": "SaveKV", "id": 1, "path": b"/tmp/x"}),
        frame({"type": "Generate", "id": "one"}),
        frame(Load(1, protocol.LoadPlan(path=b"/etc/passwd", identity="", n_ctx=1, threads=1))),
        frame(Cancel(77)) * 500,
        frame(Count(1, [])) * 3,
        frame(Count(1, [TokenIds((-1, 2**31 - 1, 5))])),
        b"".join(frame(Count(number, [PlainText("word " * 1000)])) for number in range(MOST_REQUESTS * 3)),
        frame(Generate(1, [], GOOD)),
        frame(Generate(1, [TokenIds((-5, 2**31 - 1))], GOOD)),
        frame(Generate(1, [PlainText("x " * 100_000)], GOOD)),
        frame(Generate(1, [PlainText("x")], Sampling(temperature=float("nan")))),
        frame(Generate(1, [PlainText("x")], Sampling(top_k=-(2**62)))),
        frame(Generate(1, [PlainText("x")], GOOD, chances=10**9)),
        frame(Generate(1, [PlainText("x")], GOOD, scored_parts=-(2**40))),
        frame(Generate(1, [PlainText("x")], Sampling(schema="{" * 10_000))),
        frame(Generate(2**63, [PlainText("x")], GOOD)),
    ],
    ids=range(21),
)
async def test_whatever_a_program_sends_the_owner_serves_on(sent: bytes, shared_tiny: LocalEngine, run: Path) -> None:
    async with asyncio.timeout(LIMIT_S):
        await hostile(run, sent)
        await hostile(run, sent[:-1])
        found = await attach()
        assert found
        assert isinstance(await found[0].ask_once(Count(found[0].number(), [PlainText("x")])), protocol.Counted)
        await found[0].close()
        assert (await answer(shared_tiny, questions("x"), GOOD)).ids


@pytest.fixture
async def shared_tiny(tiny: Path, tmp_path: Path) -> AsyncIterator[LocalEngine]:
    async with shared_engine(tiny, tmp_path, n_ctx=512) as made:
        pid = made.worker_pid
        yield made
        assert made.worker_pid == pid


async def test_connections_are_limited(shared_tiny: LocalEngine, run: Path) -> None:
    (path,) = run.glob("*.sock")
    held = [await asyncio.open_unix_connection(path) for _connection in range(MOST_PROGRAMS)]
    for reader, _writer in held:
        await reader.readexactly(FRAME.size)
    assert await attach() is None
    for _reader, writer in held:
        writer.close()
    async with asyncio.timeout(LIMIT_S):
        while not (found := await attach()):
            await asyncio.sleep(0)
        await found[0].close()


async def test_an_engine_whose_load_fails_can_still_be_closed(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    async with client(broken, tmp_path) as made:
        with pytest.raises(CannotLoad):
            await made.load()


async def test_a_changed_file_is_loaded_here(tmp_path: Path) -> None:
    path = ggufs.write_model(tmp_path / "model.gguf")
    short = structs.replace(GREEDY, max_tokens=2)
    async with shared_engine(path, tmp_path), client(path, tmp_path) as made:
        await answer(made, questions("x"), short)
        assert made.loaded is None
        made._attach = None  # who shares it still has the old file, which is not what is wanted
        os.utime(path, ns=(1, 1))
        await answer(made, questions("x"), short)
        assert made.loaded
