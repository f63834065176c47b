"""Draws the open session: what a change of its view changed, and nothing else.

Text that streams does not come by here, and nothing is decided here: the view says all that is shown.
"""

from collections.abc import Collection

from msgspec import structs
from textual.screen import Screen
from textual.widgets import Static

from qwenchat.chat.message import Role
from qwenchat.i18n import _, enumerated
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.focus import FocusController
from qwenchat.tui.session_view import SessionView, ViewChange
from qwenchat.tui.waiting_words import notes_of, notice_of
from qwenchat.tui.widgets.gauge import Gauge
from qwenchat.tui.widgets.header import ChatHeader
from qwenchat.tui.widgets.notice import Notice


class ViewDrawer:
    """Passes parts of the view to the widgets that show them."""

    def __init__(
        self,
        context: ChatContext,
        screen: Screen[None],
        focus: FocusController,
        *,
        header: ChatHeader,
        notice: Notice,
        gauge: Gauge,
        empty: Static,
    ) -> None:
        self._context, self._screen, self._focus = context, screen, focus
        self._transcript, self._prompt, self._sidebar = context.transcript, context.prompt, context.sidebar
        self._header, self._notice, self._gauge, self._empty = header, notice, gauge, empty
        context.open.listen(self._draw)
        context.names.listen(self._draw_names)

    def _draw_names(self) -> None:
        """Redraw what shows names of models: one became known."""
        self._draw_model(self._context.open.session.model)
        self._transcript.show_names(self._context.names)

    def _draw(self, change: ViewChange) -> None:
        before, view = change.before, change.after
        if change.branch_changed:
            self._draw_branch(change)
        transcript = self._transcript
        transcript.show_boundary(view.first_seen)
        transcript.show_fork(view.fork)
        self._prompt.show_fork(bool(view.fork))
        self._gauge.usage, self._gauge.activity, self._gauge.fraction = view.usage, view.activity, view.progress
        header = self._header
        header.title, header.private = view.session.title, view.private
        self._draw_model(view.session.model)
        header.has_prompt = view.session.system not in ("", self._context.program.settings.system)
        header.has_tools = view.can_call and self._context.chats.tools.are_on(view.session)
        if change.branch_changed or before.session is not view.session:
            header.has_documents = view.has_documents
        self._screen.app.title = "qwenchat" if view.private else header.title_words
        transcript.show_notes(notes_of(view))
        notice = notice_of(view)
        if notice != notice_of(before):
            words, offers = notice
            warning = bool(view.failure) or not view.answers_ahead
            self._notice.show(words, [label for label, _does in offers], warning=warning)
        transcript.show_can_continue(view.can_continue)
        if _keys_of(view) != _keys_of(before):
            self._focus.show_keys()
        if change.switched or (view.queue, view.asking) != (before.queue, before.asking):
            self._sidebar.mark(view.session.id, (view.queue.running, *view.queue.waiting), view.asking)
        if not change.switched and structs.replace(view.session, draft="") != structs.replace(before.session, draft=""):
            self._sidebar.reload()

    def _draw_model(self, model: str) -> None:
        """Show which model answers, and where: who writes here sees where words go."""
        header, names = self._header, self._context.names
        name, host = names(model), names.host(model)
        peers = () if host or not model else self._context.program.settings.model.rpc
        where = host or (_("this computer + {peers}").format(peers=enumerated(peers)) if peers else "")
        if (name, where) != (header.model, header.host):
            header.model, header.host = name, where
            self._empty.update(empty_words(model, host, peers))

    def _draw_branch(self, change: ViewChange) -> None:
        before, after, variants = change.before.branch, change.after.branch, change.after.variants
        transcript, prompt = self._transcript, self._prompt
        same = len(before) <= len(after) and all(old.id == new.id for old, new in zip(before, after, strict=False))
        if change.switched or not same or variants != change.before.variants:
            transcript.load(after, variants, show=change.at)
            prompt.area.recall([message.text for message in after if message.role is Role.USER])
        else:
            for old, new in zip(before, after, strict=False):
                if old is not new and old != new:
                    transcript.replace(new)
            for message in after[len(before) :]:
                transcript.add(message)
                if message.role is Role.USER:
                    prompt.area.earlier.append(message.text)
        self._screen.set_class(not after, "empty")
        if change.at:
            transcript.select(change.at)


def _keys_of(view: SessionView) -> tuple[object, ...]:
    """Return what the keys depend on that are shown."""
    return view.answering, view.can_continue, view.asked


def empty_words(model: str, host: str = "", peers: Collection[str] = ()) -> str:
    """Return the words of an empty chat; that everything stays on this computer is only said where it is true.

    `peers` are other machines that compute parts of a model on this one.
    """
    asked = _("Ask anything.")
    if host:
        asked = _("Ask anything. Your words go to {host}.").format(host=host)
    elif peers:
        asked = _("Ask anything. {peers} compute parts of each answer.").format(peers=enumerated(peers))
    elif model and not model.startswith("@"):  # of an engine that is in the settings no longer
        asked = _("Ask anything. Everything stays on this computer.")
    keys = (_("Enter sends · Ctrl+J new line · / commands"), _("Ctrl+O models · Ctrl+B chats · F1 help"))
    return "\n".join((asked, "", *keys))
