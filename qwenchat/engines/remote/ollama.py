"""Ollama's own API, `/api/chat`, because its OpenAI-compatible one drops parameters and cuts long prompts silently.

Left alone, Ollama drops the oldest messages of a prompt that is too long and reports nothing, and its window depends on
the memory of the machine. So every request forbids cutting, and states the window: what the user set, else what the
model is loaded with, so that it is not loaded again, else what its Modelfile says, else a modest one. Where that is
less than the model could have, a notice says so.
How long a model stays loaded is the server's affair. Models that it only passes on to another host are refused: nobody
would see where words go.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
from msgspec import structs

from qwenchat.chat.events import EngineEvent, Finished
from qwenchat.chat.message import FinishReason, Timings, Usage
from qwenchat.chat.ports import Capabilities, Mode, Request, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Dialect, Sampling
from qwenchat.engines.remote.api import LOAD_S, ServedModel, shaped
from qwenchat.engines.remote.estimates import TokenEstimates
from qwenchat.engines.remote.http import RemoteHttp
from qwenchat.engines.remote.messages import (
    ChatAnswer,
    ChatMessage,
    StreamedCalls,
    chat_messages,
    functions,
    limit_reached,
    plain_prompt,
)
from qwenchat.errors import NotFound, PromptTooLong, Recovery, RecoveryKind, RemoteError, RemoteRefused
from qwenchat.i18n import _
from qwenchat.text.safe import clean_line
from qwenchat.text.token_estimate import estimated_tokens

MODEST_CONTEXT = 8192
"""Tokens of the window of a model that is not loaded, where nobody says what it should be."""
_SHOWN_AT_ONCE = 8
"""How many models a server is asked about at the same time."""
_NEUTRAL = {
    "repeat_last_n": 64,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "typical_p": 1.0,
    "num_keep": 0,
}
"""What a Modelfile may set and qwenchat's own sampler does not do, switched off."""
_RANDOM_SEED = -1
_UNLIMITED = -1
_NANOSECONDS = 1e9
_WINDOW_PARAMETER = re.compile(r"^num_ctx\s+(\d{1,9})\s*$", re.MULTILINE)
_OPEN_END = re.compile(r"\bif not \$last\b.*\(ne \.Role \"assistant\"\) \$last", re.DOTALL)
"""What a template that goes through the messages says where it leaves an answer open that is the last of them."""


class _TagDetails(msgspec.Struct, frozen=True):
    quantization_level: str | None = None


class _Tag(msgspec.Struct, frozen=True):
    name: str
    size: int = 0
    digest: str = ""
    details: _TagDetails | None = None
    remote_host: str = ""
    """Where a model runs that this server only passes requests on to."""


class _Tags(msgspec.Struct, frozen=True):
    models: list[_Tag] | None = None


class _Running(msgspec.Struct, frozen=True):
    name: str
    context_length: int = 0


class _AllRunning(msgspec.Struct, frozen=True):
    models: list[_Running] | None = None


class _Shown(msgspec.Struct, frozen=True):
    """What `/api/show` says of a model."""

    model_info: dict[str, Any] | None = None
    template: str = ""
    parameters: str = ""
    modelfile: str = ""
    capabilities: list[str] | None = None

    @property
    def trained(self) -> int:
        """Tokens of the window that it was trained for; 0 where that is unknown."""
        lengths = [value for key, value in (self.model_info or {}).items() if key.endswith(".context_length")]
        return next((value for value in lengths if isinstance(value, int) and value > 0), 0)

    @property
    def generates(self) -> bool:
        """Whether it writes text: others make embeddings. Old servers do not say."""
        return not self.capabilities or "completion" in self.capabilities

    @property
    def thinks(self) -> bool:
        """Whether it can be asked for its reasoning."""
        return "thinking" in (self.capabilities or ())

    @property
    def calls_tools(self) -> bool:
        """Whether its template knows tools."""
        return "tools" in (self.capabilities or ())

    @property
    def continues(self) -> bool:
        """Whether its template leaves the answer open that is the last message."""
        if re.search(r"^RENDERER\b", self.modelfile, re.MULTILINE):
            return False
        if ".Messages" in self.template:
            return _OPEN_END.search(self.template) is not None
        return ".Response" in self.template


class _OllamaFunction(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: dict[str, Any] | None = None


class _OllamaCall(msgspec.Struct, frozen=True):
    """A call, which comes whole."""

    id: str = ""
    function: _OllamaFunction = _OllamaFunction()


class _OllamaText(msgspec.Struct, frozen=True):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_OllamaCall] | None = None


class _OllamaLine(msgspec.Struct, frozen=True):
    """One line of an answer; `response` and `thinking` where there are no messages. Durations in nanoseconds."""

    message: _OllamaText | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str = ""
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0

    @property
    def said(self) -> _OllamaText:
        """What the line adds."""
        return self.message or _OllamaText(content=self.response, thinking=self.thinking)


