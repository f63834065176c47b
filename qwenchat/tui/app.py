"""The Textual program: themes, keymap, command palette, signals and the end. The chat is in `screens.chat`.

The program also ends where the terminal has gone without a SIGHUP, such as with a dropped connection: Textual would
read from it without end and block for ever in writing to it.
"""

import asyncio
import gc
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct, structs
from rich.console import Console
from rich.segment import Segments
from textual import events, on
from textual.command import Provider
from textual.geometry import Offset
from textual.timer import Timer
from textual.widgets import Input, TextArea

from qwenchat import config
from qwenchat.errors import QwenchatError, WrongUse
from qwenchat.i18n import _, locale_encoding
from qwenchat.markdown.palette import Palette
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean, clean_line
from qwenchat.text.wrap import cells, wrapped
from qwenchat.tui import themes
from qwenchat.tui.actions import actions, clashes
from qwenchat.tui.advice import advice
from qwenchat.tui.dialogs import open as dialogs
from qwenchat.tui.screens.chat import ChatScreen
from qwenchat.tui.textual_private.app import GuardedApp, until_screen_is_ready, write_window_title
from qwenchat.tui.textual_private.terminal_input import UnreadableInput
from qwenchat.tui.themes import EVERY_S, LiveTheme, Themes

if TYPE_CHECKING:
    from qwenchat.runtime.model_manager import EngineFactory


CARET_RESTS_AFTER_S = 10.0
"""Seconds without input after which the caret stops blinking, at the latest after twice as many."""
_NOTIFICATION = 60
"""Cells of a notification, at most; it takes at most half of the screen, as Textual's style sheet says."""


def hung_up() -> bool:
    """Return whether the terminal has gone, so that nothing written can be read."""
    if sys.platform == "win32" or sys.__stdin__ is None:
        return False
    poll = select.poll()
    poll.register(sys.__stdin__.fileno(), 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _fd, event in poll.poll(0))


def not_utf8(encoding: str) -> WrongUse:
    """Return the words for a locale in which the screen can't show everything."""
    return WrongUse(
        _("The locale's encoding is {encoding}: characters that it lacks are shown as ?").format(encoding=encoding),
        _("Set the terminal to UTF-8 and start with LANG=C.UTF-8, or with another locale that ends in UTF-8."),
    )


def not_text(guess: str) -> WrongUse:
    """Return the words for a terminal that sends another encoding than UTF-8; `guess` names it and may be empty."""
    return WrongUse(
        _("The terminal sent characters that are not UTF-8. They look like {encoding}.").format(encoding=guess)
        if guess
        else _("The terminal sent characters that are not UTF-8."),
        _("Set the encoding of the terminal to UTF-8. What could not be read is shown as \N{REPLACEMENT CHARACTER}."),
    )


def no_theme(name: str) -> WrongUse:
    """Return the words for a theme that is not there."""
    what = _('No theme named "{name}"; the default theme is used.').format(name=clean_line(name, 60))
    return WrongUse(what, _("Choose another with /theme."))


class Start(Struct, frozen=True):
    """What the program starts with."""

    model: str = ""
    session: str = ""
    """The id."""
    theme: str = ""


def _actions() -> type[Provider]:
    from qwenchat.tui.palette import ActionProvider  # noqa: PLC0415 - the screen is drawn without it

    return ActionProvider


def _things() -> type[Provider]:
    from qwenchat.tui.palette import ThingProvider  # noqa: PLC0415 - the screen is drawn without it

    return ThingProvider


