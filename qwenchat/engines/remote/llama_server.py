"""llama.cpp's server in its own interface: prompts as token ids, the tokens of answers, progress while it prefills.

Its chat API recognises special tokens in everyone's words; `/completion` takes tokens, and then nothing can be forged.
The chat template comes from the server, is as hostile as any, and is rendered in the sandbox. A server too old to show
it is left to the chat API (`NoTokenIds`).

The repetition penalty of this server looks at the last tokens of the prompt too; qwenchat's own only at the answer.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import structs

from qwenchat.chat.events import Delta, EngineEvent, Finished, Prefilling, TokenChance
from qwenchat.chat.message import FinishReason, Timings, Usage
from qwenchat.chat.ports import MOST_CHANCES, Capabilities, Mode, Request, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Dialect, Sampling
from qwenchat.engines.calls.format import CallFormat
from qwenchat.engines.chat_template import ChatTemplate
from qwenchat.engines.prompt_format import prompt_format_for
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
from qwenchat.text.safe import clean_line

_MARKER = re.compile(r"<[^<>\s]{1,80}>|\[/?[A-Z_]{1,80}\]")
"""Text that may separate the turns in a chat template."""
_MOST_MARKERS = 200
"""In a real template there are a few."""
_LIKE_A_MARKER = re.compile(r"<.+>|\[.+\]", re.DOTALL)
"""What the text of a control token looks like."""
_NEUTRAL: dict[str, object] = {
    "samplers": ["penalties", "top_k", "top_p", "min_p", "temperature"],
    "repeat_last_n": 64,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "dynatemp_range": 0.0,
    "mirostat": 0,
    "ignore_eos": False,
    "logit_bias": [],
    "n_keep": 0,
}
"""What a server may have been started with and qwenchat's own sampler does not do, switched off."""
_RANDOM_SEED = -1


class _Meta(msgspec.Struct, frozen=True):
    n_vocab: Natural = 0
    n_ctx: Natural = 0
    n_ctx_train: Natural = 0
    n_params: Natural = 0
    size: Natural = 0
    ftype: str = ""


class _Status(msgspec.Struct, frozen=True):
    value: str = "loaded"


class _ServerCard(msgspec.Struct, frozen=True):
    id: str
    meta: _Meta | None = None
    status: _Status = _Status()


class _ServerCards(msgspec.Struct, frozen=True):
    data: list[_ServerCard]


class _Settings(msgspec.Struct, frozen=True):
    n_ctx: Natural = 0


class _Props(msgspec.Struct, frozen=True):
    chat_template: str = ""
    bos_token: str = ""
    eos_token: str = ""
    default_generation_settings: _Settings = _Settings()


class _ServerTokens(msgspec.Struct, frozen=True):
    tokens: list[TokenId]


class _ServerText(msgspec.Struct, frozen=True):
    content: str


class _Progress(msgspec.Struct, frozen=True):
    total: Natural
    cache: Natural
    processed: Natural
    time_ms: float


class _Timed(msgspec.Struct, frozen=True):
    cache_n: Natural = 0
    prompt_ms: float = 0.0
    prompt_per_second: float = 0.0
    predicted_ms: float = 0.0
    predicted_per_second: float = 0.0


class _ServerChance(msgspec.Struct, frozen=True):
    id: TokenId
    token: str
    logprob: float
    top_logprobs: "list[_ServerChance]" = []

    def ranked(self) -> tuple[TokenChance, ...]:
        """Return the chances of this token and of the likeliest ones."""
        return ranked(TokenChance(each.token, each.id, each.logprob) for each in (*self.top_logprobs, self))


class _ServerChunk(msgspec.Struct, frozen=True):
    """One event of `/completion`."""

    content: str = ""
    tokens: list[TokenId] | None = None
    """None from a server too old for them."""
    tokens_predicted: Natural = 0
    """From the beginning of the answer."""
    tokens_evaluated: Natural = 0
    stop: bool = False
    stop_type: str = ""
    completion_probabilities: list[_ServerChance] = []
    """Of the tokens, where they were asked for."""
    prompt_progress: _Progress | None = None
    """Where it stands, `tokens` mean nothing."""
    timings: _Timed = _Timed()


