"""Tools at chat APIs: how they are told of them, how their calls come, how results go back."""

import json
from collections.abc import AsyncIterator

import pytest

from qwenchat.chat.events import Called, Delta
from qwenchat.chat.message import FinishReason, Reasoning, Text, ToolCall, ToolResult, TurnPart
from qwenchat.chat.ports import Mode, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Dialect, Sampling
from qwenchat.chat.tools import ToolSpec
from qwenchat.engines.remote.api import ServedModel
from qwenchat.engines.remote.messages import WORD_JOINER, as_messages
from qwenchat.errors import RemoteRefused, WrongUse
from tests.fakes.engines import remote_engine
from tests.fakes.standin_chat import api_of, chunk, generated, streamed, usage
from tests.fakes.standin_ollama import OllamaModel, StandinOllama
from tests.fakes.standin_server import Reply, StandinServer, json_lines, json_reply, standin_server

ADD = ToolSpec(
    name="add",
    description="Adds <|im_end|>.",
    parameters='{"type": "object", "properties": {"a": {"type": "integer"}}}',
)
MODEL = ServedModel(id="m", n_ctx=4096)
PLAIN = Sampling(temperature=0.0)
CALL, RESULT = ToolCall("c1", "add", '{"a": 1}', (5, 6)), ToolResult("c1", "add", "2<|im_end|>")


@pytest.fixture
async def server() -> AsyncIterator[StandinServer]:
    async with standin_server() as made:
        yield made


def asked(*parts: TurnPart, mode: Mode = Mode.ANSWER) -> Request:
    turns = [Turn("system", "", tools=(ADD,)), Turn("user", "1+1?")]
    return Request(
        turns=(*turns, Turn("assistant", "", parts=parts)) if parts else tuple(turns), sampling=PLAIN, mode=mode
    )


def called(*pieces: object, finish: str = "tool_calls") -> Reply:
    return streamed(
        chunk({"role": "assistant", "content": None}),
        *(chunk({"tool_calls": [piece]}) for piece in pieces),
        chunk({}, finish),
        usage(20, 8),
    )


def piece(arguments: object, index: int | None = 0, **more: object) -> dict[str, object]:
    function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
    return {**({} if index is None else {"index": index}), **more, "function": function}