class QwenchatApp(GuardedApp):
    """The Textual program."""

    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {_actions, _things}
    CSS_PATH = "screens/chat.tcss"
    TITLE = "qwenchat"

    def __init__(
        self, program: Program, start: Start, new_engine: "EngineFactory | None" = None, *, inline: bool = False
    ) -> None:
        no_colour = bool(program.environ.get("NO_COLOR"))
        super().__init__(inline=inline, ansi_color=no_colour)
        self.program = program
        self.actions = actions()
        self._start, self._new_engine, self._no_colour = start, new_engine, no_colour
        self._themes = Themes({}, {}, ())
        self._begin_with_theme()
        self._live_theme = LiveTheme(program.paths.config / "themes")
        self._leaving = False
        self.last_answer = ""
        """Markdown that is left above the shell's prompt when an inline screen ends."""
        self._caret = Offset(0, 0)
        """Where the caret was when it was drawn last."""
        self._rest_timer: Timer | None = None
        """Ends the blinking of the caret; None where it does not blink."""
        self._resting: Input | TextArea | None = None
        """What has the caret while it stands still."""
        self._encoding_told = False
        if program.settings.reduced_motion:
            self.animation_level = "none"

    def get_default_screen(self) -> ChatScreen:
        """Return the chat, which is there from the first frame on and stays below all dialogs."""
        start = self._start
        return ChatScreen(
            self.program, self.actions, session=start.session, model=start.model, new_engine=self._new_engine
        )

    def on_mount(self) -> None:
        """Apply the keymap; what the first frame does not need comes after it."""
        keymap = {name: key for name, key in self.program.settings.keys.items() if key}
        if keymap:
            self.set_keymap(keymap)
        self._listen_to_signals()
        self.app_resume_signal.subscribe(self, lambda _app: self.refresh(layout=True))  # Textual draws too little
        self.call_after_refresh(self._finish_start)

    def _finish_start(self) -> None:
        """Read all themes, and notify what is wrong with them and with the keys."""
        gc.enable()
        if not self.is_headless:
            gc.freeze()  # what exists now stays to the end and need not be collected
        self._themes = themes.load_all(self.program.paths.config / "themes")
        for theme in self._themes.by_name.values():
            if theme.name != self.theme:  # that one is here; Textual has others of these names
                self.register_theme(theme)
        wanted = self._start.theme or self.program.settings.theme
        if wanted and wanted not in self._themes.by_name:
            self._warn(no_theme(wanted))
        for problem in (*clashes(self.actions, self.program.settings.keys), *self._themes.problems):
            self._warn(problem)
        if not self.is_headless and (encoding := locale_encoding()) != "utf-8":
            self._warn(not_utf8(encoding.upper()))
        self.set_interval(EVERY_S, self._follow_outside)
        if not self.program.settings.reduced_motion:
            self._rest_timer = self.set_interval(CARET_RESTS_AFTER_S, self._rest_caret)

    @on(events.DescendantFocus)
    def _follow_focus(self, event: events.DescendantFocus) -> None:
        """Let the caret blink where the focus is, or stand still where the user wants less motion."""
        if self._rest_timer:
            self._wake_caret()
        elif self.program.settings.reduced_motion and isinstance(event.widget, Input | TextArea):
            event.widget.cursor_blink = False

    def _rest_caret(self) -> None:
        """Let the caret stand still until the next input, so that an idle program draws nothing."""
        focused = self.focused
        if self._rest_timer and isinstance(focused, Input | TextArea):
            self._rest_timer.pause()
            if focused.cursor_blink:
                focused.cursor_blink, self._resting = False, focused

    def _wake_caret(self) -> None:
        if self._rest_timer:
            self._rest_timer.reset()
        if self._resting:
            self._resting.cursor_blink, self._resting = True, None

    @on(UnreadableInput)
    def _explain_encoding(self, event: UnreadableInput) -> None:
        """Say once what to do when the terminal does not send text in the encoding that is expected of it."""
        if not self._encoding_told:
            self._encoding_told = True
            self._warn(not_text(event.guess))

    def watch_title(self, title: str) -> None:
        """Name the terminal's window after the chat."""
        write_window_title(self, clean_line(title, 80))

    async def on_event(self, event: events.Event) -> None:
        """Deliver an event; what is text goes to the prompt, or to a dialog's filter, where nothing else takes it."""
        if isinstance(event, events.InputEvent):
            self._wake_caret()
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            await until_screen_is_ready(self)
            screen = next(reversed(self.screen_stack), None)
            if isinstance(screen, ChatScreen):
                screen.focusing.lead_to_prompt(event)
            elif screen:
                from qwenchat.tui.dialogs.dialog import Dialog  # noqa: PLC0415 - the chat is drawn without it

                if isinstance(screen, Dialog):
                    screen.lead_to_filter(event)
        await super().on_event(event)

    @property
    def cursor_position(self) -> Offset:
        """Where the terminal's cursor belongs: at the caret, since input methods open there.

        It is asked for each time the screen is drawn. Textual notes it when the caret moves, which is wrong as soon as
        a dialog, a resize or a list moves what has the caret.
        """
        focused = self.focused
        if isinstance(focused, Input | TextArea):
            self._caret = focused.cursor_screen_offset
        if isinstance(focused, Input) and focused.cursor_at_end:
            self._caret -= Offset(1, 0)  # there Textual's answer is a cell too far right
        return self._caret

    @cursor_position.setter
    def cursor_position(self, _noted: Offset) -> None:
        """Ignore what Textual notes."""

    @property
    def chat(self) -> ChatScreen:
        """The chat, below the dialogs that are open."""
        return next(screen for screen in self.screen_stack if isinstance(screen, ChatScreen))

    def action_command_palette(self) -> None:
        """Open the command palette over the chat."""
        if isinstance(self.screen, ChatScreen):
            from qwenchat.tui.palette import ChatPalette  # noqa: PLC0415 - the screen is drawn without it

            _showing = self.push_screen(ChatPalette(placeholder=_("Search for commands…"), id="--command-palette"))

    def action_change_theme(self) -> None:
        """Choose a theme."""
        self.chat.context.ask(dialogs.themes(self._themes.titles), self.action_use_theme)

    async def action_quit(self, *, anyhow: bool = False) -> None:
        """End the program once everything is saved; `anyhow`, or without a terminal, even where that fails."""
        if self._leaving:
            return
        self._leaving = True
        self._leaving = anyhow or self._is_alone() or await self.chat.drafts.save_to_leave()
        if not self._leaving:
            return
        try:
            await self.chat.leave()
            self.last_answer = self.chat.last_answer
        finally:
            if self._is_alone():
                self.program.close()
                os._exit(0)  # everything is saved and the engine ended; Textual's own end would block in writing
            self.exit()

    def _is_alone(self) -> bool:
        return not self.is_headless and hung_up()

    def action_use_theme(self, name: str | None) -> None:
        """Use a theme from now on; None changes nothing."""
        if name and name in self.available_themes:
            self.theme = name
            try:
                config.put(self.program.paths.settings, "theme", name)
                self.program.reread_settings()
            except QwenchatError as problem:
                self._warn(problem)

    def _begin_with_theme(self) -> None:
        """Apply the theme before anything is drawn, so that nothing is drawn twice."""
        wanted = self._start.theme or self.program.settings.theme or themes.DEFAULT
        name = themes.suited(wanted, no_colour=self._no_colour, colour_system=self.console.color_system)
        theme = themes.named(name, self.program.paths.config / "themes")
        self.register_theme(theme)
        self.set_reactive(QwenchatApp.theme, theme.name)
        self.stylesheet.set_variables(self.get_css_variables())

    def _follow_outside(self) -> None:
        """Follow what changes outside the program: the file of the theme, and whether the terminal is there."""
        self._follow_theme()
        if not self.is_headless:
            self._follow_terminal()

    def _follow_theme(self) -> None:
        """Apply a changed file of the theme in use; an invalid one is reported and not applied."""
        try:
            theme = self._live_theme.changed(self.theme)
        except QwenchatError as problem:
            self._warn(problem)
            return
        if theme:
            self.register_theme(theme)
            self.mutate_reactive(QwenchatApp.theme)

    def _follow_terminal(self) -> None:
        """Save everything and leave when the terminal has gone without a signal."""
        if not self._leaving and hung_up():
            self.run_worker(self.action_quit(), name="leave")

    def notify(self, message: str, *, title: str = "", **options: Any) -> None:
        """Show a message for a while; where it has wide characters, its lines are broken as they are everywhere."""
        super().notify(self._broken(message), title=self._broken(title), **options)

    def _broken(self, text: str) -> str:
        room = min(_NOTIFICATION, (self.size.width - 2) // 2) - 3  # a scrollbar; its padding and border
        return text if cells(text) == len(text) else "\n".join(wrapped(text, room))

    def _warn(self, problem: QwenchatError) -> None:
        words = clean_line(advice(problem), 500)
        self.notify(words, title=clean_line(problem.message, 300), severity="warning", markup=False)

    def _listen_to_signals(self) -> None:
        """Save everything and leave when the terminal closes or the machine goes down."""
        if sys.platform == "win32":
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, lambda: self.run_worker(self.action_quit(anyhow=True), name="leave"))


def run(program: Program, start: Start, *, continue_: bool = False, inline: bool = False) -> int:
    """Run the screen and return the exit code.

    `start.session` may be the beginning of an id; `continue_` opens the session that was written to last. Raises
    NotFound, WrongUse or StoreError before anything is drawn, and any bug once the terminal is restored.
    """
    if start.session:
        start = structs.replace(start, session=program.store.find_to_resume(start.session).id)
    elif continue_ and (latest := program.store.listing.latest()):
        start = structs.replace(start, session=latest.id)
    app = QwenchatApp(program, start, inline=inline)
    with app.guarding_threads():
        app.run(inline=inline)
    if inline:
        _print_markdown(app.last_answer)
    if app.failure:
        raise app.failure
    return app.return_code or 0


def _print_markdown(text: str) -> None:
    """Print to the stream on which the inline screen was drawn."""
    from qwenchat.markdown.render import render  # noqa: PLC0415 - the screen is drawn without it

    console = Console(stderr=True)
    for line in render(clean(text), console.width, Palette.of_terminal()):
        console.print(Segments(line.segments), crop=False)
