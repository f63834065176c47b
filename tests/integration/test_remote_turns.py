"""What a fault of a server does to a turn: nothing that came is lost, and what the user reads has two lines."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from qwenchat.chat.events import TurnEvent, WaitingToRetry
from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.message import Message, Status
from qwenchat.chat.sampling import Dialect, Sampling
from qwenchat.chat.session import Session
from qwenchat.chat.turn import Turns
from qwenchat.engines.remote.engine import RemoteEngine
from qwenchat.engines.remote.http import RemoteHttp, TimeLimits
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import PromptTooLong, QwenchatError, RemoteBroken, RemoteBusy, RemoteRefused, RemoteUnauthorised
from tests.fakes.commands import qwenchat
from tests.fakes.standin_chat import answer_chunks, chunk
from tests.fakes.standin_server import Reply, StandinServer, Then, event_stream, json_reply, page_reply, standin_server

CHAT = "/v1/chat/completions"
WHOLE = event_stream(*answer_chunks("Hello ", "world."))
PART = [chunk({"role": "assistant", "content": None}), chunk({"content": "Hello "})]


@pytest.fixture
async def server() -> AsyncIterator[StandinServer]:
    async with standin_server() as made:
        made.reply("/v1/models", json_reply({"object": "list", "data": [{"id": "m", "object": "model"}]}))
        yield made


class Talk:
    """A session whose questions go to the stand-in server."""

    def __init__(
        self, server: StandinServer, model: str = "m", found: Callable[[str], object] = lambda _reference: None
    ) -> None:
        self.server, self.store = server, MemoryStore()
        self.store.create(Session(id="s", created=0, updated=0))
        self.http = RemoteHttp(
            RemoteServer(name="lab", url=f"{server.url}/v1", dialect=Dialect.OPENAI),
            environ={},
            limits=TimeLimits(next_token_s=0.3),
            sleep=self._sleep,
        )
        self.engine = RemoteEngine(self.http, model, defaults=Sampling(), found=found)
        numbers = iter(range(100))
        self.turns = Turns(
            store=self.store, engine=self.engine, new_id=lambda: f"{next(numbers):03}", clock=lambda: 0, model="@lab"
        )
        self.events: list[TurnEvent] = []

    async def _sleep(self, seconds: float) -> None:
        """Wait for nothing."""

    async def ask(self, *replies: Reply) -> None:
        self.server.reply(CHAT, *replies)
        async for event in self.turns.ask("s", "Hi"):
            self.events.append(event)

    @property
    def branch(self) -> list[Message]:
        return self.store.branch(self.store.session("s").leaf)


@pytest.fixture
async def talk(server: StandinServer) -> AsyncIterator[Talk]:
    made = Talk(server)
    yield made
    await made.engine.close(at_once=True)


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        (event_stream(*PART, done=False, then=Then.CUT), RemoteBroken, "Hello "),
        (event_stream(*PART, done=False, then=Then.RESET), RemoteBroken, "Hello "),
        (event_stream(*PART, done=False, then=Then.STALL), RemoteBroken, "Hello "),
        (event_stream(*PART, {"error": {"code": "data_inspection_failed"}}), RemoteRefused, "Hello "),
        (event_stream(*PART, {"error": {"message": "out of memory"}}), RemoteBusy, "Hello "),
        (page_reply(), RemoteBroken, ""),
        (json_reply("", 401), RemoteUnauthorised, ""),
        (json_reply("", 503), RemoteBusy, ""),
    ],
)
async def test_what_came_is_stored_with_the_reason(
    talk: Talk, reply: Reply, kind: type[QwenchatError], text: str
) -> None:
    with pytest.raises(kind) as caught:
        await talk.ask(reply)
    question, answer = talk.branch
    assert (question.text, answer.text, answer.status) == ("Hi", text, Status.FAILED)
    assert answer.error == caught.value.message
    await talk.ask(WHOLE)
    assert [message.text for message in talk.branch] == ["Hi", text, "Hi", "Hello world."]
    assert talk.branch[-1].status is Status.COMPLETE


async def test_a_prompt_that_the_server_finds_too_long_leaves_nothing(talk: Talk) -> None:
    with pytest.raises(PromptTooLong):
        await talk.ask(json_reply({"error": {"message": "exceeds the available context size"}}, 400))
    assert talk.branch == []


async def test_a_turn_reports_that_it_waits_for_another_attempt(talk: Talk) -> None:
    await talk.ask(json_reply("", 429), json_reply("", 502), WHOLE)
    waits = [event for event in talk.events if isinstance(event, WaitingToRetry)]
    assert [wait.attempt for wait in waits] == [2, 3]
    assert talk.branch[-1].text == "Hello world."


@pytest.mark.parametrize("listing", [["m"], ["m", "other"], []], ids=["listed", "among others", "no list"])
async def test_a_model_counts_as_used_once_the_server_has_shown_that_it_has_it(
    server: StandinServer, listing: list[str]
) -> None:
    cards = {"object": "list", "data": [{"id": name, "object": "model"} for name in listing]}
    server.reply("/v1/models", json_reply(cards) if listing else json_reply("", 404))
    found = list[str]()
    for model, reply in (("gone", json_reply({"error": {"message": "model not found"}}, 404)), ("m", WHOLE)):
        talk = Talk(server, model, found.append)
        if model == "gone":
            with pytest.raises(RemoteRefused):
                await talk.ask(reply)
            assert found == []
        else:
            await talk.ask(reply)
            assert talk.branch[-1].model == "@lab/m"
        await talk.engine.close(at_once=True)
    assert set(found) == {"@lab/m"}


async def test_the_only_model_of_a_server_is_named_in_its_answers(server: StandinServer) -> None:
    found = list[str]()
    talk = Talk(server, "", found.append)
    await talk.ask(WHOLE)
    assert talk.branch[-1].model == "@lab/m" and found == ["@lab/m"]
    await talk.engine.close(at_once=True)


@pytest.mark.parametrize(
    ("replies", "code", "text", "line"),
    [
        ([event_stream(*PART, done=False, then=Then.CUT)], 4, "Hello ", "The connection to {host} broke."),
        ([json_reply("", 429, Retry_After="0"), WHOLE], 0, "Hello world.", ""),
    ],
)
async def test_the_command_line(
    server: StandinServer, home: Path, *, replies: list[Reply], code: int, text: str, line: str
) -> None:
    settings = home / "config" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[engines.lab]\nurl = '{server.url}/v1'\nkind = 'openai'\n")
    server.reply(CHAT, *replies)
    done = await asyncio.to_thread(qwenchat, "ask", "--jsonl", "-m", "@lab/m", "Hi")
    events = [json.loads(each) for each in done.stdout.splitlines()]
    assert done.returncode == code
    assert "".join(each["text"] for each in events if each["event"] == "delta") == text
    assert [each["attempt"] for each in events if each["event"] == "waiting"] == [2] * (len(replies) - 1)
    if line:
        wrong, what_to_do = done.stderr.splitlines()[-2:]
        assert wrong == "error: " + line.format(host=server.url.removeprefix("http://"))
        assert "qwenchat engines test lab" in what_to_do
