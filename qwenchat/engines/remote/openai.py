"""Chat APIs of OpenAI's kind: LM Studio, DashScope, and any other server. In what they differ is data.

They take messages and not tokens, so that counts are estimates, answers have no token ids, and control tokens in texts
are broken up (`messages`). What a dialect can't do is known before it is asked: nothing is sent that it would ignore.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from qwenchat.chat.events import EngineEvent, Finished, TokenChance
from qwenchat.chat.message import FinishReason, Timings, Usage
from qwenchat.chat.ports import MOST_CHANCES, Capabilities, Mode, Request, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Dialect, Sampling
from qwenchat.engines.remote.api import ServedModel, ranked, shaped
from qwenchat.engines.remote.estimates import TokenEstimates
from qwenchat.engines.remote.explanations import explain
from qwenchat.engines.remote.faults import Fault, FaultKind
from qwenchat.engines.remote.http import RemoteHttp
from qwenchat.engines.remote.messages import (
    ChatAnswer,
    StreamedCalls,
    chat_messages,
    functions,
    limit_reached,
    plain_prompt,
)
from qwenchat.engines.remote.model_lists import DashScopeList, LmStudioList, OpenAiList, ServedModelList, family_of
from qwenchat.errors import PromptTooLong, Recovery, RecoveryKind, RemoteRefused, WrongUse
from qwenchat.i18n import _
from qwenchat.text.token_estimate import estimated_tokens


class _ChatDialect(Struct, frozen=True, kw_only=True):
    """In what a chat API differs from OpenAI's own."""

    continues: bool = False
    """Whether it continues an answer that is the last message, whatever the model."""
    message_fields: Mapping[str, object] = field(default_factory=dict)
    """Of the last message, for it to be continued."""
    request_fields: Mapping[str, object] = field(default_factory=dict)
    """Of a request that continues its last message."""
    schema: bool = True
    tools: bool = True
    logprobs: bool = True
    completes: bool = True
    """Whether it has `/completions`, for text without a chat template."""


_DIALECTS = {
    Dialect.OPENAI: _ChatDialect(),
    Dialect.LM_STUDIO: _ChatDialect(logprobs=False),
    Dialect.DASHSCOPE: _ChatDialect(
        message_fields={"partial": True},
        request_fields={"enable_thinking": False},
        schema=False,
        logprobs=False,
        completes=False,
    ),
    Dialect.LLAMA_SERVER: _ChatDialect(continues=True),
    Dialect.VLLM: _ChatDialect(
        continues=True,
        request_fields={"continue_final_message": True, "add_generation_prompt": False},
        tools=False,  # a server that was not started for it refuses the request
    ),
}
"""The last two are asked in this way where they do not take a model's prompts as tokens."""
_LISTS: dict[Dialect, type[ServedModelList]] = {Dialect.LM_STUDIO: LmStudioList, Dialect.DASHSCOPE: DashScopeList}
"""Where the models of a dialect are listed, if not as OpenAI does."""