class LlamaServerApi:
    """Implements `ServerApi`."""

    dialect = Dialect.LLAMA_SERVER

    def __init__(self, http: RemoteHttp) -> None:
        self.capabilities = Capabilities(
            continue_answer=True,
            json_schema=True,
            token_ids=True,
            prefill_progress=True,
            exact_counts=True,
            logprobs=True,
        )
        self.calls: CallFormat | None = None
        self._http, self._server = http, http.server
        self._prompts: TokenPrompts | None = None

    async def models(self) -> list[ServedModel]:
        return [_served(card) for card in await self._cards()]

    async def _cards(self) -> list[_ServerCard]:
        return shaped(self._server, await self._http.get(f"{self._server.root}/v1/models"), _ServerCards).data

    async def prepare(self, model: str, *, n_ctx: int = 0) -> ServedModel:
        """Raises NoTokenIds where the server does not show the chat template."""
        cards = {_served(card): card for card in await self._cards()}
        served = find_model(self._server, [*cards], model)
        meta = cards[served].meta or _Meta()
        url = f"{self._server.root}/props?model={quote(served.id, safe='')}"  # a server of several may load it now
        props = shaped(self._server, await self._http.get(url), _Props)
        window = props.default_generation_settings.n_ctx or served.n_ctx
        served = structs.replace(served, n_ctx=min(window, n_ctx or window), is_loaded=True)
        markers = {*_MARKER.findall(props.chat_template)}
        if not props.chat_template or len(markers) > _MOST_MARKERS:
            raise NoTokenIds(served)
        vocabulary = LlamaVocabulary(self._http, served.id, meta.n_vocab)
        await vocabulary.read(markers, bos=props.bos_token, eos=props.eos_token)
        template = ChatTemplate(source=props.chat_template, bos=props.bos_token, eos=props.eos_token)
        prompt_format = await prompt_format_for(template, chatml=vocabulary.has_chatml)
        cuts = cuts_inside(vocabulary.forgeable)
        self._prompts = TokenPrompts(vocabulary, prompt_format, cuts=cuts, first=vocabulary.first)
        self.calls = prompt_format.calls
        self.capabilities = structs.replace(
            self.capabilities,
            tools=prompt_format.calls is not None,
            json_schema=not prompt_format.opening,  # the server would apply the schema to the reasoning
        )
        return structs.replace(served, opens_reasoning=bool(prompt_format.opening))

    async def count(self, model: ServedModel, turns: Sequence[Turn], mode: Mode) -> TokenCounts:
        return await self._prepared().count(turns, mode)

    def lacks(self, sampling: Sampling) -> tuple[str, ...]:
        return sampling.lacked_by(self.dialect)

    async def generate(
        self, model: ServedModel, request: Request, sampling: Sampling
    ) -> AsyncGenerator[EngineEvent, None]:
        prompts = self._prepared()
        prompt = await prompts.prompt(request)
        room = max(1, model.n_ctx - len(prompt))
        body = {
            **_NEUTRAL,
            **sampling.numbers(self.dialect),
            "model": model.id,
            "prompt": prompt,
            "n_predict": min(room, sampling.max_tokens or room),
            "seed": _RANDOM_SEED if sampling.seed is None else sampling.seed,
            "stream": True,
            "cache_prompt": True,
            "return_tokens": True,
            "return_progress": True,
            "preserved_tokens": REASONING_MARKERS,
            "n_probs": min(request.chances, MOST_CHANCES),
            "post_sampling_probs": False,
        }
        stops: tuple[str, ...] = () if sampling.schema else sampling.stop  # one of them could cut JSON in the middle
        if self.calls and request.turns[0].tools:
            stops = (*stops, *self.calls.markers.stops)
        body["stop"] = stops
        if sampling.schema is not None:
            body["json_schema"] = msgspec.json.decode(sampling.schema)
        answer = _ServerAnswer(prompts, has_stops=bool(stops))
        url = f"{self._server.root}/completion"
        async with self._http.events(url, body, is_token=_is_token, is_last=_is_last) as events:
            async for event in events:
                chunk = shaped(self._server, event, _ServerChunk)
                if chunk.prompt_progress:
                    yield _prefilling(chunk.prompt_progress)
                elif delta := await answer.delta(chunk):
                    yield delta
                if chunk.stop:
                    yield _finished(chunk, sampling, model.n_ctx)

    def _prepared(self) -> TokenPrompts:
        if self._prompts is None:
            raise AssertionError("the model was not prepared")
        return self._prompts


