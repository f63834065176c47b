"""What can be done with a message: the selected one, else the last one that the action fits."""

import asyncio
from collections.abc import Callable

from qwenchat import config
from qwenchat.chat.message import Message, Role, Status, summary_heading
from qwenchat.errors import FileError, QwenchatError
from qwenchat.i18n import _, ngettext, reason_of, sentences
from qwenchat.paths import expand_home
from qwenchat.text.safe import clean, safe_name
from qwenchat.tui.actions import Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.drafts import DraftController
from qwenchat.tui.controllers.undo import UndoController
from qwenchat.tui.dialogs import open as dialogs
from qwenchat.tui.external_tools import copy_with_tool


class MessageActions:
    """Actions on messages. `selected_text` returns what the mouse has selected on the screen."""

    def __init__(
        self,
        context: ChatContext,
        drafts: DraftController,
        undo: UndoController,
        selected_text: Callable[[], str | None],
    ) -> None:
        self._context, self._drafts, self._undo, self._selected_text = context, drafts, undo, selected_text
        self._open, self._transcript, self._prompt = context.open, context.transcript, context.prompt

    @property
    def methods(self) -> Methods:
        """What carries out the actions on messages."""
        return {
            "retry": self.regenerate,
            "regenerate": self.regenerate,
            "edit": self.edit,
            "carry_on": self.continue_answer,
            "branch": self.branch,
            "branches": self.choose_branch,
            "copy": self.copy,
            "copy_chat": self.copy_chat,
            "timestamps": self.toggle_timestamps,
            "copy_code": self.copy_code,
            "save_code": self.save_code,
            "quote": self.quote,
            "delete": self.delete,
            "withdraw": self.take_back,
        }

    # Answers and variants

    def regenerate(self) -> None:
        """Answer the selected question, or that of the selected answer, once more."""
        question = self._question()
        if question and self._context.chats.is_waiting(question):
            self._context.notify(_("This question is already waiting for its answer."))
        elif question and question.summarises:
            self._context.chats.compact(question.session, again=question)
        elif question:
            self._context.chats.regenerate(question)
            followers = [message.id for message in self._open.view.branch if message.id != question.id]
            at = next(at for at, message in enumerate(self._open.view.branch) if message.id == question.id)
            if len(followers) - at > 1:  # more than its answer
                self._undo.add_branch(question.session, followers[at])

    def continue_answer(self) -> None:
        """Continue an answer that ended early; one without text is answered, or read for, once more."""
        answer = self._last(Role.ASSISTANT)
        if not answer or answer.status is Status.STREAMING:
            return
        if answer.text and not self._open.view.can_continue:
            model = self._context.names.full(self._open.session.model)
            what = _("{model} can't continue an answer.").format(model=model)
            self._context.notify(sentences(what, _("Answer again (Ctrl+R), or choose another model (Ctrl+O).")))
        elif answer.text or (
            answer.status is Status.STOPPED and self._open.view.has_documents
        ):  # it was being read for
            self._context.chats.continue_answer(answer)
        else:
            self.regenerate()

    def take_back(self) -> None:
        """Take the selected waiting question, else the last one, back into the prompt."""
        selected = self._transcript.selected
        meant = [selected] if selected else list(reversed(self._transcript.messages))
        if question := next(filter(self._waits, meant), None):
            self._context.run(self._take_back(question))
        else:
            self._context.notify(_("This message is not waiting to be asked."))

    async def _take_back(self, question: Message) -> None:
        taken = await self._context.chats.take_back(question)
        if taken is None:
            self._context.notify(_("This question is being answered already; Esc stops the answer."))
            return
        await self._drafts.give_back(taken.session, taken.text, taken.attachments)
        await self._open.reload()
        await self._drafts.save()

    def edit(self) -> None:
        """Take a question into the prompt, to ask it again in other words; one that waits will not be asked as is."""
        question = self._question()
        if question and self._waits(question):
            self._context.run(self._take_back(question))
        elif question and question.summarises and self._open.view.answering:
            self._context.notify(_("Stop the answer first (Esc)."))
        elif question:
            self._open.fork_at("")
            self._context.run(self._drafts.edit(question), "edit", exclusive=True)

    def branch(self) -> None:
        """Let the next question follow the selected message; nothing is left behind before it is sent."""
        if not (message := self._transcript.selected):
            self._context.notify(_("Select a message first (F6, then j/k)."))
        elif message.role is Role.USER:
            self.edit()
        else:
            self._drafts.set_edit_aside()
            if not self._open.fork_at(message.id):
                self._context.notify(_("Your next question follows this message anyway: it is the last one."))

    def choose_branch(self) -> None:
        """List the branches of the chat and open the one that the user chooses."""
        self._context.run(self._choose_branch())

    async def _choose_branch(self) -> None:
        session = self._open.session
        branches = await self._context.chats.sessions.branches(session.id)
        current = next((message.id for message in reversed(self._open.view.branch)), "")

        def chosen(leaf: str | None) -> None:
            if leaf:
                self._context.run(self._open_branch(session.id, leaf))

        self._context.ask(dialogs.branches(branches, current), chosen)

    async def _open_branch(self, session_id: str, leaf: str) -> None:
        self._open.refresh(await self._context.chats.sessions.show(session_id, leaf))

    def show_variant(self, message: Message, step: int) -> None:
        """Show the variant of a message that is `step` away."""
        self._context.run(self._show_variant(message, step))

    async def _show_variant(self, message: Message, step: int) -> None:
        place = self._transcript.position(message.id)
        opened = await self._context.chats.sessions.variant(message, step)
        if place is not None and self._open.refresh(opened):
            self._transcript.select(opened.branch[place].id)

    def delete(self) -> None:
        """Delete the selected message and all below it; that can be undone."""
        if not (message := self._transcript.selected):
            self._context.notify(_("Select a message first (F6, then j/k)."))
        elif self._waits(message):
            self._context.run(self._take_back(message))
        elif self._open.view.private:
            self._context.notify(_("Private chats are not saved: this whole chat is gone when you leave it."))
        elif self._open.view.answering:
            self._context.notify(_("Stop the answer first (Esc)."))
        else:
            self._context.run(self._delete(message))

    async def _delete(self, message: Message) -> None:
        await asyncio.to_thread(self._context.program.store.trash.remove_message, message.id)
        self._undo.add_message(message.session, message.id)
        await self._open.reload()
        self._context.notify(_("Message deleted. F8 undoes."))

    # What is shown of messages

    def toggle_timestamps(self) -> None:
        """Show the time of each message, or hide it, here and in all chats to come."""
        program, shown = self._context.program, not self._transcript.timestamps
        self._transcript.timestamps = shown
        try:
            config.put(program.paths.settings, "timestamps", "true" if shown else "false")
            program.reread_settings()
        except QwenchatError as error:
            self._context.notify_error(error)

    # Copies

    def copy(self) -> None:
        """Copy the selected message, else the last answer, as Markdown."""
        if message := self._transcript.selected or self._last(Role.ASSISTANT):
            self.copy_text(message.text)

    def copy_chat(self) -> None:
        """Copy the whole branch as Markdown."""
        you, assistant, names = _("You"), _("Assistant"), self._context.names
        parts = []
        for message in self._transcript.messages:
            author = you if message.role is Role.USER else names.author(message) or assistant
            author = summary_heading(message) if message.summarises else author
            parts.append(f"**{author}**\n\n{message.text}")
        self.copy_text("\n\n---\n\n".join(parts))

    def copy_code(self) -> None:
        """Copy the last code block."""
        if found := self._last_code():
            self.copy_text(found[1])

    def save_code(self) -> None:
        """Save the last code block to a file that the user names."""
        if found := self._last_code():
            language, code = found
            name = f"code.{safe_name(language) if language else 'txt'}"
            dialog = dialogs.line(_("Save code to"), name)
            self._context.ask(dialog, lambda typed: self._save_code(typed, code) if typed else None)

    def copy_code_block(self, message: Message, index: int) -> None:
        """Copy one code block of a message."""
        self.copy_text(self._transcript.code_blocks(message.id)[index].text)

    def quote(self) -> None:
        """Quote the text that is selected with the mouse, else the selected message, in the prompt."""
        message = self._transcript.selected or self._last(Role.ASSISTANT)
        text = self._selected_text() or (message.text if message else "")
        if text.strip():
            quoted = "\n".join(f"> {line}" for line in clean(text).strip().splitlines())
            before = self._prompt.written.rstrip()
            self._prompt.write(f"{before}\n\n{quoted}\n\n".lstrip("\n"))

    def copy_text(self, text: str) -> None:
        """Copy clean text through the terminal and, where there is a tool for it, to the system's clipboard."""
        text = clean(text)
        self._transcript.app.copy_to_clipboard(text)
        self._context.run(self._copy_with_tool(text), "copy")

    async def _copy_with_tool(self, text: str) -> None:
        await copy_with_tool(text, self._context.program.environ)
        words = ngettext("Copied ({count:,} character).", "Copied ({count:,} characters).", len(text))
        self._context.notify(words.format(count=len(text)))

    def _save_code(self, typed: str, code: str) -> None:
        try:
            path = expand_home(typed)
            with path.open("x", encoding="utf-8") as file:
                file.write(clean(code))
        except FileError as error:
            self._context.notify_error(error)
        except OSError as error:
            what = _("{file} can't be written: {reason}.").format(file=path, reason=reason_of(error))
            self._context.notify_error(FileError(what, _("Give another name.")))
        else:
            self._context.notify(_("Saved to {file}").format(file=path.absolute()))

    # The message that is meant

    def _waits(self, message: Message) -> bool:
        waiting = self._open.view.waiting
        return message.id in waiting.places or message.id in waiting.holds

    def _last_code(self) -> tuple[str, str] | None:
        """Return language and text of the last code block of the selected message, else of the last that has one."""
        selected = self._transcript.selected
        messages = [selected] if selected else self._transcript.messages
        for message in reversed(messages):
            if blocks := self._transcript.code_blocks(message.id):
                return blocks[-1].language, blocks[-1].text
        self._context.notify(_("No code block found."))
        return None

    def _question(self) -> Message | None:
        """Return the selected question, that of the selected answer, or the last one."""
        selected = self._transcript.selected
        if selected is None or selected.role is Role.USER:
            return self._last(Role.USER)
        return next((one for one in self._transcript.messages if one.id == selected.parent), None)

    def _last(self, role: Role) -> Message | None:
        """Return the selected message if it has this role, else the last one that has it."""
        selected = self._transcript.selected
        if selected and selected.role is role:
            return selected
        return next((message for message in reversed(self._transcript.messages) if message.role is role), None)
