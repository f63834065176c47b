"""The open session as the screen shows it: one value, held in one place, whose change redraws.

`OpenSession` changes the value and reports each change to its listeners; it draws nothing and asks for nothing. Text
that streams does not pass here: it goes straight to the transcript, or each token would cost a comparison of views.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field, structs

from qwenchat.chat.message import Message, Status
from qwenchat.chat.session import Session
from qwenchat.chat.tree import VariantPlace
from qwenchat.runtime.events import QueueChanged, SessionSnapshot, ToolAsked, TurnFailed, WaitingChanged
from qwenchat.tools.policy import PendingCall
from qwenchat.tui.widgets.gauge import ContextUsage

if TYPE_CHECKING:
    from qwenchat.chat.events import Reading
    from qwenchat.chat.ports import Capabilities
    from qwenchat.runtime.session_access import SessionAccess


class SessionView(Struct, frozen=True, kw_only=True):
    """All that the screen shows of a session."""

    session: Session
    private: bool = False
    branch: tuple[Message, ...] = ()
    """Oldest first, with the questions that wait in the outbox behind them.

    The streaming answer has the text that it had when it was read; the transcript has all of it.
    """
    variants: Mapping[str, VariantPlace] = field(default_factory=dict)
    """Of messages with siblings, by their ids."""
    streaming: str = ""
    """The id of the answer in `branch` that streams, empty for none."""
    fork: str = ""
    """The id of the message that the next question follows, where that is not the last one; else empty."""
    first_seen: str | None = None
    """The id of the oldest message that the model sees; None where it sees all, empty where it sees none of them."""
    usage: ContextUsage | None = None
    """How full the context window is; None while that is not known."""
    activity: str = ""
    """What is going on, in words."""
    progress: float | None = None
    """How far that is, from 0 to 1; None without an end in sight."""
    reading: "Reading | None" = None
    """How far the documents are read for the answer that streams; None where they are not being read."""
    queue: QueueChanged = QueueChanged("", ())
    """The session that is answered and those that wait, this one among them or not."""
    waiting: WaitingChanged = WaitingChanged({}, {})
    """The questions that wait, in this session and in others."""
    asked: PendingCall | None = None
    """The call of a tool here that waits for the user's decision."""
    asking: str = ""
    """The id of the session with such a call, this one or another; empty for none."""
    failure: TurnFailed | None = None
    """What failed here and was not tried again since."""
    capabilities: "Capabilities | None" = None
    """Of the session's model; None where they are not known before it is loaded."""
    warning: str = ""
    """What is odd about the last answer."""

    @property
    def can_continue(self) -> bool:
        """Whether the session's model continues answers, as far as that is known."""
        return self.capabilities is None or self.capabilities.continue_answer

    @property
    def has_documents(self) -> bool:
        """Whether questions are about documents: collections, or files that are read in parts."""
        return bool(self.session.collections) or any(
            file.in_parts for message in self.branch for file in message.attachments
        )

    @property
    def can_call(self) -> bool:
        """Whether the session's model calls tools, as far as that is known; the built-in guide calls none."""
        if self.capabilities is None:
            return self.session.model not in ("", "guide")
        return self.capabilities.tools

    @property
    def answering(self) -> bool:
        """Whether the session is being answered or waits for it."""
        return self.session.id in (self.queue.running, *self.queue.waiting)

    @property
    def left_behind(self) -> tuple[Message, ...]:
        """What the next question does not follow: the messages after the fork."""
        at = next((at for at, message in enumerate(self.branch) if message.id == self.fork), len(self.branch))
        return self.branch[at + 1 :]

    @property
    def answers_ahead(self) -> int:
        """How many answers in other chats come before the one that waits here; 0 where none waits."""
        waits = self.session.id in self.queue.waiting and self.session.id != self.queue.running
        return self.queue.waiting.index(self.session.id) + 1 if waits else 0


