"""HTTP to a server of models: what it sends when all is well, and every way in which that can go wrong."""

import asyncio
import itertools
import logging
import traceback
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from qwenchat.chat.events import WaitingToRetry
from qwenchat.cli.output import shell_advice
from qwenchat.engines.remote.faults import Fault, FaultKind
from qwenchat.engines.remote.http import RemoteHttp, TimeLimits
from qwenchat.engines.remote.received import MAX_EVENT
from qwenchat.engines.remote.retry import ASK_ONCE, USUAL_RETRIES, ServerRetryPolicy
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import (
    ExitCode,
    PromptTooLong,
    QwenchatError,
    RecoveryKind,
    RemoteBroken,
    RemoteBusy,
    RemoteError,
    RemoteRefused,
    RemoteUnauthorised,
)
from tests.fakes.standin_server import (
    DONE,
    PING,
    Piece,
    Reply,
    StandinServer,
    Then,
    event,
    event_stream,
    json_lines,
    json_reply,
    page_reply,
    standin_server,
)

KEY = "sk-0123456789abcdef"
CHAT = "/v1/chat/completions"
ONE, TWO = {"text": "one"}, {"text": "two"}


class Asking:
    """A connection to the stand-in server, without waits, and what it reported."""

    def __init__(self, server: StandinServer, **options: Any) -> None:
        self.server = server
        self.waits: list[WaitingToRetry] = []
        self.http = RemoteHttp(
            RemoteServer(name="gpu", url=f"{server.url}/v1", key_env="GPU_KEY"),
            **{"environ": {"GPU_KEY": KEY}, "sleep": self._sleep, **options},
        )
        self.http.report = self.waits.append
        self.got: list[Any] = []

    async def _sleep(self, seconds: float) -> None:
        assert seconds == self.waits[-1].wait_s

    async def stream(self, *replies: Reply, lines: bool = False, **options: Any) -> list[Any]:
        """Return what a stream yields; it is in `got` too, where it fails in the end."""
        self.server.reply(CHAT, *replies)
        self.got = []
        opened = (self.http.lines if lines else self.http.events)(self.server.url + CHAT, {"q": "?"}, **options)
        async with opened as values:
            async for value in values:
                self.got.append(value)
        return self.got

    async def get(self, *replies: Reply) -> Any:
        self.server.reply("/v1/models", *replies)
        return await self.http.get(f"{self.server.url}/v1/models")

    async def fails(self, *replies: Reply, **options: Any) -> QwenchatError:
        with pytest.raises(QwenchatError) as caught:
            await self.stream(*replies, **options)
        return caught.value


@pytest.fixture
async def server() -> AsyncIterator[StandinServer]:
    async with standin_server() as running:
        yield running


@pytest.fixture
async def asking(server: StandinServer) -> AsyncIterator[Asking]:
    asks = Asking(server)
    yield asks
    await asks.http.close()


async def test_events_come_whole_and_the_connection_is_used_again(asking: Asking) -> None:
    text = {"text": "Gr\u00fc\u00dfe \u4f60\u597d \U0001f600"}
    pieces = b": hello\n\nevent: x\ndata:" + event(text)[5:] + PING + event(ONE) + DONE
    byte_by_byte = Reply(content_type="text/event-stream", pieces=[bytes([each]) for each in pieces])
    assert await asking.stream(byte_by_byte) == [text, ONE]
    assert await asking.stream(event_stream(ONE, TWO)) == [ONE, TWO]
    assert asking.server.connections == 1
    asked = asking.server.asked[0]
    assert (asked.method, asked.json) == ("POST", {"q": "?"})
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json; charset=utf-16", "text/html"])
async def test_a_lying_content_type_changes_nothing(asking: Asking, content_type: str) -> None:
    reply = Reply(content_type=content_type, pieces=(event({"text": "\u00e9"}), DONE))
    assert await asking.stream(reply) == [{"text": "\u00e9"}]


async def test_lines_end_with_a_newline_only(asking: Asking) -> None:
    texts = {"text": "a\u2028b\u0085c\x0bd"}
    raw = '{"text": "a\u2028b\u0085c\\u000bd"}\n\n{"done": true}'.encode()
    reply = Reply(pieces=[bytes([each]) for each in raw])
    assert await asking.stream(reply, lines=True, is_last=lambda line: "done" in line) == [texts, {"done": True}]


