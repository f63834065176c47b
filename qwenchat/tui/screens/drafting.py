"""Drafts: what a person wrote and did not send, kept with its session; a question that is edited takes its place."""

from dataclasses import replace

from qwenchat.chat.message import Message
from qwenchat.errors import NotFound
from qwenchat.i18n import _
from qwenchat.text.safe import joined
from qwenchat.tui.screens.conversation import Conversation


class Drafting(Conversation):
    """Keeps what stands in the prompt."""

    _as_asked = ""
    """What stood in the prompt when the question was taken up that is being edited."""

    def begin_editing(self, question: Message) -> None:
        """Take a question into the prompt."""
        self.editing = question
        self.prompt.write(question.text)
        self._as_asked = self.prompt.text
        self.prompt.border_title = _("Edit and resend · Esc: leave as it was")
        self.prompt.add_class("editing")

    def leave_editing(self, changed: str = "") -> None:
        """Leave the question that was being edited as it was; go back to the draft, after what was `changed`."""
        self.editing = None
        self.prompt.write(joined(changed, self.session.draft))
        self.prompt.border_title = ""
        self.prompt.remove_class("editing")

    def drop_edit(self) -> None:
        """Leave the question as it was; changed words can be fetched as earlier questions can."""
        if changed := self._changed():
            self.prompt.area.earlier.append(changed)
        self.leave_editing()

    def set_edit_aside(self) -> None:
        """Leave the question for something else: changed words go into the draft."""
        if self.editing:
            self.leave_editing(self._changed())

    async def save_draft(self) -> None:
        """Keep what is written with its session, if that changed and is no question being edited."""
        text = self._unkept()
        if text is None:
            return
        before = self.session
        self.session = replace(before, draft=text)
        try:
            await self.chats.sessions.change(before.id, draft=text)
        except NotFound:  # nor would it be found the next time
            raise
        except BaseException:
            if (self.session.id, self.session.draft) == (before.id, text):
                self.session = replace(self.session, draft=before.draft)
            raise

    def keep_last_words(self) -> None:
        """Keep what was written since the draft was saved; the prompt is about to show another session."""
        text = self._unkept()
        if text is not None:
            self.attempt(self.chats.sessions.change(self.session.id, draft=text), "draft")

    def _changed(self) -> str:
        text = self.prompt.area.written
        return text if text != self._as_asked else ""

    def _unkept(self) -> str | None:
        """Return what is written and not kept yet; None where there is nothing to keep."""
        text = self.prompt.area.written
        new = self.chats.sessions.is_new(self.session.id)
        return None if self.editing or text == self.session.draft or (new and not text.strip()) else text