class ViewChange(Struct, frozen=True, kw_only=True):
    """A view and the one before it."""

    before: SessionView
    after: SessionView
    at: str | None = None
    """The id of the message to go to."""

    @property
    def switched(self) -> bool:
        """Whether another session is shown now."""
        return self.before.session.id != self.after.session.id

    @property
    def branch_changed(self) -> bool:
        """Whether other messages are shown, or other states of them."""
        return self.switched or self.before.branch is not self.after.branch


class OpenSession:
    """The session that is open; at first a new one for `model`, made when it is first asked for."""

    def __init__(self, sessions: "Callable[[], SessionAccess]", model: str) -> None:
        self._sessions, self._model = sessions, model
        self._view: SessionView | None = None
        self._failures: dict[str, TurnFailed] = {}
        """By session, what failed there and was not tried again since."""
        self._asked: ToolAsked | None = None
        self._forked: set[str] = set()
        """Questions that have siblings as soon as they enter the tree: their branch is read again then."""
        self._listeners: list[Callable[[ViewChange], object]] = []

    def listen(self, listener: Callable[[ViewChange], object]) -> None:
        """Report every change to a listener, after those that came before it."""
        self._listeners.append(listener)

    @property
    def view(self) -> SessionView:
        """What is shown."""
        if self._view is None:
            self._view = SessionView(session=self._sessions().new(self._model))
        return self._view

    @property
    def session(self) -> Session:
        """The session, as it was read last."""
        return self.view.session

    @property
    def id(self) -> str:
        """The session's id."""
        return self.view.session.id

    def show(self, snapshot: SessionSnapshot, *, at: str | None = None) -> None:
        """Show a session as it was read, at a message if one is named."""
        view, session = self.view, snapshot.session
        if session.id != view.session.id:
            private = self._sessions().is_private(session.id)
            view = SessionView(
                session=session,
                private=private,
                queue=view.queue,
                waiting=view.waiting,
                asking=view.asking,
                asked=self._asked_in(session.id),
                failure=self._failures.get(session.id),
            )
        branch = (*snapshot.branch, *(waiting.question for waiting in snapshot.waiting))
        fork = view.fork if any(message.id == view.fork for message in branch[:-1]) else ""
        self._set(
            structs.replace(
                view,
                session=session,
                fork=fork,
                branch=branch,
                variants=snapshot.variants,
                streaming=_streaming(branch),
                first_seen=next((message.id for message in branch if message.id == view.first_seen), None),
            ),
            at=at,
        )

    def refresh(self, snapshot: SessionSnapshot, *, at: str | None = None) -> bool:
        """Show a session as it was read if it is still the open one, and return whether it is."""
        still_open = snapshot.session.id == self.id
        if still_open:
            self.show(snapshot, at=at)
        return still_open

    async def reload(self) -> None:
        """Read the session again and show it. Raises NotFound and StoreError."""
        self.refresh(await self._sessions().open(self.id))

    def relabel(self, session: Session) -> None:
        """Show what changed of a session beside its messages, if it is the open one."""
        if session.id == self.id:
            self._set(structs.replace(self.view, session=session))

    def append(self, message: Message) -> None:
        """Show a new message at the end of the branch."""
        branch = (*self.view.branch, message)
        self._set(structs.replace(self.view, branch=branch, streaming=_streaming(branch)))

    async def begin_answer(self, question: Message, answer: Message) -> None:
        """Show an answer that begins or is continued below its question. Raises NotFound and StoreError."""
        answer = structs.replace(answer, status=Status.STREAMING)  # one that is continued had ended
        branch = self.view.branch
        if any(message.id == answer.id for message in branch):
            self.replace_message(answer)
        elif branch and branch[-1].id == question.id and question.id not in self._forked:
            branch = (*branch[:-1], question, answer)  # the usual case, whatever the length of the chat
            self._set(structs.replace(self.view, branch=branch, streaming=_streaming(branch)))
        else:
            self._forked.discard(question.id)
            await self.reload()

    def replace_message(self, message: Message) -> None:
        """Show another state of a message, if the branch has it."""
        if all(one.id != message.id for one in self.view.branch):
            return
        branch = tuple(message if one.id == message.id else one for one in self.view.branch)
        self._set(structs.replace(self.view, branch=branch, streaming=_streaming(branch)))

    def fork_at(self, message_id: str) -> bool:
        """Let the next question follow a message; return whether it leaves any behind. Empty: follow the end again."""
        view = structs.replace(self.view, fork=message_id)
        leaves_some = bool(view.left_behind)
        self._set(view if leaves_some else structs.replace(view, fork=""))
        return leaves_some

    async def show_forked(self, question: Message) -> None:
        """Show a question that was asked on a branch of its own. Raises NotFound and StoreError."""
        self._forked.add(question.id)
        self.fork_at("")
        await self.reload()

    def show_first_seen(self, message_id: str | None) -> None:
        """Show where the part of the branch begins that the model sees."""
        self._set(structs.replace(self.view, first_seen=message_id))

    def show_usage(self, usage: ContextUsage | None) -> None:
        """Show how full the context window is."""
        self._set(structs.replace(self.view, usage=usage))

    def show_activity(self, words: str = "", progress: float | None = None) -> None:
        """Show what is going on; nothing without words."""
        self._set(structs.replace(self.view, activity=words, progress=progress, reading=None))

    def show_reading(self, reading: "Reading", words: str) -> None:
        """Show how far documents are read, and in words as what is going on."""
        progress = reading.done / reading.total if reading.total else None
        self._set(structs.replace(self.view, activity=words, progress=progress, reading=reading))

    def show_capabilities(self, known: "Capabilities | None") -> None:
        """Show what the session's model can do."""
        self._set(structs.replace(self.view, capabilities=known))

    def show_warning(self, words: str = "") -> None:
        """Show what is odd about the last answer; nothing without words."""
        self._set(structs.replace(self.view, warning=words))

    def show_queue(self, queue: QueueChanged) -> None:
        """Show who is answered and who waits; what failed in those sessions is being tried again."""
        for session_id in (queue.running, *queue.waiting):
            self._failures.pop(session_id, None)
        self._set(structs.replace(self.view, queue=queue, failure=self._failures.get(self.id)))

    def show_waiting(self, waiting: WaitingChanged) -> None:
        """Show which questions wait."""
        self._set(structs.replace(self.view, waiting=waiting))

    def show_asked(self, asked: ToolAsked | None) -> None:
        """Show which call waits for the user's decision, here or in another session; None for none."""
        self._asked = asked
        self._set(structs.replace(self.view, asked=self._asked_in(self.id), asking=asked.session if asked else ""))

    def _asked_in(self, session_id: str) -> PendingCall | None:
        return self._asked.pending if self._asked and self._asked.session == session_id else None

    def add_failure(self, failed: TurnFailed) -> None:
        """Remember what failed in a session; it is shown while that session is open."""
        self._failures[failed.session] = failed
        self._set(structs.replace(self.view, failure=self._failures.get(self.id)))

    def failure_of(self, session_id: str) -> TurnFailed | None:
        """Return what failed in a session and was not tried again since."""
        return self._failures.get(session_id)

    def forget_failure(self, session_id: str) -> None:
        """Show a failure no longer: it is being tried again."""
        self._failures.pop(session_id, None)
        self._set(structs.replace(self.view, failure=self._failures.get(self.id)))

    def _set(self, view: SessionView, *, at: str | None = None) -> None:
        change = ViewChange(before=self.view, after=view, at=at)
        self._view = view
        for listener in self._listeners:
            listener(change)


def _streaming(branch: tuple[Message, ...]) -> str:
    """Return the id of the answer that streams, empty for none; it is near the end."""
    return next((message.id for message in reversed(branch) if message.status is Status.STREAMING), "")
