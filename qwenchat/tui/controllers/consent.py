"""Consent: before a chat is sent to another machine for the first time, the user is asked, once per chat and host.

What needs it is the runtime's rule, which holds back what was to be sent; here the user decides about it.
"""

from collections.abc import Callable

from qwenchat.i18n import _
from qwenchat.runtime.events import ChatEvent, ConsentNeeded
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.drafts import DraftController
from qwenchat.tui.dialogs import open as dialogs
from qwenchat.tui.dialogs.open import Consent
from qwenchat.tui.session_view import ViewChange


class ConsentController:
    """Asks about the open chat; about another one when it is opened.

    `use_model` gives the open chat another model.
    """

    def __init__(self, context: ChatContext, drafts: DraftController, *, use_model: Callable[[str], object]) -> None:
        self._context, self._drafts, self._use_model = context, drafts, use_model
        self._open = context.open
        self._needed: dict[str, ConsentNeeded] = {}
        """By session, what the user has not been asked yet."""
        self._asked: set[str] = set()
        """The sessions about which a dialog is open."""
        self._open.listen(self._follow)

    def report(self, event: ChatEvent) -> None:
        """Ask about what is held back, if it is in the open chat."""
        if not isinstance(event, ConsentNeeded):
            return
        self._needed[event.session] = event
        if event.session == self._open.id:
            self._ask_soon(event.session)
        else:
            self._context.notify(_("Another chat would be sent to {host}: open it to decide.").format(host=event.host))

    async def asked(self, session_id: str, model: str = "") -> bool:
        """Return whether a chat may be sent to a model, that of the chat by default; the user is asked if need be."""
        sessions = self._context.chats.sessions
        host = await sessions.host_to_confirm(session_id, model)
        if not host:
            return True
        model = model or (await sessions.labels(session_id)).model
        agreed = await self._ask(session_id, model, host, other_model=False) is Consent.SEND
        if agreed:
            sessions.agree(session_id, host)
        return agreed

    def _follow(self, change: ViewChange) -> None:
        if change.switched:
            self._ask_soon(change.after.session.id)

    def _ask_soon(self, session_id: str) -> None:
        needed = self._needed.pop(session_id, None)
        if needed and session_id not in self._asked:  # what is decided is about all that waits there
            self._context.run(self._decide_once(needed), "consent")

    async def _decide_once(self, needed: ConsentNeeded) -> None:
        self._asked.add(needed.session)
        try:
            if self._context.chats.waits_for_consent(needed.session):  # else it was taken back, or deleted
                await self._decide(needed)
        finally:
            self._asked.remove(needed.session)

    async def _decide(self, needed: ConsentNeeded) -> None:
        """Let the user decide about what is held back in the open chat."""
        chats = self._context.chats
        choice = await self._ask(needed.session, needed.model, needed.host, other_model=not needed.is_second_model)
        if choice is Consent.SEND:
            chats.ask_with_consent(needed.session, needed.host)
        elif choice is Consent.OTHER_MODEL:
            dialog = self._context.models(needed.model)
            if reference := await self._context.result_of(dialog):
                self._use_model(reference)
            else:
                await self._decide(needed)
        else:
            await self._take_back(needed.session)

    async def _ask(self, session_id: str, model: str, host: str, *, other_model: bool) -> Consent | None:
        """Show what would be sent, and where; return what the user chose."""
        snapshot = await self._context.chats.sessions.open(session_id)
        server = self._context.program.remote_engines.server_of(model)
        branch = [*snapshot.branch, *(waiting.question for waiting in snapshot.waiting)]
        dialog = dialogs.consent(
            host,
            self._context.names(model),
            branch,
            system=bool(snapshot.session.system),
            collections=snapshot.session.collections,
            is_encrypted=server is not None and server.url.startswith("https:"),
            other_model=other_model,
        )
        return await self._context.result_of(dialog)

    async def _take_back(self, session_id: str) -> None:
        """Send nothing; what was asked returns to the prompt."""
        for taken in reversed(await self._context.chats.take_back_without_consent(session_id)):
            await self._drafts.give_back(session_id, taken.text, taken.attachments)
        if session_id == self._open.id:
            await self._open.reload()
            await self._drafts.save()
