"""What can be done with a message: the selected one, else the last one that the action fits."""

import asyncio

from textual import on

from qwenchat.chat.message import Message, Role, Status
from qwenchat.errors import FileError
from qwenchat.i18n import _
from qwenchat.paths import expand_home
from qwenchat.text.safe import clean, safe_name
from qwenchat.tui import clipboard
from qwenchat.tui.dialogs import open as screens
from qwenchat.tui.screens.undoing import Undoing
from qwenchat.tui.transcript.view import Transcript


class MessageActions(Undoing):
    """Actions on messages."""

    def action_regenerate(self) -> None:
        """Answer the selected question, or that of the selected answer, once more."""
        question = self._question()
        if question and self.chats.waits(question):
            self.tell(_("This question waits for its answer already."))
        elif question:
            self.chats.regenerate(question)

    def action_retry(self) -> None:
        """Answer once more."""
        self.action_regenerate()

    def action_carry_on(self) -> None:
        """Carry an answer on where it ended."""
        answer = self._last(Role.ASSISTANT)
        if answer and answer.status is not Status.STREAMING:
            self.chats.resume(answer) if answer.text else self.action_regenerate()

    def action_edit(self) -> None:
        """Take a question into the prompt, to ask it again in other words."""
        if question := self._question():
            self.attempt(self._take_up(question), "edit", alone=True)

    async def _take_up(self, question: Message) -> None:
        if question != self.editing:
            self.set_edit_aside()
            await self.save_draft()
            if any(message.id == question.id for message in self.transcript.messages):
                self.begin_editing(question)
        self.prompt.area.focus()

    def action_branch(self) -> None:
        """Let the next question follow the selected message; what follows it now stays beside."""
        if not (message := self.transcript.selected):
            self.tell(_("Select a message first: F6, then the arrow keys with Alt."))
        elif message.role is Role.USER:
            self.action_edit()
        else:
            self.attempt(self._branch(message))

    async def _branch(self, message: Message) -> None:
        if await self.reshow(await self.chats.sessions.branch_at(message)):
            self.branched = True
            self.prompt.area.focus()
            self.tell(_("The next question follows this message."))

    @on(Transcript.ActionChosen)
    async def carry_out_chosen(self, event: Transcript.ActionChosen) -> None:
        """Do what was clicked; the palette has all that there is."""
        await self.run_action(f"screen.{event.action}" if event.action else "app.command_palette")

    @on(Transcript.VariantChosen)
    def choose_variant(self, event: Transcript.VariantChosen) -> None:
        """Read another variant."""
        self.attempt(self._variant(event.message, event.step))

    async def _variant(self, message: Message, step: int) -> None:
        place = self.transcript.column.position(message.id)
        opened = await self.chats.sessions.variant(message, step)
        if place is not None and await self.reshow(opened):
            self.transcript.select(opened.branch[place].id)

    def action_delete(self) -> None:
        """Delete the selected message and all below it; it can be taken back."""
        if not (message := self.transcript.selected):
            self.tell(_("Select a message first: F6, then the arrow keys with Alt."))
        elif self.chats.sessions.is_private(message.session):
            self.tell(_("A private chat keeps nothing: leave it, and all of it is gone."))
        elif self.answering:
            self.tell(_("Stop the answer first (Esc)."))
        else:
            self.attempt(self._delete(message))

    async def _delete(self, message: Message) -> None:
        await asyncio.to_thread(self.program.store.trash.remove_message, message.id)
        self.undone.append(self.undo_message(message.session, message.id))
        await self.reread()
        self.sidebar.reload()
        self.tell(_("Deleted. F8 takes it back."))

    def action_copy(self) -> None:
        """Copy the selected message, else the last answer, as Markdown."""
        message = self.transcript.selected or self._last(Role.ASSISTANT)
        if message:
            self.copy_text(message.text)

    def action_copy_chat(self) -> None:
        """Copy the whole branch as Markdown."""
        you, assistant = _("You"), _("Assistant")
        parts = [
            f"**{you if message.role is Role.USER else message.model or assistant}**\n\n{message.text}"
            for message in self.transcript.messages
        ]
        self.copy_text("\n\n---\n\n".join(parts))

    def action_copy_code(self) -> None:
        """Copy the last code block."""
        if (found := self._code()) is not None:
            self.copy_text(found[1])

    def action_save_code(self) -> None:
        """Save the last code block to a file that a person names."""
        if (found := self._code()) is not None:
            language, code = found
            name = f"code.{safe_name(language) if language else 'txt'}"
            self.ask(
                screens.line(_("Save the code to"), name), lambda typed: self._save(typed, code) if typed else None
            )

    @on(Transcript.CodeActivated)
    def copy_clicked_code(self, event: Transcript.CodeActivated) -> None:
        """Copy the code block whose head was clicked."""
        self.copy_text(self.transcript.code_blocks(event.message.id)[event.index].text)

    @on(Transcript.LinkActivated)
    def copy_link(self, event: Transcript.LinkActivated) -> None:
        """Copy a link: nothing is ever opened by itself."""
        self.copy_text(event.target)

    def action_quote(self) -> None:
        """Quote the selected message, or the text that is selected with the mouse, in the prompt."""
        message = self.transcript.selected or self._last(Role.ASSISTANT)
        text = self.get_selected_text() or (message.text if message else "")
        if text.strip():
            quoted = "\n".join(f"> {line}" for line in clean(text).strip().splitlines())
            before = self.prompt.area.written.rstrip()
            self.prompt.write(f"{before}\n\n{quoted}\n\n".lstrip("\n"))
            self.prompt.area.focus()

    def copy_text(self, text: str) -> None:
        """Copy clean text through the terminal and, where there is a tool for it, to the system's clipboard."""
        text = clean(text)
        self.app.copy_to_clipboard(text)
        self.attempt(self._copy(text), "copy")

    async def _copy(self, text: str) -> None:
        tool = await clipboard.put(text, self.program.environ)
        if tool:
            words = _("Copied {count:,} characters ({tool}, and through the terminal).")
        else:
            words = _("Copied {count:,} characters through the terminal (OSC 52).")
        self.tell(words.format(count=len(text), tool=tool))

    def _save(self, typed: str, code: str) -> None:
        try:
            path = expand_home(typed)
            with path.open("x", encoding="utf-8") as file:
                file.write(clean(code))
        except FileError as error:
            self.tell_error(error)
        except OSError as error:
            reason = error.strerror or str(error)
            self.tell_error(
                FileError(
                    _("{file} can't be written: {reason}.").format(file=path, reason=reason), _("Give another name.")
                )
            )
        else:
            self.tell(_("Saved as {file}.").format(file=path.absolute()))

    def _code(self) -> tuple[str, str] | None:
        """Return language and text of the last code block of the selected message, else of the last that has one."""
        selected = self.transcript.selected
        messages = [selected] if selected else self.transcript.messages
        for message in reversed(messages):
            if blocks := self.transcript.code_blocks(message.id):
                return blocks[-1].language, blocks[-1].text
        self.tell(_("There is no code here."))
        return None

    def _question(self) -> Message | None:
        """Return the selected question, that of the selected answer, or the last one."""
        selected = self.transcript.selected
        messages = self.transcript.messages
        if selected and selected.role is Role.USER:
            return selected
        if selected:
            return next((message for message in messages if message.id == selected.parent), None)
        return self._last(Role.USER)

    def _last(self, role: Role) -> Message | None:
        selected = self.transcript.selected
        if selected and selected.role is role:
            return selected
        return next((message for message in reversed(self.transcript.messages) if message.role is role), None)
