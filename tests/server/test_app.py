"""What clients of the server see: shapes, errors, limits; the engine is scripted."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from starlette.types import Message

from qwenchat.chat.events import Delta, EngineEvent, Finished, TokenChance
from qwenchat.chat.message import FinishReason, Text, Timings, ToolCall, ToolResult, Usage
from qwenchat.chat.ports import Capabilities, Engine, Mode, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.errors import CannotLoad, PromptTooLong, QwenchatError
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.program import Program
from qwenchat.runtime.served_models import ServedModels
from qwenchat.runtime.served_names import ServedNames
from qwenchat.server.answers import Answers
from qwenchat.server.app import Access, App
from qwenchat.server.chat import AnsweredChat, ChatCompletions
from qwenchat.server.endpoint import BodyReader, Endpoint
from qwenchat.server.requests import ChatRequest
from tests.fakes.asgi import Client
from tests.fakes.scripted import ALL_OF_LOCAL, ScriptedEngine

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
LOCAL = replace(ALL_OF_LOCAL, logprobs=True, raw_prompts=True)


@dataclass
class Failing(ScriptedEngine):
    """Fails with an error before it says a word."""

    error: QwenchatError | None = None

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        if self.error:
            raise self.error
        async for event in super().events(request, text, cancelled):
            yield event


def served_by(engine: Engine, *, parallel: int = 1, most_waiting: int = 64) -> ServedModels:
    return ServedModels(lambda model, options: engine, LoadOptions(parallel=parallel), most_waiting=most_waiting)


def client(engine: Engine, access: Access | None = None, **headers: str) -> Client:
    names = ServedNames(Program.here(), "guide")
    bodies = BodyReader(largest=10_000, most_held=20_000, seconds=0.2)
    return Client(App(served_by(engine), names, access or Access(), bodies=bodies), **headers)


def scripted(*answers: str) -> ScriptedEngine:
    return ScriptedEngine(answers=answers or ("Hello there.",), capabilities=LOCAL)


async def test_an_answer_as_a_whole() -> None:
    response = await client(scripted()).post(CHAT, {**HELLO, "model": "guide", "an_unknown_field": [1]})
    assert response.status == 200 and response.headers["content-type"] == "application/json"
    (choice,) = response.json["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello there."}
    assert (choice["finish_reason"], choice["index"], response.json["object"]) == ("stop", 0, "chat.completion")
    usage = response.json["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] and usage["prompt_tokens"]
    assert response.json["model"] == "guide"


async def test_an_answer_as_a_stream() -> None:
    body = {**HELLO, "stream": True, "stream_options": {"include_usage": True}}
    response = await client(scripted()).post(CHAT, body)
    *chunks, usage, done = response.events
    assert response.headers["content-type"] == "text/event-stream" and done == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello there."
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-2:] == [None, "stop"]
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"]
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_reasoning_and_calls_have_fields_of_their_own() -> None:
    engine = scripted("<think>Time. </think>\n\nLet me look. call:clock:{}")
    tools = [{"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}]
    response = await client(engine).post(CHAT, {**HELLO, "tools": tools})
    message = response.json["choices"][0]["message"]
    assert message["content"].strip() == "Let me look." and message["reasoning_content"].strip() == "Time."
    (call,) = message["tool_calls"]
    assert call["type"] == "function" and call["function"] == {"name": "clock", "arguments": "{}"}
    assert response.json["choices"][0]["finish_reason"] == "tool_calls"
    (system, _question) = engine.requests[0].turns
    assert [tool.name for tool in system.tools] == ["clock"] and system.text == ""
    streamed = await client(scripted("call:clock:{}")).post(CHAT, {**HELLO, "tools": tools, "stream": True})
    deltas = [event["choices"][0]["delta"] for event in streamed.events[:-1]]
    (called,) = [delta["tool_calls"] for delta in deltas if "tool_calls" in delta]
    assert called[0]["index"] == 0 and called[0]["function"]["name"] == "clock"


async def test_one_call_alone_where_a_client_wants_no_more() -> None:
    tools = [{"type": "function", "function": {"name": "clock"}}]
    body = {**HELLO, "tools": tools, "parallel_tool_calls": False}
    response = await client(scripted("call:clock:{} call:clock:{}")).post(CHAT, body)
    assert len(response.json["choices"][0]["message"]["tool_calls"]) == 1


async def test_calls_and_results_become_parts_of_their_answer() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What time"}, {"type": "text", "text": "is it?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
    ]
    engine = scripted()
    response = await client(engine).post(CHAT, {"messages": messages, "tool_choice": "none"})
    assert response.status == 200
    (asked,) = engine.requests
    parts = (ToolCall("c1", "clock", "{}"), ToolResult("c1", "clock", "12:00"))
    assert asked.turns == (
        Turn("system", "Be brief."),
        Turn("user", "What time\nis it?"),
        Turn("assistant", "", parts=parts),
    )
    assert asked.mode is Mode.CONTINUE
    messages += [{"role": "assistant", "content": "Noon."}, {"role": "user", "content": "Thanks"}]
    await client(engine).post(CHAT, {"messages": messages})
    assert engine.requests[1].turns[2] == Turn("assistant", "Noon.", parts=(*parts, Text("Noon.")))
    assert engine.requests[1].mode is Mode.ANSWER


async def test_an_answer_is_continued() -> None:
    engine = scripted()
    messages = [*HELLO["messages"], {"role": "assistant", "content": "Once upon"}]
    body = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    assert (await client(engine).post(CHAT, body)).status == 200
    assert engine.requests[0].mode is Mode.CONTINUE and engine.requests[0].turns[-1] == Turn("assistant", "Once upon")


async def test_sampling_is_what_the_client_says_and_else_what_makers_advise() -> None:
    engine = scripted()
    body = {
        **HELLO,
        "temperature": 0,
        "top_k": -1,
        "repetition_penalty": 1,
        "stop": "END",
        "seed": 2**63,
        "max_completion_tokens": 50,
        "max_tokens": 3,
    }
    await client(engine).post(CHAT, body)
    sampling = engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_k, sampling.repeat_penalty, sampling.top_p) == (0, 0, 1, 0.8)
    assert (sampling.stop, sampling.max_tokens) == (("END",), 50) and 0 <= (sampling.seed or -1) < 2**32 - 1
    formats = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "integer"}, "strict": True}}
    await client(engine).post(CHAT, {**HELLO, "response_format": formats})
    assert json.loads(engine.requests[1].sampling.schema or "") == {"type": "integer"}
    await client(engine).post(CHAT, {**HELLO, "response_format": {"type": "json_object"}})
    assert json.loads(engine.requests[2].sampling.schema or "") == {"type": "object"}


@dataclass
class Chancy(ScriptedEngine):
    """Reports chances."""

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        likely = (TokenChance("No", 2, -0.1), TokenChance("Yes", 1, -2.5))
        yield Delta("Yes", (1,), (likely,) if request.chances else ())
        yield Finished(FinishReason.LENGTH, Usage(3, 0, 1), Timings())


async def test_chances_of_tokens() -> None:
    engine = Chancy(capabilities=LOCAL)
    response = await client(engine).post(CHAT, {**HELLO, "logprobs": True, "top_logprobs": 1})
    (token,) = response.json["choices"][0]["logprobs"]["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("Yes", -2.5, [89, 101, 115])
    assert [each["token"] for each in token["top_logprobs"]] == ["No"]
    completed = await client(engine).post("/v1/completions", {"prompt": "Is it?", "logprobs": 1, "echo": False})
    (choice,) = completed.json["choices"]
    assert choice["logprobs"] == {
        "tokens": ["Yes"],
        "token_logprobs": [-2.5],
        "top_logprobs": [{"No": -0.1, "Yes": -2.5}],
        "text_offset": [0],
    }
    assert (choice["text"], choice["finish_reason"]) == ("Yes", "length")
    assert engine.requests[-1].mode is Mode.RAW and engine.requests[-1].sampling.repeat_penalty == 1


async def test_completions_are_streamed_one_after_the_other() -> None:
    body = {"prompt": ["One", "Two"], "stream": True, "echo": True, "stream_options": {"include_usage": True}}
    response = await client(scripted()).post("/v1/completions", body)
    *chunks, usage, done = response.events
    assert done == "[DONE]" and usage["usage"]["completion_tokens"]
    choices = [chunk["choices"][0] for chunk in chunks]
    for place, text in enumerate(("OneHello there.", "TwoHello there.")):
        own = [choice for choice in choices if choice["index"] == place]
        assert "".join(choice["text"] for choice in own) == text
        assert [choice["finish_reason"] for choice in own][-2:] == [None, "stop"]


async def test_no_limit_is_what_clients_write_as_minus_one() -> None:
    engine = scripted()
    await client(engine).post(CHAT, {**HELLO, "max_tokens": -1})
    await client(engine).post("/v1/completions", {"prompt": "One", "max_tokens": -1})
    await client(engine).post("/v1/completions", {"prompt": "One", "max_tokens": 0})
    assert [asked.sampling.max_tokens for asked in engine.requests] == [None, None, 0]


REFUSED: list[tuple[dict[str, object], str, str | None]] = [
    ({"n": 2}, "unsupported_parameter", "n"),
    ({"logit_bias": {"1": 2}}, "unsupported_parameter", "logit_bias"),
    ({"presence_penalty": 0.5}, "unsupported_parameter", "presence_penalty"),
    ({"guided_json": {}}, "unsupported_parameter", "guided_json"),
    ({"temperature": -1}, "invalid_request", None),
    ({"temperature": "hot"}, "invalid_request", "temperature"),
    ({"messages": []}, "invalid_request", "messages"),
    ({"messages": [{"role": "user"}]}, "invalid_request", "messages[0].content"),
    ({"messages": [{"role": "queen", "content": "x"}]}, "invalid_request", "messages[0].role"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "invalid_request", "messages[0].tool_call_id"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "unsupported_parameter",
        "messages[0].content[0]",
    ),
    ({"continue_final_message": True}, "invalid_request", "continue_final_message"),
    ({"add_generation_prompt": False}, "unsupported_parameter", "add_generation_prompt"),
    ({"response_format": {"type": "json_schema"}}, "invalid_request", "response_format.json_schema"),
    ({"response_format": {"type": "json_object"}, "stop": "x"}, "unsupported_parameter", "stop"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
        "invalid_schema",
        "response_format",
    ),
    ({"tool_choice": "required"}, "invalid_request", "tool_choice"),
    ({"tools": [{"function": {"name": "a b"}}]}, "invalid_request", "tools[0].function.name"),
    ({"tools": [{"function": {"name": "a"}}] * 2}, "invalid_request", "tools"),
    ({"tools": [{"function": {"name": "a", "parameters": 3}}]}, "invalid_request", "tools[0].function.parameters"),
    ({"top_logprobs": 21}, "invalid_request", "top_logprobs"),
    ({"max_tokens": 0}, "invalid_request", "max_tokens"),
]


@pytest.mark.parametrize(("more", "code", "param"), REFUSED, ids=lambda value: str(value)[:40])
async def test_what_is_refused_says_which_field_is_to_blame(more: dict[str, object], code: str, param: str) -> None:
    engine = scripted()
    engine.refused_schema = '{"not": {}}'
    response = await client(engine).post(CHAT, {**HELLO, **more})
    assert (response.status, response.error["code"], response.error["param"]) == (400, code, param)
    assert response.error["type"] == "invalid_request_error" and response.error["message"]
    assert engine.requests == []


async def test_values_that_change_nothing_are_served() -> None:
    neutral = {"n": 1, "logit_bias": {}, "presence_penalty": 0.0, "suffix": None, "user": "me", "store": False}
    assert (await client(scripted()).post(CHAT, {**HELLO, **neutral})).status == 200


@pytest.mark.parametrize(
    ("make", "status", "code"),
    [
        (
            lambda: Failing(error=PromptTooLong("The prompt does not fit: 9 of 8 tokens.")),
            400,
            "context_length_exceeded",
        ),
        (lambda: Failing(error=CannotLoad("It is damaged.")), 503, "model_load_failed"),
        (lambda: ScriptedEngine(answers=("now die",), die="die"), 500, "engine_died"),
    ],
)
async def test_failures_of_the_engine(make: Callable[[], Engine], status: int, code: str) -> None:
    whole = await client(make()).post(CHAT, HELLO)
    assert (whole.status, whole.error["code"]) == (status, code)
    streamed = await client(make()).post(CHAT, {**HELLO, "stream": True})
    assert streamed.events[-1]["error"]["code"] == code, "the stream had begun, so the error is an event"


async def test_a_bug_is_no_traceback() -> None:
    class Broken(ScriptedEngine):
        async def check(self, sampling: Sampling) -> None:
            raise KeyError("secret words of a request")

    response = await client(Broken()).post(CHAT, HELLO)
    assert (response.status, response.error["code"]) == (500, "internal_error")
    assert "secret" not in response.body.decode()


async def test_paths_methods_and_other_bodies() -> None:
    one = client(scripted())
    assert [(await one.post(path, {})).error["code"] for path in ("/v1/embeddings", "/", "/v1/models/")] == [
        "unknown_url",
        "unknown_url",
        "method_not_allowed",
    ]
    assert (await one.get(CHAT)).error["code"] == "method_not_allowed"
    assert (await one.send("POST", CHAT, b"{")).error["code"] == "invalid_json"
    halves = b'{"messages":[{"role":"user","content":"\\ud800"}]}'
    assert (await one.send("POST", CHAT, halves)).error["code"] == "invalid_json"
    nested = b'{"messages":[{"role":"user","content":"x"}],"tools":' + b"[" * 4000 + b"]" * 4000 + b"}"
    assert (await one.send("POST", CHAT, nested)).status == 400
    assert (await one.post(CHAT, {**HELLO, "model": "gpt-4o"})).error["code"] == "model_not_found"
    assert (await one.post(CHAT, {**HELLO, "model": "/etc/passwd"})).error["code"] == "model_not_found"
    assert (await one.post(CHAT, {**HELLO, "model": "@lab/secret"})).error["code"] == "model_not_found"
    (card,) = (await one.get("/v1/models")).json["data"]
    assert card["id"] == "guide" and card["loaded"] is False
    assert (await one.get("/v1/models/guide")).json == card
    assert (await one.get("/health")).json["status"] == "ok"
    numbers = (await one.get("/metrics")).body.decode()
    assert 'qwenchat_http_responses_total{path="/v1/chat/completions",status="404"} 3' in numbers


async def test_bodies_have_limits() -> None:
    one = client(scripted())
    assert (await one.send("POST", CHAT, b"x" * 10_001, pieces=7)).status == 413
    declared = await one.send("POST", CHAT, b"x", {"content-length": "999999999"})
    assert (declared.status, declared.headers["connection"]) == (413, "close")
    assert (await one.post(CHAT, HELLO)).status == 200


async def test_a_body_that_does_not_come_is_given_up() -> None:
    async def receive() -> Message:
        await asyncio.sleep(3600)
        raise AssertionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [(b"host", b"localhost")]}
    app = App(served_by(scripted()), ServedNames(Program.here(), "guide"), Access(), bodies=BodyReader(seconds=0.05))
    await app(scope, receive, send)
    assert sent[0]["status"] == 408


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "evil.example"}, "forbidden_host"),
        ({"host": "localhost.evil.example:8080"}, "forbidden_host"),
        ({"host": ""}, "forbidden_host"),
        ({"host": "[::1"}, "forbidden_host"),
        ({"origin": "https://evil.example"}, "forbidden_origin"),
        ({"origin": "http://localhost:3000"}, "forbidden_origin"),
        ({"origin": "null"}, "forbidden_origin"),
        ({"host": "[::1]:8080"}, None),
        ({"host": "127.0.0.1:8080", "origin": "vscode-webview://abc"}, None),
        ({"origin": "http://localhost:8080"}, None),
    ],
)
async def test_pages_of_strangers_are_refused(headers: dict[str, str], code: str | None) -> None:
    response = await client(scripted(), None, **headers).post(CHAT, HELLO)
    assert response.status == (403 if code else 200)
    assert not code or response.error["code"] == code
    assert "access-control-allow-origin" not in response.headers


async def test_the_key() -> None:
    access = Access(key="s3cret", only_loopback=False)
    for headers, status in (
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic s3cret"}, 401),
        ({"authorization": "bearer s3cret"}, 200),
    ):
        response = await client(scripted(), access, host="example.com", **headers).post(CHAT, HELLO)
        assert response.status == status
    assert (await client(scripted(), access, host="example.com").get("/health")).status == 200
    assert (await client(scripted(), access, host="example.com").get("/v1/models")).status == 401


async def test_a_full_queue_is_said() -> None:
    engine = ScriptedEngine(answers=("word " * 50,), delay_s=0.01)
    served = served_by(engine, most_waiting=2)
    one = Client(App(served, ServedNames(Program.here(), "guide"), Access()))
    running = asyncio.create_task(one.post(CHAT, HELLO))
    while not served.running:
        await asyncio.sleep(0)
    waiting = [asyncio.create_task(one.post(CHAT, HELLO)) for _request in range(2)]
    while served.waiting < 2:
        await asyncio.sleep(0)
    refused = await one.post(CHAT, HELLO)
    assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (429, "queue_full", "2")
    assert [(await each).status for each in (running, *waiting)] == [200] * 3


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_ends_its_answer(stream: bool) -> None:
    engine = ScriptedEngine(answers=("word " * 100_000,), delay_s=0.001)
    served, left = served_by(engine), asyncio.Event()
    one = Client(App(served, ServedNames(Program.here(), "guide"), Access()))
    body = json.dumps({**HELLO, "stream": stream}).encode()
    sending = asyncio.create_task(one.send("POST", CHAT, body, left=left))
    while not engine.requests:
        await asyncio.sleep(0)
    left.set()
    await sending
    assert engine.is_cancelled and served.running == served.waiting == 0


async def test_a_slow_reader_holds_no_turn() -> None:
    served, reads, left = served_by(scripted("word " * 500)), asyncio.Event(), asyncio.Event()
    one = Client(App(served, ServedNames(Program.here(), "guide"), Access()))
    body = json.dumps({**HELLO, "stream": True}).encode()
    slow = asyncio.create_task(one.send("POST", CHAT, body, left=left, reads=reads))
    assert (await one.post(CHAT, HELLO)).status == 200
    assert not slow.done() and served.running == 0
    reads.set()
    assert (await slow).events[-1] == "[DONE]"


async def test_a_stream_says_that_it_is_still_there() -> None:
    engine = ScriptedEngine(delay_s=0.05, capabilities=LOCAL)
    answers = Answers(served_by(engine), keep_alive_s=0.01)
    chat = ChatCompletions(answers, ServedNames(Program.here(), "guide"))
    response = await Client(Endpoint(chat.handle, ChatRequest, BodyReader())).post("", {**HELLO, "stream": True})
    assert b": waiting\n\n" in response.pieces
    assert response.events[-1] == "[DONE]"


async def test_what_was_answered_is_reported() -> None:
    answered: list[AnsweredChat] = []
    app = App(served_by(scripted()), ServedNames(Program.here(), "guide"), Access(), answered=answered.append)
    await Client(app).post(CHAT, HELLO)
    await Client(app).post(CHAT, {**HELLO, "stream": True})
    assert [[part.text for part in each.parts if isinstance(part, Text)] for each in answered] == [
        ["Hello ", "there."]
    ] * 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted({*ChatRequest.__struct_fields__, "prompt", "echo", "content", "tokens", "n"})
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "developer", "x"])
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": ROLES}, optional={"content": JSON | st.text(), "tool_calls": JSON}), max_size=4
)
NEARLY_VALID = st.fixed_dictionaries(
    {"messages": st.just([{"role": "user", "content": "Hi"}]), "prompt": st.text(min_size=1), "tokens": st.just([1])},
    optional={"model": st.sampled_from(["guide", "nobody"]), "stream": st.booleans(), "echo": JSON, "stop": JSON},
)
BODIES = st.one_of(
    NEARLY_VALID.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda some, messages: json.dumps({"messages": messages, **some}).encode(),
        st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2),
        MESSAGES,
    ),
)
PATHS = st.sampled_from([CHAT, "/v1/completions", "/tokenize", "/detokenize"])


def test_no_request_brings_the_server_down() -> None:
    with asyncio.Runner() as runner:
        served, statuses = served_by(ScriptedEngine(capabilities=LOCAL, answers=("Yes.",))), set[int]()
        one = Client(App(served, ServedNames(Program.here(), "guide"), Access()))

        @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
        @given(requests=st.lists(st.tuples(PATHS, BODIES), min_size=12, max_size=16))
        def ask(requests: list[tuple[str, bytes]]) -> None:
            for path, body in requests:
                response = runner.run(one.send("POST", path, body, pieces=2))
                statuses.add(response.status)
                if response.status != 200:
                    assert {*response.error} == {"message", "type", "param", "code"}
                    assert "Traceback" not in response.error["message"]
                assert served.running == served.waiting == 0

        ask()
    assert statuses == {200, 400, 404}


def test_capabilities_that_are_missing_are_named() -> None:
    async def ask(more: dict[str, object]) -> str:
        engine = ScriptedEngine(capabilities=Capabilities())
        response = await client(engine).post(CHAT, {**HELLO, **more})
        assert response.status == 400
        param: str = response.error["param"]
        return param

    tools = [{"function": {"name": "clock"}}]
    assert asyncio.run(ask({"tools": tools})) == "tools"
    assert asyncio.run(ask({"logprobs": True})) == "logprobs"
