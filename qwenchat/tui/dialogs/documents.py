"""The documents that the questions of a chat are about: those that it has, its collections, and how they are read.

It answers with the choices of the user and changes nothing; what is listed may be indexed for it first.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from textual import events, on, work
from textual.app import ComposeResult
from textual.widgets import Button, OptionList, Select
from textual.widgets.option_list import Option

from qwenchat.chat.message import Message
from qwenchat.chat.session import Session
from qwenchat.documents.index import OwnedDocument, collection_owner
from qwenchat.documents.levels.choice import Level, Speed, predicted_seconds
from qwenchat.errors import QwenchatError
from qwenchat.i18n import _, enumerated, labelled, ngettext
from qwenchat.paths import shortened
from qwenchat.runtime.program import Program
from qwenchat.runtime.session_documents import SessionDocuments
from qwenchat.text.safe import clean_line, human_time
from qwenchat.tui.dialogs.dialog import Buttons, Complaint, Dialog, button, plain
from qwenchat.tui.dialogs.fields import aligned
from qwenchat.tui.widgets.prose import Prose

_MOST = 500
"""Documents that are listed; the others are counted."""
_AUTO = 0
"""What stands for no level in the list of levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentChoice:
    """What the user wants."""

    collections: tuple[str, ...]
    level: int | None
    shown: OwnedDocument | None = None
    """The document whose text is to be shown."""
    manages: bool = False
    """Whether the collections are to be changed."""


