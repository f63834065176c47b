"""Implements the engine port with a server elsewhere, whatever its dialect.

Requests are served one after another, each in a task of its own; cancelling one closes its connection, and the server
stops. What a dialect reports is passed on as it comes, and what it does not report is measured here: the time to the
first token, the speeds. A server may be restarted with another model at any time, so its facts are asked for again
after a pause or a failure. Nothing is written anywhere, and nothing is retried here: `http` does that.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial

from msgspec import Struct, field, structs

from qwenchat.chat.events import Delta, EngineEvent, Finished, LoadEvent, Loading
from qwenchat.chat.message import FinishReason, Timings, ToolResult, Usage
from qwenchat.chat.ports import Capabilities, Mode, ModelInfo, Request, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.calls.reader import CallReader, call_reader
from qwenchat.engines.generation import QueuedGeneration
from qwenchat.engines.remote.api import NoTokenIds, ServedModel, ServerApi, find_model
from qwenchat.engines.remote.detect import chat_api, server_api
from qwenchat.engines.remote.http import RemoteHttp
from qwenchat.engines.schema.check import check_schema
from qwenchat.errors import Interrupted, Recovery, RecoveryKind, RemoteBroken, RemoteError, RemoteRefused, WrongUse
from qwenchat.i18n import _, enumerated

ASSUMED_CONTEXT = 32_768
"""Tokens of the window of a server that does not report one: that of every Qwen2."""
FRESH_S = 60.0
"""Seconds for which a server's facts are believed after it answered."""


class _Connected(Struct, frozen=True, kw_only=True):
    """A server whose model is ready."""

    api: ServerApi
    model: ServedModel
    info: ModelInfo
    listed: ServedModel | None
    """The model as the server listed it then; None where it lists only others, or nothing."""


