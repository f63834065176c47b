"""Chooses a branch of a chat: each by the first question that it alone has. The chat behind changes only with Enter."""

import time
from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from qwenchat.chat.message import Message, Role
from qwenchat.chat.tree import Branch
from qwenchat.i18n import _, ngettext
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs.dialog import Dialog, plain
from qwenchat.tui.dialogs.fields import aligned
from qwenchat.tui.transcript.labels import moment

_WORDS = 48
"""Characters of a question."""


class BranchesScreen(Dialog[str | None]):
    """Gives the id of the last message of the chosen branch. `current` is the last one of the branch being read."""

    def __init__(self, branches: Sequence[Branch], current: str) -> None:
        super().__init__()
        self._branches, self._current = branches, current

    def heading(self) -> str:
        return _("Branches")

    def body(self) -> ComposeResult:
        if len(self._branches) < 2:
            yield plain(_("This chat has one branch. To start another, select a message (F6) and press b."))
            return
        yield plain(_("Each branch is listed by the first question that only it has. Enter opens it."), classes="muted")
        yield OptionList(markup=False)

    def on_mount(self) -> None:
        """List the branches, the one being read highlighted."""
        for listed in self.query(OptionList):
            rows = [self._row(branch) for branch in self._branches]
            ids = [branch.leaf.id for branch in self._branches]
            lines = aligned(rows, self.app.size.width)
            listed.add_options(Option(line, id=id) for line, id in zip(lines, ids, strict=True))
            listed.highlighted = ids.index(self._current) if self._current in ids else 0
            self.set_focus(listed)

    def _row(self, branch: Branch) -> tuple[str, str, str]:
        mark = "●" if branch.leaf.id == self._current else " "
        count = ngettext("{count:,} message", "{count:,} messages", branch.length).format(count=branch.length)
        when = moment(branch.leaf.created, time.time())
        return f"{mark} {_words(branch.first)}", count, when

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        self.answer(event.option_id)


def _words(message: Message) -> str:
    author = "❯" if message.role is Role.USER else "✦"
    return f"{author} {clean_line(message.text, _WORDS) or '…'}"