class LlamaVocabulary:
    """Implements `RemoteVocabulary`, once it was `read`."""

    def __init__(self, http: RemoteHttp, model: str, size: int) -> None:
        """`size`: how many tokens there are, 0 where that is unknown."""
        self.first: Sequence[int] = ()
        """What every prompt begins with."""
        self.has_chatml = False
        """Whether ChatML's markers are single tokens."""
        self.forgeable: list[str] = []
        """Markers that the server recognises in plain text too."""
        self._http, self._model, self._size = http, model, size
        self._between: dict[bool, int] = {}
        """The token between the texts of one request: a line break where special tokens are recognised, the end of an
        answer where they are not. Missing where that is no single token."""
        self._end_text = ""
        self._text, self._control = set[int](), set[int]()
        """Tokens that were found to be text, or reasoning markers, and those that were not."""

    async def read(self, markers: Iterable[str], *, bos: str, eos: str) -> None:
        """Ask the server which of the markers of a chat template are special, and how."""
        names = sorted({*USUAL_MARKERS, *markers, bos, eos})
        first, line, end = await asyncio.gather(
            self._ids("", add_special=True), self._ids("\n"), self._ids(eos, special=True)
        )
        self.first = first[:1]
        self._between = {special: ids[0] for special, ids in ((True, line), (False, end)) if len(ids) == 1}
        self._end_text = eos
        special = await self.tokenise(names, special=True)
        single = {name: ids[0] for name, ids in zip(names, special, strict=True) if len(ids) == 1}
        self.has_chatml = "<|im_start|>" in single and "<|im_end|>" in single
        plain = await self.tokenise([*single], special=False)
        self.forgeable = [name for name, ids in zip(single, plain, strict=True) if [*ids] == [single[name]]]
        self._control = {token for name, token in single.items() if name not in REASONING_MARKERS}

    async def tokenise(self, texts: Sequence[str], *, special: bool) -> list[Sequence[int]]:
        """The texts go in one request, with a token between them that none of them should have."""
        between = self._between.get(special)
        if between is not None and len(texts) > 1:
            together = [item for text in texts for item in (text, between)]
            groups = _split(await self._ids(together, special=special), between)
            if len(groups) == len(texts):
                return groups
        return [*await asyncio.gather(*(self._ids(text, special=special) for text in texts))]

    async def without_control(self, ids: Sequence[int]) -> Sequence[int]:
        unknown = sorted({*ids} - self._text - self._control)
        if self._size:
            self._control.update(token for token in unknown if token >= self._size)
            unknown = [token for token in unknown if token < self._size]
        if unknown:
            await self._sort(unknown)
        return [token for token in ids if token in self._text]

    async def _sort(self, unknown: Sequence[int]) -> None:
        """Find out which tokens are text: a control token looks like a marker, and is none where it is plain text."""
        pieces: Sequence[str] = ()
        if (end := self._between.get(False)) is not None:
            together = await self._detokenised([item for token in unknown for item in (token, end)])
            pieces = together.split(self._end_text)[:-1]
        if len(pieces) != len(unknown):
            pieces = await asyncio.gather(*(self._detokenised([token]) for token in unknown))
        alike = {token: piece for token, piece in zip(unknown, pieces, strict=True) if _LIKE_A_MARKER.fullmatch(piece)}
        special = await self.tokenise([*alike.values()], special=True)
        plain = await self.tokenise([*alike.values()], special=False)
        for (token, piece), as_special, as_plain in zip(alike.items(), special, plain, strict=True):
            if piece not in REASONING_MARKERS and [*as_special] == [token] != [*as_plain]:
                self._control.add(token)
        self._text.update({*unknown} - self._control)

    async def _ids(
        self, content: str | Sequence[str | int], *, special: bool = False, add_special: bool = False
    ) -> list[int]:
        body = {"model": self._model, "content": content, "parse_special": special, "add_special": add_special}
        reply = await self._http.post(f"{self._http.server.root}/tokenize", body)
        return shaped(self._http.server, reply, _ServerTokens).tokens

    async def _detokenised(self, tokens: Sequence[int]) -> str:
        body = {"model": self._model, "tokens": tokens}
        reply = await self._http.post(f"{self._http.server.root}/detokenize", body)
        return shaped(self._http.server, reply, _ServerText).content