class _CachedTokens(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class _ChatUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _CachedTokens | None = None


class _ChatFunction(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None
    """A piece of JSON; some servers send the object."""


class _ChatCall(msgspec.Struct, frozen=True):
    index: int | None = None
    id: str | None = None
    function: _ChatFunction = _ChatFunction()


class _ChatText(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ChatCall] | None = None


class _ChatChance(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    top_logprobs: "list[_ChatChance]" = []

    def ranked(self) -> tuple[TokenChance, ...]:
        """Return the chances of this token and of the likeliest ones."""
        return ranked(TokenChance(each.token, -1, each.logprob) for each in (*self.top_logprobs, self))


class _ChatLogprobs(msgspec.Struct, frozen=True):
    content: list[_ChatChance] | None = None


class _ChatChoice(msgspec.Struct, frozen=True):
    delta: _ChatText | None = None
    message: _ChatText | None = None
    """In place of `delta` where the server does not stream."""
    text: str | None = None
    """In place of both where there are no messages."""
    finish_reason: str | None = None
    logprobs: _ChatLogprobs | None = None

    @property
    def said(self) -> _ChatText:
        return self.delta or self.message or _ChatText(content=self.text)


class _ChatChunk(msgspec.Struct, frozen=True):
    choices: list[_ChatChoice] | None = None
    usage: _ChatUsage | None = None


class OpenAiApi:
    """Implements `ServerApi`."""

    calls = None

    def __init__(self, http: RemoteHttp, dialect: Dialect) -> None:
        self.dialect = dialect
        self._differs = _DIALECTS[dialect]
        self.capabilities = Capabilities(
            continue_answer=self._differs.continues,
            json_schema=self._differs.schema,
            tools=self._differs.tools,
            logprobs=self._differs.logprobs,
        )
        self._http, self._server = http, http.server
        self._url = http.server.url if urlsplit(http.server.url).path else f"{http.server.url}/v1"
        self._list = _LISTS.get(dialect, OpenAiList)(http, self._url)
        self._estimates = TokenEstimates()

    async def models(self) -> list[ServedModel]:
        return await self._list.models()

    async def prepare(self, model: str, *, n_ctx: int = 0) -> ServedModel:
        if self.dialect is Dialect.DASHSCOPE:
            family = family_of(model)
            self.capabilities = replace(self.capabilities, continue_answer=family.continues, json_schema=family.schema)
        return await self._list.prepared(model, n_ctx)

    async def count(self, model: ServedModel, turns: Sequence[Turn], mode: Mode) -> TokenCounts:
        return self._estimates.count(turns, mode)

    def lacks(self, sampling: Sampling) -> tuple[str, ...]:
        return sampling.lacked_by(self.dialect)

    async def generate(
        self, model: ServedModel, request: Request, sampling: Sampling
    ) -> AsyncGenerator[EngineEvent, None]:
        path = "completions" if request.mode is Mode.COMPLETE else "chat/completions"
        body = self._body(model, request, sampling)
        answer, calls, reason, counted = ChatAnswer(), StreamedCalls(), "", _ChatUsage()
        try:
            async with self._http.events(f"{self._url}/{path}", body, is_token=_is_token, is_last=_is_last) as events:
                async for event in events:
                    chunk = shaped(self._server, event, _ChatChunk)
                    counted = chunk.usage or counted
                    for choice in (chunk.choices or ())[:1]:
                        reason = choice.finish_reason or reason
                        said = choice.said
                        if delta := answer.delta(said.content, said.reasoning_content or said.reasoning):
                            chances = choice.logprobs.content or () if choice.logprobs else ()
                            yield replace(delta, chances=tuple(each.ranked() for each in chances))
                        for piece in said.tool_calls or ():
                            _add(piece, calls)
        except PromptTooLong:
            self._estimates.learn_too_long(request.turns, request.mode, model.n_ctx)
            raise
        called = calls.called() if request.turns[0].tools and reason != "length" else []
        self._check_end(reason, has_begun=bool(answer.text), has_called=bool(called))
        if called and (delta := answer.end_reasoning()):
            yield delta
        for call in called:
            yield call
        if sampling.schema is not None and reason == "stop":
            answer.check_json(self._server)
        end = self._finished(model, request, sampling, reason=reason, counted=counted, text=answer.text)
        yield replace(end, reason=FinishReason.TOOL_CALLS) if called else end

    def _body(self, model: ServedModel, request: Request, sampling: Sampling) -> dict[str, object]:
        body: dict[str, object] = {
            "model": model.id,
            **sampling.numbers(self.dialect),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.mode is Mode.COMPLETE:
            if not self._differs.completes:
                raise WrongUse(
                    _("{host} answers questions only; it can't continue a text.").format(host=self._server.host),
                    _("Ask for an answer, or choose another model."),
                )
            body["prompt"] = plain_prompt(request.turns)
            if sampling.max_tokens is None:  # else it would be 16
                room = model.n_ctx - self._estimates.count(request.turns, request.mode).total
                body["max_tokens"] = max(1, room)
        else:
            messages: list[dict[str, object]] = [{**message} for message in chat_messages(request)]
            if request.mode is Mode.CONTINUE and messages[-1]["role"] == "assistant":  # else it has no word yet
                messages[-1] |= self._differs.message_fields
                body |= self._differs.request_fields
            body["messages"] = messages
            if tools := request.turns[0].tools:
                body["tools"] = functions(tools)
            if request.chances and self._differs.logprobs:
                body |= {"logprobs": True, "top_logprobs": min(request.chances, MOST_CHANCES)}
        if sampling.schema is not None:
            schema = {"name": "answer", "schema": msgspec.json.decode(sampling.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif sampling.stop:
            body["stop"] = sampling.stop
        return body

    def _check_end(self, reason: str, *, has_begun: bool, has_called: bool) -> None:
        """Raise RemoteRefused where an answer ended for a reason that the user must know."""
        if reason == "content_filter":
            raise explain(Fault(kind=FaultKind.CONTENT), self._server, has_begun=has_begun)
        if reason in ("tool_calls", "function_call") and not has_called:
            raise RemoteRefused(
                _("The model at {host} called a tool in place of answering.").format(host=self._server.host),
                recoveries=(Recovery(RecoveryKind.ASK_AGAIN), Recovery(RecoveryKind.OTHER_MODEL)),
            )

    def _finished(
        self,
        model: ServedModel,
        request: Request,
        sampling: Sampling,
        *,
        reason: str,
        counted: _ChatUsage,
        text: str,
    ) -> Finished:
        """Return the end of an answer; tokens that the server did not count are estimated."""
        details = counted.prompt_tokens_details or _CachedTokens()
        usage = Usage(
            counted.prompt_tokens or self._estimates.count(request.turns, request.mode).total,
            max(0, details.cached_tokens or 0),
            counted.completion_tokens or round(estimated_tokens(text)),
        )
        self._estimates.learn(request.turns, request.mode, counted.prompt_tokens or 0)
        is_limit = reason == "length"
        ended = limit_reached(usage, sampling, model.n_ctx) if is_limit else FinishReason.STOP
        return Finished(ended, usage, Timings())


def _choices(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the choices of an event that is not checked yet."""
    choices = event.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _add(piece: _ChatCall, calls: StreamedCalls) -> None:
    arguments = piece.function.arguments or ""
    calls.add(
        index=piece.index,
        call_id=piece.id or "",
        name=piece.function.name or "",
        arguments=arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode(),
    )


def _is_token(event: dict[str, Any]) -> bool:
    said = [choice.get("delta") or choice.get("message") or choice for choice in _choices(event)]
    names = ("content", "reasoning_content", "reasoning", "text", "tool_calls")
    return any(each.get(name) for each in said if isinstance(each, dict) for name in names)


def _is_last(event: dict[str, Any]) -> bool:
    return any(choice.get("finish_reason") for choice in _choices(event))
