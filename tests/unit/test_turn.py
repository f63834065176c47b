"""A turn keeps the question before it asks, the answer as it comes, and says how it ended."""

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from msgspec import structs

from qwenchat.chat.events import Finished, PartGrew, Trimmed, TurnEnded, TurnEvent, TurnStarted
from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.message import Attachment, Message, Part, Role, Status
from qwenchat.chat.ports import Mode, ModelInfo, SessionStore, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling, qwen2_defaults
from qwenchat.chat.session import Session, WaitingQuestion
from qwenchat.chat.turn import RunningTurn, Turns
from qwenchat.errors import CannotLoad, EngineDied, Interrupted, PromptTooLong, StoreError, WrongUse
from qwenchat.sessions.store import Store
from tests.fakes.scripted import ScriptedEngine


def counting(start: int = 0) -> Iterator[int]:
    while True:
        start += 1
        yield start


def turns_with(engine: ScriptedEngine, store: SessionStore | None = None) -> Turns:
    ids, ticks = counting(), counting(1000)
    store = store or MemoryStore()
    store.create(Session(id="s", created=0, updated=0))
    return Turns(store=store, engine=engine, new_id=lambda: f"m{next(ids):03}", clock=lambda: next(ticks))


async def run(events: RunningTurn, each: Callable[[TurnEvent], object] = lambda event: None) -> list[TurnEvent]:
    seen: list[TurnEvent] = []
    async for event in events:
        seen.append(event)
        each(event)
    return seen


async def test_a_turn_keeps_question_and_answer() -> None:
    turns = turns_with(ScriptedEngine(["Hello there, you."]))
    seen = await run(turns.ask("s", "Hi", [Attachment("a.txt", "text/plain", b"A")]))
    assert isinstance(seen[0], TurnStarted) and isinstance(seen[-1], TurnEnded)
    session = turns.store.session("s")
    question, answer = turns.store.branch(session.leaf)
    assert (question.text, question.attachments[0].text, session.title) == ("Hi", "A", "Hi")
    assert (answer.text, answer.status) == ("Hello there, you.", Status.COMPLETE)
    assert answer == seen[-1].answer
    assert answer.token_ids == tuple(map(ord, "Hello there, you."))
    assert answer.sampling is not None and answer.sampling.top_k == 20


async def test_the_question_is_kept_before_the_engine_is_asked() -> None:
    store = MemoryStore()
    engine = ScriptedEngine(["x"])
    turns = turns_with(engine, store)

    def check(event: TurnEvent) -> None:
        if isinstance(event, TurnStarted):
            assert not engine.requests
            kept = store.branch(event.answer.id)
            assert [message.role for message in kept] == [Role.USER, Role.ASSISTANT]

    await run(turns.ask("s", "Hi"), check)
    assert engine.requests


async def test_a_schema_that_can_not_be_followed_is_refused_before_the_question_is_kept() -> None:
    engine = ScriptedEngine(["x"])
    turns = turns_with(engine)
    refused = Sampling(schema=engine.refused_schema)
    with pytest.raises(WrongUse):
        await run(turns.ask("s", "Hi", sampling=refused))
    turns.store.update(structs.replace(turns.store.session("s"), sampling=refused))
    with pytest.raises(WrongUse):
        await run(turns.ask("s", "Hi"))
    assert turns.store.session("s").leaf is None and not engine.requests


