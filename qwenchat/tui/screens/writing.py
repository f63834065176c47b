"""Writing and asking: drafts, attached files, the exact count of tokens, the person's own editor.

Nothing here blocks: tokens are counted, and drafts kept, a moment after the last key.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from textual import on
from textual.timer import Timer

from qwenchat.chat.message import Attachment, Message
from qwenchat.errors import Interrupted, QwenchatError
from qwenchat.runtime.program import Program
from qwenchat.text.safe import joined
from qwenchat.tui import editor
from qwenchat.tui.dialogs import open as screens
from qwenchat.tui.screens.message_actions import MessageActions
from qwenchat.tui.widgets.prompt import Prompt

if TYPE_CHECKING:
    from qwenchat.runtime.model_manager import EngineFactory

_DRAFT_AFTER_S = 0.8
_COUNT_AFTER_S = 0.25


class Writing(MessageActions):
    """What happens between the first key and a question that is asked."""

    def __init__(self, program: Program, new_engine: "EngineFactory | None" = None, model: str = "") -> None:
        super().__init__(program, new_engine, model)
        self._draft_timer: Timer | None = None
        self._count_timer: Timer | None = None
        self._warmed = ""
        """The model that was loaded because a person began to write."""

    def ask_for(self, text: str, event: Prompt.Submitted) -> None:
        """Ask what was written, once there is a model to answer it."""
        if not self.session.model:
            self.attempt(self._ask_first(text, event), "ask")
            return
        self.prompt.area.earlier.append(text)
        if question := self.editing:
            self.leave_editing()
            self.attempt(self._edit(question, text), "ask")
        else:
            self.prompt.clear()
            self.attempt(self._send(self.session.id, text, event), "ask")

    async def _ask_first(self, text: str, event: Prompt.Submitted) -> None:
        session_id = self.session.id
        await self.begin_with_a_model()
        if self.session.model and session_id == self.session.id:
            self.ask_for(text, event)

    async def begin_with_a_model(self) -> None:
        """Take the model that is here; welcome a person who has none."""
        session_id = self.session.id
        model = (await self.chats.sessions.labels(session_id)).model
        if session_id != self.session.id:
            return
        if not model:
            self.choose_first_model()
        elif not self.session.model:
            self.take(await self.chats.sessions.change(session_id, model=model))

    async def _send(self, session_id: str, text: str, event: Prompt.Submitted) -> None:
        try:
            question = await self.chats.send(session_id, text, event.attachments)
        except QwenchatError:
            await self._give_back(session_id, text, event.attachments)
            raise
        if session_id == self.session.id:
            if self.branched:
                self.branched = False
                await self.reread()
            else:
                self.transcript.add(question)
            self.transcript.follow()
            await self.save_draft()
            self.take(await self.chats.sessions.labels(session_id))
        self.sidebar.reload()

    async def _edit(self, question: Message, text: str) -> None:
        try:
            await self.chats.edit(question, text)
        except QwenchatError:
            await self._give_back(question.session, text)
            raise
        if question.session == self.session.id:
            await self.reread()
            self.transcript.follow()

    async def _give_back(self, session_id: str, text: str, files: tuple[Attachment, ...] = ()) -> None:
        """Put what could not be asked back where it was written, before what was written there since."""
        if session_id == self.session.id:
            self.prompt.attachments[:0] = files
            self.prompt.fill(joined(text, self.prompt.area.written), self.prompt.attachments)
        else:
            self.attached.setdefault(session_id, [])[:0] = files
            draft = (await self.chats.sessions.labels(session_id)).draft
            await self.chats.sessions.change(session_id, draft=joined(text, draft))

    def choose_first_model(self) -> None:
        """Welcome a person who has no model yet; what is in the prompt stays."""

        def chosen(reference: str | None) -> None:
            if reference:
                self.use_model(reference)

        self.ask(screens.welcome(self.program, self.downloads), chosen)

    # Drafts, counts, files

    @on(Prompt.Edited)
    def note_edit(self) -> None:
        """Keep the draft and count tokens a moment after the last key."""
        if self._draft_timer:
            self._draft_timer.stop()
        self._draft_timer = self.set_timer(_DRAFT_AFTER_S, lambda: self.attempt(self.save_draft(), "draft"))
        self.recount()
        self._warm()

    def _warm(self) -> None:
        """Load the model while the first question is being written."""
        model, text = self.session.model, self.prompt.text
        begun = bool(text.strip()) and not text.startswith("/") and text != self.session.draft
        if (
            begun
            and model
            and model != self._warmed
            and not self.queue.running
            and not self.chats.model.is_for(self.session)
        ):
            self._warmed = model
            self.attempt(self.chats.model.load(self.session), "warm")

    def recount(self) -> None:
        """Count tokens a moment after the last key."""
        if self._count_timer:
            self._count_timer.stop()
        self._count_timer = self.set_timer(_COUNT_AFTER_S, lambda: self.attempt(self._count(), "count", alone=True))

    async def _count(self) -> None:
        with suppress(Interrupted):  # by who stopped an answer
            await self._show_counts()

    async def _show_counts(self) -> None:
        branch = self.transcript.messages
        attachments = tuple(self.prompt.attachments)
        text = "" if self.prompt.text.startswith("/") else self.prompt.text
        if self.editing:
            at = [message.id for message in branch].index(self.editing.id)
            branch, attachments = branch[:at], self.editing.attachments
        fill = await self.chats.model.count(self.session, branch, text, attachments)
        self.gauge.fill = fill
        if fill and not fill.too_long and not self.editing:
            self.transcript.show_boundary(fill.first_seen)
        if attachments:
            counts = {one.digest: await self.chats.model.count_file(one) for one in attachments}
            self.prompt.show_tokens({digest: count for digest, count in counts.items() if count is not None})

    @on(Prompt.Refused)
    def refuse_file(self, event: Prompt.Refused) -> None:
        """Say why a file can't be added."""
        self.tell_error(event.error)

    def action_editor(self) -> None:
        """Write the question in the person's own editor."""
        wanted = self.program.environ.get("VISUAL") or self.program.environ.get("EDITOR") or ""
        private = self.chats.sessions.is_private(self.session.id)
        try:
            self.prompt.write(editor.edited(self.prompt.text, wanted, self.app.suspend, private=private))
        except QwenchatError as error:
            self.tell_error(error)
