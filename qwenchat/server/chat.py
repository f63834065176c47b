"""`/v1/chat/completions`: a chat of messages becomes a request to the engine, its events what OpenAI's clients read."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from qwenchat.chat.events import Called, Delta, Finished, TokenChance
from qwenchat.chat.message import FinishReason, Part, Reasoning, Text, ToolCall, TurnPart, Usage
from qwenchat.chat.ports import Mode, ModelInfo, Request
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.streaming import ReasoningReader
from qwenchat.errors import WrongUse
from qwenchat.runtime.served_models import Grant
from qwenchat.runtime.served_names import ServedNames, name_of
from qwenchat.server.answers import AnswerEvent, Answers, Silence
from qwenchat.server.api_errors import ApiError, unsupported
from qwenchat.server.chat_messages import ReadChat, read_chat
from qwenchat.server.endpoint import KEEP_ALIVE, EventStream, Reply, as_json, event
from qwenchat.server.requests import ChatRequest

REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
}
"""OpenAI's words for how an answer ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredChat:
    """A chat that was answered."""

    chat: ReadChat
    parts: tuple[TurnPart, ...]
    sampling: Sampling
    info: ModelInfo
    finished: Finished


Answered = Callable[[AnsweredChat], None]


class ChatCompletions:
    """Answers chats."""

    def __init__(self, answers: Answers, names: ServedNames, answered: Answered = lambda answer: None) -> None:
        """`answered` is called with each chat that was answered."""
        self._answers, self._names, self._answered = answers, names, answered

    async def handle(self, request: ChatRequest) -> Reply | EventStream:
        """Answer one chat. Raises ApiError, and what `Answers.generate` raises."""
        if request.add_generation_prompt is False and not request.continue_final_message:
            raise unsupported("add_generation_prompt", "An answer begins a new turn, or continues the last one.")
        schema = request.response_format.wanted if request.response_format else None
        chat = read_chat(
            request.messages,
            request.tools or (),
            request.tool_choice,
            continues=bool(request.continue_final_message),
        )
        if schema is not None and chat.turns[0].tools:
            raise unsupported("response_format", "tools can't be combined with a response_format of JSON.")
        sampling = request.sampling(max_tokens=request.tokens, schema=schema)
        reference = await asyncio.to_thread(self._names.resolve, request.model or "")
        answer = _GrowingAnswer(request, chat, sampling, name_of(reference))
        events = self._answers.generate(reference, answer.prepare)
        return self._stream(answer, events) if request.stream else await self._whole(answer, events)

    async def _whole(self, answer: "_GrowingAnswer", events: AsyncGenerator[AnswerEvent, None]) -> Reply:
        async with aclosing(events):
            async for each in events:
                answer.add(each)
        self._answered(answer.answered)
        return as_json(answer.whole)

    async def _stream(self, answer: "_GrowingAnswer", events: AsyncGenerator[AnswerEvent, None]) -> EventStream:
        async with aclosing(events):
            async for each in events:
                if isinstance(each, Silence):
                    yield KEEP_ALIVE
                for chunk in answer.add(each):
                    yield event(chunk)
        self._answered(answer.answered)
        yield event(answer.last_chunk)
        if answer.request.includes_usage:
            yield event(answer.usage_chunk)


