"""Where a question is written: many lines, earlier questions, files as chips, slash commands as they are typed."""

import asyncio
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message as Event
from textual.style import Style
from textual.widgets import Static, TextArea

from qwenchat.chat.message import Attachment
from qwenchat.errors import FileError
from qwenchat.i18n import _, ngettext
from qwenchat.paths import expand_home
from qwenchat.text import files
from qwenchat.text.safe import clean, clean_line, joined
from qwenchat.tui.completions import Completion
from qwenchat.tui.textual_private import EndsItsWork
from qwenchat.tui.widgets.fields import AreaField
from qwenchat.tui.widgets.suggestions import Suggestions

_MOST_PATHS = 20
_LONGEST_PATHS = 4000
_LONGEST_PASTE = 100
"""Line breaks up to which a paste is shown in the text."""


_LONGEST_BEGINNING = 10
"""Line breaks up to which a question that stands before a long paste is shown."""


class PromptArea(AreaField):
    """The text itself. Its keys beside those of a text area are in `tui.actions`."""

    class Sent(Event):
        """Enter was pressed."""

    @dataclass
    class FilesGiven(Event):
        """Paths of files were pasted or dropped."""

        paths: list[Path]

    @dataclass
    class Walked(Event):
        """An arrow was pressed while the list of suggestions is shown."""

        step: int

    class Completed(Event):
        """Tab was pressed while the list of suggestions is shown."""

    @dataclass
    class LongPaste(Event):
        """More was pasted than the prompt can show well."""

        text: str

    class Left(Event):
        """Tab was pressed where nothing can be completed."""

    def __init__(self) -> None:
        super().__init__(soft_wrap=True, show_line_numbers=False, tab_behavior="focus", highlight_cursor_line=False)
        self.earlier: list[str] = []
        """Earlier questions and commands, oldest first."""
        self._entered: list[str] = []
        """Commands of this run, oldest first."""
        self.is_suggesting = False
        """Whether completions are shown above; the arrows walk them."""
        self._at: int | None = None
        self._before = self._recalled = ""
        """The text that an earlier question replaced, and that question."""

    @property
    def set_aside(self) -> str:
        """The text that the recalled question replaced."""
        return "" if self._at is None else self._before

    @property
    def written(self) -> str:
        """What the user wrote: the text, unless it is an earlier question as it was asked, and what is set aside."""
        recalled = self._at is not None and self.text == self._recalled
        return joined("" if recalled else self.text, self.set_aside)

    def action_send(self) -> None:
        """Send what is written."""
        self.post_message(self.Sent())

    def action_new_line(self) -> None:
        """Begin a new line."""
        self.replace("\n", *self.selection, maintain_selection_offset=False)

    def action_complete(self) -> None:
        """Complete a half-typed command; without one, move the focus to the buttons above, if any."""
        if self.is_suggesting:
            self.post_message(self.Completed())
        else:
            self.post_message(self.Left())

    async def action_quit_empty(self) -> None:
        """Quit the program where nothing is written; else delete the character to the right, as in a shell."""
        if self.text:
            self.action_delete_right()
        else:
            await self.run_action("screen.quit")

    def on_paste(self, event: events.Paste) -> None:
        """Attach pasted paths; insert all other text clean, folded where it is long."""
        event.stop()
        event.prevent_default()
        if paths := paths_in(event.text):
            self.post_message(self.FilesGiven(paths))
            return
        pasted = clean(event.text.replace("\r\n", "\n").replace("\r", "\n"))
        if pasted.count("\n") > _LONGEST_PASTE:
            self.post_message(self.LongPaste(pasted))
            return
        result = self.replace(pasted, *self.selection, maintain_selection_offset=False)
        self.move_cursor(result.end_location)

    def action_cursor_up(self, select: bool = False) -> None:
        """Go up, in the suggestions where some are shown, from the first line to the question before."""
        if self.is_suggesting and not select:
            self.post_message(self.Walked(-1))
            return
        if not select and self.navigator.is_first_wrapped_line(self.cursor_location) and self._go(-1):
            return
        super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        """Go down, in the suggestions where some are shown, from the last line to the question after."""
        if self.is_suggesting and not select:
            self.post_message(self.Walked(1))
            return
        if not select and self.navigator.is_last_wrapped_line(self.cursor_location) and self._go(1):
            return
        super().action_cursor_down(select)

    def recall(self, asked: list[str]) -> None:
        """Let the arrows bring back these questions, then what was entered in this run and is no question."""
        self.earlier = [*asked, *self._entered]

    def remember(self, text: str) -> None:
        """Let the arrows bring back what was entered and is no question."""
        self._entered.append(text)
        self.earlier.append(text)

    def write(self, text: str) -> None:
        """Replace the text, the cursor behind it; the text may come from an imported chat."""
        self._at = None
        self.load_text(clean(text))
        self.move_cursor(self.document.end)

    def _go(self, step: int) -> bool:
        """Show the question before or after; False where there is none."""
        at = len(self.earlier) if self._at is None else self._at
        if self._at is None:
            self._before = self.text
        if not 0 <= at + step <= len(self.earlier) or not self.earlier:
            return False
        at += step
        if at == len(self.earlier):
            self.write(self._before)
        else:
            self.write(self.earlier[at])
            self._at, self._recalled = at, self.text
        return True


