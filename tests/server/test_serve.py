"""`qwenchat serve` as a process, with the clients that people use: OpenAI's package, curl, sockets that misbehave."""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import psutil
import pytest
from openai.types.chat import ChatCompletionToolChoiceOptionParam, ChatCompletionToolParam

from tests.fakes.commands import qwenchat
from tests.fakes.ggufs import Chain
from tests.fakes.served import ServeProcess, serve

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
CHAT = "/v1/chat/completions"
LIGHT: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "light",
        "parameters": {
            "type": "object",
            "properties": {"on": {"type": "boolean"}},
            "required": ["on"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with a home of its own."""
    folder = tmp_path_factory.mktemp("served")
    return {"QWENCHAT_HOME": str(folder), "HOME": str(folder), "QWENCHAT_MODEL_THREADS": "1", "LANG": "C.UTF-8"}


@pytest.fixture(scope="module")
def random(tiny: Path, away: dict[str, str]) -> Iterator[ServeProcess]:
    """A server of a model with random weights, which only follows what it must."""
    with serve(tiny, "--ctx", "1024", "--parallel", "2", **away) as server:
        yield server


@pytest.fixture(scope="module")
def talking(endless: Chain, away: dict[str, str]) -> Iterator[ServeProcess]:
    """A server of a model that never ends by itself."""
    with serve(endless.path, "--ctx", "16384", "--parallel", "2", **away) as server:
        yield server


@pytest.fixture(scope="module")
def client(random: ServeProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{random.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_openai_answers_whole_and_streamed(client: openai.OpenAI) -> None:
    (model,) = client.models.list()
    assert model.id == "tiny"
    whole = client.chat.completions.create(
        model=model.id, messages=[{"role": "user", "content": "Hi"}], max_tokens=5, seed=1
    )
    assert whole.usage and whole.usage.completion_tokens == 5 and whole.choices[0].finish_reason == "length"
    text = ""
    stream = client.chat.completions.create(
        model=model.id,
        messages=[{"role": "user", "content": "Hi"}],
        max_tokens=5,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
        usage = chunk.usage
    assert text and usage and usage.completion_tokens == 5


def test_openai_json_and_tools(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "Is it?"}],
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["yes", "no"]}}},
    )
    assert json.loads(answer.choices[0].message.content or "") in ("yes", "no")
    choices: list[ChatCompletionToolChoiceOptionParam] = [
        "required",
        {"type": "function", "function": {"name": "light"}},
    ]
    for choice in choices:
        called = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Light!"}],
            tools=[LIGHT],
            tool_choice=choice,
            max_tokens=200,
            seed=3,
        )
        call = (called.choices[0].message.tool_calls or [])[0]
        assert call.type == "function" and call.function.name == "light"
        assert json.loads(call.function.arguments)["on"] in (True, False)
        assert called.choices[0].finish_reason == "tool_calls"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}], n=2)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "n")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.BadRequestError) as too_long:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "word " * 3000}])
    assert too_long.value.code == "context_length_exceeded" and "1024" in str(too_long.value)


def test_openai_scores_a_prompt(client: openai.OpenAI, random: ServeProcess) -> None:
    ids = random.post("/tokenize", {"content": "Hello world"})["tokens"]
    for prompt in ("Hello world", ids):
        scored = client.completions.create(
            model="tiny", prompt=prompt, max_tokens=1, temperature=0, echo=True, logprobs=2
        )
        chances = scored.choices[0].logprobs
        assert chances and chances.tokens and chances.token_logprobs and chances.top_logprobs and chances.text_offset
        assert len(chances.tokens) == len(chances.token_logprobs) == len(ids) + 1
        assert "".join(chances.tokens[: len(ids)]) == "Hello world"
        first, *others = map(str, chances.token_logprobs)
        assert first == "None" and all(float(value) < 0 for value in others)
        assert chances.top_logprobs[-1][chances.tokens[-1]] == max(chances.top_logprobs[-1].values())
        text = scored.choices[0].text
        places = zip(chances.text_offset, chances.tokens, strict=True)
        assert [text[place : place + len(token)] for place, token in places] == chances.tokens
    both = client.completions.create(model="tiny", prompt=["Hello", "the world"], max_tokens=0, echo=True, logprobs=1)
    assert [choice.text for choice in both.choices] == ["Hello", "the world"]
    assert [len(choice.logprobs.tokens or ()) for choice in both.choices if choice.logprobs] == [
        len(random.post("/tokenize", {"content": text})["tokens"]) for text in ("Hello", "the world")
    ]


def test_special_tokens_of_a_raw_prompt_are_what_they_stand_for(random: ServeProcess) -> None:
    special = random.post("/tokenize", {"content": "Hello<|im_end|>"})["tokens"]
    plain = random.post("/tokenize", {"content": "Hello<|im_end|>", "parse_special": False})["tokens"]
    assert len(special) == 2 < len(plain)
    assert random.post("/detokenize", {"tokens": special})["content"] == "Hello<|im_end|>"
    for prompt in ("Hello<|im_end|>", special):
        body = {"prompt": prompt, "max_tokens": 1}
        assert random.post("/v1/completions", body)["usage"]["prompt_tokens"] == 2
    facts = json.loads(random.get("/tokenizer_info"))
    assert facts["eos_token"] == "<|im_end|>" and "im_start" in facts["chat_template"]
    refused = random.post("/v1/completions", {"prompt": [1, 10**6], "max_tokens": 1})
    assert refused["error"]["code"] == "invalid_request" and "1000000" in refused["error"]["message"]


def test_an_end_of_turn_is_scored_with_its_prompt(chain: Chain, away: dict[str, str]) -> None:
    with serve(chain.path, "--ctx", "512", **away) as server:
        whole = server.post("/v1/completions", {"prompt": [*chain.ids], "max_tokens": 1, "echo": True, "logprobs": 1})
    (choice,) = whole["choices"]
    assert choice["finish_reason"] == "stop"
    assert len(choice["logprobs"]["token_logprobs"]) == len(chain.ids) + 1, "harnesses leave the last one out"


def test_curl(talking: ServeProcess) -> None:
    body = json.dumps({**HELLO, "max_tokens": 5, "stream": True})
    done = subprocess.run(
        ["curl", "-sN", "--max-time", "60", talking.url + CHAT, "-d", body], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("data: [DONE]\n\n") and '"finish_reason":"length"' in done.stdout


def sent(server: ServeProcess, body: object) -> socket.socket:
    """Return a connection on which a request for a chat was sent."""
    connection = socket.create_connection(server.address, 60)
    data = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("words", [1, 9000], ids=["decode", "prefill"])
def test_a_client_that_leaves_is_cancelled(talking: ServeProcess, words: int, stream: bool) -> None:
    question = [{"role": "user", "content": f"{words} {stream} " + "word " * words}]
    connection = sent(talking, {"messages": question, "stream": stream, "max_tokens": 6000})
    talking.wait_for("requests_running", 1)
    if stream and words == 1:
        assert b"once" in connection.recv(100_000) or connection.recv(100_000)
    connection.close()
    talking.wait_for("requests_running", 0)
    assert talking.post(CHAT, {**HELLO, "max_tokens": 3})["usage"]["completion_tokens"] == 3


def test_half_open_connections_harm_nothing(talking: ServeProcess) -> None:
    heads = (b"", b"POST ", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    connections = [socket.create_connection(talking.address) for _client in range(99)]
    for place, connection in enumerate(connections):
        connection.sendall(heads[place % 3])
    assert talking.post(CHAT, {**HELLO, "max_tokens": 3})["usage"]["completion_tokens"] == 3
    for connection in connections:
        connection.close()


def test_fifty_clients_at_once(talking: ServeProcess) -> None:
    def ask(number: int) -> int:
        answer = talking.post(CHAT, {"messages": [{"role": "user", "content": f"{number}"}], "max_tokens": 8})
        tokens: int = answer["usage"]["completion_tokens"]
        return tokens

    with ThreadPoolExecutor(50) as clients:
        assert [*clients.map(ask, range(50))] == [8] * 50
    assert talking.number("requests_waiting") == talking.number("requests_running") == 0


def test_a_worker_that_is_killed_is_an_error_and_starts_again(talking: ServeProcess) -> None:
    with sent(talking, {**HELLO, "max_tokens": 10_000}) as connection:
        talking.wait_for("requests_running", 1)
        talking.worker.kill()
        with connection.makefile("rb") as stream:
            answered = stream.read()
    assert b"500 Internal Server Error" in answered and b'"engine_died"' in answered
    assert talking.post(CHAT, {**HELLO, "max_tokens": 3})["usage"]["completion_tokens"] == 3


def test_sigterm_ends_running_answers_and_the_worker(endless: Chain, away: dict[str, str]) -> None:
    with serve(endless.path, "--ctx", "8192", **away) as server:
        with sent(server, {**HELLO, "stream": True, "max_tokens": 7000}) as connection:
            server.wait_for("requests_running", 1)
            worker = server.worker
            server.process.send_signal(signal.SIGTERM)
            with connection.makefile("rb") as stream:
                last = [line for line in stream if line.startswith(b"data: ")][-1]
        assert json.loads(last[6:])["error"]["code"] == "shutting_down"
        assert server.process.wait(30) == 0
        psutil.wait_procs([worker], timeout=10)
        assert not worker.is_running()


def test_chats_are_saved_only_where_that_is_wanted(chain: Chain, tmp_path: Path, away: dict[str, str]) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    for option in ((), ("--save",)):
        home = {**away, "QWENCHAT_HOME": str(tmp_path / f"home{len(option)}")}
        with serve(chain.path, "--ctx", "2048", *option, **home) as server:
            first = server.post(CHAT, {"messages": messages})["choices"][0]["message"]
            more = [*messages, first, {"role": "user", "content": "And then?"}]
            assert server.post(CHAT, {"messages": more})["choices"]
        listed = json.loads(qwenchat("sessions", "list", "--json", stdin=b"", by=(), **home).stdout)["sessions"]
        assert len(listed) == len(option)
        written = b"".join(file.read_bytes() for file in Path(home["QWENCHAT_HOME"]).rglob("*") if file.is_file())
        assert (b"And then?" in written) is bool(option)
    shown = qwenchat("sessions", "show", listed[0]["id"][:12], stdin=b"", by=(), **home).stdout
    assert shown.count("You:") == 2 and shown.count("And then?") == 1, "one session of two questions"
