"""Menus: what can be done with a message, a chat of the list or the open chat, at the pointer or by a key.

The actions are those of the keys; nothing can be done only in a menu.
"""

from collections.abc import Mapping, Sequence

from textual.geometry import Offset
from textual.screen import Screen
from textual.widget import Widget

from qwenchat.chat.message import Role
from qwenchat.tui.actions import Action, Methods, Where
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.focus import FocusController
from qwenchat.tui.dialogs import open as dialogs
from qwenchat.tui.dialogs.open import MenuItem

_OF_CHAT = (
    "rename",
    "suggest_title",
    "tag",
    "pin",
    "models",
    "session_settings",
    "stats",
    "find",
    "export",
    "copy_chat",
    "compact",
    "duplicate",
    "trash",
)
"""The actions about the open chat, by their ids."""
_OF_CODE = ("copy_code", "save_code")
_UNDO = ("undo_message", "undo_list")


class MenuController:
    """Opens menus and carries out what is chosen in them."""

    def __init__(
        self, context: ChatContext, screen: Screen[None], actions: Sequence[Action], focus: FocusController
    ) -> None:
        self._context, self._screen, self._focus = context, screen, focus
        self._actions: Mapping[str, Action] = {action.id: action for action in actions}
        self._transcript, self._sidebar, self._chips = context.transcript, context.sidebar, context.prompt.chips

    @property
    def methods(self) -> Methods:
        """What carries out the action that opens a menu."""
        return {"menu": self.open}

    def open(self) -> None:
        """Open the menu of what has the focus: the selected message, the chat under the cursor, else the open chat."""
        place = self._focus.place
        if place is Where.MESSAGE and (message := self._transcript.selected):
            column, view = self._transcript.column, self._transcript
            line = column.start(view.position(message.id) or 0) - view.viewport.top
            self._show(place, view.region.offset + Offset(2, max(line + 1, 1)))
        elif place is Where.LIST and self._sidebar.list.session_id:
            listed = self._sidebar.list
            line = (listed.highlighted or 0) - round(listed.scroll_y)
            self._show(place, listed.region.offset + Offset(2, max(line + 1, 1)))
        elif place is Where.CHIP:
            self._show(place, self._chips.region.offset + Offset(2, 0))
        else:
            self._show(Where.ANYWHERE, self._transcript.region.offset)

    def open_at(self, clicked: Widget | None, at: Offset) -> None:
        """Open the menu of what was clicked, which is selected already; `at` is in cells of the screen."""
        if clicked is self._transcript and self._transcript.selected:
            self._show(Where.MESSAGE, at)
        elif clicked is self._chips:
            self._show(Where.CHIP, at)
        elif clicked is self._sidebar.list:
            if self._sidebar.list.session_id:
                self._show(Where.LIST, at)
        elif clicked and not self._sidebar.region.contains_point(at):
            self._show(Where.ANYWHERE, at)

    def _show(self, place: Where, at: Offset) -> None:
        keymap = self._context.program.settings.keys
        items = []
        for action in self._offered(place):
            keys = keymap.get(action.id) or action.keys
            works_here = action.where in (Where.ANYWHERE, place)
            items.append(MenuItem(action.id, action.label, keys.split(",")[0].strip() if works_here else ""))
        chip = self._chips.selected if place is Where.CHIP else None

        def carry_out(chosen: str | None) -> None:
            is_there = chip is None or self._chips.select(chip)  # others may have come or gone meanwhile
            if chosen and is_there:
                self._carry_out(place, self._actions[chosen])

        self._context.ask(dialogs.menu(items, at), carry_out)

    def _offered(self, place: Where) -> list[Action]:
        if place is Where.ANYWHERE:
            return [self._actions[name] for name in _OF_CHAT]
        offered = [action for action in self._actions.values() if action.where is place and action.id not in _UNDO]
        if place is Where.CHIP:
            return [action for action in offered if action.run.startswith("wish")]
        if place is Where.LIST:
            return [action for action in offered if not action.run or action.id == "open_listed"]
        message = self._transcript.selected
        if not message:
            return []
        has_code = bool(self._transcript.code_blocks(message.id))
        can_continue = message.role is Role.ASSISTANT and self._context.open.view.can_continue
        return [
            action
            for action in offered
            if not action.run
            and (has_code or action.id not in _OF_CODE)
            and (can_continue or action.id != "carry_on")
            and (message.citations or action.id != "show_source")
            and (message.summarises or action.id != "original")
        ]

    def _carry_out(self, place: Where, action: Action) -> None:
        """Carry an action out with the focus where it means what the menu was about."""
        widget = {Where.LIST: self._sidebar.list, Where.CHIP: self._chips}.get(place)
        if widget:
            self._screen.set_focus(widget)
        else:
            self._focus.to_prompt()
        runner = widget if widget and action.run else self._screen
        self._context.run(runner.run_action(action.run or f"screen.{action.id}"))
