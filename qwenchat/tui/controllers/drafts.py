"""Drafts: what a user wrote and did not send, saved with its session; a question being edited takes the draft's place.

Files that wait in the prompts of other sessions are remembered here, and only until the program ends.
"""

from contextlib import suppress

from textual.timer import Timer

from qwenchat.chat.message import Attachment, Message
from qwenchat.errors import NotFound, QwenchatError
from qwenchat.text.safe import joined
from qwenchat.tui.attached import Attached, attached_of
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.session_view import ViewChange

_SAVE_AFTER_S = 0.8


class DraftController:
    """Saves the words in the prompt, and exchanges them when another session is opened."""

    def __init__(self, context: ChatContext) -> None:
        self._context, self._prompt, self._open = context, context.prompt, context.open
        self.editing: Message | None = None
        """The question that is being edited in the prompt."""
        self._as_asked = ""
        """The prompt's text when the editing began."""
        self._files_as_asked: list[Attached] = []
        """The files of the question that is being edited."""
        self._own_files: list[Attached] = []
        """The draft's files while a question is being edited."""
        self._saved = ""
        """The draft of the open session as it was saved last."""
        self._files: dict[str, list[Attached]] = {}
        """By session, files that wait in the prompts of those that are not open."""
        self._timer: Timer | None = None
        self._refused: str | None = None
        """Words that could not be saved, of which the user has been notified on leaving."""
        self._open.listen(self._follow)

    @property
    def changed(self) -> bool:
        """Whether the prompt holds other words than the saved draft."""
        return self._prompt.text != self._saved

    # Editing a question

    async def edit(self, question: Message) -> None:
        """Take a question into the prompt, to ask it again in other words."""
        if question != self.editing:
            self.set_edit_aside()
            await self.save()
            if any(message.id == question.id for message in self._open.view.branch):
                self.editing = question
                self._own_files, self._files_as_asked = self._prompt.attached, attached_of(question.attachments)
                self._prompt.begin_editing(question.text, list(self._files_as_asked))
                self._as_asked = self._prompt.text

    async def edit_again(self, question: Message, text: str, files: tuple[Attachment, ...]) -> None:
        """Go on with the editing of a question that could not be asked like this."""
        await self.edit(question)
        if self.editing == question:
            self._prompt.fill(text, attached_of(files))
        else:
            await self.give_back(question.session, text, files)

    def end_edit(self, changed: str = "") -> None:
        """Leave the question as it was and return to the draft, after the `changed` words."""
        self.editing = None
        self._prompt.end_editing(joined(changed, self._saved), self._own_files)

    def drop_edit(self) -> None:
        """Leave the question as it was; changed words can be recalled as earlier questions can."""
        if changed := self._changed():
            self._prompt.area.remember(changed)
        self.end_edit()

    def set_edit_aside(self) -> None:
        """Leave the question for something else: changed words and new files go into the draft."""
        if self.editing:
            self._own_files[:0] = [each for each in self._prompt.attached if each not in self._files_as_asked]
            self.end_edit(self._changed())

    def _changed(self) -> str:
        text = self._prompt.written
        return text if text != self._as_asked else ""

    # Saving

    def save_soon(self) -> None:
        """Save a moment after the last key."""
        if self._timer:
            self._timer.stop()
        self._timer = self._context.after(_SAVE_AFTER_S, lambda: self._context.run(self.save(), "draft"))

    async def save(self) -> None:
        """Save what is written with its session, if that changed. Raises NotFound and StoreError."""
        text = self._unsaved()
        if text is None:
            return
        session_id, before = self._open.id, self._saved
        self._saved = text
        try:
            await self._save_in(session_id, text, before)
        except NotFound:  # nor would it be found the next time
            raise
        except BaseException:
            if (self._open.id, self._saved) == (session_id, text):
                self._saved = before
            raise

    async def save_to_leave(self) -> bool:
        """Save the draft; where that fails, notify and return False, but only once for the same words."""
        self.set_edit_aside()
        try:
            await self.save()
        except QwenchatError as error:
            self._context.notify_error(error)
            refused, self._refused = self._refused, self._prompt.text
            return refused == self._refused
        return True

    async def save_at_the_end(self) -> None:
        """Save the draft if that can be; `save_to_leave` has said what is wrong."""
        self.set_edit_aside()
        with suppress(QwenchatError):
            await self.save()

    async def _save_in(self, session_id: str, text: str, before: str) -> None:
        """Save a draft with its session, and show in the list what changed there. Raises NotFound and StoreError."""
        changed = await self._context.chats.sessions.change(session_id, draft=text)
        if not changed.title or bool(text.strip()) != bool(before.strip()):
            self._context.sidebar.reload()

    def _unsaved(self) -> str | None:
        """Return what is written and not saved yet; None where there is nothing to save."""
        text = self._prompt.written
        sessions, session_id = self._context.chats.sessions, self._open.id
        nothing = sessions.is_new(session_id) and not text.strip()
        if self.editing or text == self._saved or nothing or sessions.is_read_only(session_id):
            return None
        return text

    # Giving back what could not be asked

    async def give_back(self, session_id: str, text: str, files: tuple[Attachment, ...] = ()) -> None:
        """Put words where they were written, before what was written there since."""
        if session_id == self._open.id:
            self._prompt.attached[:0] = attached_of(files)
            self._prompt.fill(joined(text, self._prompt.written), self._prompt.attached)
            return
        self._files.setdefault(session_id, [])[:0] = attached_of(files)
        sessions = self._context.chats.sessions
        draft = (await sessions.labels(session_id)).draft
        await sessions.change(session_id, draft=joined(text, draft))

    # Following the open session

    def _follow(self, change: ViewChange) -> None:
        if not change.branch_changed:
            return
        is_gone = self.editing and all(message.id != self.editing.id for message in change.after.branch)
        if change.switched or is_gone:
            self.set_edit_aside()
        if change.switched:
            self._exchange(change)

    def _exchange(self, change: ViewChange) -> None:
        """Save what was written since the last draft, and show the other session's draft and files."""
        before, after = change.before.session.id, change.after.session
        text = self._prompt.written
        sessions = self._context.chats.sessions
        if text != self._saved and (text.strip() or not sessions.is_new(before)):
            self._context.run(self._save_in(before, text, self._saved), "draft")
        self._files[before] = self._prompt.attached
        self._saved = after.draft
        self._prompt.fill(after.draft, self._files.pop(after.id, []))
