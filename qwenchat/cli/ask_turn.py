"""The turn of `ask`: chooses how its files are read, runs it, and shows what it reports. Ctrl-C stops it.

Which model answers, in which session, and whether a chat may be sent there is decided before.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from qwenchat.chat.calling import ToolUse
from qwenchat.chat.context import MessageCounts, plan_context
from qwenchat.chat.events import TurnEnded
from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.memory import MemoryStore
from qwenchat.chat.message import Attachment, FinishReason
from qwenchat.chat.ports import Engine, Mode, ModelInfo, SessionStore
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session, WaitingQuestion
from qwenchat.chat.turn import RunningTurn, Turns
from qwenchat.cli.ask_documents import ReadingTalk, need_counting, settled
from qwenchat.cli.ask_output import JsonReport, TextReport, TurnReport
from qwenchat.cli.ask_tools import ToolTalk
from qwenchat.cli.output import Output, is_dumb
from qwenchat.errors import PromptTooLong
from qwenchat.i18n import _
from qwenchat.runtime.forecast import Forecast, forecasts
from qwenchat.runtime.program import Program
from qwenchat.runtime.session_documents import SessionDocuments
from qwenchat.sessions.store import Store
from qwenchat.text.safe import clean_line

if TYPE_CHECKING:
    from qwenchat.runtime.session_tools import SessionTools


class Asking:
    """One question, being asked."""

    def __init__(
        self, program: Program, output: Output, engine: Engine, session: Session, options: dict[str, Any]
    ) -> None:
        self._program, self._output, self._engine = program, output, engine
        self._session, self._options = session, options
        self._talk = ToolTalk(output)
        self._reading = ReadingTalk(output, draws=options["style"] is not None or not output.on_terminal)
        self._documents = SessionDocuments(program, lambda _session: options["no_save"])
        self._tools = self._session_tools() if program.offers_tools(session) else None

    def _session_tools(self) -> "SessionTools":
        from qwenchat.runtime.session_tools import SessionTools  # noqa: PLC0415 - most questions have none

        return SessionTools(self._program, self._talk.ask, lambda _session: self._options["no_save"], self._documents)

    async def close(self) -> None:
        """End what was started. May be called twice."""
        if self._tools:
            await self._tools.close()
        await self._engine.close()
        self._documents.close()

    async def answer(
        self, text: str, files: Sequence[Attachment], sampling: Sampling, earlier: Session | None
    ) -> FinishReason | None:
        """Ask, show the answer, and return how it ended; `earlier` is the session as it was, None for a new one."""
        options, output = self._options, self._output
        use = None
        if self._tools:
            use = await self._tools.use(self._session, only=options["only"], granted=options["allow"])
            for name, problem in self._tools.problems.items():
                words = _("The tool server {name} can't be used: {reason}.")
                output.say(words.format(name=clean_line(name), reason=problem))
        if any(not each.in_parts for each in files) and not options["complete"]:
            info = await self._engine.load(self._reading.show)
            if need_counting(files, info.n_ctx):
                files = settled(output, files, await self._forecasts(info, text, files, sampling, use))
        store = _store(self._program, self._session, earlier, persists=not options["no_save"])
        turns = Turns(
            store=store,
            engine=self._engine,
            new_id=UUIDv7(),
            clock=unix_ms,
            mode=Mode.COMPLETE if options["complete"] else Mode.ANSWER,
            tools=use,
            sources=self._documents.sources(self._session),
            settings=self._program.sampling,
        )
        turn = turns.ask(self._session.id, text, files, sampling)
        with _interruptible(turn, self._engine):
            try:
                reason = await self._show(turn)
                if sampling.schema and reason in (FinishReason.LENGTH, FinishReason.CONTEXT):
                    output.say(_("The answer reached its limit, so its JSON is incomplete."))
                if options["tools"] and turn.model and not self._engine.capabilities.tools:
                    output.say(_("This model can't call tools."))
                for warning in turn.model.warnings if turn.model else ():
                    output.say(warning)
            except PromptTooLong:
                _restore(store, earlier, self._session)
                raise
            finally:
                await self.close()
        return reason

    async def _show(self, turn: RunningTurn) -> FinishReason | None:
        """Show the events of a turn, and return how its answer ended."""
        reason = None
        report = report_for(self._output, self._options["style"], lambda: turn.model, verbose=self._options["verbose"])
        with report:
            async with aclosing(turn):
                async for event in turn:
                    self._reading.show(event)
                    report.show(event)
                    self._talk.show(event)
                    if isinstance(event, TurnEnded):
                        reason = event.answer.finish_reason
                        self._program.machine.note_speed(event.answer)
        return reason

    async def _forecasts(
        self, info: ModelInfo, text: str, files: Sequence[Attachment], sampling: Sampling, use: ToolUse | None
    ) -> Sequence[Forecast]:
        """Return what each file takes beside the question."""
        session = self._session
        sampling = sampling.over(session.sampling).over(self._program.sampling).over(info.defaults)
        asked = WaitingQuestion(id="", session=session.id, follows=None, text=text, created=0).question
        has_tools = use and self._engine.capabilities.tools and sampling.schema is None
        plan = await plan_context(
            self._engine,
            info,
            [asked],
            system=session.system,
            max_tokens=sampling.max_tokens,
            tools=use.toolbox.specs if use and has_tools else (),
            counts=MessageCounts(),
        )
        return await forecasts(self._engine, plan, files, self._documents.speed(info.file))


def report_for(
    output: Output, style: str | None, model: Callable[[], ModelInfo | None], *, verbose: bool
) -> TurnReport:
    """Return the report that the options and the terminal ask for."""
    if style in ("json", "jsonl"):
        return JsonReport(output, model, streams=style == "jsonl")
    if style is None and output.on_terminal and not is_dumb():
        from qwenchat.cli.ask_markdown import MarkdownReport  # noqa: PLC0415 - rich is for terminals only

        return MarkdownReport(output, verbose=verbose)
    return TextReport(output, verbose=verbose)


def _store(program: Program, session: Session, earlier: Session | None, *, persists: bool) -> SessionStore:
    """Store a session, and return where it is: in the database, or in memory."""
    if earlier:
        with program.store.streaming(earlier.id):  # refuses a session in use before changing it
            program.store.label(earlier.id, **_labels(session))
        return program.store
    store: SessionStore = program.store if persists else MemoryStore()
    store.create(session)
    return store


def _labels(session: Session) -> dict[str, Any]:
    """Return what the options may change of an earlier session."""
    return {name: getattr(session, name) for name in ("model", "system", "tools", "collections", "level")}


def _restore(store: SessionStore, earlier: Session | None, session: Session) -> None:
    """Leave no trace of a question that was refused: neither a new session nor another model or system prompt."""
    if isinstance(store, Store):
        if earlier:
            store.label(earlier.id, **_labels(earlier))
        else:
            store.trash.delete_forever(session.id)


@contextmanager
def _interruptible(turn: RunningTurn, engine: Engine) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop the answer, whose text so far is saved; a second one waits for nothing."""
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        stopping.append(loop.create_task(engine.close(at_once=True) if stopping else turn.cancel()))

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    except NotImplementedError:  # Windows: Ctrl-C raises KeyboardInterrupt
        yield
        return
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        for task in stopping:
            task.cancel()
