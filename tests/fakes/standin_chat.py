"""What chat APIs of OpenAI's kind say: OpenAI itself, LM Studio, DashScope. And what every test of a chat API needs.

The shapes are those of the servers' own documentation and source. The bytes are cut in places where no character ends.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from qwenchat.chat.events import Delta, EngineEvent, Finished
from qwenchat.chat.message import Message, Part, Role
from qwenchat.chat.ports import Mode, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Dialect, Sampling
from qwenchat.chat.streaming import StreamingAnswer
from qwenchat.engines.remote.api import ServedModel, ServerApi
from qwenchat.engines.remote.detect import chat_api
from qwenchat.engines.remote.http import RemoteHttp
from qwenchat.engines.remote.retry import ASK_ONCE
from qwenchat.engines.remote.server import RemoteServer
from tests.fakes.standin_server import DONE, Piece, Reply, StandinServer, Then

FULL = Sampling(
    temperature=0.7, top_p=0.8, top_k=20, min_p=0.05, repeat_penalty=1.05, seed=7, max_tokens=100, stop=("END",)
)
"""A value for every parameter."""
_CUT = 7
"""Bytes of a piece."""


def cut(data: bytes) -> tuple[bytes, ...]:
    """Return bytes in pieces that end anywhere."""
    return tuple(data[at : at + _CUT] for at in range(0, len(data), _CUT))


def chunk(delta: dict[str, object], finish: str | None = None, **more: object) -> dict[str, object]:
    """Return one chunk of a streamed answer."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, object]:
    """Return the chunk that counts an answer's tokens."""
    details = {"cached_tokens": cached}
    counted = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {"id": "c1", "choices": [], "usage": counted | {"prompt_tokens_details": details}}


def answer_chunks(
    *texts: str, reasoning: Sequence[str] = (), finish: str = "stop", counted: dict[str, object] | None = None
) -> list[dict[str, object]]:
    """Return the chunks of an answer in the order in which servers send them."""
    return [
        chunk({"role": "assistant", "content": None}),
        *(chunk({"content": None, "reasoning_content": piece}) for piece in reasoning),
        *(chunk({"content": text}) for text in texts),
        chunk({}, finish),
        *([counted] if counted else []),
    ]


def streamed(*chunks: object, done: bool = True, then: Then = Then.END, before_end: Sequence[Piece] = ()) -> Reply:
    """Return chunks as a stream whose bytes are cut anywhere; `before_end`: what is waited for after them."""
    data = b"".join(b"data: " + json.dumps(each, ensure_ascii=False).encode() + b"\n\n" for each in chunks)
    return Reply(
        content_type="text/event-stream", pieces=(*cut(data), *before_end, *((DONE,) if done else ())), then=then
    )


@asynccontextmanager
async def http_of(server: StandinServer, dialect: Dialect | None = None, path: str = "") -> AsyncIterator[RemoteHttp]:
    """Return the connections to a stand-in, which ask once."""
    remote = RemoteServer(name="lab", url=f"{server.url}{path}", dialect=dialect)
    http = RemoteHttp(remote, policy=ASK_ONCE, environ={})
    try:
        yield http
    finally:
        await http.close()


@asynccontextmanager
async def api_of(server: StandinServer, dialect: Dialect, path: str = "") -> AsyncIterator[ServerApi]:
    """Return the interface to a stand-in in a dialect."""
    async with http_of(server, dialect, path) as http:
        yield chat_api(http, dialect)


def asked(*texts: str, system: str = "", sampling: Sampling = FULL, mode: Mode = Mode.ANSWER) -> Request:
    """Return a request whose turns alternate, the first being a question."""
    roles = ("user", "assistant")
    turns = [Turn(roles[place % 2], text) for place, text in enumerate(texts)]
    return Request(turns=tuple([Turn("system", system)] if system else []) + tuple(turns), sampling=sampling, mode=mode)


async def generated(
    api: ServerApi, model: ServedModel, request: Request
) -> tuple[tuple[Part, ...], Finished, list[EngineEvent]]:
    """Return an answer's parts, its end, and all events."""
    events = [event async for event in api.generate(model, request, request.sampling)]
    answer = StreamingAnswer(Message(id="a", session="s", parent=None, role=Role.ASSISTANT, parts=(), created=0))
    for event in events:
        if isinstance(event, Delta):
            answer.add(event)
    answer.finish()
    end = events[-1]
    assert isinstance(end, Finished)
    return answer.snapshot().parts, end, events
