"""The one model that is loaded: getting it ready, loading it anew with less, counting with it. It keeps no session."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qwenchat.chat import context, prompt
from qwenchat.chat.conversation import Attachment, Message, Role, Session, Status
from qwenchat.chat.events import Loading
from qwenchat.chat.ports import Engine, ModelInfo
from qwenchat.errors import CannotLoad, EngineDied, Interrupted, NotFound, QwenchatError
from qwenchat.i18n import _
from qwenchat.runtime.events import Fill, Listener, Loaded, LoadingModel, Offer

if TYPE_CHECKING:
    from qwenchat.runtime.load_planner import Wishes

_LEAST_CONTEXT = 512
_USUAL_CONTEXT = 8192
EngineFactory = Callable[[str, "Wishes"], Engine]
"""Makes an engine for a model reference; may block and raise NotFound, FileError or CannotLoad."""


class LoadedModel:
    """Loads the model of whichever session asks; `listener` hears of it on the loop."""

    def __init__(self, new_engine: EngineFactory, listener: Listener) -> None:
        self.engine: Engine | None = None
        self.info: ModelInfo | None = None
        """Of the model that is ready, None while there is none."""
        self._new_engine, self._listener = new_engine, listener
        self._loaded_for: tuple[str, Wishes] | None = None
        self._layers: dict[str, int] = {}
        """Layers that a model may have on the GPU, where it failed with more."""
        self._n_ctx = self._gpu_layers = 0
        """What was last loaded, or was tried."""
        self._lock = asyncio.Lock()
        self._closed = False
        self._counts: dict[tuple[str, int], int] = {}

    def is_for(self, session: Session) -> bool:
        """Whether the model of a session is the one that is ready."""
        return self.info is not None and self._loaded_for == self._wanted(session)

    async def load(self, session: Session) -> Engine:
        """Get the model of a session ready. Raises what the engine raises; the session stays as it is."""
        reference = session.model
        if not reference:
            raise NotFound(_("No model is chosen."), _("Choose one with /model."))
        async with self._lock:
            self._check_open()
            wanted = self._wanted(session)
            if self.engine is None or wanted != self._loaded_for:
                await self._unload()
                self.engine = await asyncio.to_thread(self._new_engine, *wanted)
                self._loaded_for = wanted
                self._check_open()

            def loading(event: Loading) -> None:
                self._listener(LoadingModel(reference, event.fraction))

            known, self.info = self.info, None
            self.info = await self.engine.ready(loading)
            self._n_ctx, self._gpu_layers = self.info.n_ctx, self.info.gpu_layers
            if self.info is not known:
                self._listener(Loaded(reference, self.info))
            return self.engine

    async def unload(self) -> None:
        """End the engine, once no load is under way."""
        async with self._lock:
            await self._unload()

    async def close(self) -> None:
        """End the engine for good; loads that are under way or wait raise Interrupted."""
        self._closed = True
        if self.engine:
            await self.engine.cancel()
        await self.unload()

    def offers(self, error: QwenchatError) -> tuple[Offer, ...]:
        """Return what can be done about an error of the engine."""
        if isinstance(error, NotFound):
            return (Offer.OTHER_MODEL,)
        if not isinstance(error, EngineDied | CannotLoad):
            return ()
        self.info = None
        self._gpu_layers = error.gpu_layers or self._gpu_layers
        fewer = [Offer.FEWER_LAYERS] if self._gpu_layers > 1 else []
        without = [Offer.WITHOUT_GPU] if self._gpu_layers else []
        if isinstance(error, EngineDied):
            return (Offer.AGAIN, Offer.SMALLER_CONTEXT, *fewer, *without)
        return (Offer.SMALLER_CONTEXT, *fewer, *without, Offer.OTHER_MODEL)

    def smaller_context(self, session: Session) -> int:
        """Return half of the context window that a session's model had, or was to have."""
        return max(_LEAST_CONTEXT, (self._n_ctx or session.context or _USUAL_CONTEXT) // 2)

    def take_layers(self, offer: Offer, session: Session) -> None:
        """Put fewer layers of a session's model on the GPU, or none, when it is next loaded."""
        self._layers[session.model] = 0 if offer is Offer.WITHOUT_GPU else self._gpu_layers // 2

    async def count(
        self, session: Session, branch: Sequence[Message], text: str, attachments: Sequence[Attachment] = ()
    ) -> Fill | None:
        """Return how full the window is with a question after a branch; None while the model is not loaded."""
        engine, info = self.engine, self.info
        if not self.is_for(session) or not engine or not info:
            return None
        question = Message("", session.id, None, Role.USER, text, 0, attachments=tuple(attachments))
        *said, _question = prompt.said_in([*branch, question])
        counts = await self._count(engine, info, session.system, said)
        if text or attachments:
            counts += await engine.count(prompt.turns_of("", [question])[1:])
        reserve = context.reserve(info.n_ctx, session.sampling.over(info.defaults).max_tokens)
        answers = {place for place, message in enumerate(said, 1) if message.role is Role.ASSISTANT}
        try:
            view = context.fit(counts, info.n_ctx, reserve, answers=answers)
        except QwenchatError:
            return Fill(counts[0] + sum(counts[-1:]), reserve, info.n_ctx, None, too_long=True)
        first = said[view.start - 1].id if view.left_out and view.start <= len(said) else None
        return Fill(view.tokens, reserve, info.n_ctx, first)

    async def count_file(self, attachment: Attachment) -> int | None:
        """Return the tokens that a file takes in a prompt; None while no model is loaded."""
        if not self.engine or not self.info:
            return None
        [count] = await self.engine.count(
            [prompt.Turn("user", prompt.attachment_text(attachment.name, attachment.text))]
        )
        return count

    def _check_open(self) -> None:
        if self._closed:
            raise Interrupted(_("Loading was stopped."))

    def _wanted(self, session: Session) -> "tuple[str, Wishes]":
        from qwenchat.runtime.load_planner import Wishes  # noqa: PLC0415 - the screen is there before planning is

        return session.model, Wishes(ctx=session.context, gpu_layers=self._layers.get(session.model))

    async def _unload(self) -> None:
        engine, self.engine, self._loaded_for, self.info = self.engine, None, None, None
        self._n_ctx = self._gpu_layers = 0
        self._counts.clear()
        if engine:
            await engine.close()

    async def _count(self, engine: Engine, info: ModelInfo, system: str, said: Sequence[Message]) -> list[int]:
        """Return the tokens of the system prompt and of each message, counting each only once."""
        keys = [(message.id, len(message.text)) for message in said]
        missing = [message for message, key in zip(said, keys, strict=True) if key not in self._counts]
        counts = await engine.count(prompt.turns_of(system, missing, info.file))
        settled = {m.id for m in missing if m.status is not Status.STREAMING}
        fresh = dict(zip(((m.id, len(m.text)) for m in missing), counts[1:], strict=True))
        found = [fresh[key] if key in fresh else self._counts[key] for key in keys]
        self._counts.update((key, count) for key, count in fresh.items() if key[0] in settled)
        return [counts[0], *found]
