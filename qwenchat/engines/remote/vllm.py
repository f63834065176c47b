"""vLLM with prompts as token ids: `/v1/completions`, and its tokenizer for counting.

vLLM does not show a model's chat template, but renders chats with it, so that Qwen's ChatML can be recognised. Any
other model is left to the chat API (`NoTokenIds`). Its tokenizer always recognises special tokens: text is cut inside
everything that could be one, and what still were one is dropped.

The repetition penalty of this server looks at the whole prompt too; qwenchat's own only at the answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import MappingProxyType

import msgspec
from msgspec import structs

from qwenchat.chat.events import Delta, EngineEvent, Finished, TokenChance
from qwenchat.chat.message import FinishReason, Timings, Usage
from qwenchat.chat.ports import MOST_CHANCES, Capabilities, Mode, Request, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Dialect, Sampling
from qwenchat.engines.calls.format import CallFormat
from qwenchat.engines.calls.hermes import HermesFormat
from qwenchat.engines.calls.qwen import QwenFormat
from qwenchat.engines.prompt_format import PROBES, chatml_of
from qwenchat.engines.remote.api import NoTokenIds, ServedModel, find_model, ranked, shaped
from qwenchat.engines.remote.http import RemoteHttp
from qwenchat.engines.remote.messages import limit_reached
from qwenchat.engines.remote.token_prompt import (
    REASONING_MARKERS,
    USUAL_MARKERS,
    Natural,
    TokenId,
    TokenPrompts,
    cuts_inside,
)
from qwenchat.errors import RemoteRefused
from qwenchat.text.safe import clean_line

SPECIAL = r"\|[^<>|\s]*\|>|/?(?:tool_call|tool_response|think)>"
"""After a `<`: the special tokens of the Qwen family, and what is written like them."""
_PROBE = "The quick brown fox: 你好，世界！ 123 {}"
_TOOL: Mapping[str, object] = MappingProxyType(
    {"type": "function", "function": {"name": "probe", "description": "", "parameters": {"type": "object"}}}
)
"""Shows whether a template knows tools."""
_LEAST_TOP_P = 1e-6
"""vLLM refuses 0, which means the most likely token alone."""
_AT_ONCE = 16
"""Texts that are tokenised at the same time."""


class _VllmCard(msgspec.Struct, frozen=True):
    id: str
    root: str | None = None
    max_model_len: Natural | None = None


class _VllmCards(msgspec.Struct, frozen=True):
    data: list[_VllmCard]


class _VllmTokens(msgspec.Struct, frozen=True):
    tokens: list[TokenId]


class _VllmText(msgspec.Struct, frozen=True):
    prompt: str


class _VllmLogprobs(msgspec.Struct, frozen=True):
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] = []


class _Choice(msgspec.Struct, frozen=True):
    text: str = ""
    token_ids: list[TokenId] | None = None
    """None from a server too old for them."""
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    """The stop string; None where the model ended by itself."""
    logprobs: _VllmLogprobs | None = None

    def chances(self) -> list[tuple[TokenChance, ...]]:
        """Return the chances of each token; none where they were not asked for, or the tokens are not known."""
        if self.logprobs is None or self.token_ids is None:
            return []
        seen = zip(
            self.token_ids,
            self.logprobs.tokens,
            self.logprobs.token_logprobs,
            self.logprobs.top_logprobs,
            strict=False,
        )
        return [
            ranked(
                TokenChance(text, number if text == sampled else -1, logprob)
                for text, logprob in {**(top or {}), **({sampled: own} if own is not None else {})}.items()
            )
            for number, sampled, own, top in seen
        ]


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: Natural | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Natural = 0
    completion_tokens: Natural = 0
    prompt_tokens_details: _Details | None = None


class _VllmChunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: _Usage | None = None


class VllmApi:
    """Implements `ServerApi`."""

    dialect = Dialect.VLLM

    def __init__(self, http: RemoteHttp) -> None:
        self.capabilities = Capabilities(
            continue_answer=True, json_schema=True, token_ids=True, exact_counts=True, logprobs=True
        )
        self._http, self._server = http, http.server
        self.calls: CallFormat | None = None
        self._vocabulary: VllmVocabulary | None = None
        self._prompts: TokenPrompts | None = None

    async def models(self) -> list[ServedModel]:
        reply = await self._http.get(f"{self._server.root}/v1/models")
        return [
            ServedModel(
                id=clean_line(card.id),
                n_ctx=card.max_model_len or 0,
                version=clean_line(card.root or ""),
            )
            for card in shaped(self._server, reply, _VllmCards).data
        ]

    async def prepare(self, model: str, *, n_ctx: int = 0) -> ServedModel:
        """Raises NoTokenIds for a model that does not write Qwen's ChatML, and a server that does not tokenise."""
        served = find_model(self._server, await self.models(), model)
        served = structs.replace(served, n_ctx=min(served.n_ctx, n_ctx or served.n_ctx))
        vocabulary = VllmVocabulary(self._http, served.id)
        try:
            is_qwen = await vocabulary.read()
            texts = await asyncio.gather(*(vocabulary.rendered(probe) for probe in PROBES)) if is_qwen else [""]
        except RemoteRefused:
            raise NoTokenIds(served) from None
        prompt_format = chatml_of(texts)
        if prompt_format is None:
            raise NoTokenIds(served)
        knows_tools = "<tool_call>" in await vocabulary.rendered(PROBES[0], tools=[{**_TOOL}])
        self.calls = HermesFormat() if knows_tools else QwenFormat()
        prompt_format = structs.replace(prompt_format, calls=self.calls)
        cuts = cuts_inside(USUAL_MARKERS, pattern=SPECIAL)
        self._vocabulary, self._prompts = vocabulary, TokenPrompts(vocabulary, prompt_format, cuts=cuts, first=())
        self.capabilities = structs.replace(
            self.capabilities,
            tools=True,
            json_schema=not prompt_format.opening,  # the server would apply the schema to the reasoning
        )
        return structs.replace(served, opens_reasoning=bool(prompt_format.opening))

    async def count(self, model: ServedModel, turns: Sequence[Turn], mode: Mode) -> TokenCounts:
        _vocabulary, prompts = self._prepared()
        return await prompts.count(turns, mode)

    def lacks(self, sampling: Sampling) -> tuple[str, ...]:
        return sampling.lacked_by(self.dialect)

    async def generate(
        self, model: ServedModel, request: Request, sampling: Sampling
    ) -> AsyncGenerator[EngineEvent, None]:
        vocabulary, prompts = self._prepared()
        prompt = await prompts.prompt(request)
        body: dict[str, object] = {
            **_numbers(sampling),
            "model": model.id,
            "prompt": prompt,
            "max_tokens": max(1, min(model.n_ctx - len(prompt), sampling.max_tokens or model.n_ctx)),
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
        }
        stops: tuple[str, ...] = () if sampling.schema else sampling.stop  # one of them could cut JSON in the middle
        if self.calls and request.turns[0].tools:
            stops = (*stops, *self.calls.markers.stops)
        if stops:
            body["stop"] = stops
        if request.chances:
            body["logprobs"] = min(request.chances, MOST_CHANCES)
        if sampling.schema is not None:
            body["structured_outputs"] = {"json": msgspec.json.decode(sampling.schema)}
        waiting: list[int] = []
        chances: list[tuple[TokenChance, ...]] = []
        ended, usage = _Choice(), _Usage()
        async with self._http.events(f"{self._server.root}/v1/completions", body) as events:
            async for event in events:
                chunk = shaped(self._server, event, _VllmChunk)
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    waiting += vocabulary.text_among(choice.token_ids or ())
                    chances += choice.chances()
                    if choice.text:
                        # With stop strings, text is held back and its tokens are not.
                        yield Delta(choice.text, () if stops else tuple(waiting), tuple(chances))
                        waiting, chances = [], []
                    ended = choice if choice.finish_reason else ended
        if ended.finish_reason:
            yield _finished(ended, usage, sampling, model.n_ctx)

    def _prepared(self) -> "tuple[VllmVocabulary, TokenPrompts]":
        if self._vocabulary is None or self._prompts is None:
            raise AssertionError("the model was not prepared")
        return self._vocabulary, self._prompts