class OllamaApi:
    """Implements `ServerApi`."""

    dialect = Dialect.OLLAMA
    calls = None

    def __init__(self, http: RemoteHttp) -> None:
        self.capabilities = Capabilities(json_schema=True)
        self._http, self._server = http, http.server
        self._estimates = TokenEstimates()
        self._num_ctx = 0
        """The window that every request states; the model is loaded again where it changes."""
        self._thinks = False
        self._facts: dict[tuple[str, str], _Shown] = {}
        """What was shown of models before, by their names and digests."""

    async def models(self) -> list[ServedModel]:
        listed, running = await asyncio.gather(self._tags(), self._running())
        tags = [tag for tag in listed if not tag.remote_host]
        at_once = asyncio.Semaphore(_SHOWN_AT_ONCE)

        async def shown(tag: _Tag) -> _Shown:
            async with at_once:
                try:
                    return await self._shown(tag)
                except RemoteError:  # one damaged model hides no other
                    return _Shown()

        facts = await asyncio.gather(*map(shown, tags))
        return [
            _served(tag, each, running.get(tag.name, 0))
            for tag, each in zip(tags, facts, strict=True)
            if each.generates
        ]

    async def prepare(self, model: str, *, n_ctx: int = 0) -> ServedModel:
        tag = self._found(await self._tags(), model)
        shown, running = await asyncio.gather(self._shown(tag), self._running())
        self.capabilities = structs.replace(self.capabilities, continue_answer=shown.continues, tools=shown.calls_tools)
        self._thinks = shown.thinks
        set_there = _WINDOW_PARAMETER.search(shown.parameters)
        wanted = n_ctx or running.get(tag.name, 0) or int(set_there[1] if set_there else 0) or MODEST_CONTEXT
        self._num_ctx = min(wanted, shown.trained or wanted)
        request = {"model": tag.name, "messages": [], "stream": False, "options": {"num_ctx": self._num_ctx}}
        await self._http.post(f"{self._server.root}/api/chat", request, silence_s=LOAD_S)  # this loads it
        allocated = (await self._running()).get(tag.name, 0)
        served = _served(tag, shown, min(self._num_ctx, allocated or self._num_ctx))
        notice = _(
            "The context window of {model} has {n_ctx} of the {most} tokens that it could have. "
            "`context` in the section [engines.{name}] of the settings changes that."
        ).format(model=served.id, n_ctx=f"{served.n_ctx:,}", most=f"{served.n_ctx_max:,}", name=self._server.name)
        is_less = not n_ctx and served.n_ctx < served.n_ctx_max
        return structs.replace(served, is_loaded=True, notices=(notice,) if is_less else ())

    async def count(self, model: ServedModel, turns: Sequence[Turn], mode: Mode) -> TokenCounts:
        return self._estimates.count(turns, mode)

    def lacks(self, sampling: Sampling) -> tuple[str, ...]:
        return sampling.lacked_by(self.dialect)

    async def generate(
        self, model: ServedModel, request: Request, sampling: Sampling
    ) -> AsyncGenerator[EngineEvent, None]:
        path = "generate" if request.mode is Mode.COMPLETE else "chat"
        body, answer, calls = self._body(model, request, sampling), ChatAnswer(), StreamedCalls()
        url = f"{self._server.root}/api/{path}"
        try:
            async with self._http.lines(url, body, is_token=_is_token, is_last=_is_last) as lines:
                async for value in lines:
                    line = shaped(self._server, value, _OllamaLine)
                    if delta := answer.delta(line.said.content, line.said.thinking):
                        yield delta
                    for call in line.said.tool_calls or ():
                        arguments = msgspec.json.encode(call.function.arguments or {}).decode()
                        calls.add(index=None, call_id=call.id, name=call.function.name, arguments=arguments)
                    if line.done:
                        called = calls.called() if request.turns[0].tools else []
                        if called and (delta := answer.end_reasoning()):
                            yield delta
                        for each in called:
                            yield each
                        end = self._finished(model, request, sampling, last=line, text=answer.text)
                        is_over = called and end.reason is FinishReason.STOP
                        yield structs.replace(end, reason=FinishReason.TOOL_CALLS) if is_over else end
                        return
        except PromptTooLong:
            self._estimates.learn_too_long(request.turns, request.mode, model.n_ctx)
            raise

    def _body(self, model: ServedModel, request: Request, sampling: Sampling) -> dict[str, object]:
        options: dict[str, object] = {
            **_NEUTRAL,
            "num_predict": _UNLIMITED,
            "seed": _RANDOM_SEED,
            **sampling.numbers(self.dialect),
            "num_ctx": self._num_ctx,
        }
        body: dict[str, object] = {
            "model": model.id,
            "stream": True,
            "truncate": False,
            "shift": False,
            "options": options,
        }
        if request.mode is Mode.COMPLETE:
            body |= {"prompt": plain_prompt(request.turns), "raw": True}
        else:
            body["messages"] = _as_ollama(chat_messages(request))
            if tools := request.turns[0].tools:
                body["tools"] = functions(tools)
            if self._thinks:
                body["think"] = request.mode is Mode.ANSWER
        if sampling.schema is not None:
            body["format"] = msgspec.json.decode(sampling.schema)
        elif sampling.stop:
            options["stop"] = sampling.stop
        return body

    def _finished(
        self, model: ServedModel, request: Request, sampling: Sampling, *, last: _OllamaLine, text: str
    ) -> Finished:
        """Return the end of an answer. A prompt that the server has cached whole is counted as 0, or not at all."""
        estimated = self._estimates.count(request.turns, request.mode).total
        self._estimates.learn(request.turns, request.mode, last.prompt_eval_count)
        usage = Usage(
            max(0, last.prompt_eval_count) or estimated, 0, max(0, last.eval_count) or round(estimated_tokens(text))
        )
        prefill_s, decode_s = last.prompt_eval_duration / _NANOSECONDS, last.eval_duration / _NANOSECONDS
        timings = Timings(
            prefill_s=max(0.0, prefill_s),
            prefill_tps=last.prompt_eval_count / prefill_s if prefill_s > 0 else 0.0,
            decode_s=max(0.0, decode_s),
            decode_tps=last.eval_count / decode_s if decode_s > 0 else 0.0,
        )
        is_limit = last.done_reason == "length"
        reason = limit_reached(usage, sampling, model.n_ctx) if is_limit else FinishReason.STOP
        return Finished(reason, usage, timings)

    def _found(self, tags: Sequence[_Tag], model: str) -> _Tag:
        """Return a model of the list; without a tag, `latest` is meant. Raises NotFound, and RemoteRefused."""
        wanted = model if ":" in model.rpartition("/")[2] else f"{model}:latest"
        found = next((tag for tag in tags if tag.name in (model, wanted)), None)
        if found is None:
            raise NotFound(
                _("{host} has no model {model}.").format(host=self._server.host, model=clean_line(model)),
                _("On that machine, `ollama pull {model}` downloads it.").format(model=clean_line(model)),
                recoveries=(Recovery(RecoveryKind.OTHER_MODEL),),
            )
        if found.remote_host:
            names = {"host": self._server.host, "model": clean_line(model), "elsewhere": clean_line(found.remote_host)}
            raise RemoteRefused(
                _("{model} does not run on {host}, which passes what you write on to {elsewhere}.").format(**names),
                _("To use it, add {elsewhere} as an engine of its own.").format(**names),
                recoveries=(Recovery(RecoveryKind.OTHER_MODEL),),
            )
        return found

    async def _tags(self) -> list[_Tag]:
        return shaped(self._server, await self._http.get(f"{self._server.root}/api/tags"), _Tags).models or []

    async def _running(self) -> dict[str, int]:
        """Return the windows of the models that are loaded."""
        reply = await self._http.get(f"{self._server.root}/api/ps")
        models = shaped(self._server, reply, _AllRunning).models or []
        return {model.name: max(0, model.context_length) for model in models}

    async def _shown(self, tag: _Tag) -> _Shown:
        key = tag.name, tag.digest
        if key not in self._facts:
            reply = await self._http.post(f"{self._server.root}/api/show", {"model": tag.name})
            self._facts[key] = shaped(self._server, reply, _Shown)
        return self._facts[key]


