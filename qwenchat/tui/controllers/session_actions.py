"""What can be done with sessions: their model, settings, labels, copies, trash and export.

An action is about the session under the cursor where the list has the focus, else about the open one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from msgspec.structs import replace

from qwenchat.chat.session import Session
from qwenchat.errors import RecoveryKind
from qwenchat.i18n import _
from qwenchat.runtime.model_choice import lasting_reference
from qwenchat.tui.actions import Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.engines import EngineController
from qwenchat.tui.controllers.navigation import NavigationController
from qwenchat.tui.controllers.undo import UndoController
from qwenchat.tui.dialogs import open as dialogs
from qwenchat.tui.parameters import parse_tags
from qwenchat.tui.waiting_words import offers_after


class SessionActions:
    """Actions on sessions. `may_send` asks the user, if need be, whether a chat may be sent to a model."""

    def __init__(
        self,
        context: ChatContext,
        navigation: NavigationController,
        undo: UndoController,
        engines: EngineController,
        *,
        may_send: Callable[[str, str], Awaitable[bool]],
    ) -> None:
        self._context, self._navigation, self._undo = context, navigation, undo
        self._engines, self._may_send = engines, may_send
        self._open, self._sidebar = context.open, context.sidebar

    @property
    def methods(self) -> Methods:
        """What carries out the actions on sessions."""
        return {
            "models": self.choose_model,
            "session_settings": self.open_settings,
            "system_prompt": partial(self.open_settings, at_system=True),
            "stats": self.show_statistics,
            "export": self.export_open,
            "import_chats": self.import_chats,
            "open_trash": self.open_trash,
            "export_listed": self.export_listed,
            "rename": self.rename,
            "suggest_title": self.suggest_title,
            "tag": self.tag,
            "pin": self.pin,
            "duplicate": self.duplicate,
            "trash": self.trash,
        }

    # Model and settings of the open session

    def choose_model(self) -> None:
        """Choose a model for the open chat."""
        current = self._open.session.model
        dialog = self._context.models(current)
        self._context.ask(dialog, lambda reference: self.use_model(reference) if reference else None)

    def use_model(self, reference: str) -> None:
        """Load a model and use it here. Where it can't be loaded, the chat keeps the one it has."""
        self._context.run(self._use_model(self._open.session, reference), "load", exclusive=True)

    async def _use_model(self, session: Session, reference: str) -> None:
        chats = self._context.chats
        reference = await asyncio.to_thread(lasting_reference, self._context.program, reference)
        if not self._open.view.queue.running:
            await chats.model.load(replace(session, model=reference))
        self._open.relabel(await chats.sessions.change(session.id, model=reference))
        await chats.ask_without_model()
        chats.ask_with_consent(session.id)  # the other model may need none
        failed = self._open.failure_of(session.id)
        offered = failed.recoveries if failed else ()
        if other_model := next((each for each in offered if each.kind is RecoveryKind.OTHER_MODEL), None):
            await chats.retry(session.id, other_model)

    def recover(self, number: int) -> None:
        """Carry out the recovery of this number from the failure that is shown."""
        failed = self._open.view.failure
        if not failed or number >= len(offers_after(failed)):  # it was taken already, or another chat was opened
            return
        recovery = offers_after(failed)[number]
        if recovery.kind is RecoveryKind.OTHER_MODEL:
            self.choose_model()
        elif recovery not in failed.recoveries:
            self._engines.open(recovery.name, test=recovery.kind is RecoveryKind.TEST_ENGINE)
        else:
            self._open.forget_failure(failed.session)
            self._context.run(self._context.chats.retry(failed.session, recovery))

    def open_settings(self, *, system: str | None = None, at_system: bool = False) -> None:
        """Change model, system prompt and sampling of the open chat; `system` is shown as its system prompt.

        It opens at the title, `at_system` at the system prompt. The name of a saved prompt stands for
        its text. Nothing changes until the user saves.
        """
        session = self._open.session
        if system is not None:
            from qwenchat.tui.prompt_library import PromptLibrary  # noqa: PLC0415 - the screen is drawn without it

            saved = PromptLibrary(self._context.program.paths.config / "prompts").all()
            system = next((prompt.text for prompt in saved if prompt.name == system), system)
            session = replace(session, system=system)
        name = self._context.names(session.model)
        dialog = dialogs.session(self._context.program, session, name, at_system=at_system)
        self._context.ask(dialog, lambda session: self.change(session) if session else None)

    def change(self, wanted: Session) -> None:
        """Save a session with other settings, and load its model if that is another one."""
        self._context.run(self._change(wanted))

    async def _change(self, wanted: Session) -> None:
        sessions = self._context.chats.sessions
        before = await sessions.labels(wanted.id)
        changed = await sessions.change(
            wanted.id,
            system=wanted.system,
            sampling=wanted.sampling,
            context=wanted.context,
            title=wanted.title,
            tags=wanted.tags,
        )
        self._open.relabel(changed)
        if wanted.model not in ("", before.model):
            self._context.run(self._use_model(changed, wanted.model), "load", exclusive=True)

    def show_statistics(self) -> None:
        """Show how much was written in the open chat, and how fast its answers came."""
        self._context.ask(dialogs.statistics(self._context.transcript.messages, self._context.chats.model.info))

    # Labels of the session that is meant

    def rename(self) -> None:
        """Give a chat another title."""
        self._context.run(self._rename(self._meant()))

    async def _rename(self, session_id: str) -> None:
        session = await self._context.chats.sessions.labels(session_id)

        def named(title: str | None) -> None:
            if title is not None:
                self._context.run(self._label(session, title=" ".join(title.split())))

        self._context.ask(dialogs.line(_("Title"), session.title), named)

    def suggest_title(self) -> None:
        """Let the model find a title for a chat."""
        self._context.run(self._suggest_title(self._meant()), "title", exclusive=True)

    async def _suggest_title(self, session_id: str) -> None:
        session = await self._context.chats.sessions.labels(session_id)
        if not await self._may_send(session.id, session.model):
            return
        if title := await self._context.chats.title(session.id):
            await self._label(session, title=title)
            self._context.notify(_("New title: {title}").format(title=title))
        else:
            self._context.notify(_("This chat has no question yet."))

    def tag(self) -> None:
        """Change a chat's tags."""
        self._context.run(self._tag(self._meant()))

    async def _tag(self, session_id: str) -> None:
        session = await self._context.chats.sessions.labels(session_id)

        def tagged(words: str | None) -> None:
            if words is not None:
                self._context.run(self._label(session, tags=parse_tags(words)))

        self._context.ask(dialogs.line(_("Tags, separated by commas"), ", ".join(session.tags)), tagged)

    def pin(self) -> None:
        """Pin a chat, or unpin it."""
        self._context.run(self._pin(self._meant()))

    async def _pin(self, session_id: str) -> None:
        session = await self._context.chats.sessions.labels(session_id)
        await self._label(session, pinned=not session.pinned)

    async def _label(self, session: Session, **fields: object) -> None:
        changed = await self._context.chats.sessions.change(session.id, **fields)
        if session.id == self._open.id:
            self._open.relabel(changed)
        else:
            self._sidebar.reload()

    # The session as a whole

    def duplicate(self) -> None:
        """Copy a chat and open the copy."""
        self._context.run(self._duplicate(self._meant()))

    async def _duplicate(self, session_id: str) -> None:
        if self._is_on_disk(session_id):
            copy = await asyncio.to_thread(self._context.program.store.duplicate, session_id)
            await self._navigation.open(copy.id)
            self._sidebar.reload()

    def trash(self) -> None:
        """Move a chat to the trash; that can be undone."""
        self._context.run(self._trash(self._meant()))

    async def _trash(self, session_id: str) -> None:
        chats = self._context.chats
        session = await chats.sessions.labels(session_id)
        if not self._is_on_disk(session_id):
            self._navigation.open_new()
            return
        await chats.withdraw(session_id)
        await asyncio.to_thread(self._context.program.store.trash.put, session_id)
        self._undo.add_session(session)
        if session_id == self._open.id:
            await self._navigation.open(chats.sessions.new(session.model).id)
        self._sidebar.reload()
        self._context.notify(_("Moved to trash. F8 undoes."))

    def open_trash(self) -> None:
        """Restore chats from the trash, or delete them for good."""
        self._context.ask(dialogs.trash(self._context.program), self._reload_list)

    def import_chats(self, paths: str = "") -> None:
        """Import chats from files, at once from those that are named as a shell takes them."""
        self._context.ask(dialogs.import_chats(self._context.program, paths), self._reload_list)

    def _reload_list(self, has_changed: bool | None) -> None:
        if has_changed:
            self._sidebar.reload()

    def export_open(self) -> None:
        """Export the open chat."""
        if self._is_on_disk(self._open.id):
            self._context.ask(dialogs.export(self._context.program, [self._open.id]))
        else:
            words = _("Nothing to export: this chat is private or empty. You can copy it from the palette (Ctrl+P).")
            self._context.notify(words)

    def export_listed(self) -> None:
        """Export the chat under the cursor."""
        if session_id := self._sidebar.list.session_id:
            self._context.ask(dialogs.export(self._context.program, [session_id]))

    def _is_on_disk(self, session_id: str) -> bool:
        sessions = self._context.chats.sessions
        return not (sessions.is_private(session_id) or sessions.is_new(session_id))

    def _meant(self) -> str:
        """Return the id of the session under the cursor where the list has the focus, else of the open one."""
        listed = self._sidebar.list
        return (listed.screen.focused is listed and listed.session_id) or self._open.id