class VllmVocabulary:
    """Implements `RemoteVocabulary` for a model of the Qwen family, once it was `read`."""

    def __init__(self, http: RemoteHttp, model: str) -> None:
        self._http, self._model = http, model
        self._first_special = 0
        """The special tokens come behind all others, from this one on."""
        self._reasoning = frozenset[int]()
        """The markers of reasoning."""
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def read(self) -> bool:
        """Ask the server what is special; return whether that is as in Qwen's vocabulary."""
        markers = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *REASONING_MARKERS)
        probe, *found = await self.tokenise([_PROBE, *markers], special=True)
        single = [ids[0] if len(ids) == 1 else -1 for ids in found]
        self._first_special, self._reasoning = single[0], frozenset(single[3:])
        return max(probe, default=0) < min(single[:3]) == single[0]

    async def tokenise(self, texts: Sequence[str], *, special: bool) -> list[Sequence[int]]:
        found = await asyncio.gather(*(self._ids({"prompt": text, "add_special_tokens": False}) for text in texts))
        return [*found] if special else [[token for token in ids if token < self._first_special] for ids in found]

    async def without_control(self, ids: Sequence[int]) -> Sequence[int]:
        return self.text_among(ids)

    def text_among(self, ids: Sequence[int]) -> list[int]:
        """Return the tokens that are text, or reasoning markers."""
        return [token for token in ids if token < self._first_special or token in self._reasoning]

    async def rendered(self, turns: Sequence[Turn], *, tools: Sequence[Mapping[str, object]] = ()) -> str:
        """Return what the server's chat template makes of turns and tools."""
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        chat: dict[str, object] = {"messages": messages, **({"tools": tools} if tools else {})}
        tokens = await self._ids({**chat, "add_generation_prompt": True, "add_special_tokens": False})
        body = {"model": self._model, "tokens": tokens}
        reply = await self._http.post(f"{self._http.server.root}/detokenize", body)
        return shaped(self._http.server, reply, _VllmText).prompt

    async def _ids(self, body: dict[str, object]) -> list[int]:
        async with self._at_once:
            reply = await self._http.post(f"{self._http.server.root}/tokenize", {"model": self._model, **body})
        return shaped(self._http.server, reply, _VllmTokens).tokens


def _numbers(sampling: Sampling) -> dict[str, float]:
    """Return the numbers as vLLM takes them: top_k -1 for all tokens, which older versions need, and no top_p of 0."""
    numbers = sampling.numbers(Dialect.VLLM)
    numbers["top_k"] = numbers.get("top_k") or -1
    numbers["top_p"] = max(numbers.get("top_p", 1.0), _LEAST_TOP_P)
    return numbers


def _finished(ended: _Choice, usage: _Usage, sampling: Sampling, n_ctx: int) -> Finished:
    is_limit = ended.finish_reason == "length"
    by_itself = not is_limit and ended.stop_reason is None  # by an end marker, which counts as a token
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    used = Usage(usage.prompt_tokens, cached or 0, max(0, usage.completion_tokens - by_itself))
    return Finished(limit_reached(used, sampling, n_ctx) if is_limit else FinishReason.STOP, used, Timings())