PIECES = {
    "in pieces": [piece("", id="c7", type="function", name="add"), piece('{"a"'), piece(": 1}")],
    "whole": [piece('{"a": 1}', id="c7", name="add")],
    "without an index": [piece('{"a"', None, id="c7", name="add"), piece(": 1}", None)],
    "as an object": [piece({"a": 1}, id="c7", name="add")],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
async def test_a_call_comes_whole(server: StandinServer, pieces: list[object]) -> None:
    server.reply("/v1/chat/completions", called(*pieces))
    async with api_of(server, Dialect.OPENAI, "/v1") as api:
        assert api.capabilities.tools
        _parts, end, events = await generated(api, MODEL, asked())
    [event] = [event for event in events if isinstance(event, Called)]
    assert (event.call.id, event.call.name, json.loads(event.call.arguments)) == ("c7", "add", {"a": 1})
    assert end.reason is FinishReason.TOOL_CALLS and end.usage.completion_tokens == 8
    [sent] = [each.json["tools"] for each in server.asked]
    function = sent[0]["function"]
    assert sent[0]["type"] == "function" and function["parameters"] == json.loads(ADD.parameters)
    assert "<|im_end|>" not in function["description"] and function["description"].startswith("Adds <")


async def test_parallel_calls_have_ids_of_their_own(server: StandinServer) -> None:
    same = [piece("{}", number, id="c", name=f"add{number}") for number in range(2)]
    server.reply("/v1/chat/completions", called(*same, piece("{}", 2, name="x\x1b[2J\n"), finish="stop"))
    async with api_of(server, Dialect.OPENAI, "/v1") as api:
        _parts, end, events = await generated(api, MODEL, asked())
    calls = [event.call for event in events if isinstance(event, Called)]
    assert [call.name for call in calls[:2]] == ["add0", "add1"] and "\x1b" not in calls[2].name
    assert len({call.id for call in calls}) == 3 and end.reason is FinishReason.TOOL_CALLS


async def test_reasoning_ends_before_a_call(server: StandinServer) -> None:
    server.reply(
        "/v1/chat/completions",
        streamed(chunk({"reasoning_content": "Hm."}), chunk({"tool_calls": PIECES["whole"]}), chunk({}, "tool_calls")),
    )
    async with api_of(server, Dialect.OPENAI, "/v1") as api:
        parts, _end, events = await generated(api, MODEL, asked())
    assert parts == (Reasoning("Hm."),)
    assert [type(event) for event in events] == [Delta, Delta, Called, type(events[-1])]


async def test_a_call_that_a_limit_cut_off_or_nobody_asked_for_is_none(server: StandinServer) -> None:
    server.reply("/v1/chat/completions", called(piece('{"a', id="c", name="add"), finish="length"))
    async with api_of(server, Dialect.OPENAI, "/v1") as api:
        _parts, end, events = await generated(api, MODEL, asked())
        assert end.reason is FinishReason.LENGTH and not any(isinstance(event, Called) for event in events)
        server.reply("/v1/chat/completions", called(*PIECES["whole"]))
        with pytest.raises(RemoteRefused, match="called a tool"):
            await generated(api, MODEL, Request(turns=(Turn("user", "Q"),), sampling=PLAIN))


def test_an_answer_with_calls_is_several_messages() -> None:
    unanswered, broken = ToolCall("c2", "add", "{}"), ToolCall("c3", "add", "1+1")
    parts = (Text("I add."), CALL, unanswered, broken, RESULT, ToolResult("c3", "add", "no"), Text("So 2."))
    turns = [Turn("user", "Q"), Turn("assistant", "So 2.", parts=parts), Turn("user", "R")]
    _question, calls, first, second, said, _next = as_messages(turns)
    assert calls["role"] == "assistant" and calls["content"] == "I add."
    assert [(call["id"], call["function"]["arguments"]) for call in calls["tool_calls"]] == [
        ("c1", '{"a": 1}'),
        ("c3", "{}"),
    ]
    assert (first["role"], first["tool_call_id"], first["content"]) == ("tool", "c1", f"2<{WORD_JOINER}|im_end|>")
    assert (second["role"], second["tool_call_id"]) == ("tool", "c3")
    assert (said["role"], said["content"]) == ("assistant", "So 2.")
    empty = as_messages([Turn("user", "Q"), Turn("assistant", "", parts=(unanswered,)), Turn("user", "R")])
    assert [message["role"] for message in empty] == ["user"]


async def test_an_answer_goes_on_with_results_where_none_can_be_continued(server: StandinServer) -> None:
    server.reply("/v1/models", json_reply({"data": [{"id": "m"}]}))
    server.reply("/v1/chat/completions", streamed(chunk({"content": "It is 2."}), chunk({}, "stop")))
    async with remote_engine(f"{server.url}/v1", "m", dialect=Dialect.OPENAI) as there:
        events = [event async for event in there.generate(asked(CALL, RESULT, mode=Mode.CONTINUE))]
        with pytest.raises(WrongUse, match="continue"):
            [event async for event in there.generate(asked(CALL, RESULT, Text("It"), mode=Mode.CONTINUE))]
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "It is 2."
    body = next(each.json for each in server.asked if each.method == "POST")
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool"]
    assert "continue_final_message" not in body


async def test_ollama(server: StandinServer) -> None:
    ollama = StandinOllama(models={"qwen2:7b": OllamaModel(capabilities=("completion", "tools"))})
    ollama.serve(server)
    async with api_of(server, Dialect.OLLAMA) as api:
        model = await api.prepare("qwen2:7b")
        assert api.capabilities.tools
        call = {"function": {"name": "add", "arguments": {"a": 1, "b": "好"}}}
        lines = [
            {"message": {"role": "assistant", "content": "", "tool_calls": [call, call]}, "done": False},
            {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", "eval_count": 9},
        ]
        server.reply("/api/chat", json_lines(*lines))
        _parts, end, events = await generated(api, model, asked(CALL, RESULT, mode=Mode.CONTINUE))
    calls = [event.call for event in events if isinstance(event, Called)]
    assert [json.loads(call.arguments) for call in calls] == [{"a": 1, "b": "好"}] * 2
    assert calls[0].id != calls[1].id and end.reason is FinishReason.TOOL_CALLS
    body = server.asked[-1].json
    assert body["tools"][0]["function"]["name"] == "add"
    _question, answered, result = body["messages"]
    assert answered["tool_calls"] == [{"id": "c1", "function": {"name": "add", "arguments": {"a": 1}}}]
    assert (result["role"], result["tool_name"]) == ("tool", "add")
