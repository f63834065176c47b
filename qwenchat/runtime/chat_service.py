"""Runs chats: which question is answered now, which ones wait, on whichever model their session has. No Textual here.

One answer is generated at a time. Every question is stored in the outbox first and enters the tree when its turn comes.
What happens is reported to one listener, on the loop.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from time import monotonic

from msgspec.structs import replace

from qwenchat.chat.events import PartGrew, Summarising, TurnEnded, TurnEvent, TurnStarted
from qwenchat.chat.ids import unix_ms
from qwenchat.chat.memory import no_such_message
from qwenchat.chat.message import Attachment, Message, Role, Status, ToolCall, ToolResult
from qwenchat.chat.ports import Engine
from qwenchat.chat.session import Session, WaitingQuestion
from qwenchat.chat.title import suggest
from qwenchat.chat.turn import Turns
from qwenchat.errors import (
    CannotLoad,
    EngineDied,
    Interrupted,
    NotFound,
    PromptTooLong,
    QwenchatError,
    Recovery,
    RecoveryKind,
    WrongUse,
)
from qwenchat.i18n import _
from qwenchat.runtime.compactions import Compactions, NewBranch
from qwenchat.runtime.events import (
    BugFound,
    Compacted,
    ConsentNeeded,
    Hold,
    Listener,
    NotCompacted,
    QueueChanged,
    SummaryGrew,
    ToolAsked,
    ToolDecided,
    TurnFailed,
    TurnReported,
    WaitingChanged,
)
from qwenchat.runtime.jobs import HeldQueue, Job
from qwenchat.runtime.model_manager import EngineFactory, ModelManager
from qwenchat.runtime.program import Program
from qwenchat.runtime.session_access import SessionAccess
from qwenchat.runtime.session_documents import SessionDocuments
from qwenchat.runtime.session_tools import SessionTools
from qwenchat.text.safe import encodable
from qwenchat.tools.policy import Decision, PendingCall


class ChatService:
    """All chats. Methods raise QwenchatError; call `close` at the end."""

    def __init__(self, program: Program, listener: Listener, new_engine: EngineFactory | None = None) -> None:
        self.sessions = SessionAccess(program, self._live)
        self.documents = SessionDocuments(program, self.sessions.is_private)
        self.tools = SessionTools(program, self._ask_about, self.sessions.is_private, self.documents)
        self.model = ModelManager(
            new_engine or program.engine, listener, may_send=self._may_send, tools=self.tools.specs
        )
        self.compactions = Compactions(self.sessions, self.model, self.tools.specs)
        self._program, self._listener = program, listener
        self._queue: deque[Job] = deque()
        self._held: dict[str, HeldQueue] = {}
        """By session, what waits for a decision: about what failed or was stopped, a model, or consent."""
        self._job: Job | None = None
        """The turn that runs."""
        self._unfinished: dict[str, Message] = {}
        """Answers whose end could not be stored, with all that was generated of them."""
        self._task: asyncio.Task[None] | None = None
        self.call_since = 0.0
        """When the call of a tool that runs began, in seconds of the monotonic clock."""
        self._asked: tuple[ToolAsked, asyncio.Future[Decision]] | None = None
        """The call of a tool that the turn which runs waits for."""
        self._model_use = asyncio.Lock()
        """Held while the model is used, so that it is not unloaded meanwhile."""
        self._outbox_use = asyncio.Lock()
        """Held while a question enters or leaves an outbox."""

    @property
    def running(self) -> str:
        """The id of the session that is being answered, empty for none."""
        return self._job.session if self._job else ""

    @property
    def asked(self) -> ToolAsked | None:
        """The call of a tool that waits for the user's decision."""
        return self._asked[0] if self._asked else None

    def decide(self, pending: PendingCall, decision: Decision) -> None:
        """Go on with a call of a tool as the user decided; ignored where it waits no longer."""
        if self._asked and self._asked[0].pending is pending and not self._asked[1].done():
            self._asked[1].set_result(decision)

    async def send(
        self, session_id: str, text: str, attachments: Sequence[Attachment] = (), *, fork: str = ""
    ) -> Message:
        """Store a question, have it answered when its turn comes, and return it.

        It follows the end of the branch, or the message `fork`. Raises NotFound where that is gone.
        """
        async with self._outbox_use:
            await self.sessions.persist(session_id)
            if fork:
                await self._check_message(session_id, fork)
                return await self._enqueue_question(session_id, fork, text, attachments)
            before = await self.sessions.waiting(session_id)
            follows = before[-1].id if before else (await self.sessions.labels(session_id)).leaf
            return await self._enqueue_question(session_id, follows, text, attachments)

    async def edit(self, question: Message, text: str, attachments: Sequence[Attachment] | None = None) -> Message:
        """Ask a question again in other words, as a variant beside it, with the same files or with others.

        Raises NotFound where its parent is gone.
        """
        async with self._outbox_use:
            if question.parent:
                await self._check_message(question.session, question.parent)
            files = question.attachments if attachments is None else attachments
            return await self._enqueue_question(question.session, question.parent, text, files)

    def regenerate(self, question: Message, *, model: str = "", reload: bool = False) -> None:
        """Answer a question once more; where it is held, ask it and all that is held with it.

        `model` answers instead of the session's, which is loaded again when it is needed next.
        """
        jobs = self._take_held(question.session)
        job = next((each for each in jobs if each.waiting and each.waiting.id == question.id), None)
        if job is None:
            job = Job(session=question.session, begin=lambda turns: turns.regenerate(question))
            jobs = [job, *jobs]
        job.model, job.reload = model, reload
        self._enqueue(*jobs)

    def continue_answer(self, answer: Message, *, reload: bool = False) -> None:
        """Continue an answer that ended early."""
        job = Job(session=answer.session, begin=lambda turns: turns.continue_answer(answer), reload=reload)
        self._enqueue(job, *self._take_held(answer.session))

    def compact(self, session_id: str, *, again: Message | None = None) -> None:
        """Have the oldest messages of a session summarised when its turn comes, or those of the summary `again`.

        It ends with Compacted, NotCompacted or TurnFailed; nothing is changed before the first of these.
        """
        self._enqueue(Job(session=session_id, summary=again))

    async def edit_summary(self, summary: Message, text: str) -> None:
        """Put a summary into other words, as a variant beside it with copies of what follows; reported as Compacted.

        Raises StoreError while the session is being answered.
        """
        with self.sessions.store(summary.session).streaming(summary.session):
            await self._store_compacted(await self.compactions.edited(summary, text))

    def is_waiting(self, question: Message) -> bool:
        """Say whether a question waits for its turn, or for the model in its turn."""
        jobs = [*self._queue, *([self._job] if self._job else [])]
        return any(job.waiting is not None and job.waiting.id == question.id for job in jobs)

    async def stop(self, session_id: str) -> None:
        """Stop the answer of a session; the questions that wait there are held."""
        waiting = [job for job in self._take_queued(session_id) if job.waiting]
        running = self._job if self._job and self._job.session == session_id else None
        if running:
            await running.cancel()
        async with self._outbox_use:  # by now the question of the running one has entered the tree or never will
            if running and running.waiting:
                waiting.insert(0, Job(session=session_id, waiting=running.waiting))
            self._hold(session_id, [*self._take_held(session_id), *waiting], Hold.STOPPED)

    async def withdraw(self, session_id: str) -> None:
        """Stop the answer of a session; the questions that wait there enter its tree, unanswered."""
        await self.stop(session_id)
        self._take_held(session_id)
        async with self._outbox_use:
            await self.sessions.withdraw(session_id)
        self._report_queue()

    async def take_back(self, question: Message) -> WaitingQuestion | None:
        """Take a waiting question out of the outbox and return it; None where its turn has come."""

        def is_other(job: Job) -> bool:
            return job.waiting is None or job.waiting.id != question.id

        async with self._outbox_use:
            waiting = await self.sessions.waiting(question.session)
            found = next((each for each in waiting if each.id == question.id), None)
            if found is None:
                return None
            self._queue = deque(filter(is_other, self._queue))
            if held := self._held.pop(question.session, None):
                self._hold(question.session, list(filter(is_other, held.jobs)), held.why)
            if self._job and not is_other(self._job):
                await self._job.cancel()
            await asyncio.to_thread(self.sessions.store(question.session).take_out, question.id)
        self._report_queue()
        return found

    async def ask_without_model(self) -> None:
        """Ask the questions that waited for a model and have one now."""
        for session_id in [session_id for session_id, held in self._held.items() if held.why is Hold.NO_MODEL]:
            if model := (await self.sessions.labels(session_id)).model:
                await self.sessions.change(session_id, model=model)
                self._enqueue(*self._take_held(session_id))

    def waits_for_consent(self, session_id: str) -> bool:
        """Say whether something of a session is held until the user agrees that it is sent to another machine."""
        held = self._held.get(session_id)
        return held is not None and held.why is Hold.NO_CONSENT

    def ask_with_consent(self, session_id: str, host: str = "") -> None:
        """Ask what is held in a session: the user agreed to `host`; without one, what waits for consent alone."""
        if host:
            self.sessions.agree(session_id, host)
        if host or self.waits_for_consent(session_id):
            self._enqueue(*self._take_held(session_id))

    async def take_back_without_consent(self, session_id: str) -> list[WaitingQuestion]:
        """Send nothing of what is held in a session; return its questions, which wait no longer."""
        held = self._take_held(session_id)
        questions = [job.waiting for job in held if job.waiting]
        async with self._outbox_use:
            for question in questions:
                await asyncio.to_thread(self.sessions.store(session_id).take_out, question.id)
        self._report_queue()
        return questions

    async def retry(self, session_id: str, recovery: Recovery) -> None:
        """Go on with what failed: with the model as it is, loaded again as the recovery says, or with another one."""
        session = await self.sessions.labels(session_id)
        if recovery.kind is RecoveryKind.SMALLER_CONTEXT:
            await self.sessions.change(session_id, context=recovery.value)
        elif recovery.kind in (RecoveryKind.FEWER_LAYERS, RecoveryKind.WITHOUT_GPU):
            self.model.limit_layers(session, recovery.value)
        elif recovery.kind is RecoveryKind.WITHOUT_PEERS:
            self.model.avoid_peers(session)
        reload = recovery.kind not in (RecoveryKind.OTHER_MODEL, RecoveryKind.ASK_AGAIN)
        held = self._held.get(session_id)
        if held and held.jobs[0].failed:
            held.jobs[0].reload, held.jobs[0].failed = reload, False
            self._enqueue(*self._take_held(session_id))
            return
        branch = await asyncio.to_thread(self.sessions.store(session_id).branch, session.leaf)
        last = branch[-1] if branch else None
        if last and last.role is Role.USER:
            self.regenerate(last, reload=reload)
        elif last and last.parts and (not last.generated or self.model.can_continue(session)):
            self.continue_answer(last, reload=reload)
        elif len(branch) > 1:
            self.regenerate(branch[-2], reload=reload)

    async def title(self, session_id: str) -> str:
        """Return a title by the session's model, once it has nothing else to do; empty where nothing was asked.

        Raises WrongUse where the user has not agreed that the session is sent to that model.
        """
        if host := await self.sessions.host_to_confirm(session_id):
            raise WrongUse(_("This chat has not been sent to {host} yet.").format(host=host), _("Ask there first."))
        snapshot = await self.sessions.open(session_id)
        async with self._model_use:
            return await suggest(await self.model.load(snapshot.session), snapshot.branch)

    async def close(self) -> None:
        """Stop what runs, store it, and close the engine."""
        self._queue.clear()
        if self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.tools.close()
        await self.model.close()
        self.documents.close()

    def _live(self, message: Message) -> Message:
        """Return an answer that streams with all that was generated of it."""
        streaming = self._job.turn.answer if self._job and self._job.turn else None
        if streaming and streaming.id == message.id:
            return streaming
        return self._unfinished.get(message.id, message)

    async def _check_message(self, session_id: str, message_id: str) -> None:
        """Raise NotFound where a message is gone."""
        if not await asyncio.to_thread(self.sessions.store(session_id).branch, message_id):
            raise no_such_message(message_id)

    async def _enqueue_question(
        self, session_id: str, follows: str | None, text: str, attachments: Sequence[Attachment]
    ) -> Message:
        waiting = WaitingQuestion(
            id=self.sessions.new_id(),
            session=session_id,
            follows=follows,
            text=encodable(text),
            created=unix_ms(),
            attachments=tuple(attachments),
        )
        await asyncio.to_thread(self.sessions.store(session_id).enqueue, waiting)
        has_model = bool((await self.sessions.labels(session_id)).model)
        jobs = [*self._take_held(session_id), Job(session=session_id, waiting=waiting)]
        if has_model:
            self._enqueue(*jobs)
        else:
            self._hold(session_id, jobs, Hold.NO_MODEL)
        return waiting.question

    def _hold(self, session_id: str, jobs: list[Job], why: Hold) -> None:
        """Ask these later, when the user says so; report that."""
        if jobs:
            self._held[session_id] = HeldQueue(jobs, why)
        self._report_queue()

    def _take_held(self, session_id: str) -> list[Job]:
        """Take out what is held in a session, but no second answer that failed: the user wants something else now."""
        held = self._held.pop(session_id, None)
        return [job for job in held.jobs if job.waiting or not job.failed] if held else []

    def _take_queued(self, session_id: str) -> list[Job]:
        """Take the jobs of a session out of the queue."""
        taken = [job for job in self._queue if job.session == session_id]
        self._queue = deque(job for job in self._queue if job.session != session_id)
        return taken

    def _enqueue(self, *jobs: Job) -> None:
        self._queue.extend(jobs)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
            self._task.add_done_callback(self._report_bug)
        else:
            self._report_queue()

    def _report_bug(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (bug := task.exception()):
            self._listener(BugFound(bug))

    async def _work(self) -> None:
        while self._queue:
            self._job = job = self._queue.popleft()
            self._report_queue()
            try:
                async with self._model_use:
                    await self._run(job)
            except Interrupted:
                pass
            except QwenchatError as error:
                self._fail(job, error)
            finally:
                self._job = None
        self._report_queue()

    def _fail(self, job: Job, error: QwenchatError) -> None:
        """Report a failure, and hold back what can't go on before the user has decided."""
        if isinstance(error, EngineDied | CannotLoad):
            self.model.forget()
        recoveries = self.model.recoveries(error) if not job.model else ()  # those are for the session's own model
        job.failed = not job.has_begun
        if job.failed or recoveries:
            self._hold(job.session, ([job] if job.failed else []) + self._take_queued(job.session), Hold.FAILED)
        job.turn = None
        taken_back = job.asked if isinstance(error, PromptTooLong) else None
        self._listener(TurnFailed(job.session, error, recoveries, taken_back))

    async def _hold_for_consent(self, job: Job, host: str) -> None:
        model = job.model or (await self.sessions.labels(job.session)).model
        others = [*self._take_queued(job.session), *self._take_held(job.session)]
        self._hold(job.session, [job, *others], Hold.NO_CONSENT)
        self._listener(ConsentNeeded(job.session, model, host, is_second_model=bool(job.model)))

    async def _may_send(self, session: Session) -> bool:
        return not await self.sessions.host_to_confirm(session.id, session.model)

    async def _ask_about(self, session: Session, pending: PendingCall) -> Decision:
        """Report a call that the user decides about, and wait for the decision."""
        asked = ToolAsked(session.id, pending)
        decided: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._asked = asked, decided
        self._listener(asked)
        try:
            return await decided
        finally:
            self._asked, self.call_since = None, monotonic()
            self._listener(ToolDecided(session.id, pending))

    async def _run(self, job: Job) -> None:
        if host := await self.sessions.host_to_confirm(job.session, job.model):
            await self._hold_for_consent(job, host)
            return
        if job.reload:
            await self.model.unload()
        engine = await self._load(job)
        if self.model.info and (peers := await self.sessions.peers_to_confirm(job.session, self.model.info)):
            await self._hold_for_consent(job, peers)
            return
        if job.is_compaction:
            await self._compact(job, engine)
        else:
            await self._answer(job, engine)

    async def _compact(self, job: Job, engine: Engine) -> None:
        store, session_id = self.sessions.store(job.session), job.session

        def report(progress: Summarising) -> None:
            self._listener(SummaryGrew(session_id, progress))

        with store.streaming(session_id):
            try:
                await self._store_compacted(
                    await job.do(self.compactions.make(session_id, engine, job.summary, report))
                )
            except (NotFound, WrongUse) as error:
                self._listener(NotCompacted(session_id, error))

    async def _store_compacted(self, new: NewBranch) -> None:
        """Store a branch that begins with a summary, and let what waits follow it."""
        summary = new.messages[0]
        session_id = summary.session
        async with self._outbox_use:
            await self.compactions.store(new)
            waiting = {each.id: each for each in await self.sessions.waiting(session_id)}
            held = self._held[session_id].jobs if session_id in self._held else []
            for job in [*self._queue, *held]:
                if job.waiting:
                    job.waiting = waiting.get(job.waiting.id, job.waiting)
        self._listener(Compacted(session_id, summary, new.instead_of[0].id))

    async def _answer(self, job: Job, engine: Engine) -> None:
        store = self.sessions.store(job.session)
        session = await self.sessions.labels(job.session)
        turns = Turns(
            store=store,
            engine=engine,
            new_id=self.sessions.new_id,
            clock=unix_ms,
            counts=self.model.counts,
            model=job.model,
            tools=await self.tools.use(session) if engine.capabilities.tools else None,
            sources=self.documents.sources(session),
            settings=self._program.sampling,
        )
        job.turn = turn = job.begin_turn(turns)
        ended = False
        try:
            async with aclosing(turn):
                async with self._outbox_use:
                    if job.cancelled:
                        raise Interrupted("")
                    started = await anext(turn)
                    if job.waiting and isinstance(started, TurnStarted):
                        job.asked = started.question
                    job.waiting, job.has_begun = None, True
                self._listener(TurnReported(job.session, started))
                async for event in turn:
                    ended = ended or isinstance(event, TurnEnded)
                    await self._report(job.session, event)
        finally:
            if turn.answer and not ended:
                self._unfinished[turn.answer.id] = replace(turn.answer, status=Status.INTERRUPTED)

    async def _load(self, job: Job) -> Engine:
        """Load the model that a job wants. Raises Interrupted where the job is cancelled meanwhile."""
        session = await self.sessions.labels(job.session)
        if job.model:
            session = replace(session, model=job.model)
        return await job.do(self.model.load(session))

    async def _report(self, session_id: str, event: TurnEvent) -> None:
        if isinstance(event, PartGrew) and isinstance(event.fragment, ToolCall | ToolResult):
            self.call_since = monotonic()
        if isinstance(event, TurnEnded) and not self.sessions.is_private(session_id):
            await asyncio.to_thread(self._program.machine.note_speed, event.answer)
        self._listener(TurnReported(session_id, event))

    def _report_queue(self) -> None:
        places = {job.waiting.id: place for place, job in enumerate(self._queue, 1) if job.waiting}
        held = [(job, held.why) for held in self._held.values() for job in held.jobs]
        self._listener(WaitingChanged(places, {job.waiting.id: why for job, why in held if job.waiting}))
        self._listener(QueueChanged(self.running, tuple(job.session for job in self._queue)))
