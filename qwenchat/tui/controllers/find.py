"""Finding words in the open chat: a line above the prompt, marks in the transcript, from match to match.

What a search of all chats found is shown in the same way once its chat is opened.
"""

from collections.abc import Sequence

from textual.screen import Screen
from textual.widgets import Input

from qwenchat.i18n import _
from qwenchat.tui.actions import Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.focus import FocusController
from qwenchat.tui.controllers.navigation import NavigationController
from qwenchat.tui.transcript.find import mentions
from qwenchat.tui.transcript.transcript import Transcript
from qwenchat.tui.widgets.fields import LineField
from qwenchat.tui.widgets.notice import Notice


class FindController:
    """Shows and hides the line in which the words are typed; its id is `find`. It is made when it is first needed."""

    def __init__(
        self,
        context: ChatContext,
        screen: Screen[None],
        focus: FocusController,
        navigation: NavigationController,
        *,
        notice: Notice,
    ) -> None:
        self._context, self._screen, self._focus, self._notice = context, screen, focus, notice
        self._navigation = navigation
        self._line: Input | None = None

    @property
    def methods(self) -> Methods:
        """What carries out the action that begins to find."""
        return {"find": self.start}

    @property
    def active(self) -> bool:
        """Whether the line is shown."""
        return self._screen.has_class("finding")

    def start(self, words: str | None = None) -> None:
        """Show the line, go there, and find words where some are given."""
        self._screen.add_class("finding")
        line = self._made_line()
        self._screen.set_focus(line)  # at once: what is typed next stands in it
        if words is not None:
            line.value = words

    async def open_found(self, session_id: str, message_id: str | None, words: Sequence[str]) -> None:
        """Open a session at a message and mark the words that were found there; the prompt has the focus."""
        await self._navigation.open(session_id, message_id)
        transcript = self._context.transcript
        at = transcript.position(message_id) if message_id else None
        if at is not None and any(mentions(transcript.messages[at].text, word) for word in words):
            self._screen.call_after_refresh(self._mark, words, message_id)  # an empty chat's transcript has no size yet
        elif self.active:
            self.end()

    def _mark(self, words: Sequence[str], message_id: str) -> None:
        self._screen.add_class("finding")
        finder = self._context.transcript.finder
        finder.find_any(words, message_id)
        self._made_line().value = finder.words

    def show_words(self, words: str) -> None:
        """Mark words as they are typed."""
        if words != self._context.transcript.finder.words:
            self._context.transcript.finder.find(words)

    def go_to_previous(self) -> None:
        """Go to the match before."""
        self._context.transcript.finder.step(-1)

    def show_position(self, found: Transcript.Found) -> None:
        """Say where the search stands."""
        self._made_line().border_subtitle = f"{found.message}/{found.messages}"
        in_line = self._screen.focused is self._line
        words = _("{number}/{count} · Enter previous · Esc close") if in_line else _("{number}/{count} · Esc close")
        self._context.open.show_activity(words.format(number=found.message, count=found.messages))

    def end(self) -> None:
        """Take the line and the marks away."""
        self._screen.remove_class("finding")
        self._made_line().value = ""
        self._context.transcript.finder.find("")
        self._context.open.show_activity()
        self._focus.to_prompt()

    def _made_line(self) -> Input:
        if self._line is None:
            self._line = LineField(placeholder=_("Find in this chat"), id="find", compact=True)
            below = self._notice if self._notice.is_attached else self._context.prompt
            _mounting = self._screen.mount(self._line, before=below)
        return self._line