async def test_an_answer_that_the_engine_will_not_continue_stays_as_it_was() -> None:
    class Unable(ScriptedEngine):
        async def count(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> TokenCounts:
            if mode is Mode.CONTINUE:
                raise WrongUse("It can't continue.", "Ask again.")
            return await super().count(turns, mode)

    engine = Unable(["one two three"], delay_s=0.01)
    turns = turns_with(engine)
    turn = turns.ask("s", "Count")
    async for event in turn:
        if isinstance(event, PartGrew):
            await turn.cancel()
    stopped = turns.store.branch(turns.store.session("s").leaf)[-1]
    assert stopped.status is Status.STOPPED and stopped.text
    with pytest.raises(WrongUse):
        await run(turns.continue_answer(stopped))
    assert turns.store.branch(stopped.id)[-1] == stopped


async def test_stopping_keeps_the_text() -> None:
    engine = ScriptedEngine(["one two three four"])
    turns = turns_with(engine)
    seen = []
    turn = turns.ask("s", "Count")
    async for event in turn:
        seen.append(event)
        if isinstance(event, PartGrew):
            await turn.cancel()
    end = seen[-1]
    assert isinstance(end, TurnEnded) and end.answer.status in (Status.STOPPED, Status.COMPLETE)
    assert turns.store.branch(end.answer.id)[-1].text == end.answer.text


async def test_leaving_the_events_stops_the_turn_and_keeps_the_text() -> None:
    engine = ScriptedEngine(["one " * 1000], delay_s=0.001)
    turns = turns_with(engine)
    events = turns.ask("s", "Count")
    async for event in events:
        if isinstance(event, PartGrew):
            break
    await events.aclose()
    answer = turns.store.branch(turns.store.session("s").leaf)[-1]
    assert answer.status is Status.STOPPED
    assert answer.text.startswith("one ")
    await run(turns_again(turns).ask("s", "Hi"))


async def until_text(events: RunningTurn) -> None:
    """Read up to the first words and leave."""
    async for event in events:
        if isinstance(event, PartGrew):
            break
    await events.aclose()


async def test_an_answer_cut_short_keeps_whose_words_they_are() -> None:
    turns = turns_with(ScriptedEngine(["one " * 1000, " and on", "fine"], delay_s=0.001))
    await until_text(turns.ask("s", "Count"))
    cut = turns.store.branch(turns.store.session("s").leaf)[-1]
    assert (cut.status, cut.model, cut.model_file) == (Status.STOPPED, "guide", "0" * 32)
    assert cut.sampling is not None and cut.sampling.top_k == 20
    await run(turns.continue_answer(cut))  # the same model: no variant beside it
    assert turns.store.branch(cut.id)[-1].text == cut.text + " and on"
    assert turns.store.tree("s").variants(cut.id) == [turns.store.branch(cut.id)[-1]]


async def test_a_variant_cut_short_is_stopped_and_what_it_carries_on_stays() -> None:
    turns = turns_with(ScriptedEngine(["first"]))
    await run(turns.ask("s", "Q"))
    first = turns.store.branch(turns.store.session("s").leaf)[-1]
    other = ScriptedEngine(["more " * 1000], file="1" * 32, delay_s=0.001)
    await until_text(
        Turns(store=turns.store, engine=other, new_id=turns.new_id, clock=turns.clock).continue_answer(first)
    )
    kept, variant = turns.store.tree("s").variants(first.id)
    assert kept == first
    assert (variant.status, variant.model_file) == (Status.STOPPED, "1" * 32)
    assert variant.text.startswith("firstmore")


async def test_an_answer_interrupted_before_its_first_word_keeps_its_model() -> None:
    class Interrupting(ScriptedEngine):
        async def count(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> TokenCounts:
            raise Interrupted("stopped")

    turns = turns_with(Interrupting())
    with pytest.raises(Interrupted):
        await run(turns.ask("s", "Q"))
    answer = turns.store.branch(turns.store.session("s").leaf)[-1]
    assert (answer.status, answer.model_file) == (Status.STOPPED, "0" * 32)


def turns_again(turns: Turns) -> Turns:
    return Turns(store=turns.store, engine=ScriptedEngine(), new_id=turns.new_id, clock=turns.clock)


async def test_being_cancelled_twice_still_keeps_the_answer() -> None:
    began, go_on = threading.Event(), threading.Event()

    class SlowStore(MemoryStore):
        def append(self, message_id: str, fragments: Sequence[Part]) -> None:
            began.set()
            assert go_on.wait(10)
            super().append(message_id, fragments)

    store = SlowStore()
    turns = turns_with(ScriptedEngine(["one " * 1000], delay_s=0.001), store)
    reading = asyncio.create_task(run(turns.ask("s", "Count")))
    await asyncio.to_thread(began.wait, 10)
    for _again in range(2):
        reading.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    answer = store.branch(store.session("s").leaf)[-1]
    assert answer.status is Status.STOPPED
    assert answer.text.startswith("one ")


async def test_being_cancelled_while_the_end_is_kept_loses_nothing() -> None:
    ending, go_on = asyncio.Event(), threading.Event()

    class SlowStore(MemoryStore):
        def append(self, message_id: str, fragments: Sequence[Part]) -> None:
            assert go_on.wait(10)
            super().append(message_id, fragments)

    store = SlowStore()
    turns = turns_with(ScriptedEngine(["one two three"]), store)

    def look(event: TurnEvent) -> None:
        if isinstance(event, Finished):
            ending.set()

    reading = asyncio.create_task(run(turns.ask("s", "Count"), look))
    await ending.wait()
    reading.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    answer = store.branch(store.session("s").leaf)[-1]
    assert (answer.text, answer.status) == ("one two three", Status.COMPLETE)


async def test_leaving_before_the_engine_is_asked_ends_the_answer() -> None:
    turns = turns_with(ScriptedEngine())
    events = turns.ask("s", "Count")
    assert isinstance(await anext(events), TurnStarted)
    await events.aclose()
    answer = turns.store.branch(turns.store.session("s").leaf)[-1]
    assert (answer.text, answer.status) == ("", Status.STOPPED)


async def test_being_cancelled_while_a_variant_is_added_still_ends_it() -> None:
    began, go_on = threading.Event(), threading.Event()

    class SlowStore(MemoryStore):
        slow = False

        def add(self, *messages: Message) -> None:
            if self.slow:
                began.set()
                assert go_on.wait(10)
            super().add(*messages)

    store = SlowStore()
    turns = turns_with(ScriptedEngine(["first"]), store)
    await run(turns.ask("s", "Q"))
    first = store.branch(store.session("s").leaf)[-1]
    store.slow = True
    other = Turns(store=store, engine=ScriptedEngine(file="1" * 32), new_id=turns.new_id, clock=turns.clock)
    reading = asyncio.create_task(run(other.continue_answer(first)))
    await asyncio.to_thread(began.wait, 10)
    reading.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    kept, variant = store.tree("s").variants(first.id)
    assert (kept, variant.text, variant.status) == (first, "first", Status.STOPPED)


async def test_leaving_a_turn_that_has_failed_is_quiet() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    turns = turns_with(ScriptedEngine(["one DIE"], die="DIE"))
    events = turns.ask("s", "Count")
    saved = await anext(events)
    assert isinstance(saved, TurnStarted)
    await anext(events)
    async with asyncio.timeout(10):
        while turns.store.branch(saved.answer.id)[-1].status is Status.STREAMING:
            await asyncio.sleep(0)
    for _step in range(5):
        await asyncio.sleep(0)
    await events.aclose()
    del events
    gc.collect()
    assert complaints == []


async def test_a_dead_engine_leaves_a_failed_answer_with_its_text() -> None:
    turns = turns_with(ScriptedEngine(["one two DIE three"], die="DIE"))
    with pytest.raises(EngineDied):
        await run(turns.ask("s", "Count"))
    answer = turns.store.branch(turns.store.session("s").leaf)[-1]
    assert (answer.text, answer.status) == ("one two ", Status.FAILED)
    assert answer.error


async def test_variants_and_continuing() -> None:
    turns = turns_with(ScriptedEngine(["first", "second", "third", " and on"]))
    await run(turns.ask("s", "Q"))
    question, first = turns.store.branch(turns.store.session("s").leaf)
    await run(turns.regenerate(question))
    edited = WaitingQuestion(id="edited", session="s", follows=question.parent, text="Q2", created=turns.clock())
    turns.store.enqueue(edited)
    await run(turns.ask_waiting(edited))
    assert turns.store.waiting("s") == []
    tree = turns.store.tree("s")
    assert [m.text for m in tree.variants(first.id)] == ["first", "second"]
    assert [m.text for m in tree.variants(question.id)] == ["Q", "Q2"]
    await run(turns.continue_answer(first))
    carried = turns.store.branch(first.id)[-1]
    assert carried.text == "first and on"
    assert carried.token_ids == tuple(map(ord, "first and on"))
    assert carried.status is Status.COMPLETE


async def test_another_model_gets_words_for_tokens_and_continues_beside() -> None:
    turns = turns_with(ScriptedEngine(["first"]))
    await run(turns.ask("s", "Q"))
    first = turns.store.branch(turns.store.session("s").leaf)[-1]
    other = ScriptedEngine([" and on"], file="1" * 32)
    others = Turns(store=turns.store, engine=other, new_id=turns.new_id, clock=turns.clock)
    seen = await run(others.continue_answer(first))
    assert other.requests[0].turns[-1].token_ids == ()
    assert turns.store.branch(first.id)[-1] == first
    end = seen[-1]
    assert isinstance(end, TurnEnded) and end.answer.id != first.id
    assert turns.store.branch(end.answer.id)[-1].text == "first and on"
    assert end.answer.token_ids == turns.store.branch(end.answer.id)[-1].token_ids == ()


async def test_a_continuation_that_can_not_begin_leaves_the_answer_as_it_was() -> None:
    turns = turns_with(ScriptedEngine(["first"]))
    await run(turns.ask("s", "Q"))
    first = turns.store.branch(turns.store.session("s").leaf)[-1]

    class Broken(ScriptedEngine):
        async def load(self, progress: object = None) -> ModelInfo:
            raise CannotLoad("no")

    with pytest.raises(CannotLoad):
        await run(
            Turns(store=turns.store, engine=Broken(), new_id=turns.new_id, clock=turns.clock).continue_answer(first)
        )
    assert turns.store.branch(first.id)[-1] == first


async def test_an_answer_that_never_began_can_be_carried_on() -> None:
    turns = turns_with(ScriptedEngine(["DIE"], die="DIE"))
    with pytest.raises(EngineDied):
        await run(turns.ask("s", "Q"))
    empty = turns.store.branch(turns.store.session("s").leaf)[-1]
    engine = ScriptedEngine(["begun"], file="1" * 32)  # not a word came, so any model may
    await run(Turns(store=turns.store, engine=engine, new_id=turns.new_id, clock=turns.clock).continue_answer(empty))
    assert [turn.role for turn in engine.requests[0].turns] == ["user"]
    assert engine.requests[0].mode is Mode.ANSWER  # not the question's end
    assert turns.store.branch(empty.id)[-1].text == "begun"


async def test_an_answer_that_never_began_is_not_shown_to_the_model() -> None:
    turns = turns_with(ScriptedEngine(["DIE"], die="DIE"))
    with pytest.raises(EngineDied):
        await run(turns.ask("s", "Q1"))
    engine = ScriptedEngine(["fine"])
    await run(Turns(store=turns.store, engine=engine, new_id=turns.new_id, clock=turns.clock).ask("s", "Q2"))
    assert [turn.text for turn in engine.requests[0].turns] == ["Q1", "Q2"]


async def test_a_session_takes_one_turn_at_a_time() -> None:
    turns = turns_with(ScriptedEngine())
    with turns.store.streaming("s"), pytest.raises(StoreError):
        await run(turns.ask("s", "Hi"))


async def test_oldest_turns_are_left_out_and_reported() -> None:
    engine = ScriptedEngine(["a" * 300], n_ctx=2048)
    turns = turns_with(engine)
    reports = []
    for _round in range(8):
        reports += [e for e in await run(turns.ask("s", "q" * 100)) if isinstance(e, Trimmed)]
    assert reports
    sent = engine.requests[-1].turns
    assert sent[0].role == "user"
    assert (await engine.count(sent)).total <= 2048 - 512


@pytest.mark.parametrize("on_disk", [False, True])
async def test_a_question_that_can_not_fit_leaves_nothing(on_disk: bool, tmp_path: Path) -> None:
    store = Store(tmp_path / "chats.db") if on_disk else MemoryStore()
    turns = turns_with(ScriptedEngine(n_ctx=1024), store)
    file = Attachment("a.txt", "text/plain", b"A")
    for _round in range(2):  # in an empty session, and in one with messages
        before = store.session("s")
        turn = turns.ask("s", "q" * 5000, [file])
        with pytest.raises(PromptTooLong, match=r"question is too long: 5,0.* 1,024 less 256"):
            await run(turn)
        assert turn.answer is None
        assert store.session("s") == before
        assert len(store.tree("s")) == len(store.branch(before.leaf))
        await run(turns.ask("s", "Hi"))
    question, answer = store.branch(store.session("s").leaf)[:2]
    await run(turns.continue_answer(answer, Sampling(max_tokens=5)))  # it fits, and so the tree is as it was
    small = Turns(store=store, engine=ScriptedEngine(n_ctx=16), new_id=turns.new_id, clock=turns.clock)
    tree, before = [*store.tree("s")], store.session("s")
    for refused in (small.regenerate(question), small.continue_answer(store.branch(answer.id)[-1])):
        with pytest.raises(PromptTooLong):
            await run(refused)
        assert ([*store.tree("s")], store.session("s")) == (tree, before)
    if isinstance(store, Store):
        assert not store.search.find("qqq").hits
        store.close()


async def test_a_system_prompt_that_can_not_fit_is_named() -> None:
    turns = turns_with(ScriptedEngine(n_ctx=1024))
    turns.store.update(Session(id="s", created=0, updated=0, system="s" * 2000))
    with pytest.raises(PromptTooLong, match=r"system prompt is too long: 2,004 tokens.*takes 2,010 tokens"):
        await run(turns.ask("s", "Hi"))
    with pytest.raises(PromptTooLong, match=r"question is too long: 3,004 tokens.*takes 5,008 tokens"):
        await run(turns.ask("s", "q" * 3000))


async def test_a_slow_reader_does_not_delay_saving() -> None:
    store = MemoryStore()
    turns = turns_with(ScriptedEngine(["word " * 20], delay_s=0.001), store)
    events = turns.ask("s", "Hi")
    saved = await anext(events)
    assert isinstance(saved, TurnStarted)
    await anext(events)  # the pump runs from here on; nothing more is read
    async with asyncio.timeout(10):
        while store.branch(saved.answer.id)[-1].status is Status.STREAMING:
            await asyncio.sleep(0)
    assert store.branch(saved.answer.id)[-1].text == "word " * 20
    await run(events)


async def test_limits_of_the_turn_win_over_the_session() -> None:
    turns = turns_with(ScriptedEngine(["one two three"]))
    seen = await run(turns.ask("s", "Hi", sampling=Sampling(max_tokens=5)))
    finished = [event for event in seen if isinstance(event, Finished)]
    assert finished[0].reason == "length"
    end = seen[-1]
    assert isinstance(end, TurnEnded) and end.answer.status is Status.TRUNCATED


@pytest.mark.parametrize(
    ("turn", "session", "own", "used"),
    [
        (Sampling(), Sampling(), Sampling(), 1.0),
        (Sampling(repeat_penalty=1.2), Sampling(repeat_penalty=1.3), Sampling(repeat_penalty=1.4), 1.2),
        (Sampling(), Sampling(repeat_penalty=1.3), Sampling(repeat_penalty=1.4), 1.3),
        (Sampling(), Sampling(), Sampling(repeat_penalty=1.4), 1.4),
    ],
)
async def test_nothing_is_penalised_under_a_schema_unless_the_user_says_so(
    turn: Sampling, session: Sampling, own: Sampling, used: float
) -> None:
    engine = ScriptedEngine(["{}"])
    turns = structs.replace(turns_with(engine), settings=own)
    turns.store.update(structs.replace(turns.store.session("s"), sampling=session))
    await run(turns.ask("s", "Hi", sampling=structs.replace(turn, schema="{}")))
    await run(turns.ask("s", "Hi", sampling=turn))
    under, without = (request.sampling.repeat_penalty for request in engine.requests)
    assert under == used
    assert without == (used if used != 1.0 else qwen2_defaults(24, 896).repeat_penalty)
