"""`ask --json` prints the partial answer when a turn fails, and nothing if there is none."""

import io
import json

import pytest
from msgspec.structs import replace

from qwenchat.chat.events import Finished, WaitingToRetry
from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.message import FinishReason, Timings, Usage
from qwenchat.chat.session import Session
from qwenchat.chat.turn import Turns
from qwenchat.cli.ask_output import JsonReport, TextReport, stats_words
from qwenchat.cli.output import Output
from qwenchat.errors import EngineDied
from tests.fakes.scripted import ScriptedEngine


async def printed(engine: ScriptedEngine) -> str:
    store, output = MemoryStore(), Output(io.StringIO(), io.StringIO(), colour=False)
    store.create(Session(id="s", created=0, updated=0))
    report = JsonReport(output, lambda: None, streams=False)
    with pytest.raises(EngineDied):
        turns = Turns(store=store, engine=engine, new_id=iter("qa").__next__, clock=lambda: 0)
        async for event in turns.ask("s", "Hi"):
            report.show(event)
    assert isinstance(output.out, io.StringIO)
    return output.out.getvalue()


async def test_what_came_before_the_engine_died_is_one_object() -> None:
    answer = json.loads(await printed(ScriptedEngine(["one two boom three"], die="boom")))
    assert list(answer) == ["session", "message", "model", "text", "finish_reason", "usage", "timings"]
    assert (answer["text"], answer["finish_reason"]) == ("one two ", None)


def test_json_on_stdout_contains_no_control_characters() -> None:
    output = Output(io.StringIO(), io.StringIO(), colour=False)
    text = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))))
    output.json({"text": text})
    assert isinstance(output.out, io.StringIO)
    line = output.out.getvalue()
    assert not set(text) & set(line.removesuffix("\n")) - {" "}
    assert json.loads(line) == {"text": text}


def test_guesses_are_counted_where_there_were_any() -> None:
    plain = stats_words(Finished(FinishReason.STOP, Usage(10, 4, 391), Timings()))
    assert "guessed" not in plain
    usage = Usage(10, 4, 391, drafted_tokens=240, accepted_tokens=212)
    assert stats_words(Finished(FinishReason.STOP, usage, Timings())) == f"{plain}; guessed 212 of 391 tokens"


async def test_nothing_is_printed_where_nothing_came() -> None:
    assert await printed(ScriptedEngine(["boom"], die="boom")) == ""


BUSY = WaitingToRetry(reason="gpu:8080 is busy (429).", wait_s=4.2, attempt=2, attempts=4)


def test_why_a_server_is_asked_again_is_said_on_stderr() -> None:
    output = Output(io.StringIO(), io.StringIO(), colour=False)
    report = TextReport(output, verbose=False)
    report.show(BUSY)
    report.show(replace(BUSY, reason="It loads its model.", attempts=0))
    assert isinstance(output.out, io.StringIO) and isinstance(output.err, io.StringIO)
    assert output.err.getvalue().splitlines() == [
        "gpu:8080 is busy (429). Attempt 2 of 4 follows in 4 s.",
        "It loads its model. The next attempt follows in 4 s.",
    ]
    assert output.out.getvalue() == ""


def test_why_a_server_is_asked_again_is_an_event() -> None:
    output = Output(io.StringIO(), io.StringIO(), colour=False)
    JsonReport(output, lambda: None, streams=True).show(BUSY)
    assert isinstance(output.out, io.StringIO)
    assert json.loads(output.out.getvalue()) == {
        "event": "waiting", "reason": "gpu:8080 is busy (429).", "wait_s": 4.2, "attempt": 2, "attempts": 4,
    }  # fmt: skip
