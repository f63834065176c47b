"""Where the focus is, and so what a key means: text in the prompt, a command on the messages and in the list.

Only a key leads the focus away from the prompt; after an action it is there again. The footer shows the keys that work.
"""

from collections.abc import Sequence
from inspect import isawaitable

from textual import events
from textual.screen import Screen
from textual.scroll_view import ScrollView
from textual.widget import Widget

from qwenchat.i18n import _
from qwenchat.tui.actions import Action, Method, Methods, Where, bindings, key_of
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.textual_private.widgets import add_bindings
from qwenchat.tui.waiting_words import decisions
from qwenchat.tui.widgets.fields import AreaField, LineField
from qwenchat.tui.widgets.footer import KeyFooter, KeyHint, key_hints


class FocusController:
    """Moves the focus, scrolls the messages wherever it is, and fills the footer."""

    def __init__(
        self, context: ChatContext, screen: Screen[None], actions: Sequence[Action], footer: KeyFooter
    ) -> None:
        self._context, self._screen, self._actions, self._footer = context, screen, actions, footer
        self._prompt, self._transcript, self._sidebar = context.prompt, context.transcript, context.sidebar
        self._list_was_shown = True
        """Whether the list of chats was shown before the search of all chats began."""

    @property
    def methods(self) -> Methods:
        """What carries out the actions that move the focus or scroll."""
        return {
            "messages": self.to_next_part,
            "sidebar": self.toggle_sidebar,
            "search": self.search,
            "slash": self.begin_command,
            "page_up": self.page_up,
            "page_down": self.page_down,
            "to_start": self.to_start,
            "to_end": self.to_end,
        }

    def bind_keys(self) -> None:
        """Bind the keys of the widgets, once they are there, and let them show the keys."""
        prompt, transcript, listed = self._prompt, self._transcript, self._sidebar.list
        for widget, place in (
            (prompt.area, Where.PROMPT),
            (prompt.chips, Where.CHIP),
            (transcript, Where.MESSAGE),
            (listed, Where.LIST),
        ):
            add_bindings(widget, bindings(self._actions, place))
        keymap = self._context.program.settings.keys
        known = {action.id: key_of(action, keymap) for action in self._actions}
        transcript.keys, prompt.chips.open_key = known, known["unfold"]
        palette = KeyHint(known["palette"], _("palette"), "app.command_palette")
        self._footer.general = (KeyHint(known["help"], _("help"), "screen.help"), palette)

    @property
    def place(self) -> Where:
        """The part of the screen that has the focus; `ANYWHERE` for lines of search and buttons."""
        parts: dict[Widget | None, Where] = {
            self._prompt.area: Where.PROMPT,
            self._prompt.chips: Where.CHIP,
            self._transcript: Where.MESSAGE,
            self._sidebar.list: Where.LIST,
        }
        focused = self._screen.focused
        return Where.PAGE if _is_document(focused) else parts.get(focused, Where.ANYWHERE)

    def to_prompt(self) -> None:
        """Go to the prompt at once: what is typed next is text, however fast it comes."""
        if self._screen.has_class("narrow"):
            self._screen.remove_class("sidebar", "page")
        self._screen.set_focus(self._prompt.area)

    def then_to_prompt(self, method: Method) -> Method:
        """Return an action after which letters are text again."""

        async def run() -> None:
            doing = method()
            if isawaitable(doing):
                await doing
            self.to_prompt()

        return run

    def to_next_part(self) -> None:
        """Go from the prompt to the messages, to the page and the list where they are shown, and back to the prompt."""
        place = self.place
        page = next(iter(self._screen.query("#document")), None)
        if place is Where.PROMPT and self._transcript.messages:
            self._screen.set_focus(self._transcript)
            if self._transcript.selected is None:
                self._transcript.select_next(-1)
        elif page and place in (Where.PROMPT, Where.MESSAGE) and self._screen.has_class("page"):
            self._screen.set_focus(page)
        elif place in (Where.PROMPT, Where.MESSAGE, Where.PAGE) and self._screen.has_class("sidebar"):
            self._screen.set_focus(self._sidebar.list)
        else:
            self.to_prompt()

    def toggle_sidebar(self) -> None:
        """Show the list of chats and go there, or hide it."""
        self._screen.toggle_class("sidebar")
        if self._screen.has_class("sidebar"):
            self._screen.set_focus(self._sidebar.list)
        else:
            self.to_prompt()

    def search(self) -> None:
        """Go to the search of all chats."""
        if not self._sidebar.has_focus_within:
            self._list_was_shown = self._screen.has_class("sidebar")
        self._screen.add_class("sidebar")
        self._sidebar.focus_search()

    def end_search(self) -> bool:
        """Go from the search of all chats back to where the user was; False where the user is not there."""
        if not self._sidebar.is_in_search:
            return False
        self._sidebar.clear_search()
        self._screen.set_class(self._list_was_shown, "sidebar")
        self.to_prompt()
        return True

    def begin_command(self) -> None:
        """List the slash commands in an empty prompt."""
        self.to_prompt()
        if not self._prompt.text:
            self._prompt.write("/")

    # Keys and the mouse

    def lead_to_prompt(self, event: events.Key | events.Paste) -> None:
        """Go to the prompt before a character that is no command where the focus is, or a paste, is delivered."""
        screen = self._screen
        if isinstance(screen.focused, LineField | AreaField):
            return
        if isinstance(event, events.Paste) or (event.is_printable and event.key not in screen.active_bindings):
            self.to_prompt()

    def leave_search(self, clicked: Widget | None) -> None:
        """Go back to the prompt when the messages are clicked; where their letters are commands, they stay so."""
        if clicked is self._transcript and self.place is not Where.MESSAGE:
            self.to_prompt()

    def show_keys(self) -> None:
        """Show the best keys of the part that has the focus; in low screens instead of the gauge."""
        place, view = self.place, self._context.open.view
        answering, without = view.answering, () if view.can_continue else ("carry_on",)
        keymap = self._context.program.settings.keys
        known = {action.id: key_of(action, keymap) for action in self._actions}
        asked = decisions(view.asked) if view.asked else ()
        hints = key_hints(self._actions, place, keymap, answering=answering, without=without)
        deciding = [KeyHint(known[action], words, f"screen.{action}") for words, action in asked]
        self._footer.hints = [*deciding, *hints]
        screen = self._screen
        screen.set_class(screen.has_class("low") and (answering or place is not Where.PROMPT), "keys")

    # Scrolling

    def page_up(self) -> None:
        """Scroll the messages up by a page."""
        self._scrolled().action_page_up()

    def page_down(self) -> None:
        """Scroll the messages down by a page."""
        self._scrolled().action_page_down()

    def to_start(self) -> None:
        """Scroll to the first message."""
        self._scrolled().action_scroll_home()

    def to_end(self) -> None:
        """Scroll to the last message and follow it."""
        self._scrolled().action_scroll_end()

    def turn_wheel(self, event: events.MouseScrollUp | events.MouseScrollDown) -> None:
        """Scroll the messages where nothing under the pointer scrolls."""
        lines = self._screen.app.scroll_sensitivity_y
        lines = lines if isinstance(event, events.MouseScrollDown) else -lines
        if not self._sidebar.region.contains(event.screen_x, event.screen_y):
            self._transcript.scroll_relative(y=lines)

    def _scrolled(self) -> ScrollView:
        """Return what pages are turned in: the messages, or the list that covers them."""
        covered = self._screen.has_class("narrow") and self._screen.has_class("sidebar")
        focused = self._screen.focused
        if isinstance(focused, ScrollView) and _is_document(focused):
            return focused
        return self._sidebar.list if covered else self._transcript


def _is_document(widget: Widget | None) -> bool:
    """Return whether a widget is the text of a document, which is imported when it is first shown."""
    return widget is not None and widget.id == "document"