class _ServerAnswer:
    """Puts text and tokens of an answer together.

    The server sends no tokens for a character that is not complete yet, and of one that is, only the last: the text is
    tokenised then. Tokens without text wait for their text: they may be the end marker, or the beginning of a stop
    string. Where there are stop strings, each piece waits for the next one: the last may have tokens of a stop string.
    """

    def __init__(self, prompts: TokenPrompts, *, has_stops: bool) -> None:
        self._prompts, self._has_stops = prompts, has_stops
        self._ids: list[int] = []
        """Tokens without text."""
        self._chances: list[tuple[TokenChance, ...]] = []
        """Theirs, where they were asked for."""
        self._reported = 0
        self._last: Delta | None = None
        """The piece that waits."""

    async def delta(self, chunk: _ServerChunk) -> Delta | None:
        """Return what the answer grows by when a chunk has come."""
        if chunk.stop:
            if self._last and chunk.stop_type == "word":
                return Delta(self._last.text, tuple(await self._prompts.tokenise(self._last.text)))
            return self._last
        self._ids += chunk.tokens or ()
        self._chances += [each.ranked() for each in chunk.completion_probabilities]
        if not chunk.content:
            return None
        ids: Sequence[int] = self._ids
        if chunk.tokens_predicted - self._reported > len(ids) and chunk.tokens is not None:
            ids = await self._prompts.tokenise(chunk.content)
        chances = tuple(self._chances) if len(self._chances) == len(ids) else ()
        self._reported, self._ids, self._chances = chunk.tokens_predicted, [], []
        new, before = Delta(chunk.content, tuple(ids), chances), self._last
        if not self._has_stops:
            return new
        self._last = new
        return before


def _split(ids: Sequence[int], end: int) -> list[Sequence[int]]:
    """Return the tokens before each `end`."""
    groups: list[list[int]] = [[]]
    for token in ids:
        if token == end:
            groups.append([])
        else:
            groups[-1].append(token)
    return [*groups[:-1]]


def _served(card: _ServerCard) -> ServedModel:
    meta = card.meta or _Meta()
    name = re.split(r"[/\\]", card.id)[-1] if card.id.endswith(".gguf") else card.id
    quantisation = re.sub(r" - ([SML])\w+$", r"_\1", meta.ftype.removeprefix("(guessed) ").removeprefix("all "))
    return ServedModel(
        id=clean_line(name),
        n_ctx=meta.n_ctx,
        n_ctx_max=meta.n_ctx_train,
        quantisation=clean_line(quantisation.partition(" - ")[0]).lower(),
        size=meta.size,
        is_loaded=card.status.value == "loaded",
        version=f"{meta.n_vocab}.{meta.n_params}.{meta.size}" if card.meta else "",
    )


def _prefilling(progress: _Progress) -> Prefilling:
    done, total = max(0, progress.processed - progress.cache), max(0, progress.total - progress.cache)
    speed = done / progress.time_ms * 1000 if progress.time_ms > 0 else 0.0
    return Prefilling(done, total, speed, (total - done) / speed if speed else 0.0)


def _finished(last: _ServerChunk, sampling: Sampling, n_ctx: int) -> Finished:
    timed = last.timings
    usage = Usage(last.tokens_evaluated, timed.cache_n, max(0, last.tokens_predicted - (last.stop_type == "eos")))
    return Finished(
        limit_reached(usage, sampling, n_ctx) if last.stop_type == "limit" else FinishReason.STOP,
        usage,
        Timings(
            prefill_s=timed.prompt_ms / 1000,
            prefill_tps=timed.prompt_per_second,
            decode_s=timed.predicted_ms / 1000,
            decode_tps=timed.predicted_per_second,
        ),
    )


def _is_token(event: dict[str, Any]) -> bool:
    return "prompt_progress" not in event


def _is_last(event: dict[str, Any]) -> bool:
    return bool(event.get("stop"))
