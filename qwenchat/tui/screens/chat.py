"""The chat: sessions on the left; on the right header, transcript, notice, prompt and the line of numbers.

Nothing here blocks: the store is read in threads. What can be done with messages, sessions and the prompt is beside.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingsMap
from textual.containers import Horizontal, Vertical
from textual.geometry import Size
from textual.widgets import Static

from qwenchat.errors import QwenchatError
from qwenchat.i18n import _, ngettext
from qwenchat.runtime.program import Program
from qwenchat.tui import slash_commands
from qwenchat.tui.actions import Action, Where, bindings
from qwenchat.tui.dialogs import open as screens
from qwenchat.tui.screens.commands import Commands
from qwenchat.tui.screens.conversation import void
from qwenchat.tui.transcript.view import Transcript
from qwenchat.tui.widgets.gauge import Gauge
from qwenchat.tui.widgets.notice import Notice
from qwenchat.tui.widgets.prompt import Prompt
from qwenchat.tui.widgets.sidebar import Sidebar

if TYPE_CHECKING:
    from qwenchat.runtime.model_manager import EngineFactory
    from qwenchat.sessions.listing import ListedSession
    from qwenchat.sessions.search import SearchResults

_NARROW = 76
"""Columns below which the sidebar hides itself."""
_THIN = 40
_LOW = 16
"""Rows below which frames and the empty chat's words go."""