def _served(tag: _Tag, shown: _Shown, n_ctx: int) -> ServedModel:
    return ServedModel(
        id=clean_line(tag.name),
        n_ctx=n_ctx,
        n_ctx_max=shown.trained,
        quantisation=clean_line((tag.details and tag.details.quantization_level) or "").lower(),
        size=max(0, tag.size),
        is_loaded=n_ctx > 0,
        version=clean_line(tag.digest, 16),
    )


def _as_ollama(messages: Sequence[ChatMessage]) -> list[dict[str, object]]:
    """Return messages in Ollama's shape: the arguments of a call are an object, and a result names its tool."""
    written: list[dict[str, object]] = []
    names: dict[str, str] = {}
    for message in messages:
        written.append({**message})
        if "tool_calls" in message:
            functions_called = [(call["id"], call["function"]) for call in message["tool_calls"]]
            names |= {call_id: function["name"] for call_id, function in functions_called}
            written[-1]["tool_calls"] = [
                {"id": call_id, "function": {**function, "arguments": msgspec.json.decode(function["arguments"])}}
                for call_id, function in functions_called
            ]
        elif "tool_call_id" in message:
            written[-1]["tool_name"] = names.get(message["tool_call_id"], "")
    return written


def _is_token(line: dict[str, Any]) -> bool:
    said = line.get("message") if isinstance(line.get("message"), dict) else line
    return isinstance(said, dict) and any(said.get(name) for name in ("content", "thinking", "response", "tool_calls"))


def _is_last(line: dict[str, Any]) -> bool:
    return bool(line.get("done"))
