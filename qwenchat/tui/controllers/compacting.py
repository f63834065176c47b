"""Summaries: has the oldest messages of the open chat summarised in place of trimming, and shows what comes of it.

The summary is drawn by the transcript; how it is made, and that nothing is lost, is the runtime's.
"""

from qwenchat.chat.message import Message
from qwenchat.i18n import _, ngettext, sentences
from qwenchat.runtime.events import ChatEvent, Compacted, NotCompacted, SummaryGrew
from qwenchat.tui.actions import Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.undo import UndoController


class CompactController:
    """Makes summaries, and shows the messages that one stands for."""

    def __init__(self, context: ChatContext, undo: UndoController) -> None:
        self._context, self._open, self._undo = context, context.open, undo

    @property
    def methods(self) -> Methods:
        """What carries out the actions on summaries."""
        return {"compact": self.compact, "original": self.show_original}

    def compact(self) -> None:
        """Have the oldest messages summarised, once what runs has ended."""
        if not self._open.view.branch:
            self._context.notify(_("This chat has no messages yet."))
        else:
            self._context.chats.compact(self._open.id)

    def show_original(self) -> None:
        """Show the branch that the selected summary was made of, else that of the first message."""
        selected = self._context.transcript.selected
        meant = selected or next(iter(self._open.view.branch), None)
        if meant and meant.summarises:
            self._context.run(self._show_original(meant))
        else:
            self._context.notify(_("This message is not a summary."))

    async def _show_original(self, summary: Message) -> None:
        chats = self._context.chats
        original = await chats.compactions.original(summary)
        opened = await chats.sessions.show(summary.session, original[-1].id)
        if self._open.refresh(opened, at=original[-1].id):
            self._undo.add_branch(summary.session, summary.id)

    def report(self, event: ChatEvent) -> None:
        """Show how far a summary is, or what came of it."""
        if isinstance(event, Compacted):
            self._undo.add_branch(event.session, event.before)
            self._context.run(self._show(event))
        elif isinstance(event, SummaryGrew) and event.session == self._open.id:
            count = event.progress.messages
            words = ngettext("summarising {count:,} message", "summarising {count:,} messages", count)
            self._open.show_activity(words.format(count=count), event.progress.fraction)
        elif isinstance(event, NotCompacted) and event.session == self._open.id:
            self._open.show_activity()
            self._context.notify(sentences(event.error.message, event.error.hint), warning=True)

    async def _show(self, compacted: Compacted) -> None:
        if compacted.session != self._open.id:
            return
        self._open.show_activity()
        await self._open.reload()
        self._context.transcript.select(None)
        self._context.transcript.follow()
        self._context.notify(_("The chat begins with a summary now; the messages before are on another branch."))
