"""Where a question is written: many lines, earlier questions, files as chips, slash commands as they are typed."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec import Struct
from rich.cells import cell_len
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message as Event
from textual.widgets import TextArea
from textual.widgets.text_area import Location

from qwenchat.chat.message import Attachment
from qwenchat.i18n import _
from qwenchat.text.safe import clean, joined
from qwenchat.tui.attached import Attached
from qwenchat.tui.completions import Completion
from qwenchat.tui.widgets.chips import Chips
from qwenchat.tui.widgets.fields import AreaField
from qwenchat.tui.widgets.suggestions import Suggestions

_MOST_PATHS = 20
_LONGEST_PATHS = 4000
_LONGEST_PASTE = 100
"""Line breaks up to which a paste is shown in the text."""


_LONGEST_BEGINNING = 10
"""Line breaks up to which a question that stands before a long paste is shown."""
_BEGUN_PATH = re.compile(r'@(?:"([^"]*)|([^\s@"]*))$')
"""An `@` with the beginning of a path before the caret; in quotes it may have spaces."""
_BEFORE_PATH = "([{<\"'“‘"
"""What may stand before that `@`, beside white space and whatever is as wide as a Chinese character."""


class BegunPath(Struct, frozen=True):
    """An `@` with what is typed behind it."""

    start: Location
    """Of the `@`."""
    end: Location
    typed: str


class PromptArea(AreaField):
    """The text itself. Its keys beside those of a text area are in `tui.actions`."""

    class Sent(Event):
        """Enter was pressed."""

    @dataclass(eq=False, repr=False)
    class FilesGiven(Event):
        """Paths of files were pasted or dropped."""

        paths: list[Path]

    @dataclass(eq=False, repr=False)
    class Walked(Event):
        """An arrow was pressed while the list of suggestions is shown."""

        step: int

    class Completed(Event):
        """Tab was pressed while the list of suggestions is shown."""

    @dataclass(eq=False, repr=False)
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

    @property
    def begun_path(self) -> BegunPath | None:
        """The path that is typed before the caret; None where there is no `@`, or it stands in a word or a command."""
        row, column = self.cursor_location
        before = self.document[row][:column]
        found = _BEGUN_PATH.search(before)
        is_command = self.text.startswith("/") and "\n" not in self.text
        if not found or is_command or not self.selection.is_empty:
            return None
        last = before[: found.start()][-1:]
        if last and not (last.isspace() or last in _BEFORE_PATH or cell_len(last) > 1):
            return None
        return BegunPath((row, found.start()), (row, column), found[1] or found[2] or "")

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
        """Attach pasted paths, except behind a command; insert all other text clean, folded where it is long."""
        event.stop()
        event.prevent_default()
        if not self.text.startswith("/") and (paths := paths_in(event.text)):
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


class Prompt(Vertical):
    """The prompt with its chips and suggestions."""

    @dataclass(eq=False, repr=False)
    class Submitted(Event):
        """The user sends a question or a slash command."""

        text: str
        attachments: tuple[Attachment, ...]

    class Edited(Event):
        """The text or the files changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.chips = Chips(id="chips")
        self.attached: list[Attached] = []
        """Changed in place: a file that is still being read finds its chat by it."""
        self._folded: list[str] = []
        """Long pastes, which are shown as chips and come behind the text."""
        self.is_taken = True
        """Whether what was sent last has been taken; until then Enter would only send it again."""
        self._listed_for: BegunPath | None = None
        """The begun path that the suggestions are for."""
        self._closed_at: Location | None = None
        """The `@` whose suggestions the user closed."""
        self._closed_text: str | None = None
        """The text whose suggestions the user closed."""
        self._takes_next = False
        """Whether the user chose the first suggestion before it was shown."""

    def compose(self) -> ComposeResult:
        """Lay out chips and text."""
        yield self.chips
        yield PromptArea()

    @property
    def area(self) -> PromptArea:
        """The text widget."""
        return self.query_one(PromptArea)

    @property
    def attachments(self) -> list[Attachment]:
        """The documents that go with the question, as far as they are read."""
        return [document for each in self.attached for document in each.attachments]

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
        self.show_chips()

    def fill(self, text: str, attached: list[Attached]) -> None:
        """Show another text and another chat's files; a text as long as a paste that folds is folded."""
        self.attached = attached
        beginning, folded = _divided(text)
        self.write(beginning)
        if folded:
            self._folded.append(folded)
            self.show_chips()

    def clear(self) -> None:
        """Empty it, files too; the text that was set aside comes back."""
        self.attached.clear()
        self.fill(self.area.set_aside, self.attached)

    def begin_editing(self, text: str, attached: list[Attached]) -> None:
        """Show a question that is being edited, with its files."""
        self.attached = attached
        self.write(text)
        self.border_title = _("Edit and resend · Esc cancel")
        self.add_class("editing")

    def show_fork(self, forks: bool) -> None:
        """Show whether the next question begins a branch."""
        self.set_class(forks, "forking")
        title = _("New branch · Esc cancel") if forks else ""
        if not self.has_class("editing") and title != self.border_title:  # to set it draws the prompt
            self.border_title = title

    def end_editing(self, text: str, attached: list[Attached]) -> None:
        """Show other words and files, which are no question being edited."""
        self.attached = attached
        self.write(text)
        self.border_title = ""
        self.remove_class("editing")

    def attach(self, paths: Sequence[Path]) -> None:
        """Ask for files and folders to be attached."""
        self.post_message(PromptArea.FilesGiven(list(paths)))

    def show_chips(self) -> None:
        """Show what is attached and folded as it is now."""
        self.chips.show([*self.attached, *self._folded])

    def action_unfold(self, index: int = -1) -> None:
        """Open a folded paste: it becomes text like all other."""
        if self._folded:
            text, area = self._folded.pop(index), self.area
            area.move_cursor(area.document.end)
            area.insert(f"\n\n{text}" if area.text else text)
            self.show_chips()

    @on(Chips.Wished)
    def act_on_paste(self, event: Chips.Wished) -> None:
        """Open a folded paste, or take it away; what is done with files is decided elsewhere."""
        if not isinstance(event.chip, str):
            return
        event.stop()
        if event.wish == "open":
            self.action_unfold(self._folded.index(event.chip))
            self.area.focus()
        elif event.wish == "remove":
            self._folded.remove(event.chip)
            self.show_chips()
            self.post_message(self.Edited())

    @on(PromptArea.LongPaste)
    def fold_paste(self, event: PromptArea.LongPaste) -> None:
        """Show a long paste as a chip."""
        self._folded.append(event.text)
        self.show_chips()
        self.post_message(self.Edited())

    @on(PromptArea.Sent)
    def submit(self) -> None:
        """Take the suggestion that Enter means, or send, unless there is nothing to send."""
        begun = self.begun_path
        if begun and begun.typed and begun != self._listed_for:
            self._takes_next = True
            return
        completion = self.suggestions.current
        if completion and (self.suggestions.walked or not completion.is_offer):
            self._take(completion)
            if completion.path or completion.text.endswith((" ", "/")):
                return
        if self.is_taken and (self.text.strip() or self.attached):
            self.is_taken = False
            self.post_message(self.Submitted(self.text.strip("\n"), tuple(self.attachments)))

    @cached_property
    def suggestions(self) -> Suggestions:
        """The list above the chips, made when it is first needed: the first frame is drawn without it."""
        made = Suggestions(id="suggestions")
        _mounting = self.mount(made, before=self.chips)
        return made

    @property
    def begun_path(self) -> BegunPath | None:
        """The path that is typed; None where its suggestions were closed."""
        begun = self.area.begun_path
        return begun if begun and begun.start != self._closed_at else None

    @property
    def has_closed_suggestions(self) -> bool:
        """Whether the user closed the suggestions for what is written now, so that no later ones are shown."""
        return self._closed_text == self.text

    def suggest(self, completions: Sequence[Completion], words: str = "") -> None:
        """Show what the text may become, else words about it; nothing hides the list."""
        if completions or words or self.suggestions.has_class("shown"):
            self.suggestions.show(completions, words)
        self.area.is_suggesting = bool(completions)
        self._listed_for = None

    def suggest_paths(self, begun: BegunPath, found: Sequence[Completion], words: str, *, is_final: bool) -> None:
        """Show what a begun path may stand for, else words, if it is still what is typed."""
        if begun != self.begun_path:
            return
        self.suggest(found, words)
        self._listed_for = begun if found or is_final else None
        if self._takes_next and is_final:
            self._takes_next = False
            self.take_suggestion()

    def close_suggestions(self) -> None:
        """Hide the list; the text stays as it is, and an `@` in it opens no other."""
        begun = self.begun_path
        self._closed_at = begun.start if begun else None
        self._closed_text = self.text
        self.suggest(())

    @on(PromptArea.Walked)
    def walk_suggestions(self, event: PromptArea.Walked) -> None:
        """Go to another suggestion."""
        self.suggestions.walk(event.step)

    @on(PromptArea.Left)
    def wait_for_paths(self, event: PromptArea.Left) -> None:
        """Stay where Tab was pressed before the paths were listed."""
        begun = self.begun_path
        if begun and begun.typed and begun != self._listed_for:
            self._takes_next = True
            event.stop()

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
        self._takes_next = False
        begun = self.area.begun_path
        if not begun or begun.start != self._closed_at:
            self._closed_at = None
        self.post_message(self.Edited())

    @on(TextArea.SelectionChanged)
    def leave_path(self) -> None:
        """Hide the paths when the caret has left the one that is typed."""
        if self._listed_for and self._listed_for != self.begun_path:
            self.suggest(())

    def _take(self, completion: Completion) -> None:
        begun = self._listed_for
        self.suggest(())
        if not completion.path:
            self.write(completion.text)
        elif begun and begun == self.begun_path:
            self.area.replace("", begun.start, begun.end, maintain_selection_offset=False)
            self.area.move_cursor(begun.start)
            self.attach([completion.path])


def _divided(text: str) -> tuple[str, str]:
    """Return what of a text is shown and what is folded: all behind a short first paragraph, if that is long."""
    beginning, _blank, rest = text.partition("\n\n")
    if beginning.count("\n") > _LONGEST_BEGINNING:
        beginning, rest = "", text
    return (beginning, clean(rest)) if rest.count("\n") > _LONGEST_PASTE else (text, "")


def dropped_path(word: str) -> Path:
    """Return the path that a terminal writes for a dropped file, which may be an address."""
    return Path(unquote(urlsplit(word).path) if word.startswith("file://") else word)


def paths_in(pasted: str) -> list[Path]:
    """Return the files and folders that a paste consists of, as terminals write dropped ones; else nothing."""
    if not pasted.strip() or len(pasted) > _LONGEST_PATHS or "\0" in pasted:
        return []
    try:
        words = shlex.split(pasted)
    except ValueError:
        return []
    paths = [dropped_path(word) for word in words]
    try:
        whole = all(path.is_absolute() and path.parent != path and path.exists() for path in paths)
    except OSError:
        return []
    return paths if 0 < len(paths) <= _MOST_PATHS and whole else []
