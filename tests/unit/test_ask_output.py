"""What `ask --json` prints when a turn ends badly: what came, and nothing where nothing came."""

import io
import json

import pytest

from qwenchat.chat.conversation import Session
from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.scripted import ScriptedEngine
from qwenchat.chat.turn import Turns
from qwenchat.cli.ask_output import JsonReport
from qwenchat.cli.output import Output
from qwenchat.errors import EngineDied


async def printed(engine: ScriptedEngine) -> str:
    store, output = MemoryStore(), Output(io.StringIO(), io.StringIO(), colour=False)
    store.create(Session("s", 0, 0))
    report = JsonReport(output, as_it_comes=False)
    with pytest.raises(EngineDied):
        async for event in Turns(store, engine, iter("qa").__next__, lambda: 0).send("s", "Hi"):
            report.show(event)
    assert isinstance(output.out, io.StringIO)
    return output.out.getvalue()


async def test_what_came_before_the_engine_died_is_one_object() -> None:
    answer = json.loads(await printed(ScriptedEngine(["one two boom three"], die="boom")))
    assert list(answer) == ["session", "message", "model", "text", "finish_reason", "usage", "timings"]
    assert (answer["text"], answer["finish_reason"]) == ("one two ", None)


async def test_nothing_is_printed_where_nothing_came() -> None:
    assert await printed(ScriptedEngine(["boom"], die="boom")) == ""
