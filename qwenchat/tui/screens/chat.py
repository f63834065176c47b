"""The chat: sessions on the left; on the right header, transcript, notice, prompt and the line of numbers.

Nothing here blocks: the store is read in threads, and tokens are counted a moment after the last key.
"""

import asyncio
import shlex
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingsMap
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import Input, Static

from qwenchat.chat.sampling import Sampling
from qwenchat.errors import QwenchatError, WrongUse
from qwenchat.i18n import _, ngettext
from qwenchat.program import Program
from qwenchat.sessions.search import Found
from qwenchat.sessions.shelf import Listed
from qwenchat.tui import slash
from qwenchat.tui.actions import Action, Where, bindings
from qwenchat.tui.chats import EngineFactory
from qwenchat.tui.screens import open as screens
from qwenchat.tui.screens.conversation import void
from qwenchat.tui.screens.message_actions import MessageActions
from qwenchat.tui.screens.session_actions import SessionActions
from qwenchat.tui.transcript.view import Transcript
from qwenchat.tui.widgets.gauge import Gauge
from qwenchat.tui.widgets.notice import Notice
from qwenchat.tui.widgets.prompt import Prompt
from qwenchat.tui.widgets.sidebar import Sidebar

_DRAFT_AFTER_S = 0.8
_COUNT_AFTER_S = 0.25
_NARROW = 76
"""Columns below which the sidebar hides itself."""
_LOW = 16
"""Rows below which frames and the empty chat's words go."""


