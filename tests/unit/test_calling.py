"""A turn runs the calls of its answer, within limits, and the answer goes on with their results."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from qwenchat.chat.calling import ToolUse
from qwenchat.chat.events import Finished, PartGrew, TurnEnded, TurnEvent
from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.message import FinishReason, Message, Part, Status, Text, ToolCall, ToolResult
from qwenchat.chat.ports import Mode
from qwenchat.chat.prompt import Turn
from qwenchat.chat.session import Session
from qwenchat.chat.tools import REFUSED, ToolSpec
from qwenchat.chat.turn import RunningTurn, Turns
from tests.fakes.scripted import ALL_OF_LOCAL, ScriptedEngine

CLOCK = ToolSpec(name="clock", description="The time.", parameters='{"type": "object", "properties": {}}')


@dataclass
class Box:
    """Implements `Toolbox`: says noon, at once or when it may."""

    says: str = "12:00"
    may: asyncio.Event = field(default_factory=asyncio.Event)
    waits: bool = False
    is_error: bool = False
    fails: str = ""
    """Arguments with which a call fails."""
    took_ms: int = 5
    calls: list[ToolCall] = field(default_factory=list)
    specs: Sequence[ToolSpec] = (CLOCK,)

    async def run(self, call: ToolCall) -> ToolResult:
        self.calls.append(call)
        if self.waits:
            await self.may.wait()
        if call.arguments == self.fails:
            return ToolResult(call.id, call.name, "It failed.", is_error=True)
        text = self.says or f"result {len(self.calls)}"
        return ToolResult(call.id, call.name, text, self.is_error, took_ms=self.took_ms)


def turns_with(engine: ScriptedEngine, use: ToolUse | None, store: MemoryStore | None = None) -> Turns:
    numbers = iter(range(1, 1000))
    if store is None:
        store = MemoryStore()
        store.create(Session(id="s", created=0, updated=0))
    return Turns(store=store, engine=engine, new_id=lambda: f"m{next(numbers):03}", clock=lambda: 1, tools=use)


async def ended(turn: RunningTurn) -> tuple[Message, list[TurnEvent]]:
    events = [event async for event in turn]
    assert isinstance(events[-1], TurnEnded)
    return events[-1].answer, events


async def test_the_answer_goes_on_with_the_result() -> None:
    engine = ScriptedEngine(["Wait. call:clock:{}", "It is noon."])
    box = Box()
    answer, events = await ended(turns_with(engine, ToolUse(toolbox=box)).ask("s", "Time?"))
    before, call, result, after = answer.parts
    assert isinstance(before, Text) and before.text == "Wait. "
    assert isinstance(call, ToolCall) and (call.name, call.arguments) == ("clock", "{}") and call.token_ids
    assert result == ToolResult(call.id, "clock", "12:00", took_ms=5)
    assert isinstance(after, Text) and after.text == "It is noon."
    assert (answer.status, answer.finish_reason) == (Status.COMPLETE, FinishReason.STOP)
    first, second = engine.requests
    assert first.turns[0].tools == (CLOCK,) and first.mode is Mode.ANSWER
    assert second.turns[:-1] == first.turns and second.mode is Mode.CONTINUE
    assert second.turns[-1].parts == (before, call, result)
    assert answer.usage and answer.usage.completion_tokens == len("Wait. call:clock:{}It is noon.")
    assert [event.index for event in events if isinstance(event, PartGrew)] == [0, 1, 2, 3, 3, 3]
    assert len([event for event in events if isinstance(event, Finished)]) == 1


async def test_a_call_is_stored_before_it_runs() -> None:
    store, stored = MemoryStore(), list[Part]()
    store.create(Session(id="s", created=0, updated=0))

    class Looking(Box):
        async def run(self, call: ToolCall) -> ToolResult:
            stored.extend(store.branch(store.session("s").leaf)[-1].parts)
            return await super().run(call)

    engine = ScriptedEngine(["Wait. call:clock:{} call:clock:{}", "Done."], delay_s=0.03)  # between two saves
    await ended(turns_with(engine, ToolUse(toolbox=Looking()), store).ask("s", "Time?"))
    assert [type(part) for part in stored[:3]] == [Text, ToolCall, ToolCall]


async def test_several_calls_are_run_in_their_order() -> None:
    engine = ScriptedEngine(["call:clock:{} call:clock:{}", "Done."])
    box = Box()
    answer, _events = await ended(turns_with(engine, ToolUse(toolbox=box)).ask("s", "Time?"))
    kinds = [type(part) for part in answer.parts]
    assert kinds == [ToolCall, ToolCall, ToolResult, ToolResult, Text]
    assert [call.id for call in box.calls] == [part.call_id for part in answer.parts if isinstance(part, ToolResult)]


async def test_a_model_that_only_calls_must_answer_after_its_rounds() -> None:
    engine = ScriptedEngine(["call:clock:{}"])
    box = Box(says="")  # another result each time
    answer, _events = await ended(turns_with(engine, ToolUse(toolbox=box, rounds=3)).ask("s", "Time?"))
    assert len(box.calls) == 3 and [bool(request.turns[0].tools) for request in engine.requests] == [True] * 3 + [False]
    assert (answer.status, answer.finish_reason) == (Status.TRUNCATED, FinishReason.TOOL_CALLS)


async def test_a_model_must_answer_once_its_calls_bring_nothing_new() -> None:
    engine = ScriptedEngine(["call:clock:{}", "call:clock:{}", "It is noon."])
    answer, _events = await ended(turns_with(engine, ToolUse(toolbox=Box())).ask("s", "Time?"))
    last = engine.requests[2]
    asked = "Time?\n\nResult of clock({}):\n```\n12:00\n```\n\nAnswer the question in a sentence."
    assert last.turns == (Turn("user", asked),) and last.mode is Mode.ANSWER
    assert answer.text == "It is noon." and answer.status is Status.COMPLETE


async def test_only_results_are_read_where_other_calls_failed() -> None:
    engine = ScriptedEngine(["call:clock:{}", 'call:clock:{"zone":"?"}', 'call:clock:{"zone":"?"}', "It is noon."])
    box = Box(fails='{"zone":"?"}')
    answer, _events = await ended(turns_with(engine, ToolUse(toolbox=box)).ask("s", "Time?"))
    asked = engine.requests[-1].turns[-1].text
    assert asked == "Time?\n\nResult of clock({}):\n```\n12:00\n```\n\nAnswer the question in a sentence."
    assert answer.text == "It is noon."


async def test_a_result_can_not_end_its_own_fence() -> None:
    engine = ScriptedEngine(["call:clock:{}", "call:clock:{}", "It is noon."])
    await ended(turns_with(engine, ToolUse(toolbox=Box(says="```\n12:00"))).ask("s", "Time?"))
    asked = engine.requests[2].turns[-1].text
    assert asked == "Time?\n\nResult of clock({}):\n````\n```\n12:00\n````\n\nAnswer the question in a sentence."


async def test_what_was_refused_is_not_asked_for_again() -> None:
    again = 'call:clock:{} call:clock:{"zone":"UTC"}'
    engine = ScriptedEngine([again, again, "Then not."])
    box = Box(says=REFUSED + "no", is_error=True)
    answer, _events = await ended(turns_with(engine, ToolUse(toolbox=box)).ask("s", "Time?"))
    assert [call.arguments for call in box.calls] == ["{}", '{"zone":"UTC"}']
    results = [part for part in answer.parts if isinstance(part, ToolResult)]
    assert [result.text for result in results] == [REFUSED + "no"] * 4
    assert [result.call_id for result in results] == [part.id for part in answer.parts if isinstance(part, ToolCall)]
    assert answer.text == "Then not."


async def test_what_failed_may_be_tried_again() -> None:
    engine = ScriptedEngine(["call:clock:{}", "call:clock:{}", "It is noon."])
    box = Box(says="It did not answer.", is_error=True)
    await ended(turns_with(engine, ToolUse(toolbox=box)).ask("s", "Time?"))
    assert len(box.calls) == 2


async def test_a_tool_that_is_not_there_is_no_result() -> None:
    engine = ScriptedEngine(["call:hello:{}", "Hello!"])
    box = Box()
    answer, _events = await ended(turns_with(engine, ToolUse(toolbox=box)).ask("s", "Hi"))
    assert not box.calls and answer.text == "Hello!"
    assert engine.requests[1].turns == (Turn("user", "Hi"),)


async def test_the_seconds_of_all_tools_are_limited() -> None:
    box = Box(took_ms=3000)
    engine = ScriptedEngine(["call:clock:{}", "call:clock:{}", "Done."])
    answer, _events = await ended(turns_with(engine, ToolUse(toolbox=box, seconds=2)).ask("s", "Time?"))
    assert len(box.calls) == 1 and answer.text == "Done."
    assert [part.is_error for part in answer.parts if isinstance(part, ToolResult)] == [False, True]


async def test_stopping_in_a_tool_keeps_the_call_and_continuing_runs_it_again() -> None:
    engine = ScriptedEngine(["call:clock:{}", "It is noon."])
    box, store = Box(waits=True), MemoryStore()
    store.create(Session(id="s", created=0, updated=0))
    turns = turns_with(engine, ToolUse(toolbox=box), store)
    turn = turns.ask("s", "Time?")
    events = []
    async for event in turn:
        events.append(event)
        if isinstance(event, PartGrew):
            await turn.cancel()
    stopped = events[-1]
    assert isinstance(stopped, TurnEnded)
    assert stopped.answer.status is Status.STOPPED
    assert [type(part) for part in stopped.answer.parts] == [ToolCall]
    box.waits = False
    answer, _events = await ended(turns.continue_answer(stopped.answer))
    assert [type(part) for part in answer.parts] == [ToolCall, ToolResult, Text]
    assert answer.status is Status.COMPLETE and store.branch(answer.id)[-1] == answer


async def test_leaving_in_a_tool_stores_the_call() -> None:
    engine = ScriptedEngine(["call:clock:{}", "It is noon."])
    turns = turns_with(engine, ToolUse(toolbox=Box(waits=True)))
    turn = turns.ask("s", "Time?")
    async for event in turn:
        if isinstance(event, PartGrew):
            break
    await turn.aclose()
    kept = turns.store.branch(turns.store.session("s").leaf)[-1]
    assert kept.status is Status.STOPPED and [type(part) for part in kept.parts] == [ToolCall]


async def test_without_tools_an_open_call_is_answered_with_that() -> None:
    store = MemoryStore()
    store.create(Session(id="s", created=0, updated=0))
    box = Box(waits=True)
    turn = turns_with(ScriptedEngine(["call:clock:{}"]), ToolUse(toolbox=box), store).ask("s", "Time?")
    async for event in turn:
        if isinstance(event, PartGrew):
            await turn.cancel()
    stopped = store.branch(store.session("s").leaf)[-1]
    engine = ScriptedEngine(["I can not tell."])
    answer, _events = await ended(turns_with(engine, None, store).continue_answer(stopped))
    assert [type(part) for part in answer.parts] == [ToolCall, ToolResult, Text]
    assert not any(turn.tools for turn in engine.requests[0].turns)


async def test_a_result_is_cut_to_what_the_window_takes() -> None:
    engine = ScriptedEngine(["call:clock:{}", "Long."], n_ctx=1000)
    answer, _events = await ended(turns_with(engine, ToolUse(toolbox=Box(says="x" * 5000))).ask("s", "Time?"))
    result = answer.parts[1]
    assert isinstance(result, ToolResult) and result.text.endswith("does not fit the context window.]")
    assert 200 < len(result.text) < 1000 and answer.text == "Long."


async def test_a_model_that_can_not_call_is_not_told_of_tools() -> None:
    engine = ScriptedEngine(["Hello."], capabilities=replace(ALL_OF_LOCAL, tools=False))
    await ended(turns_with(engine, ToolUse(toolbox=Box())).ask("s", "Hi"))
    assert [turn.role for turn in engine.requests[0].turns] == ["user"]


@pytest.mark.parametrize("own", [True, False])
async def test_a_later_turn_reads_the_calls_with_their_tokens_where_it_sampled_them(*, own: bool) -> None:
    store = MemoryStore()
    store.create(Session(id="s", created=0, updated=0))
    use = ToolUse(toolbox=Box())
    await ended(turns_with(ScriptedEngine(["call:clock:{}", "Noon."]), use, store).ask("s", "Time?"))
    later = ScriptedEngine(["Yes."]) if own else ScriptedEngine(["Yes."], file="1" * 32)
    turns = replace(turns_with(later, use, store), new_id=iter(["n1", "n2"]).__next__)
    await ended(turns.ask("s", "Sure?"))
    answered = later.requests[0].turns[2]
    assert [type(part) for part in answered.parts] == [ToolCall, ToolResult, Text]
    assert [bool(part.token_ids) for part in answered.parts if not isinstance(part, ToolResult)] == [own, own]


async def test_the_results_of_a_round_share_what_the_window_takes() -> None:
    engine = ScriptedEngine(["call:clock:{} call:clock:{}", "Long."], n_ctx=2000)
    answer, _events = await ended(turns_with(engine, ToolUse(toolbox=Box(says="x" * 5000))).ask("s", "Time?"))
    lengths = [len(part.text) for part in answer.parts if isinstance(part, ToolResult)]
    assert len(lengths) == 2 and min(lengths) > 200 and sum(lengths) < 2000 - 500 and answer.text == "Long."