class ChatScreen(Commands):
    """The screen that stays. Its style sheet is the program's."""

    AUTO_FOCUS = "PromptArea"

    def __init__(
        self,
        program: Program,
        actions: tuple[Action, ...],
        *,
        session: str = "",
        model: str = "",
        new_engine: "EngineFactory | None" = None,
    ) -> None:
        super().__init__(program, new_engine, model)
        self.actions = actions
        self._first = session
        self._given_up: str | None = None
        """Words that can't be kept, as a person who wanted to leave was told."""
        self._bindings = BindingsMap.merge([self._bindings, bindings(actions, Where.ANYWHERE)])

    def compose(self) -> ComposeResult:
        """Lay out the parts, with the classes that the first frame needs: each later one styles everything anew."""
        self.set_class(self.app.size.width >= _NARROW, "sidebar", update=False)
        self.add_class("empty", update=False)
        self._fit(self.app.size, update=False)
        with Horizontal():
            yield Sidebar(self._newest, self._search, id="sidebar")
            with Vertical(id="chat"):
                yield Static(_("New chat"), id="header", markup=False)
                yield Transcript(id="transcript")
                yield Static(_welcome(), id="empty", markup=False)
                yield Notice(id="notice")
                yield Prompt(id="prompt")
                yield Gauge(id="gauge")

    def on_mount(self) -> None:
        """Bind the keys of the parts, show the chat, then read the disk."""
        for part, where in ((self.transcript, Where.MESSAGE), (self.sidebar.list, Where.LIST)):
            part._bindings = BindingsMap.merge([part._bindings, bindings(self.actions, where)])
        self.gauge.hints = ((_("F1 help"), "screen.help"), (_("Ctrl+P commands"), "app.command_palette"))
        self.call_after_refresh(lambda: self.attempt(self._start()))

    async def _start(self) -> None:
        """Read the disk, once the first frame is shown."""
        self.show_header()
        await self.chats.sessions.recover()
        self.sidebar.reload()
        if self._first:
            await self.open_session(self._first)
        if not self.session.model:
            await self.begin_with_a_model()

    def on_resize(self, event: events.Resize) -> None:
        """Hide what there is no room for."""
        if (event.size.width < _NARROW) != self.has_class("narrow"):
            self.set_class(event.size.width >= _NARROW, "sidebar")
        self._fit(event.size)

    def _fit(self, size: Size, *, update: bool = True) -> None:
        self.set_class(size.width < _NARROW, "narrow", update=update)
        self.set_class(size.height < _LOW, "low", update=update)
        self.set_class(size.width < _THIN, "thin", update=update)

    async def may_leave(self) -> bool:
        """Keep the draft; where it can't be kept, say so, and say no, once for the same words."""
        self.set_edit_aside()
        try:
            await self.save_draft()
        except QwenchatError as error:
            self.tell_error(error)
            told, self._given_up = self._given_up, self.prompt.text
            return told == self._given_up
        return True

    async def leave(self) -> None:
        """Keep the draft if that can be, stop what runs and end the engine."""
        try:
            self.set_edit_aside()
            with suppress(QwenchatError):  # `may_leave` tells of it
                await self.save_draft()
        finally:
            if "downloads" in self.__dict__:
                self.downloads.close()
            await self.chats.close()

    # Moving about

    async def action_escape(self) -> None:
        """Close the search, stop the answer, or go back to the prompt."""
        if self.has_class("finding"):
            self.end_finding()
        elif self.query_one("#session-search").has_focus and self.sidebar.clear_search():
            pass
        elif self.editing:
            self.drop_edit()
        elif self.answering:
            await self.chats.stop(self.session.id)
        elif self.transcript.selected:
            self.transcript.select(None)
            self.prompt.area.focus()
        else:
            self.prompt.area.focus()

    async def action_interrupt(self) -> None:
        """Copy what is selected, else stop the answer, else say how to leave."""
        if text := self.prompt.area.selected_text or self.get_selected_text():
            self.copy_text(text)
        elif self.answering:
            await self.chats.stop(self.session.id)
        else:
            self.tell(_("Ctrl+Q ends the program."))

    def action_messages(self) -> None:
        """Go to the messages, or back to the prompt."""
        if self.transcript.has_focus:
            self.prompt.area.focus()
        else:
            self.transcript.focus()
            if self.transcript.selected is None:
                self.transcript.select_next(-1)

    def action_sidebar(self) -> None:
        """Show the list of chats and go there, or hide it."""
        self.toggle_class("sidebar")
        if self.has_class("sidebar"):
            self.sidebar.list.focus()
        else:
            self.prompt.area.focus()

    def action_search(self) -> None:
        """Search all chats."""
        self.add_class("sidebar")
        self.sidebar.focus_search()

    # Other screens

    def action_help(self) -> None:
        """Show all keys and commands."""
        self.ask(screens.help_for(self.actions, self.program.settings.keys, slash_commands.commands()), void)

    def action_settings(self) -> None:
        """Change the settings."""
        self.ask(screens.settings(self.program), lambda changed: self._use_settings() if changed else None)

    def _use_settings(self) -> None:
        """Follow the changed settings; language and keys follow at the next start."""
        self.program.reread_settings()
        self.show_header()
        self.tell(_("Language, theme and keys change at the next start; all else from now on."))

    def action_themes(self) -> None:
        """Choose a theme."""
        self.app.action_change_theme()

    def action_stats(self) -> None:
        """Say how many tokens this chat took, and how fast it was."""
        answers = [message for message in self.transcript.messages if message.usage]
        tokens = sum(message.usage.completion_tokens for message in answers if message.usage)
        speeds = [message.timings.decode_tps for message in answers if message.timings and message.timings.decode_tps]
        words = [
            ngettext("{count:,} message", "{count:,} messages", len(self.transcript.column)).format(
                count=len(self.transcript.column)
            ),
            ngettext("{count:,} token answered", "{count:,} tokens answered", tokens).format(count=tokens),
        ]
        if speeds:
            words.append(_("{speed:.1f} tokens/s").format(speed=sum(speeds) / len(speeds)))
        if info := self.chats.model.info:
            words.append(_("{name}, context window {n_ctx:,}").format(name=info.name, n_ctx=info.n_ctx))
        self.tell(" · ".join(words))

    def action_suspend(self) -> None:
        """Put the program into the background."""
        self.app.action_suspend_process()

    async def action_quit(self) -> None:
        """End the program; everything is kept."""
        await self.app.action_quit()

    # What the sidebar reads; in threads

    def _newest(self, limit: int, offset: int) -> "list[ListedSession]":
        return self.program.store.listing.newest(limit, offset)

    def _search(self, typed: str) -> "SearchResults":
        return self.program.store.search.find(typed)


def _welcome() -> str:
    """Return the words of an empty chat."""
    lines = (
        _("Ask anything. Everything stays on this machine."),
        "",
        _("Enter sends · Ctrl+J new line · / commands"),
        _("Ctrl+O models · Ctrl+B chats · F1 help"),
    )
    return "\n".join(lines)
