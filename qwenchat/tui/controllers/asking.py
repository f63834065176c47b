"""Asking: what was written becomes a question, or another version of one, once there is a model to answer it.

Words that could not be sent return to the prompt. What is answered is shown by `streaming`.
"""

from qwenchat.chat.message import Attachment, Message
from qwenchat.errors import QwenchatError
from qwenchat.tui.actions import Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.drafts import DraftController
from qwenchat.tui.controllers.session_actions import SessionActions
from qwenchat.tui.controllers.undo import UndoController
from qwenchat.tui.dialogs import open as dialogs
from qwenchat.tui.external_tools import edit_text


class AskController:
    """Sends questions."""

    def __init__(
        self, context: ChatContext, drafts: DraftController, sessions: SessionActions, undo: UndoController
    ) -> None:
        self._context, self._drafts, self._sessions, self._undo = context, drafts, sessions, undo
        self._prompt, self._open = context.prompt, context.open

    @property
    def methods(self) -> Methods:
        """What carries out the actions on what is being written."""
        return {
            "editor": self.open_editor,
            "unfold": self._prompt.action_unfold,
        }

    def submit(self, text: str, files: tuple[Attachment, ...]) -> None:
        """Ask a question, or ask the one being edited in other words; without a model it waits for one."""
        if question := self._drafts.editing:
            self._drafts.end_edit()
            self._context.run(self._edit(question, text, files), "ask")
        else:
            self._prompt.clear()
            self._context.run(self._send(self._open.id, text, files), "ask")

    async def find_model(self) -> None:
        """Take the usual model of this machine; welcome a user who has none yet."""
        session_id = self._open.id
        model = (await self._context.chats.sessions.labels(session_id)).model
        if session_id != self._open.id:
            return
        if not model:
            self._welcome()
        elif not self._open.session.model:
            self._open.relabel(await self._context.chats.sessions.change(session_id, model=model))

    def open_editor(self) -> None:
        """Write the question in the user's own editor."""
        program = self._context.program
        command = program.environ.get("VISUAL") or program.environ.get("EDITOR") or ""
        private = self._open.view.private
        try:
            self._prompt.write(edit_text(self._prompt.text, command, self._prompt.app.suspend, private=private))
        except QwenchatError as error:
            self._context.notify_error(error)

    def _welcome(self) -> None:
        """Welcome a user who has no model yet; what is in the prompt stays."""

        def chosen(reference: str | None) -> None:
            if reference:
                self._sessions.use_model(reference)

        self._context.ask(
            dialogs.welcome(self._context.program, self._context.downloads, self._context.use_engines), chosen
        )

    async def _send(self, session_id: str, text: str, files: tuple[Attachment, ...]) -> None:
        fork, left_behind = self._open.view.fork, self._open.view.left_behind
        try:
            question = await self._context.chats.send(session_id, text, files, fork=fork)
        except QwenchatError:
            await self._drafts.give_back(session_id, text, files)
            raise
        if left_behind:
            self._undo.add_branch(session_id, left_behind[0].id)
        if session_id == self._open.id:
            if fork:
                await self._open.show_forked(question)
            else:
                self._open.append(question)
            self._context.transcript.select(None)  # what is done next is about this question
            self._context.transcript.follow()
            await self._drafts.save()
            self._open.relabel(await self._context.chats.sessions.labels(session_id))
            await self._find_missing_model()
        else:
            self._context.sidebar.reload()

    async def _edit(self, question: Message, text: str, files: tuple[Attachment, ...]) -> None:
        try:
            if question.summarises:
                await self._context.chats.edit_summary(question, text)
                return
            edited = await self._context.chats.edit(question, text, files)
        except QwenchatError:
            await self._drafts.edit_again(question, text, files)
            raise
        self._undo.add_branch(question.session, question.id)
        if question.session == self._open.id:
            await self._open.show_forked(edited)
            self._context.transcript.follow()
            await self._find_missing_model()

    async def _find_missing_model(self) -> None:
        if not self._open.session.model:
            self._context.sidebar.reload()  # a chat whose question waits has no title yet
            await self.find_model()