async def test_a_stream_may_end_after_the_event_that_says_so(asking: Asking) -> None:
    for then in (Then.END, Then.CUT, Then.RESET):
        reply = event_stream(ONE, TWO, done=False, then=then)
        assert await asking.stream(reply, is_last=lambda each: each == TWO) == [ONE, TWO]


async def test_a_document(asking: Asking) -> None:
    assert await asking.get(json_reply({"data": [1]})) == {"data": [1]}
    asking.server.reply("/v1/tokenize", json_reply([1, 2]))
    assert await asking.http.post(f"{asking.server.url}/v1/tokenize", {"content": "x"}) == [1, 2]


PAGE = "<!DOCTYPE html><html><title>Log in</title>"


def raw(pieces: Iterable[Piece], then: Then = Then.END) -> Reply:
    """Return an event stream, byte for byte."""
    return Reply(content_type="text/event-stream", pieces=pieces, then=then)


BOMB = Reply(headers={"Content-Encoding": "gzip"}, pieces=(b"\x1f\x8b" + bytes(100),))


def oai(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


BROKEN: list[tuple[str, Reply, type[QwenchatError], str]] = [
    ("a web page", page_reply(), RemoteBroken, "web page"),
    (
        "a page that claims to be events",
        raw((PAGE.encode(),)),
        RemoteBroken,
        "web page",
    ),
    (
        "a page in pieces",
        raw([b"\n<!doc", b"type html>"]),
        RemoteBroken,
        "web page",
    ),
    (
        "an endless page",
        raw(itertools.repeat(PAGE.encode())),
        RemoteBroken,
        "web page",
    ),
    (
        "an endless line",
        raw(itertools.repeat(b"data: x" * 1000)),
        RemoteBroken,
        "more than",
    ),
    (
        "an endless event",
        raw(itertools.repeat(b"data: x\n" * 999)),
        RemoteBroken,
        "more than",
    ),
    (
        "an endless comment",
        raw(itertools.repeat(b": x" * 1000)),
        RemoteBroken,
        "more than",
    ),
    ("compressed", BOMB, RemoteBroken, "compressed"),
    ("invalid JSON", raw((b"data: {nope}\n\n",)), RemoteBroken, "can't be read"),
    ("not an object", raw((b"data: [1]\n\n",)), RemoteBroken, "can't be read"),
    ("invalid UTF-8", raw((b'data: {"\xff\n\n',)), RemoteBroken, "can't be read"),
    (
        "deep",
        raw((b"data: " + b"[" * 200_000 + b"\n\n",)),
        RemoteBroken,
        "can't be read",
    ),
    ("one document", json_reply({"choices": []}), RemoteBroken, "does not stream"),
    ("nothing at all", Reply(framing="length"), RemoteBroken, "broke"),
    ("no HTTP", Reply(pieces=(b"SSH-2.0-x\r\n\r\n",), without_head=True), RemoteBroken, "does not speak HTTP"),
    ("a header without an end", Reply(headers={"X": "y" * 200_000}), RemoteBroken, "does not speak HTTP"),
    ("no status", Reply(without_head=True, then=Then.CUT), RemoteBroken, "broke"),
    ("a reset", Reply(without_head=True, then=Then.RESET), RemoteBroken, "broke"),
    ("no end marker", event_stream(done=False), RemoteBroken, "broke"),
    ("an error in place of a stream", json_reply(oai("model 'x' not found")), RemoteRefused, "not have this model"),
]


@pytest.mark.parametrize(("reply", "kind", "words"), [each[1:] for each in BROKEN], ids=[each[0] for each in BROKEN])
async def test_what_is_no_stream(server: StandinServer, reply: Reply, kind: type[QwenchatError], words: str) -> None:
    asking = Asking(server, policy=ASK_ONCE)
    error = await asking.fails(reply)
    assert type(error) is kind and words in error.message and shell_advice(error)
    assert error.exit_code == ExitCode.NETWORK
    assert "127.0.0.1" in error.message and asking.got == []
    assert len(server.asked) == 1
    await asking.http.close()


async def test_a_line_of_json_without_an_end(asking: Asking) -> None:
    endless = Reply(pieces=itertools.repeat(b"x" * 5000))
    assert "more than" in (await asking.fails(endless, lines=True)).message
    longest = {"text": "x" * (MAX_EVENT - 100)}
    assert await asking.stream(json_lines(longest), lines=True, is_last=lambda line: True) == [longest]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (page_reply(), "web page"),
        (Reply(pieces=(b"{",)), "can't be read"),
        (Reply(), "can't be read"),
        (Reply(pieces=(b'{"a": 1}',), framing="length", then=Then.CUT), "broke"),
        (json_reply(oai("Unexpected endpoint or method. (GET /props)")), "has nothing at /v1/models"),
    ],
)
async def test_what_is_no_document(server: StandinServer, reply: Reply, words: str) -> None:
    asking = Asking(server, policy=ASK_ONCE)
    with pytest.raises(RemoteError, match=words):
        await asking.get(reply)
    await asking.http.close()