class RemoteEngine:
    """Implements `chat.ports.Engine`."""

    def __init__(
        self,
        http: RemoteHttp,
        model: str,
        *,
        defaults: Sampling,
        n_ctx: int = 0,
        found: Callable[[str], object] = lambda reference: None,
    ) -> None:
        """Create an engine that connects to nothing yet; it closes `http` when it is closed.

        `model` is what the server calls it, empty for its only one.
        `n_ctx`: tokens of the context window that the user wants; 0 for what the settings of the server say, or the
        server. `found` is called with the model's reference when the server has shown that it has the model.
        """
        self._report_found = found
        self._http, self._server = http, http.server
        self._model, self._defaults = model, defaults
        self._n_ctx = n_ctx or self._server.context
        self._connecting = asyncio.Lock()
        self._connection: asyncio.Task[_Connected] | None = None
        """The connection that is being made."""
        self._connected: _Connected | None = None
        self._answered = -math.inf
        """When the server last answered as it should, in the time of `time.monotonic`."""
        self._turn = asyncio.Lock()
        """Held by the request that the server serves; waiting requests get it in order."""
        self._generations: list[QueuedGeneration] = []
        self._counted: tuple[tuple[Turn, ...], Mode, int] = ((), Mode.ANSWER, 0)
        """The prompt that was counted last, and its tokens."""
        self._checked_schema = ""
        """The last schema that was found to be good."""
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """Nothing before the model is loaded: what the server can do is not known then."""
        return self._connected.api.capabilities if self._connected else Capabilities()

    async def load(self, progress: Callable[[LoadEvent], object] | None = None) -> ModelInfo:
        return (await self._ready(progress, fresh=True)).info

    async def count(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> TokenCounts:
        connected = await self._ready()
        try:
            counts = await connected.api.count(connected.model, turns, mode)
        except RemoteError:
            self._answered = -math.inf
            raise
        self._counted = tuple(turns), mode, counts.total
        return counts

    async def start(self) -> None:
        """Nothing takes time before a server is asked."""

    async def check(self, sampling: Sampling) -> None:
        """The server is asked what it can do, where that is not known."""
        if sampling.schema is None or sampling.schema == self._checked_schema:
            return
        connected = await self._ready()
        if not connected.api.capabilities.json_schema:
            raise WrongUse(
                _("{model} on {host} can't be made to follow a JSON Schema.").format(
                    model=connected.info.name, host=self._server.host
                ),
                _("Leave the schema out."),
                recoveries=(Recovery(RecoveryKind.OTHER_MODEL),),
            )
        await check_schema(sampling.schema)
        self._checked_schema = sampling.schema

    def generate(self, request: Request) -> QueuedGeneration:
        generation = QueuedGeneration(partial(self._serve, request))
        self._generations = [*(each for each in self._generations if not each.done), generation]
        return generation

    async def close(self, *, at_once: bool = False) -> None:
        self._closed = True
        if self._connection:
            self._connection.cancel()
        for generation in self._generations:
            await generation.cancel()
        if not at_once:
            async with self._turn:
                pass
        await self._http.close()

    async def _ready(self, progress: Callable[[LoadEvent], object] | None = None, *, fresh: bool = False) -> _Connected:
        """Return the connection, made where there is none; `fresh`: made again where the server's models changed."""
        async with self._connecting:
            if self._closed:
                raise _stopped()
            if self._connected and not (fresh and await self._is_outdated(self._connected)):
                return self._connected
            self._connected = None
            self._http.report = progress or _ignore
            self._connection = asyncio.create_task(self._connect(progress or _ignore))
            try:
                self._connected = await self._connection
            except asyncio.CancelledError:
                if self._closed:
                    raise _stopped() from None
                raise
            finally:
                self._connection.cancel()
                self._connection = None
                self._http.report = _ignore
            self._answered = time.monotonic()
            if self._connected.listed:
                self._report_found(self._connected.info.reference)
            return self._connected

    async def _is_outdated(self, connected: _Connected) -> bool:
        """Return whether the server has another model by that name; it is not asked where it answered just before."""
        if time.monotonic() - self._answered < FRESH_S:
            return False
        listed = await _listed(connected.api, connected.model.id)
        self._answered = time.monotonic()
        return listed != connected.listed

    async def _connect(self, progress: Callable[[LoadEvent], object]) -> _Connected:
        started = time.perf_counter()
        progress(Loading(0.0))
        api = await server_api(self._http)
        notices: tuple[str, ...] = ()
        name = self._model or find_model(self._server, await api.models()).id
        try:
            model = await api.prepare(name, n_ctx=self._n_ctx)
        except NoTokenIds as refused:
            api, model = chat_api(self._http, api.dialect), refused.model
            notices = (
                _("{host} does not take prompts as tokens for this model: token counts are estimates.").format(
                    host=self._server.host
                ),
            )
        info = ModelInfo(
            reference=f"@{self._server.name}/{name}",
            name=model.id,
            file=self._server.identity(f"{model.id}@{model.version}" if model.version else model.id),
            host=self._server.host,
            n_ctx=model.n_ctx or self._n_ctx or ASSUMED_CONTEXT,
            defaults=self._defaults,
            load_s=time.perf_counter() - started,
            warnings=(*notices, *model.notices, *self._warnings(api, model)),
            opens_reasoning=model.opens_reasoning,
        )
        progress(Loading(1.0))
        listed = await _listed(api, model.id)
        return _Connected(api=api, model=structs.replace(model, n_ctx=info.n_ctx), info=info, listed=listed)

    def _warnings(self, api: ServerApi, model: ServedModel) -> list[str]:
        """Return what the user should know of a server's window, and what it can't be sent."""
        warnings = []
        numbers = {"host": self._server.host, "name": self._server.name, "assumed": f"{ASSUMED_CONTEXT:,}"}
        numbers |= {"n_ctx": f"{model.n_ctx:,}", "wanted": f"{self._n_ctx:,}"}
        if not (model.n_ctx or self._n_ctx):
            warnings.append(
                _(
                    "{host} does not report its context window: {assumed} tokens are assumed. "
                    "`context` in the section [engines.{name}] of the settings changes that."
                )
            )
        elif 0 < model.n_ctx < self._n_ctx:
            warnings.append(_("{host} has a context window of {n_ctx} tokens, smaller than the {wanted} you set."))
        lacking = api.lacks(_EVERYTHING)
        if lacking:
            warnings.append(_("{host} does not take {lacking}: their values have no effect there."))
        return [warning.format(**numbers, lacking=enumerated(lacking)) for warning in warnings]

    async def _serve(self, request: Request, generation: QueuedGeneration) -> None:
        """Serve a request after all earlier ones, and report its events."""
        async with self._turn:
            await self.check(request.sampling)
            connected = await self._ready(fresh=True)
            self._check_continuing(request, connected)
            is_counted = self._counted[:2] == (request.turns, request.mode)
            measured = _Measured(prompt_tokens=self._counted[2] if is_counted else 0)
            self._http.report = generation.report
            sampling = request.sampling.over(self._defaults)
            reader = call_reader(connected.api.calls, request, opens_reasoning=connected.model.opens_reasoning)
            try:
                async with aclosing(connected.api.generate(connected.model, request, sampling)) as events:
                    async for event in events:
                        for read in _read(measured.seen(event), reader):
                            generation.report(read)
                        if isinstance(event, Finished):
                            self._answered = time.monotonic()
                            if not connected.listed:
                                self._report_found(connected.info.reference)
                            return
            except asyncio.CancelledError:  # the connection is closed
                for read in _read(measured.cancelled(), reader):
                    generation.report(read)
                return
            except RemoteError:
                self._answered = -math.inf
                raise
            finally:
                self._http.report = _ignore
                for held in reader.release() if reader else ():
                    generation.report(held)
            raise RemoteBroken(
                _("{host} ended its answer without saying why.").format(host=self._server.host),
                _("What came of the answer can be continued."),
                recoveries=(Recovery(RecoveryKind.ASK_AGAIN),),
            )

    def _check_continuing(self, request: Request, connected: _Connected) -> None:
        """Raise WrongUse for an answer that this server can't continue."""
        if request.mode is not Mode.CONTINUE or isinstance((request.turns[-1].parts or ("",))[-1], ToolResult):
            return  # what follows the results of calls is a message of its own
        if connected.api.capabilities.continue_answer and request.sampling.schema is None:
            return
        if request.sampling.schema is None:
            message = _("{model} on {host} can't continue an answer.")
        else:
            message = _("{model} on {host} can't continue an answer that follows a JSON Schema.")
        raise WrongUse(
            message.format(model=connected.info.name, host=self._server.host),
            _("Ask for a new answer instead."),
        )


class _Measured(Struct, kw_only=True):
    """What can be seen of one generation from here."""

    prompt_tokens: int
    started: float = field(default_factory=time.perf_counter)
    first_s: float = 0.0
    tokens: int = 0

    def seen(self, event: EngineEvent) -> EngineEvent:
        """Take an event and return it, with the timings that the server does not report."""
        if isinstance(event, Delta):
            self.first_s = self.first_s or time.perf_counter() - self.started
            self.tokens += len(event.token_ids) or 1
        elif isinstance(event, Finished):
            return structs.replace(event, timings=self._timings(event.usage, event.timings))
        return event

    def cancelled(self) -> Finished:
        """Return the end of a generation that was stopped here."""
        usage = Usage(self.prompt_tokens, 0, self.tokens)
        return Finished(FinishReason.CANCELLED, usage, self._timings(usage, Timings()))

    def _timings(self, usage: Usage, reported: Timings) -> Timings:
        decode_s = max(0.0, time.perf_counter() - self.started - self.first_s) if self.first_s else 0.0
        fresh = max(0, usage.prompt_tokens - usage.cached_tokens)
        measured = Timings(
            prefill_s=self.first_s,
            prefill_tps=fresh / self.first_s if self.first_s else 0.0,
            decode_s=decode_s,
            decode_tps=usage.completion_tokens / decode_s if decode_s else 0.0,
            ttft_s=self.first_s,
        )
        return structs.replace(measured, **{name: value for name, value in structs.asdict(reported).items() if value})


_EVERYTHING = Sampling(temperature=1.0, top_p=0.5, top_k=1, min_p=0.5, repeat_penalty=2.0, seed=1, max_tokens=1)
"""A value for each parameter that changes something."""


def _read(event: EngineEvent, reader: CallReader | None) -> Iterable[EngineEvent]:
    """Return the events that are known once `event` has come."""
    return reader.feed(event) if reader else (event,)


async def _listed(api: ServerApi, model: str) -> ServedModel | None:
    """Return a model as the server lists it; None where it lists only others, or nothing."""
    try:
        return next((each for each in await api.models() if each.id == model), None)
    except RemoteRefused:
        return None


def _ignore(event: object) -> None:
    """Report to nobody."""


def _stopped() -> Interrupted:
    return Interrupted(_("Loading was stopped."))