class Prompt(Vertical, EndsItsWork):
    """The prompt with its chips and suggestions."""

    @dataclass
    class Submitted(Event):
        """The user sends a question or a slash command."""

        text: str
        attachments: tuple[Attachment, ...]

    class Edited(Event):
        """The text or the files changed."""

    @dataclass
    class Refused(Event):
        """A file can't be added."""

        error: FileError

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.attachments: list[Attachment] = []
        """Changed in place: a file that is still being read finds its chat by it."""
        self._folded: list[str] = []
        """Long pastes, which are shown as chips and come behind the text."""
        self.open_key = ""
        """The key that opens them."""
        self._tokens: dict[str, int] = {}
        self.is_taken = True
        """Whether what was sent last has been taken; until then Enter would only send it again."""

    def compose(self) -> ComposeResult:
        """Lay out suggestions, chips, text."""
        yield Suggestions(id="suggestions")
        yield Static(id="chips", markup=False)
        yield PromptArea()

    @property
    def area(self) -> PromptArea:
        """The text widget."""
        return self.query_one(PromptArea)

    @property
    def text(self) -> str:
        """The text, folded pastes included."""
        return joined(self.area.text, *self._folded)

    @property
    def written(self) -> str:
        """What the user wrote and pasted: no earlier question as it was asked, but the text that it replaced."""
        return joined(self.area.written, *self._folded)

    def write(self, text: str) -> None:
        """Replace the text, folded pastes included."""
        self._folded.clear()
        self.area.write(text)
        self._show_chips()

    def fill(self, text: str, attachments: list[Attachment]) -> None:
        """Show another text and another chat's files; a text as long as a paste that folds is folded."""
        self.attachments = attachments
        beginning, folded = _divided(text)
        self.write(beginning)
        if folded:
            self._folded.append(folded)
            self._show_chips()

    def clear(self) -> None:
        """Empty it, files too; the text that was set aside comes back."""
        self.attachments.clear()
        self.fill(self.area.set_aside, self.attachments)

    def begin_editing(self, text: str) -> None:
        """Show a question that is being edited."""
        self.write(text)
        self.border_title = _("Edit and resend · Esc cancel")
        self.add_class("editing")

    def show_fork(self, forks: bool) -> None:
        """Show whether the next question begins a branch."""
        self.set_class(forks, "forking")
        if not self.has_class("editing"):
            self.border_title = _("New branch · Esc cancel") if forks else ""

    def end_editing(self, text: str) -> None:
        """Show other words, which are no question being edited."""
        self.write(text)
        self.border_title = ""
        self.remove_class("editing")

    def attach(self, paths: Sequence[Path]) -> None:
        """Add text files as chips; other files are refused by a message."""
        self.run_worker(self._read(list(paths), self.attachments), group="attach", exit_on_error=False)

    def show_tokens(self, tokens: dict[str, int]) -> None:
        """Show how many tokens files take, by their digest."""
        self._tokens = tokens
        self._show_chips()

    def action_detach(self, index: int) -> None:
        """Take a file away."""
        del self.attachments[index]
        self._show_chips()
        self.post_message(self.Edited())

    def action_unfold(self, index: int = -1) -> None:
        """Open a folded paste: it becomes text like all other."""
        if self._folded:
            text, area = self._folded.pop(index), self.area
            area.move_cursor(area.document.end)
            area.insert(f"\n\n{text}" if area.text else text)
            self._show_chips()

    def action_drop(self, index: int) -> None:
        """Take a folded paste away."""
        del self._folded[index]
        self._show_chips()
        self.post_message(self.Edited())

    @on(events.Click)
    async def act_on_chip(self, event: events.Click) -> None:
        """Do what the clicked part of a chip does."""
        if action := event.style.meta.get("chip"):
            await self.run_action(str(action))

    @on(PromptArea.LongPaste)
    def fold_paste(self, event: PromptArea.LongPaste) -> None:
        """Show a long paste as a chip."""
        self._folded.append(event.text)
        self._show_chips()
        self.post_message(self.Edited())

    @on(PromptArea.Sent)
    def submit(self) -> None:
        """Take the suggestion that Enter means, or send, unless there is nothing to send."""
        completion = self.suggestions.current
        if completion and (self.suggestions.walked or not completion.is_offer):
            self._take(completion)
            if completion.text.endswith((" ", "/")):
                return
        if self.is_taken and (self.text.strip() or self.attachments):
            self.is_taken = False
            self.post_message(self.Submitted(self.text.strip("\n"), tuple(self.attachments)))

    @on(PromptArea.FilesGiven)
    def attach_given_files(self, event: PromptArea.FilesGiven) -> None:
        """Add the files."""
        self.attach(event.paths)

    @property
    def suggestions(self) -> Suggestions:
        """The list above the text."""
        return self.query_one(Suggestions)

    def suggest(self, completions: Sequence[Completion], words: str = "") -> None:
        """Show what the text may become, else words about it; nothing hides the list."""
        if completions or words or self.suggestions.has_class("shown"):
            self.suggestions.show(completions, words)
        self.area.is_suggesting = bool(completions)

    @on(PromptArea.Walked)
    def walk_suggestions(self, event: PromptArea.Walked) -> None:
        """Go to another suggestion."""
        self.suggestions.walk(event.step)

    @on(PromptArea.Completed)
    def take_suggestion(self) -> None:
        """Take the highlighted suggestion."""
        if completion := self.suggestions.current:
            self._take(completion)

    @on(Suggestions.Taken)
    def take_clicked_suggestion(self, event: Suggestions.Taken) -> None:
        """Take the suggestion that was clicked."""
        self._take(event.completion)

    @on(TextArea.Changed)
    def report_edit(self) -> None:
        """Report that the text changed."""
        self.post_message(self.Edited())

    def _take(self, completion: Completion) -> None:
        self.suggest(())
        self.write(completion.text)

    async def _read(self, paths: list[Path], attachments: list[Attachment]) -> None:
        for path in paths:
            try:
                file = await asyncio.to_thread(files.read, expand_home(path))
            except FileError as error:
                self.post_message(self.Refused(error))
            else:
                attachment = Attachment(file.name, "text/plain", file.text.encode())
                if attachment not in attachments:
                    attachments.append(attachment)
                self._show_chips()
                self.post_message(self.Edited())

    def _show_chips(self) -> None:
        parts: list[Content] = []
        for index, attachment in enumerate(self.attachments):
            count = self._tokens.get(attachment.digest)
            size = (
                ngettext("{count:,} byte", "{count:,} bytes", len(attachment.data)).format(count=len(attachment.data))
                if count is None
                else ngettext("{count:,} token", "{count:,} tokens", count).format(count=count)
            )
            parts += _chip(f"{clean_line(attachment.name, 40)} · {size}", "", f"detach({index})")
        for index, text in enumerate(self._folded):
            count = text.count("\n") + 1
            words = ngettext("{count:,} pasted line", "{count:,} pasted lines", count).format(count=count)
            opens = _("{key} open").format(key=self.open_key) if self.open_key else ""
            parts += _chip(" · ".join(filter(None, (f"▸ {words}", opens))), f"unfold({index})", f"drop({index})")
        view = self.query_one("#chips", Static)
        view.update(Content.assemble(*parts))
        view.set_class(bool(parts), "shown")
        view.tooltip = _("✕ remove") if parts else None


