"""The question before a chat is sent to another machine for the first time: where it goes, and what of it."""

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Button

from qwenchat.chat.message import Message
from qwenchat.i18n import _, enumerated, ngettext, sentences
from qwenchat.tui.attached import attached_of
from qwenchat.tui.dialogs.dialog import Buttons, Dialog, button, plain
from qwenchat.tui.dialogs.open import Consent

_MOST_NAMES = 5
"""Of documents that are shown."""


class ConsentScreen(Dialog[Consent | None]):
    """Esc sends nothing, and that has the focus: Enter is often pressed twice.

    `branch` is what would be sent, with a `system` prompt or without, and what is read of some `collections`.
    """

    def __init__(
        self,
        host: str,
        model: str,
        branch: Sequence[Message],
        *,
        system: bool,
        collections: Sequence[str] = (),
        is_encrypted: bool,
        other_model: bool,
    ) -> None:
        super().__init__()
        self._host, self._model, self._is_encrypted, self._other_model = host, model, is_encrypted, other_model
        self._sent, self._documents = _what_is_sent(branch, system=system), _documents_in(branch, collections)

    def heading(self) -> str:
        return _("Send this chat to {host}?").format(host=self._host)

    def body(self) -> ComposeResult:
        rows = [(_("Machine"), self._host), (_("Model"), self._model), (_("What is sent"), self._sent)]
        rows += [(_("Documents"), self._documents)] if self._documents else []
        for name, value in rows:
            with Horizontal(classes="row"):
                yield plain(name, classes="name")
                yield plain(value, classes="value")
        unencrypted = "" if self._is_encrypted else _("The connection is not encrypted.")
        rest = _("Later questions in this chat go there too, without asking again.")
        yield plain(sentences(rest, unencrypted), classes="label")
        row = [button(_("Cancel"), "cancel"), button(_("Send"), "send", main=True)]
        if self._other_model:
            row.append(button(_("Choose another model"), "model"))
        yield Buttons(row)

    def on_mount(self) -> None:
        """Focus the harmless answer."""
        self.set_focus(self.query_one("#cancel"))

    def escape_words(self) -> str:
        return _("cancel")

    @on(Button.Pressed)
    def _answer(self, event: Button.Pressed) -> None:
        self.answer({"send": Consent.SEND, "model": Consent.OTHER_MODEL}.get(event.button.id or ""))


def _what_is_sent(branch: Sequence[Message], *, system: bool) -> str:
    messages, files = len(branch), sum(len(message.attachments) for message in branch)
    parts = [
        ngettext("the whole branch, {count:,} message", "the whole branch, {count:,} messages", messages).format(
            count=messages
        )
    ]
    if files:
        parts.append(ngettext("{count:,} file", "{count:,} files", files).format(count=files))
    if system:
        parts.append(_("the system prompt"))
    return enumerated(parts)


def _documents_in(branch: Sequence[Message], collections: Sequence[str]) -> str:
    """Return the names of the documents of a branch and of collections, and say of which only parts are sent."""
    attached = [each for message in branch for each in attached_of(message.attachments)]
    in_parts = _("{name} (any part that is read)")
    names = [in_parts.format(name=each.title) if each.in_parts else each.title for each in attached]
    names += [in_parts.format(name=each) for each in collections]
    more = len(names) - _MOST_NAMES
    if more > 0:
        names[_MOST_NAMES:] = [ngettext("{count:,} more", "{count:,} more", more).format(count=more)]
    return enumerated(names)