class ChatScreen(MessageActions, SessionActions):
    """The screen that stays."""

    CSS_PATH = "chat.tcss"
    AUTO_FOCUS = "PromptArea"

    def __init__(
        self,
        program: Program,
        actions: tuple[Action, ...],
        *,
        session: str = "",
        new_engine: EngineFactory | None = None,
    ) -> None:
        super().__init__(program, new_engine)
        self.actions = actions
        self._first = session
        self._draft_timer: Timer | None = None
        self._count_timer: Timer | None = None
        self._warmed = ""
        """The model that was loaded because a person began to write."""
        self._bindings = BindingsMap.merge([self._bindings, bindings(actions, Where.ANYWHERE)])

    def compose(self) -> ComposeResult:
        """Lay out the parts."""
        with Horizontal():
            yield Sidebar(self._newest, self._search, id="sidebar")
            with Vertical(id="chat"):
                yield Static(id="header", markup=False)
                yield Transcript(id="transcript")
                yield Static(_welcome(), id="empty", markup=False)
                yield Input(placeholder=_("Find in this chat"), id="find", compact=True)
                yield Notice(id="notice")
                yield Prompt(id="prompt")
                yield Gauge(id="gauge")

    def on_mount(self) -> None:
        """Bind the keys of the parts, show the chat, then read the disk."""
        for part, where in ((self.transcript, Where.MESSAGE), (self.sidebar.list, Where.LIST)):
            part._bindings = BindingsMap.merge([part._bindings, bindings(self.actions, where)])
        self.gauge.hint = _("F1 help · Ctrl+P commands")
        self.set_class(self.size.width >= _NARROW, "sidebar")
        self.show_header()
        self.attempt(self._start())

    async def _start(self) -> None:
        await self.chats.recover()
        self.sidebar.reload()
        if self._first:
            await self.open_session(self._first)
        if not self.session.model:
            await self._begin_with_a_model()

    async def _begin_with_a_model(self) -> None:
        """Take the model that is here; welcome a person who has none."""
        usual = await asyncio.to_thread(self.program.usual_model)
        if not usual:
            self.choose_first_model()
        elif not self.session.model:
            self.session = await self.chats.change(self.session.id, model=usual)
            self.show_header()

    def on_resize(self, event: events.Resize) -> None:
        """Hide what there is no room for."""
        narrow = event.size.width < _NARROW
        if narrow != self.has_class("narrow"):
            self.set_class(narrow, "narrow")
            self.set_class(not narrow, "sidebar")
        self.set_class(event.size.height < _LOW, "low")
        self.set_class(event.size.width < 40, "thin")

    async def leave(self) -> None:
        """Keep the draft, stop what runs and end the engine."""
        try:
            await self.save_draft()
        finally:
            if "downloads" in self.__dict__:
                self.downloads.close()
            await self.chats.close()

    # Asking

    @on(Prompt.Submitted)
    def submit(self, event: Prompt.Submitted) -> None:
        """Do a command, or ask."""
        meant = slash.parse(event.text)
        match meant:
            case slash.Unknown(name):
                self.tell_error(
                    WrongUse(
                        _("There is no command /{name}; nothing was sent.").format(name=name),
                        _("F1 shows all commands. A message that begins with / is written with //."),
                    )
                )
            case slash.Command():
                self.prompt.write("")
                self._command(meant)
            case slash.Say(text):
                self._ask(text, event)

    def _ask(self, text: str, event: Prompt.Submitted) -> None:
        if not (self.session.model or self.program.settings.model.default):
            self.choose_first_model()
            return
        question, self.editing = self.editing, None
        self.prompt.clear()
        self.leave_editing()
        self.prompt.area.earlier.append(text)
        if question:
            self.attempt(self._edit(question.id, text), "ask")
        else:
            self.attempt(self._send(text, event), "ask")

    async def _send(self, text: str, event: Prompt.Submitted) -> None:
        session_id = self.session.id
        try:
            question = await self.chats.send(session_id, text, event.attachments)
        except QwenchatError:
            self.prompt.write(text)
            raise
        if session_id == self.session.id:
            if self.branched:
                self.branched = False
                await self.reread()
            else:
                self.transcript.add(question)
            self.transcript.follow()
        if self.session.draft:
            await self.chats.change(session_id, draft="")
        if session_id == self.session.id:
            self.session = await self.chats.labels(session_id)
            self.show_header()
        self.sidebar.reload()

    async def _edit(self, question_id: str, text: str) -> None:
        question = next(message for message in self.transcript.messages if message.id == question_id)
        try:
            await self.chats.edit(question, text)
        except QwenchatError:
            self.prompt.write(text)
            raise
        await self.reread()
        self.transcript.follow()

    def choose_first_model(self) -> None:
        """Welcome a person who has no model yet; what is in the prompt stays."""

        def chosen(reference: str | None) -> None:
            if reference:
                self.use_model(reference)

        self.ask(screens.welcome(self.program, self.downloads), chosen)

    # Drafts, counts, files

    @on(Prompt.Edited)
    def note_edit(self) -> None:
        """Keep the draft and count tokens a moment after the last key."""
        if self._draft_timer:
            self._draft_timer.stop()
        self._draft_timer = self.set_timer(_DRAFT_AFTER_S, lambda: self.attempt(self.save_draft(), "draft"))
        self.recount()
        self._warm()

    def _warm(self) -> None:
        """Load the model while the first question is being written."""
        model, text = self.session.model, self.prompt.text
        begun = bool(text.strip()) and not text.startswith("/") and text != self.session.draft
        if begun and model and model != self._warmed and not self.queue.running and not self.chats.loaded(self.session):
            self._warmed = model
            self.attempt(self.chats.load(self.session), "warm")

    async def save_draft(self) -> None:
        """Keep what stands in the prompt with its session, if that changed."""
        text = "" if self.editing else self.prompt.text
        if text == self.session.draft or (self.chats.is_new(self.session.id) and not text.strip()):
            return
        self.session = replace(self.session, draft=text)
        await self.chats.change(self.session.id, draft=text)

    def recount(self) -> None:
        """Count tokens a moment after the last key."""
        if self._count_timer:
            self._count_timer.stop()
        self._count_timer = self.set_timer(_COUNT_AFTER_S, lambda: self.attempt(self._count(), "count", alone=True))

    async def _count(self) -> None:
        branch = self.transcript.messages
        attachments = self.prompt.attachments
        text = "" if self.prompt.text.startswith("/") else self.prompt.text
        if self.editing:
            at = [message.id for message in branch].index(self.editing.id)
            branch, attachments = branch[:at], self.editing.attachments
        fill = await self.chats.count(self.session, branch, text, attachments)
        self.gauge.fill = fill
        if fill and not fill.too_long and not self.editing:
            self.transcript.show_boundary(fill.first_seen)
        if attachments:
            counts = {one.digest: await self.chats.count_file(one) for one in attachments}
            self.prompt.show_tokens({digest: count for digest, count in counts.items() if count is not None})

    @on(Prompt.Refused)
    def refuse_file(self, event: Prompt.Refused) -> None:
        """Say why a file can't be added."""
        self.tell_error(event.error)

    def action_editor(self) -> None:
        """Write the question in the person's own editor."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "question.md"
            file.write_text(self.prompt.text, "utf-8")
            command = shlex.split(self.program.environ.get("VISUAL") or self.program.environ.get("EDITOR") or "vi")
            try:
                with self.app.suspend():
                    subprocess.run([*command, file], check=False)
                self.prompt.write(file.read_text("utf-8", errors="replace").rstrip("\n"))
            except OSError as error:
                self.tell_error(
                    WrongUse(
                        _("The editor {name} can't be started: {reason}.").format(
                            name=command[0], reason=error.strerror
                        ),
                        _("Set EDITOR to one that can."),
                    )
                )

    # Moving about

    async def action_escape(self) -> None:
        """Close the search, stop the answer, or go back to the prompt."""
        if self.has_class("finding"):
            self._end_finding()
        elif self.query_one("#session-search").has_focus and self.sidebar.clear_search():
            pass
        elif self.editing:
            self.leave_editing()
            self.prompt.clear()
        elif self.answering:
            await self.chats.stop(self.session.id)
        elif self.transcript.selected:
            self.transcript.select(None)
            self.prompt.area.focus()
        else:
            self.prompt.area.focus()

    async def action_interrupt(self) -> None:
        """Copy what is selected, else stop the answer, else say how to leave."""
        if text := self.prompt.area.selected_text or self.get_selected_text():
            self.copy_text(text)
        elif self.answering:
            await self.chats.stop(self.session.id)
        else:
            self.tell(_("Ctrl+Q ends the program."))

    def action_messages(self) -> None:
        """Go to the messages, or back to the prompt."""
        if self.transcript.has_focus:
            self.prompt.area.focus()
        else:
            self.transcript.focus()
            if self.transcript.selected is None:
                self.transcript.select_next(-1)

    def action_sidebar(self) -> None:
        """Show the list of chats and go there, or hide it."""
        self.toggle_class("sidebar")
        if self.has_class("sidebar"):
            self.sidebar.list.focus()
        else:
            self.prompt.area.focus()

    def action_search(self) -> None:
        """Search all chats."""
        self.add_class("sidebar")
        self.sidebar.focus_search()

    def action_find(self) -> None:
        """Find words in this chat."""
        self.add_class("finding")
        self.query_one("#find", Input).focus()

    @on(Input.Changed, "#find")
    def find_typed(self, event: Input.Changed) -> None:
        """Mark words as they are typed."""
        self.transcript.find(event.value)

    @on(Input.Submitted, "#find")
    def find_next(self) -> None:
        """Go to the match before."""
        self.transcript.find_next(-1)

    @on(Transcript.Found)
    def show_found(self, event: Transcript.Found) -> None:
        """Say where the search stands."""
        self.query_one("#find", Input).border_subtitle = f"{event.message}/{event.messages}"
        self.gauge.activity = _("{number} of {count} messages · Enter: the one before · Esc: end").format(
            number=event.message, count=event.messages
        )

    def _end_finding(self) -> None:
        self.remove_class("finding")
        self.query_one("#find", Input).value = ""
        self.transcript.find("")
        self.gauge.activity = ""
        self.prompt.area.focus()

    # Other screens

    def action_help(self) -> None:
        """Show all keys and commands."""
        self.ask(screens.help_for(self.actions, self.program.settings.keys, slash.commands()), void)

    def action_settings(self) -> None:
        """Change the settings."""
        self.ask(screens.settings(self.program), lambda changed: self._use_settings() if changed else None)

    def _use_settings(self) -> None:
        """Follow the changed settings; language and keys follow at the next start."""
        self.program.reread_settings()
        self.show_header()
        self.tell(_("Language, theme and keys change at the next start; all else from now on."))

    def action_themes(self) -> None:
        """Choose a theme."""
        self.app.action_change_theme()

    def action_stats(self) -> None:
        """Say how many tokens this chat took, and how fast it was."""
        answers = [message for message in self.transcript.messages if message.usage]
        tokens = sum(message.usage.completion_tokens for message in answers if message.usage)
        speeds = [message.timings.decode_tps for message in answers if message.timings and message.timings.decode_tps]
        words = [
            ngettext("{count:,} message", "{count:,} messages", len(self.transcript.column)).format(
                count=len(self.transcript.column)
            ),
            ngettext("{count:,} token answered", "{count:,} tokens answered", tokens).format(count=tokens),
        ]
        if speeds:
            words.append(_("{speed:.1f} tokens/s").format(speed=sum(speeds) / len(speeds)))
        if info := self.chats.info:
            words.append(_("{name}, context window {n_ctx:,}").format(name=info.name, n_ctx=info.n_ctx))
        self.tell(" · ".join(words))

    def action_suspend(self) -> None:
        """Put the program into the background."""
        self.app.action_suspend_process()

    async def action_quit(self) -> None:
        """End the program; everything is kept."""
        await self.app.action_quit()

    # Slash commands

    def _command(self, command: slash.Command) -> None:
        rest = command.rest
        match command.name:
            case "new" if rest.lower() in ("private", "-p"):
                self.action_new_private()
            case "model" if rest:
                self.use_model(rest)
            case "model":
                self.action_models()
            case "system" if rest:
                self.attempt(self._change(replace(self.session, system=rest)))
            case "system":
                self.action_session_settings()
            case "set" if rest:
                self._set(rest)
            case "set":
                self.action_session_settings()
            case "attach" if rest:
                self.prompt.attach([Path(rest.strip("\"'"))])
            case "attach":
                self.tell_error(WrongUse(_("No file is named."), _("Write /attach and a path, or drop a file here.")))
            case "find":
                self.action_find()
                self.query_one("#find", Input).value = rest
            case name:
                self.run_worker(self.run_action(f"screen.{name}"))

    def _set(self, words: str) -> None:
        """Set one sampling parameter of this chat, such as `temperature 0.7`; without a value it follows the model."""
        name, _space, value = words.removeprefix("parameter ").replace("=", " ").partition(" ")
        name = name.replace("-", "_")
        kinds = {"top_k": int, "seed": int, "max_tokens": int}
        known = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed", "max_tokens")
        try:
            if name not in known:
                raise WrongUse(
                    _("There is no parameter {name}.").format(name=name),
                    _("There are: {names}.").format(names=", ".join(known)),
                )
            number = kinds.get(name, float)(value) if value.strip() else None
            wished: dict[str, Any] = {name: number}
            sampling: Sampling = replace(self.session.sampling, **wished).check()
        except ValueError:
            self.tell_error(WrongUse(_("{value} is no number.").format(value=value), _("Write /set temperature 0.7.")))
        except WrongUse as error:
            self.tell_error(error)
        else:
            self.attempt(self._change(replace(self.session, sampling=sampling)))
            self.tell(_("{name}: {value}").format(name=name, value=_("the model's own") if number is None else number))

    # What the sidebar reads; in threads

    def _newest(self, limit: int, offset: int) -> list[Listed]:
        return self.program.store.shelf.newest(limit, offset)

    def _search(self, typed: str) -> Found:
        return self.program.store.search.find(typed)


def _welcome() -> str:
    """Return the words of an empty chat."""
    lines = (
        _("Ask anything. Everything stays on this machine."),
        "",
        _("Enter sends · Ctrl+J new line · / commands"),
        _("Ctrl+O models · Ctrl+B chats · F1 help"),
    )
    return "\n".join(lines)