async def test_a_document_without_an_end(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwenchat.engines.remote.http.MAX_DOCUMENT", 100_000)
    with pytest.raises(RemoteBroken, match="more than"):
        await asking.get(Reply(pieces=itertools.repeat(b" " * 5000)))


@pytest.mark.parametrize("then", [Then.CUT, Then.RESET])
async def test_a_connection_that_is_cut_in_mid_answer_is_not_asked_again(asking: Asking, then: Then) -> None:
    error = await asking.fails(event_stream(ONE, done=False, then=then))
    assert type(error) is RemoteBroken and "broke" in error.message and "incomplete" in error.hint
    assert asking.got == [ONE] and len(asking.server.asked) == 1 and asking.waits == []
    assert error.recoveries[0].kind is RecoveryKind.ASK_AGAIN


async def test_a_stream_that_ends_without_saying_so_is_not_complete(asking: Asking) -> None:
    error = await asking.fails(event_stream(ONE, done=False))
    assert "broke" in error.message and asking.got == [ONE]
    error = await asking.fails(json_lines(ONE), lines=True)
    assert "broke" in error.message and asking.got == [ONE]


@pytest.mark.parametrize(("count", "limits"), [(0, TimeLimits(first_token_s=0.05)), (1, TimeLimits(next_token_s=0.05))])
async def test_a_stream_that_stalls(server: StandinServer, count: int, limits: TimeLimits) -> None:
    asking = Asking(server, limits=limits)
    error = await asking.fails(event_stream(*[ONE] * count, done=False, then=Then.STALL))
    assert type(error) is RemoteBroken and "stopped responding" in error.message
    assert asking.got == [ONE] * count and len(server.asked) == 1
    await server.asked[0].gone.wait()
    await asking.http.close()


async def test_a_server_that_sends_nothing(server: StandinServer) -> None:
    asking = Asking(server, limits=TimeLimits(document_s=0.05))
    with pytest.raises(RemoteBroken, match="stopped responding"):
        await asking.get(Reply(without_head=True, then=Then.STALL))
    await asking.http.close()


async def test_comments_show_that_a_server_is_at_work(server: StandinServer) -> None:
    asking = Asking(server, limits=TimeLimits(next_token_s=0.5))
    tick = asyncio.Event()
    clock = iter(range(30))

    def pieces() -> Any:
        yield event(ONE)
        for _step in clock:  # longer than silence may last, in small steps
            yield tick
            yield PING
        yield DONE

    async def ticking() -> None:
        while True:
            await asyncio.sleep(0.025)
            tick.set()
            tick.clear()

    task = asyncio.create_task(ticking())
    assert await asking.stream(raw(pieces())) == [ONE]
    task.cancel()
    await asking.http.close()


async def test_the_first_token_may_take_longer_than_the_next(server: StandinServer) -> None:
    asking = Asking(server, limits=TimeLimits(first_token_s=30, next_token_s=0.05))
    gate = asyncio.Event()
    role = raw((event({"role": "assistant"}), gate, event(ONE)), Then.STALL)
    server.reply(CHAT, role)
    async with asking.http.events(server.url + CHAT, {}, is_token=lambda each: "text" in each) as events:
        assert await anext(events) == {"role": "assistant"}
        with pytest.raises(TimeoutError):  # not the server's fault: it prefills
            async with asyncio.timeout(0.1):
                await asyncio.shield(never())
        gate.set()
        assert await anext(events) == ONE
        with pytest.raises(RemoteBroken, match="stopped responding"):
            await anext(events)
    await asking.http.close()


async def never() -> None:
    await asyncio.Event().wait()


STATUSES: list[tuple[int, object, type[QwenchatError], str, int]] = [
    (401, oai("Invalid API Key", type="authentication_error"), RemoteUnauthorised, "not accept the key", 1),
    (403, oai("no"), RemoteUnauthorised, "refuses access", 1),
    (403, oai("overdue", code="Arrearage"), RemoteRefused, "quota", 1),
    (404, {"detail": "Not Found"}, RemoteRefused, f"nothing at {CHAT}", 1),
    (404, oai("The model `x` does not exist.", type="NotFoundError", code=404), RemoteRefused, "this model", 1),
    (404, {"error": 'model "x" not found, try pulling it first'}, RemoteRefused, "this model", 1),
    (405, "", RemoteRefused, "nothing at", 1),
    (408, "", RemoteBusy, "busy (408)", 4),
    (409, "", RemoteBusy, "busy (409)", 4),
    (429, oai("slow down", code="rate_limit_exceeded"), RemoteBusy, "busy (429). It says: “slow down”.", 4),
    (429, oai("You exceeded your current quota", code="insufficient_quota"), RemoteRefused, "quota", 1),
    (429, {"code": "Throttling.RateQuota", "message": "rate"}, RemoteBusy, "It says: “rate”.", 4),
    (500, oai("oops", type="server_error"), RemoteBusy, "error (500). It says: “oops”.", 4),
    (501, oai("no logprobs"), RemoteRefused, "refuses the request (501)", 1),
    (502, "<html>Bad Gateway</html>", RemoteBusy, "error (502)", 4),
    (503, "", RemoteBusy, "busy (503)", 4),
    (400, oai("data may contain inappropriate content", code="data_inspection_failed"), RemoteRefused, "filter", 1),
    (400, oai("Unknown field: foo"), RemoteRefused, "refuses the request (400). It says: “Unknown field: foo”.", 1),
    (422, {"detail": [{"msg": "too deep"}]}, RemoteRefused, "refuses the request (422)", 1),
    (413, "", RemoteRefused, "refuses the request (413)", 1),
    (511, "", RemoteBroken, "web page", 1),
    (302, "", RemoteRefused, "redirects", 1),
    (
        400,
        oai("too large", type="exceed_context_size_error", n_prompt_tokens=9000, n_ctx=4096),
        PromptTooLong,
        "9,000 > 4,096 tokens",
        1,
    ),
    (400, oai("This model's maximum context length is 4096 tokens."), PromptTooLong, "does not fit", 1),
    (400, {"error": "the input length exceeds the context length"}, PromptTooLong, "does not fit", 1),
    (400, oai("Range of input length should be [1, 30720]"), PromptTooLong, "does not fit", 1),
]


@pytest.mark.parametrize(("status", "body", "kind", "words", "attempts"), STATUSES)
async def test_statuses(
    asking: Asking, *, status: int, body: object, kind: type[QwenchatError], words: str, attempts: int
) -> None:
    error = await asking.fails(json_reply(body, status))
    assert type(error) is kind and words in error.message and shell_advice(error)
    assert len(asking.server.asked) == attempts == len(asking.waits) + 1
    assert error.exit_code == (ExitCode.USAGE if kind is PromptTooLong else ExitCode.NETWORK)


EVENTS: list[tuple[object, type[QwenchatError], str]] = [
    (oai("no", code="data_inspection_failed"), RemoteRefused, "filter"),
    (oai("slow", code=429), RemoteBusy, "busy (429)"),
    (oai("slow", type="rate_limit_error"), RemoteBusy, "is busy. It says: “slow”."),
    (
        {"error": "llama runner process has terminated"},
        RemoteBusy,
        "reports an error. It says: “llama runner process has terminated”.",
    ),
    ({"object": "error", "message": "boom", "code": 500}, RemoteBusy, "internal error (500). It says: “boom”."),
    (oai("Range of input length should be [1, 5]", code="x"), RemoteRefused, "does not fit"),
    (oai("the request exceeds the available context size"), RemoteRefused, "does not fit"),
]


@pytest.mark.parametrize(("value", "kind", "words"), EVENTS)
async def test_an_error_in_mid_answer(asking: Asking, value: object, kind: type[QwenchatError], words: str) -> None:
    error = await asking.fails(event_stream(ONE, value, TWO))
    assert type(error) is kind and words in error.message and "incomplete" in error.hint
    assert asking.got == [ONE] and len(asking.server.asked) == 1
    line = await asking.fails(json_lines(ONE, value), lines=True)
    assert type(line) is kind and line.message == error.message


async def test_it_asks_again_until_it_is_answered(asking: Asking) -> None:
    replies = (
        json_reply(oai("later"), 429, Retry_After="7"),
        json_reply(oai("later"), 503, Retry_After_Ms="1500"),
        event_stream(oai("slow down", code=529)),
        event_stream(ONE),
    )
    assert await asking.stream(*replies) == [ONE]
    assert [wait.wait_s for wait in asking.waits[:2]] == [7.0, 1.5]
    assert [(wait.attempt, wait.attempts) for wait in asking.waits] == [(2, 4), (3, 4), (4, 4)]
    assert "busy (429). It says: “later”." in asking.waits[0].reason


async def test_events_before_the_first_token_may_come_again(asking: Asking) -> None:
    progress = {"progress": 0.5}
    replies = (event_stream(progress, done=False, then=Then.CUT), event_stream(progress, ONE))
    assert await asking.stream(*replies, is_token=lambda each: "text" in each) == [progress, progress, ONE]
    assert len(asking.waits) == 1


async def test_a_server_that_asks_for_too_long_a_wait_is_not_asked_again(asking: Asking) -> None:
    error = await asking.fails(json_reply("", 429, Retry_After="3600"))
    assert "busy" in error.message and "3600 s" in error.hint and asking.waits == []


async def test_a_server_that_loads_its_model_is_waited_for(asking: Asking) -> None:
    loading = json_reply(oai("Loading model", code=503, type="unavailable_error"), 503)
    assert await asking.stream(*[loading] * 12, event_stream(ONE)) == [ONE]
    assert len(asking.waits) == 12 and {wait.attempts for wait in asking.waits} == {0}
    assert "is loading its model" in asking.waits[0].reason


async def test_it_does_not_wait_for_ever(server: StandinServer) -> None:
    asking = Asking(server, policy=ServerRetryPolicy(loading_s=30))
    error = await asking.fails(json_reply(oai("Loading model"), 503))
    assert type(error) is RemoteBusy and "is loading its model" in error.message
    assert sum(wait.wait_s for wait in asking.waits) <= 30
    await asking.http.close()


def test_waits_grow_up_to_a_limit_with_jitter() -> None:
    waits = [USUAL_RETRIES.wait_s(Fault(kind=FaultKind.LOADING), failures, 0) or 0 for failures in range(1, 9)]
    middles = [0.5, 1, 2, 4, 8, 8, 8, 8]
    assert all(0.75 * middle <= wait <= 1.25 * middle for wait, middle in zip(waits, middles, strict=True))


@pytest.mark.parametrize("moment", ["before the answer", "in the answer", "between attempts"])
async def test_cancelling_ends_at_once_and_closes_the_connection(server: StandinServer, moment: str) -> None:
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await never()

    asking = Asking(server, sleep=sleep)
    begun = asyncio.Event()
    gate = asyncio.Event()
    replies = {
        "before the answer": Reply(pieces=(gate,), without_head=True),
        "in the answer": event_stream(ONE, done=False, then=Then.STALL),
        "between attempts": json_reply("", 503),
    }
    server.reply(CHAT, replies[moment])

    async def ask() -> None:
        async with asking.http.events(server.url + CHAT, {}) as events:
            async for _event in events:
                begun.set()

    task = asyncio.create_task(ask())
    if moment == "between attempts":
        await waiting.wait()
    elif moment == "in the answer":
        await begun.wait()
    else:
        while not server.asked:
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if moment != "between attempts":
        await server.asked[0].gone.wait()
    assert len(server.asked) == 1
    await asking.http.close()


async def test_leaving_a_stream_closes_the_connection(server: StandinServer, asking: Asking) -> None:
    server.reply(CHAT, event_stream(ONE, TWO, done=False, then=Then.STALL))
    async with asking.http.events(server.url + CHAT, {}) as events:
        assert await anext(events) == ONE
    await server.asked[0].gone.wait()


async def test_a_server_that_goes_on_after_the_end_is_left(server: StandinServer, asking: Asking) -> None:
    pieces = (event(ONE), DONE, event(TWO))
    assert await asking.stream(raw(pieces, Then.STALL)) == [ONE]
    await server.asked[0].gone.wait()


@pytest.mark.parametrize("location", ["https://evil.example/v1", "//evil.example/x", "/elsewhere", "http://[", ""])
async def test_redirects_are_named_and_not_followed(asking: Asking, location: str) -> None:
    asking.server.reply("/elsewhere", event_stream(ONE))
    error = await asking.fails(Reply(status=307, headers={"Location": location}, framing="length"))
    assert "redirects" in error.message and len(asking.server.asked) == 1
    if location == "/elsewhere":
        assert "redirects to /elsewhere," in error.message
    elif "evil" in location:
        assert "evil.example" in error.message


async def test_nothing_is_sent_to_another_server(asking: Asking) -> None:
    async with standin_server() as other:
        for url in (other.url, asking.server.url.replace("http:", "https:"), "http://127.0.0.1", "nonsense"):
            with pytest.raises(ValueError, match=url):
                await asking.http.get(f"{url}/v1/models")
        assert other.connections == asking.server.connections == 0


async def test_a_key_that_is_refused_is_looked_up_again(server: StandinServer) -> None:
    environ = {"GPU_KEY": "old"}
    asking = Asking(server, environ=environ)
    error = await asking.fails(json_reply("", 401))
    assert error.recoveries[0].kind is RecoveryKind.SET_KEY and error.recoveries[0].name == "gpu"
    environ["GPU_KEY"] = "new"
    await asking.stream(event_stream(ONE))
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer old", "Bearer new"]
    await asking.http.close()


async def test_a_server_that_wants_a_key_where_none_is_set(server: StandinServer) -> None:
    http = RemoteHttp(RemoteServer(name="gpu", url=server.url), environ={})
    server.reply("/v1/models", json_reply("", 401))
    with pytest.raises(RemoteUnauthorised, match="wants a key"):
        await http.get(f"{server.url}/v1/models")
    assert "authorization" not in server.asked[0].headers
    await http.close()


async def test_cookies_are_not_sent_back(asking: Asking) -> None:
    await asking.get(json_reply({}, Set_Cookie="a=b; Path=/"))
    await asking.get(json_reply({}))
    assert "cookie" not in asking.server.asked[1].headers


async def test_what_a_server_says_is_cleaned_and_short(asking: Asking) -> None:
    hostile = "\x1b[2J\x1b]0;pwned\x07[red]bold[/] \u202etxt\nsecond line " + "x" * 5000
    error = await asking.fails(json_reply(oai(hostile), 400))
    said = error.message.partition("It says: “")[2].removesuffix("”.")
    assert said.startswith("[2J]0;pwned[red]bold[/] txt second line x") and len(said) <= 200
    assert said.isprintable()


LEAKY = [
    json_reply(oai(f"Incorrect API key: {KEY}."), 401),
    json_reply({"error": f"bad {KEY}"}, 400),
    json_reply({"detail": KEY}, 404),
    json_reply(oai("x" * 190 + KEY), 500),
    json_reply(oai(KEY[:5] + "\x00" + KEY[5:]), 403),
    Reply(status=429, pieces=(f"sent {KEY}".encode(),)),
    Reply(status=302, headers={"Location": f"http://127.0.0.1:1/{KEY}"}),
    Reply(status=302, headers={"Location": f"/{KEY}"}),
    Reply(status=302, headers={"Location": f"http://{KEY}.example/"}),
    Reply(status=302, headers={"Location": f"http://{KEY}@evil.example/"}),
    event_stream(oai(f"key {KEY}")),
    event_stream(ONE, oai(f"key {KEY}", code="data_inspection_failed")),
    raw((f"data: {KEY}\n\n".encode(),)),
    Reply(pieces=(f"{KEY}\r\n\r\n".encode(),), without_head=True),
    *(each[1] for each in BROKEN),
]


@pytest.mark.parametrize("reply", LEAKY)
async def test_no_error_shows_the_key(server: StandinServer, reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asking = Asking(server)
    error = await asking.fails(reply)
    shown = traceback.format_exception(error)
    logged = [line for line in caplog.text.splitlines() if "receive_response_headers" not in line]  # they are its own
    texts = [error.message, error.hint, repr(error), *shown, *logged]
    texts += [wait.reason for wait in asking.waits]
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert not any(KEY in text or KEY[-8:] in text for text in texts)
    await asking.http.close()


async def test_two_streams_at_once(server: StandinServer, asking: Asking) -> None:
    gate = asyncio.Event()
    server.reply(CHAT, raw((event(ONE), gate, event(TWO), DONE)), event_stream(TWO))
    async with asking.http.events(server.url + CHAT, {}) as first:
        assert await anext(first) == ONE
        async with asking.http.events(server.url + CHAT, {}) as second:
            assert [each async for each in second] == [TWO]
        gate.set()
        assert [each async for each in first] == [TWO]