class _GrowingAnswer:
    """The answer to one request, as it comes."""

    def __init__(self, request: ChatRequest, chat: ReadChat, sampling: Sampling, model: str) -> None:
        self.request = request
        self._chat, self._sampling = chat, sampling
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._reader = ReasoningReader()
        self._info: ModelInfo | None = None
        self._finished: Finished | None = None
        self._parts: list[TurnPart] = []
        self._calls: list[dict[str, object]] = []
        self._chances: list[dict[str, object]] = []

    async def prepare(self, granted: Grant) -> Request:
        """Return what the engine is asked. Raises ApiError for what its model can't do."""
        can, request, chat = granted.engine.capabilities, self.request, self._chat
        if chat.turns[0].tools and not can.tools:
            raise unsupported("tools", "The chat template of this model knows no tools.")
        if chat.must_call and not can.raw_prompts:
            raise unsupported("tool_choice", "The engine of this model can't be made to call tools.")
        if chat.mode is Mode.CONTINUE and not can.continue_answer:
            raise unsupported("continue_final_message", "The engine of this model can't continue answers.")
        if request.logprobs and not can.logprobs:
            raise unsupported("logprobs", "The engine of this model reports no chances.")
        self._sampling = self._sampling.fitted_to_schema().over(granted.info.defaults)
        try:
            await granted.engine.check(self._sampling)
        except WrongUse as error:
            raise ApiError(400, "invalid_schema", error.message, param="response_format") from None
        return Request(
            turns=chat.turns,
            sampling=self._sampling,
            mode=chat.mode,
            chances=request.chances,
            must_call=chat.must_call,
        )

    def add(self, each: AnswerEvent) -> list[dict[str, object]]:
        """Take an event; return the chunks of a stream that it makes."""
        if isinstance(each, Grant):
            self._begin(each.info)
            return [self._chunk({"role": "assistant", "content": ""})]
        if isinstance(each, Delta):
            chances = list(token_chances(each, self.request.top_logprobs or 0))
            self._chances += chances
            return self._grown(self._reader.feed(each), chances)
        if isinstance(each, Called):
            return [*self._grown(self._reader.finish()), *self._called(each.call)]
        if isinstance(each, Finished):
            self._finished = each
            return self._grown(self._reader.finish())
        return []

    @property
    def answered(self) -> AnsweredChat:
        """The chat with its whole answer."""
        info, finished = self._ended
        return AnsweredChat(
            chat=self._chat, parts=tuple(self._parts), sampling=self._sampling, info=info, finished=finished
        )

    @property
    def whole(self) -> dict[str, object]:
        """The answer as one object."""
        message: dict[str, object] = {"role": "assistant", "content": self._said(Text)}
        if reasoning := self._said(Reasoning):
            message["reasoning_content"] = reasoning
        if self._calls:
            message["tool_calls"] = self._calls
        choice: dict[str, object] = {"index": 0, "message": message, "finish_reason": self._reason, "logprobs": None}
        if self.request.logprobs:
            choice["logprobs"] = {"content": self._chances, "refusal": None}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self._usage}

    @property
    def last_chunk(self) -> dict[str, object]:
        """The chunk that says how it ended."""
        return self._chunk({}, reason=self._reason)

    @property
    def usage_chunk(self) -> dict[str, object]:
        """The chunk that says how many tokens it took."""
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": self._usage}

    def _begin(self, info: ModelInfo) -> None:
        self._info, last = info, self._chat.turns[-1]
        continues = self._chat.mode is Mode.CONTINUE and not last.parts
        self._reader = ReasoningReader(
            (Text(last.text),) if continues else (), inside=info.opens_reasoning and not continues
        )

    def _grown(self, parts: list[Part], chances: list[dict[str, object]] | None = None) -> list[dict[str, object]]:
        chunks = []
        for part in parts:
            if isinstance(part, Text | Reasoning):
                self._parts.append(part)
            if isinstance(part, Text | Reasoning) and part.text:
                name = "content" if isinstance(part, Text) else "reasoning_content"
                chunks.append(self._chunk({name: part.text}, chances=chances))
                chances = None
        return chunks

    def _called(self, call: ToolCall) -> list[dict[str, object]]:
        if self._calls and self.request.parallel_tool_calls is False:
            return []
        self._parts.append(call)
        function = {"name": call.name, "arguments": call.arguments}
        made: dict[str, object] = {"id": call.id, "type": "function", "function": function}
        self._calls.append(made)
        return [self._chunk({"tool_calls": [{"index": len(self._calls) - 1, **made}]})]

    def _chunk(
        self, delta: dict[str, object], *, reason: str | None = None, chances: list[dict[str, object]] | None = None
    ) -> dict[str, object]:
        choice: dict[str, object] = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        if chances:
            choice["logprobs"] = {"content": chances, "refusal": None}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _said(self, kind: type[Text] | type[Reasoning]) -> str | None:
        """Return all that it says, or reasons; None where it does not."""
        return "".join(part.text for part in self._parts if isinstance(part, kind)) or (None if self._calls else "")

    @property
    def _ended(self) -> tuple[ModelInfo, Finished]:
        if self._info is None or self._finished is None:
            raise AssertionError("the answer has not ended")
        return self._info, self._finished

    @property
    def _reason(self) -> str:
        return REASONS[self._ended[1].reason]

    @property
    def _usage(self) -> dict[str, object]:
        return usage_object(self._ended[1].usage)


def usage_object(usage: Usage) -> dict[str, object]:
    """Return the numbers of tokens as clients read them."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def token_chances(delta: Delta, top: int) -> Iterator[dict[str, object]]:
    """Yield the chances of each token of a piece, and of the `top` likeliest ones beside it."""
    for token, chances in zip(delta.token_ids, delta.chances, strict=False):
        own = next((each for each in chances if each.token_id == token), None)
        if own:
            yield {**_chance(own), "top_logprobs": [_chance(each) for each in chances[:top]]}


def _chance(chance: TokenChance) -> dict[str, object]:
    return {"token": chance.text, "logprob": chance.logprob, "bytes": list(chance.text.encode())}
