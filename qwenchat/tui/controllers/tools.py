"""Tools: whether the model of a chat may call them, and the user's decisions about calls; nothing else waits for those.

The transcript shows a call that is asked about with its choices, the footer their keys. What a decision means is the
runtime's.
"""

from qwenchat.i18n import _
from qwenchat.runtime.events import ChatEvent, ToolAsked, ToolDecided
from qwenchat.tools.policy import Decision, Leave, PendingCall
from qwenchat.tui.actions import Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.dialogs import open as dialogs


class ToolController:
    """Switches tools on and off, and asks about one call after the other, as they come."""

    def __init__(self, context: ChatContext) -> None:
        self._context, self._open = context, context.open

    @property
    def methods(self) -> Methods:
        """What carries out the actions on tools."""
        return {
            "allow_once": lambda: self._allow(Leave.ONCE),
            "allow_chat": lambda: self._allow(Leave.CHAT),
            "refuse": self.refuse,
            "tools": self.open_list,
            "toggle_tools": self.toggle,
        }

    def open_list(self) -> None:
        """Show the tools, what holds for each of them, and whether they are on in the open chat."""
        tools, session = self._context.chats.tools, self._open.session

        def closed(wanted: bool | None) -> None:
            if wanted is not None and wanted != tools.are_on(session):
                self._context.run(self._switch(session.id, on=wanted))

        self._context.ask(dialogs.tools(self._context.program, tools, session), closed)

    def toggle(self) -> None:
        """Switch the tools of the open chat on or off."""
        session = self._open.session
        self._context.run(self._switch(session.id, on=not self._context.chats.tools.are_on(session)))

    async def _switch(self, session_id: str, *, on: bool) -> None:
        self._open.relabel(await self._context.chats.sessions.change(session_id, tools=on))
        self._context.notify(_("Tools are on in this chat.") if on else _("Tools are off in this chat."))

    def report(self, event: ChatEvent) -> None:
        """Show which call waits for the user, or that none does."""
        if isinstance(event, ToolAsked):
            self._open.show_asked(event)
            if event.session != self._open.id:
                self._context.notify(_("A tool in another chat waits for your decision: open the chat to decide."))
                return
            self._open.show_activity(_("waiting for your decision"))
            if not self._context.transcript.screen.is_active:
                self._context.notify(_("A tool waits for your decision in the chat."))
        elif isinstance(event, ToolDecided):
            self._open.show_asked(None)
            if event.session == self._open.id:
                self._open.show_activity()

    def refuse(self) -> None:
        """Ask why, and refuse; the call goes on waiting where the user changes their mind."""
        if pending := self._pending():
            dialog = dialogs.line(_("Refuse: why? The model reads it (may be empty)"), "")
            self._context.ask(dialog, lambda reason: self._refuse(pending, reason))

    def _refuse(self, pending: PendingCall, reason: str | None) -> None:
        if reason is not None:
            self._context.chats.decide(pending, Decision(Leave.REFUSED, reason))

    def _allow(self, leave: Leave) -> None:
        pending = self._pending()
        if pending and leave not in pending.choices:
            self._context.notify(_("A tool that changes or sends something can only be allowed once."))
        elif pending:
            self._context.chats.decide(pending, Decision(leave))

    def _pending(self) -> PendingCall | None:
        """Return the call that waits in the open chat, which the user sees."""
        pending = self._open.view.asked
        if pending is None:
            self._context.notify(_("No tool waits for your decision in this chat."))
        return pending
