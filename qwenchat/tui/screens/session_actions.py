"""What can be done with sessions: opening, making, labelling, deleting; their model, settings and export."""

import asyncio
from dataclasses import replace

from textual import on

from qwenchat.chat.session import Session
from qwenchat.errors import NotFound
from qwenchat.i18n import _
from qwenchat.runtime.model_choice import lasting_reference
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs import open as screens
from qwenchat.tui.screens.answering import Answering
from qwenchat.tui.screens.conversation import Undo, void
from qwenchat.tui.widgets.sidebar import Sidebar


class SessionActions(Answering):
    """Actions on sessions: the one in the list where the list has the focus, else the open one."""

    @on(Sidebar.Failed)
    def tell_of_list(self, event: Sidebar.Failed) -> None:
        """Say why the list can't be read; it stays as it was."""
        self.tell_error(event.error)

    @on(Sidebar.Chosen)
    def open_chosen(self, event: Sidebar.Chosen) -> None:
        """Open what was chosen in the list."""
        self.attempt(self.open_session(event.session, event.message), "open", alone=True)

    async def open_session(self, session_id: str, message_id: str | None = None) -> None:
        """Open a session, at a message if one is given; the draft of the one before is kept."""
        if session_id != self.session.id:
            self.set_edit_aside()
        await self.save_draft()
        opened = await self.chats.sessions.open(session_id)
        if message_id and all(message.id != message_id for message in opened.branch):
            try:
                opened = await self.chats.sessions.show(session_id, message_id)
            except NotFound:  # deleted since the list was read
                message_id = None
                self.sidebar.reload()
        await self.show(opened, at=message_id)
        self.sidebar.mark(session_id, (self.queue.running, *self.queue.waiting))
        self.prompt.area.focus()
        if self.has_class("narrow"):
            self.remove_class("sidebar")

    def action_new(self) -> None:
        """Begin a new chat."""
        self.attempt(self.open_session(self.chats.sessions.new(self.session.model).id), "open", alone=True)

    def action_new_private(self) -> None:
        """Begin a chat that is written nowhere."""
        self.attempt(
            self.open_session(self.chats.sessions.new(self.session.model, private=True).id), "open", alone=True
        )

    def action_models(self) -> None:
        """Choose a model for the open chat."""
        screen = screens.models(self.program, self.session.model, self.downloads)
        self.ask(screen, lambda reference: self.use_model(reference) if reference else None)

    def use_model(self, reference: str) -> None:
        """Load a model and use it here. Where it can't be loaded, the chat keeps the one it has."""
        self.attempt(self._use_model(self.session, reference), "load", alone=True)

    async def _use_model(self, session: Session, reference: str) -> None:
        reference = lasting_reference(self.program, reference)
        wanted = replace(session, model=reference)
        if not self.queue.running:
            await self.chats.model.load(wanted)
        self.take(await self.chats.sessions.change(wanted.id, model=reference))
        self.recount()
        await self.go_on_with_other_model(wanted.id)

    def action_session_settings(self) -> None:
        """Change model, system prompt and sampling of the open chat."""

        def changed(session: Session | None) -> None:
            if session:
                self.attempt(self._change(session))

        self.ask(screens.session(self.program, self.session), changed)

    async def _change(self, wanted: Session) -> None:
        before = await self.chats.sessions.labels(wanted.id)
        changed = await self.chats.sessions.change(
            wanted.id,
            system=wanted.system,
            sampling=wanted.sampling,
            context=wanted.context,
            title=wanted.title,
            tags=wanted.tags,
        )
        self.take(changed)
        self.recount()
        if wanted.model not in ("", before.model):
            self.attempt(self._use_model(changed, wanted.model), "load", alone=True)

    def action_export(self) -> None:
        """Export the open chat."""
        if self.chats.sessions.is_private(self.session.id) or self.chats.sessions.is_new(self.session.id):
            self.tell(_("There is nothing to export: this chat is private or empty. Copy it from the palette."))
        else:
            self.ask(screens.export(self.program, [self.session.id]), void)

    def action_export_listed(self) -> None:
        """Export the chat under the cursor."""
        if session_id := self.sidebar.list.session_id:
            self.ask(screens.export(self.program, [session_id]), void)

    def action_rename(self) -> None:
        """Give a chat another title."""
        self.attempt(self._rename(self._named()))

    async def _rename(self, session_id: str) -> None:
        session = await self.chats.sessions.labels(session_id)

        def named(title: str | None) -> None:
            if title is not None:
                self.attempt(self._label(session, title=" ".join(title.split())))

        self.ask(screens.line(_("Title"), session.title), named)

    def action_suggest_title(self) -> None:
        """Let the model find a title for a chat."""
        self.attempt(self._suggest_title(self._named()), "title", alone=True)

    async def _suggest_title(self, session_id: str) -> None:
        session = await self.chats.sessions.labels(session_id)
        if title := await self.chats.title(session.id):
            await self._label(session, title=title)
            self.tell(_("The title now: {title}").format(title=title))
        else:
            self.tell(_("Nothing was asked in this chat yet."))

    def action_tag(self) -> None:
        """Change a chat's tags."""
        self.attempt(self._tag(self._named()))

    async def _tag(self, session_id: str) -> None:
        session = await self.chats.sessions.labels(session_id)

        def tagged(words: str | None) -> None:
            if words is not None:
                tags = tuple(dict.fromkeys(words.replace(",", " ").replace("#", " ").split()))
                self.attempt(self._label(session, tags=tags))

        self.ask(screens.line(_("Tags, with spaces between"), " ".join(session.tags)), tagged)

    def action_pin(self) -> None:
        """Pin a chat, or no longer."""
        self.attempt(self._pin(self._named()))

    async def _pin(self, session_id: str) -> None:
        session = await self.chats.sessions.labels(session_id)
        await self._label(session, pinned=not session.pinned)

    async def _label(self, session: Session, **fields: object) -> None:
        changed = await self.chats.sessions.change(session.id, **fields)
        self.take(changed)
        self.sidebar.reload()

    def action_duplicate(self) -> None:
        """Copy a chat and open the copy."""
        self.attempt(self._duplicate(self._named()))

    async def _duplicate(self, session_id: str) -> None:
        session = await self.chats.sessions.labels(session_id)
        if self.chats.sessions.is_private(session.id) or self.chats.sessions.is_new(session.id):
            return
        copy = await asyncio.to_thread(self.program.store.duplicate, session.id)
        await self.open_session(copy.id)
        self.sidebar.reload()

    def action_trash(self) -> None:
        """Move a chat to the trash; it can be taken back."""
        self.attempt(self._trash(self._named()))

    async def _trash(self, session_id: str) -> None:
        session = await self.chats.sessions.labels(session_id)
        if self.chats.sessions.is_private(session.id) or self.chats.sessions.is_new(session.id):
            self.action_new()
            return
        await self.chats.stop(session.id)
        await asyncio.to_thread(self.program.store.trash.put, session.id)
        self.undone.append(self.undo_trash(session))
        if session.id == self.session.id:
            await self.open_session(self.chats.sessions.new(session.model).id)
        self.sidebar.reload()
        self.tell(_("In the trash. F8 takes it back."))

    def undo_trash(self, session: Session) -> Undo:
        """Return how a chat comes out of the trash."""

        async def back() -> None:
            await asyncio.to_thread(self.program.store.trash.restore, session.id)
            self.sidebar.reload()

        return Undo(_("The chat is back: {title}").format(title=clean_line(session.title, 100) or _("New chat")), back)

    def _named(self) -> str:
        """Return the id of the session under the cursor where the list has the focus, else of the open one."""
        listed = self.sidebar.list
        return (listed.has_focus and listed.session_id) or self.session.id
