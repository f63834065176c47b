"""The one model that is loaded: loading it for whichever session asks, once more with less, planning with it.

It reads and changes no session.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from qwenchat.chat.context import ContextPlan, MessageCounts, plan_context
from qwenchat.chat.events import LoadEvent, Loading
from qwenchat.chat.message import Attachment, Message, Role, text_parts
from qwenchat.chat.ports import Capabilities, Engine, ModelInfo
from qwenchat.chat.session import Session
from qwenchat.chat.tools import ToolSpec
from qwenchat.errors import Interrupted, NotFound, QwenchatError, Recovery, RecoveryKind
from qwenchat.i18n import _
from qwenchat.runtime.events import Listener, ModelLoaded, ModelLoading, ModelWaiting
from qwenchat.runtime.forecast import DocumentCount, Forecast, count_documents, forecasts_of

if TYPE_CHECKING:
    from qwenchat.documents.levels.choice import Speed
    from qwenchat.runtime.load_options import LoadOptions

EngineFactory = Callable[[str, "LoadOptions"], Engine]
"""Makes an engine for a model reference; may block and raise NotFound, FileError or CannotLoad."""

_CARRIED_OUT = (
    RecoveryKind.START_AGAIN,
    RecoveryKind.SMALLER_CONTEXT,
    RecoveryKind.FEWER_LAYERS,
    RecoveryKind.WITHOUT_GPU,
    RecoveryKind.WITHOUT_PEERS,
    RecoveryKind.OTHER_MODEL,
    RecoveryKind.ASK_AGAIN,
)
"""The recoveries that `ChatService.retry` carries out; the user does the others."""


class ModelManager:
    """Holds one engine; `listener` is called on the loop.

    `may_send` says whether a session may be sent to its model: counting sends words to a server, too. `tools` returns
    what the model of a session is told of tools.
    """

    def __init__(
        self,
        new_engine: EngineFactory,
        listener: Listener,
        may_send: Callable[[Session], Awaitable[bool]],
        tools: Callable[[Session], Awaitable[Sequence[ToolSpec]]],
    ) -> None:
        self.info: ModelInfo | None = None
        """Of the model that is ready; None before one is."""
        self.counts = MessageCounts()
        """Of that model."""
        self._new_engine, self._listener, self._may_send, self._tools = new_engine, listener, may_send, tools
        self._engine: Engine | None = None
        self._loaded_for: tuple[str, LoadOptions] | None = None
        self._capabilities: Capabilities | None = None
        """Of that model, as it was loaded last; an engine that has failed reports none."""
        self._layers: dict[str, int] = {}
        """Layers that a model may have on the GPU, where it failed with more."""
        self._without_peers: set[str] = set()
        """Models to load on this machine alone, where they failed with peers."""
        self._lock = asyncio.Lock()
        self._loading: asyncio.Task[ModelInfo] | None = None
        self._is_closed = False

    def is_for(self, session: Session) -> bool:
        """Say whether the model of a session is the one that is ready."""
        return self.info is not None and self._loaded_for == self._wanted(session)

    def capabilities(self, session: Session) -> Capabilities | None:
        """Return what the model of a session can do; None where that is not known before it is loaded."""
        return self._capabilities if self._loaded_for == self._wanted(session) else None

    def can_continue(self, session: Session) -> bool:
        """Say whether the model of a session continues answers, as far as that is known."""
        known = self.capabilities(session)
        return known is None or known.continue_answer

    async def load(self, session: Session) -> Engine:
        """Load the model of a session and return the engine. Raises what the engine raises."""
        reference = session.model
        if not reference:
            raise NotFound(_("No model is chosen."), _("Choose one first."))
        async with self._lock:
            self._check_open()
            wanted = self._wanted(session)
            if self._engine is None or wanted != self._loaded_for:
                await self._unload()
                self._engine = await asyncio.to_thread(self._new_engine, *wanted)
                self._loaded_for = wanted
                self._check_open()
            known, self.info = self.info, None
            self.info = await self._load(self._engine, reference)
            self._capabilities = self._engine.capabilities
            if known and self.info.file != known.file:
                self.counts.clear()
            if self.info != known:
                self._listener(ModelLoaded(reference, self.info))
            return self._engine

    async def unload(self) -> None:
        """Close the engine, once no load is under way."""
        async with self._lock:
            await self._unload()

    async def close(self) -> None:
        """Close the engine and load none again; loads that are under way or wait raise Interrupted."""
        self._is_closed = True
        if self._loading:
            self._loading.cancel()
        await self.unload()

    def recoveries(self, error: QwenchatError) -> tuple[Recovery, ...]:
        """Return what the program can do about an error of the engine, or of finding its model."""
        if isinstance(error, NotFound):
            return (Recovery(RecoveryKind.OTHER_MODEL),)
        return tuple(recovery for recovery in error.recoveries if recovery.kind in _CARRIED_OUT)

    def load_again(self) -> None:
        """Make the engine anew when it is asked next: the settings that it was made with have changed."""
        self._loaded_for = None

    def forget(self) -> None:
        """Take the model as not ready: its engine has failed."""
        self.info = None

    def limit_layers(self, session: Session, layers: int) -> None:
        """Put no more than `layers` of a session's model on the GPU when it is loaded next."""
        self._layers[session.model] = layers

    def avoid_peers(self, session: Session) -> None:
        """Load a session's model on this machine alone from now on."""
        self._without_peers.add(session.model)

    async def plan(
        self, session: Session, branch: Sequence[Message], text: str, attachments: Sequence[Attachment] = ()
    ) -> ContextPlan | None:
        """Return what the model would see with a question after a branch.

        None while the model is not ready, and while the user has not agreed that the session is sent to it.
        """
        engine, info = self._engine, self.info
        if not self.is_for(session) or not engine or not info or not await self._may_send(session):
            return None
        if text or attachments:
            branch = [*branch, _draft(session, text, attachments)]
        has_tools = engine.capabilities.tools and session.sampling.schema is None
        return await plan_context(
            engine,
            info,
            branch,
            system=session.system,
            tools=await self._tools(session) if has_tools else (),
            max_tokens=session.sampling.over(info.defaults).max_tokens,
            counts=self.counts,
        )

    async def forecast(
        self, session: Session, text: str, counted: Sequence[tuple[DocumentCount, bool | None]], speed: "Speed | None"
    ) -> list[Forecast] | None:
        """Return what reading documents takes with a question in a session (`forecasts_of`); None where `plan` does."""
        alone = await self.plan(session, [], text or " ")
        return forecasts_of(alone, counted, speed) if alone else None

    async def count_documents(self, session: Session, attachments: Sequence[Attachment]) -> DocumentCount | None:
        """Return how many tokens documents take in a prompt; None where `plan` returns None."""
        engine, info = self._engine, self.info
        if not self.is_for(session) or not engine or not info or not await self._may_send(session):
            return None
        return await count_documents(engine, attachments, info.n_ctx)

    async def _load(self, engine: Engine, reference: str) -> ModelInfo:
        """Load, in a task that `close` can cancel."""

        def report(event: LoadEvent) -> None:
            if isinstance(event, Loading):
                self._listener(ModelLoading(reference, event.fraction))
            else:
                self._listener(ModelWaiting(reference, event))

        task = self._loading = asyncio.create_task(engine.load(report))
        try:
            return await task
        except asyncio.CancelledError:
            if self._is_closed and task.cancelled():
                self._check_open()
            raise
        finally:
            self._loading = None

    def _check_open(self) -> None:
        if self._is_closed:
            raise Interrupted(_("Loading was stopped."))

    def _wanted(self, session: Session) -> "tuple[str, LoadOptions]":
        from qwenchat.runtime.load_options import LoadOptions  # noqa: PLC0415 - the screen is there before planning is

        options = LoadOptions(
            ctx=session.context,
            gpu_layers=self._layers.get(session.model),
            with_peers=session.model not in self._without_peers,
            beside_screen=True,
            attach=True,
        )
        return session.model, options

    async def _unload(self) -> None:
        engine, self._engine, self._loaded_for = self._engine, None, None
        self.info = self._capabilities = None
        self.counts.clear()
        if engine:
            await engine.close()


def _draft(session: Session, text: str, attachments: Sequence[Attachment]) -> Message:
    """Return what is in the prompt as the question that it may become."""
    return Message(
        id="",
        session=session.id,
        parent=None,
        role=Role.USER,
        parts=text_parts(text),
        created=0,
        attachments=tuple(attachments),
    )