def _divided(text: str) -> tuple[str, str]:
    """Return what of a text is shown and what is folded: all behind a short first paragraph, if that is long."""
    beginning, _blank, rest = text.partition("\n\n")
    if beginning.count("\n") > _LONGEST_BEGINNING:
        beginning, rest = "", text
    return (beginning, clean(rest)) if rest.count("\n") > _LONGEST_PASTE else (text, "")


def _chip(words: str, action: str, close: str) -> list[Content]:
    """Return a chip: a click on its words carries out an action, one on its cross takes it away."""
    style = "$foreground on $panel"
    label, cross = Content.styled(f" {words} ", style), Content.styled("✕ ", style)
    return [
        label.stylize(Style.from_meta({"chip": action})),
        cross.stylize(Style.from_meta({"chip": close})),
        Content(" "),
    ]


def dropped_path(word: str) -> Path:
    """Return the path that a terminal writes for a dropped file, which may be an address."""
    return Path(unquote(urlsplit(word).path) if word.startswith("file://") else word)


def paths_in(pasted: str) -> list[Path]:
    """Return the files that a paste consists of, as terminals write dropped ones; nothing for any other text."""
    if not pasted.strip() or len(pasted) > _LONGEST_PATHS or "\0" in pasted:
        return []
    try:
        words = shlex.split(pasted)
    except ValueError:
        return []
    paths = [dropped_path(word) for word in words]
    try:
        whole = all(path.is_absolute() and path.is_file() for path in paths)
    except OSError:
        return []
    return paths if 0 < len(paths) <= _MOST_PATHS and whole else []