class DocumentsScreen(Dialog[DocumentChoice]):
    """Answers with the collections and the level of the chat."""

    def __init__(
        self,
        program: Program,
        documents: SessionDocuments,
        session: Session,
        branch: Sequence[Message],
        *,
        speed: Speed | None,
        room: int,
    ) -> None:
        """`speed` of the chat's model, if it was measured; `room` in its window for passages, in tokens."""
        super().__init__()
        self._program, self._documents, self._session, self._branch = program, documents, session, branch
        self._speed, self._room = speed, room
        self._chosen, self._level = list(session.collections), session.level
        self._own: list[OwnedDocument] = []
        self._collections: dict[str, list[OwnedDocument]] = {}
        self._is_read = False

    def heading(self) -> str:
        return _("Documents of this chat")

    def body(self) -> ComposeResult:
        yield plain(_("Reading…"), classes="muted", id="about-documents")
        yield OptionList(markup=False)
        yield plain(_("How questions are read for"), classes="label")
        yield Select(self._levels(), value=self._level or _AUTO, allow_blank=False, compact=True, id="level")
        yield plain("", classes="muted", id="about-level")
        yield Complaint()
        yield Buttons([button(_("Collections…"), "collections"), button(_("Close"), "close", main=True)])

    def enter_on_list(self) -> str:
        return _("open")

    def on_mount(self) -> None:
        """List what there is."""
        self.set_focus(self.query_one(OptionList))
        self._read()

    @work(exclusive=True, group="documents")
    async def _read(self) -> None:
        try:
            await asyncio.to_thread(self._read_all)
        except QwenchatError as error:
            self.query_one(Complaint).show(error)
        self._is_read = True
        self._show()
        if not self.query_one(OptionList).display:
            self.query_one("#collections").focus()

    def _read_all(self) -> None:
        alone = Session(id=self._session.id, created=0, updated=0)
        self._own = self._documents.indexed(alone, self._branch)
        if self._program.paths.collections.exists():
            names = [each.name for each in self._program.collections.all()]
            self._collections = {name: self._program.documents.owned(collection_owner(name)) for name in names}

    @property
    def _in_use(self) -> dict[str, OwnedDocument]:
        """The documents that questions are about, by their digests."""
        collected = (each for name in self._chosen for each in self._collections.get(name, ()))
        return {each.digest: each for each in (*self._own, *collected)}

    @on(events.Resize)
    def _show(self) -> None:
        if not self._is_read:
            return
        listed = self.query_one(OptionList)
        at = listed.highlighted or 0
        documents = list(self._in_use.values())
        rows = [[_collection_words(name, name in self._chosen), *sizes(owned)] for name, owned in self._names()]
        rows += [["  " + clean_line(each.name, 60), _pages(each), _tokens([each])] for each in documents[:_MOST]]
        listed.clear_options()
        listed.add_options(map(Option, aligned(rows, max(self.query_one(".frame").size.width - 4, 10))))
        if len(documents) > _MOST:
            more = _("… and {count} more").format(count=len(documents) - _MOST)
            listed.add_option(Option(more, disabled=True))
        listed.display = bool(rows)
        listed.highlighted = min(at, len(rows) - 1) if rows else None
        words = _("Questions are answered from these. Enter shows a text, or adds and removes a collection.")
        none = _("This chat has no documents. Attach a file or folder (/attach, @), or make a collection.")
        self.query_one("#about-documents", Prose).update(words if rows else none)
        self._show_level()

    def _names(self) -> list[tuple[str, list[OwnedDocument]]]:
        """Return the collections; one that is gone and still in use has no documents."""
        gone: dict[str, list[OwnedDocument]] = {name: [] for name in self._chosen if name not in self._collections}
        return [*self._collections.items(), *gone.items()]

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        """Show a document, or let the chat use a collection, or no longer."""
        names = [name for name, _owned in self._names()]
        at = event.option_index
        if at >= len(names):
            self.answer(self._choice(shown=list(self._in_use.values())[at - len(names)]))
            return
        if names[at] in self._chosen:
            self._chosen.remove(names[at])
        else:
            self._chosen.append(names[at])
        self._show()

    # The level

    def _levels(self) -> list[tuple[str, int]]:
        names = {
            _AUTO: _("automatic"),
            Level.SEARCH: _("1 · search"),
            Level.READING: _("2 · reading"),
            Level.STEPS: _("3 · step by step"),
        }
        return [(words, int(level)) for level, words in names.items()]

    @on(Select.Changed, "#level")
    def _take_level(self, event: Select.Changed) -> None:
        self._level = int(str(event.value)) or None
        self._show_level()

    def _show_level(self) -> None:
        """Say what the level does, and how long each of them takes with these documents."""
        words = {
            _AUTO: _("By what is asked and by the time that it takes."),
            Level.SEARCH: _("The passages with the words of the question."),
            Level.READING: _("The model judges every part of the documents."),
            Level.STEPS: _("The model asks itself a few questions, and looks each of them up."),
        }[self._level or _AUTO]
        tokens = sum(each.tokens for each in self._in_use.values())
        if self._speed and tokens:
            times = [
                f"{level.value} · {human_time(predicted_seconds(level, tokens, self._speed, room=self._room))}"
                for level in Level
            ]
            words += "\n" + labelled(_("Time until the answer begins, about"), enumerated(times))
        self.query_one("#about-level", Prose).update(words)

    # The end

    def _choice(self, *, shown: OwnedDocument | None = None, manages: bool = False) -> DocumentChoice:
        return DocumentChoice(collections=tuple(self._chosen), level=self._level, shown=shown, manages=manages)

    @on(Button.Pressed, "#collections")
    def _manage(self) -> None:
        self.answer(self._choice(manages=True))

    @on(Button.Pressed, "#close")
    def action_close(self) -> None:
        """Answer with what was chosen."""
        self.answer(self._choice())


def _collection_words(name: str, is_used: bool) -> str:
    return f"[{'x' if is_used else ' '}] {clean_line(shortened(name), 60)}"


def sizes(owned: Sequence[OwnedDocument]) -> list[str]:
    """Return how many documents of a collection there are, and their tokens."""
    return [
        ngettext("{count:,} document", "{count:,} documents", len(owned)).format(count=len(owned)),
        _tokens(owned),
    ]


def _pages(document: OwnedDocument) -> str:
    count = document.pages
    return ngettext("{count:,} page", "{count:,} pages", count).format(count=count) if count else ""


def _tokens(owned: Sequence[OwnedDocument]) -> str:
    count = sum(each.tokens for each in owned)
    return "≈ " + ngettext("{count:,} token", "{count:,} tokens", count).format(count=count)
