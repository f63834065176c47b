"""The chat screen: it composes widgets, makes the controllers, and routes messages and actions to them.

What can be done is in `tui.controllers`, and so is the drawing of the open session. Nothing here blocks: the store is
read in threads.
"""

import asyncio
import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.geometry import Size
from textual.message import Message as Event
from textual.widgets import Button, Input, Static

from qwenchat.chat.message import Role
from qwenchat.chat.session import Session
from qwenchat.i18n import _
from qwenchat.runtime.events import BugFound, ChatEvent
from qwenchat.runtime.program import Program
from qwenchat.tui import slash_commands
from qwenchat.tui.actions import MENU_BUTTON, Action, Method, Where, bindings
from qwenchat.tui.attached import Attached
from qwenchat.tui.controllers.asking import AskController
from qwenchat.tui.controllers.attaching import AttachController
from qwenchat.tui.controllers.commands import CommandController
from qwenchat.tui.controllers.compacting import CompactController
from qwenchat.tui.controllers.comparing import CompareController
from qwenchat.tui.controllers.consent import ConsentController
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.documents import DocumentController
from qwenchat.tui.controllers.downloads import DownloadController
from qwenchat.tui.controllers.drafts import DraftController
from qwenchat.tui.controllers.engines import EngineController
from qwenchat.tui.controllers.find import FindController
from qwenchat.tui.controllers.focus import FocusController
from qwenchat.tui.controllers.menus import MenuController
from qwenchat.tui.controllers.message_actions import MessageActions
from qwenchat.tui.controllers.navigation import NavigationController
from qwenchat.tui.controllers.pages import PageController
from qwenchat.tui.controllers.path_picker import PathPicker
from qwenchat.tui.controllers.program_actions import ProgramActions
from qwenchat.tui.controllers.session_actions import SessionActions
from qwenchat.tui.controllers.streaming import StreamingController
from qwenchat.tui.controllers.token_counts import TokenCountController
from qwenchat.tui.controllers.tools import ToolController
from qwenchat.tui.controllers.undo import UndoController
from qwenchat.tui.controllers.view_drawer import ViewDrawer, empty_words
from qwenchat.tui.session_view import ViewChange
from qwenchat.tui.textual_private.drawing import QuickScreen
from qwenchat.tui.textual_private.widgets import EndsItsWork, add_bindings
from qwenchat.tui.transcript.column import layout_class
from qwenchat.tui.transcript.drawing import Look
from qwenchat.tui.transcript.transcript import Transcript
from qwenchat.tui.waiting_words import notice_of
from qwenchat.tui.widgets.chips import Chips
from qwenchat.tui.widgets.footer import KeyFooter
from qwenchat.tui.widgets.gauge import Gauge
from qwenchat.tui.widgets.header import ChatHeader
from qwenchat.tui.widgets.notice import Notice
from qwenchat.tui.widgets.prompt import Prompt, PromptArea
from qwenchat.tui.widgets.sidebar import Sidebar

if TYPE_CHECKING:
    from qwenchat.runtime.downloads import Download
    from qwenchat.runtime.model_manager import EngineFactory
    from qwenchat.sessions.listing import ListedSession
    from qwenchat.sessions.search import SearchResults

_STORING_S = 10.0
"""Seconds that leaving waits for a question to be stored."""

_LONG = 1000
"""Messages of a chat that is kept out of garbage collections."""
_NARROW = 90
"""Columns below which the sidebar hides itself."""
_THIN = 40
_LOW = 16
"""Rows below which frames and the empty chat's words go."""


class ChatScreen(QuickScreen[None], EndsItsWork):
    """The screen that stays. Its style sheet is the program's; what comes after the first frame brings its own."""

    AUTO_FOCUS = "PromptArea"

    @dataclass(eq=False, repr=False)
    class ChatEventReported(Event):
        """The runtime reports something about a session or the model."""

        event: ChatEvent

    @dataclass(eq=False, repr=False)
    class DownloadChanged(Event):
        """A download made progress, ended or failed."""

        download: "Download"

    def __init__(
        self,
        program: Program,
        actions: tuple[Action, ...],
        *,
        session: str = "",
        model: str = "",
        new_engine: "EngineFactory | None" = None,
    ) -> None:
        super().__init__()
        self.program, self.actions = program, actions
        self._first_session, self._first_model = session, model
        self.header = ChatHeader(id="header")
        look = Look(timestamps=program.settings.timestamps, call_since=lambda: self.context.chats.call_since)
        self.transcript = Transcript(look, id="transcript")
        self.prompt = Prompt(id="prompt")
        self.notice = Notice(above=self.prompt, id="notice")
        self.gauge = Gauge(id="gauge")
        self.empty = Static(empty_words(""), id="empty", markup=False)
        self.footer = KeyFooter(id="footer")
        self.sidebar = Sidebar(self._newest, self._search, id="sidebar")
        self.context = context = ChatContext(
            self,
            program,
            transcript=self.transcript,
            prompt=self.prompt,
            sidebar=self.sidebar,
            model=model,
            new_engine=new_engine,
            on_event=lambda event: self.post_message(self.ChatEventReported(event)),
            on_download=lambda download: self.post_message(self.DownloadChanged(download)),
        )
        context.open.listen(self._spare_collections)
        self.drafts = DraftController(context)
        self.focusing = FocusController(context, self, actions, self.footer)
        self.drawer = ViewDrawer(
            context,
            self,
            self.focusing,
            header=self.header,
            notice=self.notice,
            gauge=self.gauge,
            empty=self.empty,
        )
        self.counts = TokenCountController(context, self.drafts)
        self.attaching = AttachController(context)
        self.paths = PathPicker(context)
        self.navigation = NavigationController(context, self.focusing, self.drafts)
        self.undo = UndoController(context, self.navigation)
        self.consent = ConsentController(context, self.drafts, use_model=self._use_model)
        self.engines = EngineController(context)
        self.tools = ToolController(context)
        self.session_actions = SessionActions(
            context, self.navigation, self.undo, self.engines, may_send=self.consent.asked
        )
        self.message_actions = MessageActions(context, self.drafts, self.undo, self.get_selected_text)
        self.streaming = StreamingController(context, self.counts, self.drafts)
        self.downloads = DownloadController(context, header=self.header)
        self.find = FindController(context, self, self.focusing, self.navigation, notice=self.notice)
        self.pages = PageController(context, self, actions, self.focusing)
        self.documents = DocumentController(context, show=self.pages.show_document)
        self.menus = MenuController(context, self, actions, self.focusing)
        self.program_actions = ProgramActions(context, self, actions)
        self.asking = AskController(context, self.drafts, self.session_actions, self.undo)
        self.comparing = CompareController(
            context,
            copy=self.message_actions.copy_text,
            run_action=self._run_action_soon,
            may_send=self.consent.asked,
        )
        self.compacting = CompactController(context, self.undo)
        self.commands = CommandController(
            context,
            self.session_actions,
            self.find,
            compare=self.comparing.compare_with,
            run_action=self._run_action_soon,
        )
        self._bind(actions)

    def _spare_collections(self, change: ViewChange) -> None:
        """Keep a long chat out of garbage collections: each would visit all of it, and no key is echoed meanwhile."""
        if change.switched and len(change.after.branch) >= _LONG:
            self.call_after_refresh(_freeze_memory)

    def _use_model(self, reference: str) -> None:
        self.session_actions.use_model(reference)

    def _bind(self, actions: tuple[Action, ...]) -> None:
        """Let each action of the screen be carried out by the controller that has it."""
        controllers = (
            self.navigation,
            self.focusing,
            self.find,
            self.menus,
            self.asking,
            self.comparing,
            self.compacting,
            self.session_actions,
            self.message_actions,
            self.undo,
            self.downloads,
            self.engines,
            self.tools,
            self.pages,
            self.documents,
            self.program_actions,
        )
        methods: dict[str, Method] = {"escape": self.escape, "interrupt": self.interrupt}
        for controller in controllers:
            methods.update(controller.methods)
        staying = {action.id for action in actions if action.stays}
        for name, method in methods.items():
            setattr(self, f"action_{name}", method if name in staying else self.focusing.then_to_prompt(method))
        add_bindings(self, bindings(actions, Where.ANYWHERE))

    # Layout

    def compose(self) -> ComposeResult:
        """Lay out the widgets, with the classes of the first frame: adding one later restyles everything."""
        self.set_class(self.app.size.width >= _NARROW, "sidebar", update=False)
        self.add_class("empty", update=False)
        self._fit(self.app.size, update=False)
        with Vertical():
            with Horizontal(id="parts"):
                yield self.sidebar
                with Vertical(id="chat"):
                    yield self.header
                    yield self.transcript
                    yield self.empty
                    yield self.prompt
                    yield self.gauge
            yield self.footer

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        """Draw the first frame with the styles that all widgets got when they were mounted, a moment ago."""
        if not self.stack_updates:
            event.refresh_styles = False

    def on_mount(self) -> None:
        """Bind the keys of the widgets, show the chat, then read the disk."""
        self.focusing.bind_keys()
        self.transcript.show_names(self.context.names)
        self.call_after_refresh(lambda: self.context.run(self._start()))

    async def _start(self) -> None:
        """Read the disk, once the first frame is shown."""
        await self.context.chats.sessions.recover()
        if self.program.store.is_read_only:
            from qwenchat.storage.read_only import cannot_be_saved  # noqa: PLC0415 - it needs SQLite, the screen does not

            self.context.notify_error(cannot_be_saved(self.program.paths.database))
        self.context.open.relabel(self.session)
        self.sidebar.mark(self.session.id, ())
        self.sidebar.reload()
        if self._first_session:
            await self.navigation.open(self._first_session)
            if self._first_model:
                changed = await self.context.chats.sessions.change(self.session.id, model=self._first_model)
                self.context.open.relabel(changed)
        if not self.session.model:
            await self.asking.find_model()
        await asyncio.to_thread(layout_class)  # before the first question is sent

    def on_resize(self, event: events.Resize) -> None:
        """Hide what there is no room for."""
        if (event.size.width < _NARROW) != self.has_class("narrow"):
            self.set_class(event.size.width >= _NARROW, "sidebar")
        self._fit(event.size)
        self.show_keys()

    def _fit(self, size: Size, *, update: bool = True) -> None:
        self.set_class(size.width < _NARROW, "narrow", update=update)
        self.set_class(size.height < _LOW, "low", update=update)
        self.set_class(size.width < _THIN, "thin", update=update)

    # Keys and the mouse

    @on(events.DescendantFocus)
    def show_keys(self) -> None:
        """Show the keys of the part that has the focus."""
        self.focusing.show_keys()

    @on(events.MouseScrollUp)
    @on(events.MouseScrollDown)
    def scroll_messages(self, event: events.MouseScrollUp | events.MouseScrollDown) -> None:
        """Scroll the messages where nothing under the pointer scrolls."""
        self.focusing.turn_wheel(event)

    @on(events.Click)
    def report_click(self, event: events.Click) -> None:
        """Open a menu with the right button; else go back to the prompt when the messages are clicked."""
        if event.button == MENU_BUTTON:
            self.menus.open_at(event.widget, event.screen_offset)
        else:
            self.focusing.leave_search(event.widget)

    @on(ChatHeader.PartClicked)
    async def run_header_action(self, message: ChatHeader.PartClicked) -> None:
        """Carry out what a part of the header stands for, about the open chat."""
        self.focusing.to_prompt()
        await self.run_action(f"screen.{message.action}")

    @property
    def session(self) -> Session:
        """The session that is open."""
        return self.context.open.session

    # Messages of the runtime

    @on(ChatEventReported)
    async def report_chat_event(self, message: ChatEventReported) -> None:
        """Show an event of the runtime; a bug of it ends the program."""
        if isinstance(message.event, BugFound):
            raise message.event.bug
        await self.context.guard(self.streaming.report(message.event))
        self.consent.report(message.event)
        self.tools.report(message.event)
        self.comparing.report(message.event)
        self.compacting.report(message.event)

    @on(DownloadChanged)
    def report_download(self, message: DownloadChanged) -> None:
        """Show how a download is doing."""
        self.downloads.report(message.download)

    # Messages of the widgets

    @on(Prompt.Submitted)
    def submit_prompt(self, message: Prompt.Submitted) -> None:
        """Carry a command out, or ask a question."""
        self.prompt.is_taken = True
        meant = slash_commands.parse(message.text)
        if isinstance(meant, slash_commands.TextToSend) and (name := self.attaching.is_reading()):
            self.context.notify(_("{name} is still being read; send again when it is.").format(name=name))
        elif isinstance(meant, slash_commands.TextToSend):
            self.asking.submit(meant.text, message.attachments)
        else:
            self.commands.run(meant)

    @on(PromptArea.Left)
    def go_up(self) -> None:
        """Move the focus to the files above the text, else to the buttons above the prompt, if any."""
        above = self.prompt.chips if self.prompt.chips.selected else next(iter(self.notice.query(Button)), None)
        if above:
            self.set_focus(above)

    @on(Prompt.Edited)
    def follow_prompt(self) -> None:
        """Suggest commands; a moment after the last key save the draft and count tokens; load the model meanwhile."""
        if not self.paths.suggest():
            self.commands.suggest()
        self.drafts.save_soon()
        self.counts.count_soon()
        self.counts.load_early()

    @on(PromptArea.FilesGiven)
    def attach_files(self, message: PromptArea.FilesGiven) -> None:
        """Attach what was dropped, picked or named."""
        self.attaching.attach(message.paths)

    @on(Chips.Wished)
    def act_on_chip(self, message: Chips.Wished) -> None:
        """Do what the user wants with an attached file or folder."""
        if isinstance(message.chip, Attached):
            self.attaching.act(message.chip, message.wish)

    @on(Chips.Emptied)
    def leave_chips(self) -> None:
        """Go back to the prompt."""
        self.focusing.to_prompt()

    @on(Sidebar.SessionChosen)
    def open_chosen_session(self, message: Sidebar.SessionChosen) -> None:
        """Open what was chosen in the list."""
        opening = self.find.open_found(message.session, message.message, message.words)
        self.context.run(opening, "open", exclusive=True)

    @on(Sidebar.ListFailed)
    def report_list_failure(self, message: Sidebar.ListFailed) -> None:
        """Notify why the list can't be read; it stays as it was."""
        self.context.notify_error(message.error)

    @on(Notice.OfferChosen)
    async def take_offer(self, message: Notice.OfferChosen) -> None:
        """Do what the user chose about a failure, or about what waits."""
        self.focusing.to_prompt()
        _words, offers = notice_of(self.context.open.view)
        if message.number >= len(offers):  # it was taken already, or another chat was opened
            return
        _label, does = offers[message.number]
        if isinstance(does, int):
            self.session_actions.recover(does)
        else:
            self.transcript.select(None)
            await self.run_action(f"screen.{does}")

    @on(Transcript.ActionChosen)
    async def run_chosen_action(self, message: Transcript.ActionChosen) -> None:
        """Carry out what was clicked; the palette has all that there is."""
        await self.run_action(f"screen.{message.action}" if message.action else "app.command_palette")

    @on(Transcript.VariantChosen)
    def show_variant(self, message: Transcript.VariantChosen) -> None:
        """Show another variant of a message."""
        self.message_actions.show_variant(message.message, message.step)

    @on(Transcript.CodeActivated)
    def copy_code_block(self, message: Transcript.CodeActivated) -> None:
        """Copy the code block whose first line was clicked."""
        self.message_actions.copy_code_block(message.message, message.index)

    @on(Transcript.LinkActivated)
    def copy_link(self, message: Transcript.LinkActivated) -> None:
        """Copy a link; the program never opens one."""
        self.message_actions.copy_text(message.target)

    @on(Transcript.Found)
    def show_found(self, message: Transcript.Found) -> None:
        """Show where the search in the chat stands."""
        self.find.show_position(message)

    @on(Input.Changed, "#find")
    def find_typed_words(self, message: Input.Changed) -> None:
        """Mark words as they are typed."""
        self.find.show_words(message.value)

    @on(Input.Submitted, "#find")
    def find_previous(self) -> None:
        """Go to the match before."""
        self.find.go_to_previous()

    # Actions on the screen as a whole

    async def escape(self) -> None:
        """Close what is open, stop the answer, or go back to the prompt."""
        if self.prompt.area.has_focus and self.prompt.suggestions.has_class("shown"):
            self.prompt.close_suggestions()
        elif self.prompt.chips.has_focus:
            self.focusing.to_prompt()
        elif self.pages.escape():
            pass
        elif self.find.active:
            self.find.end()
        elif self.focusing.end_search():
            await self.context.wait_for("ask", _STORING_S)
        elif self.drafts.editing:
            self.drafts.drop_edit()
        elif self.context.open.view.fork:
            self.context.open.fork_at("")
        elif self.context.open.view.answering:
            await self.streaming.stop()
        else:
            self.transcript.select(None)
            self.focusing.to_prompt()

    async def interrupt(self) -> None:
        """Copy the selection, else stop the answer, else say how to leave."""
        if text := self.prompt.area.selected_text or self.get_selected_text():
            self.message_actions.copy_text(text)
        elif self.context.open.view.answering:
            await self.streaming.stop()
        else:
            self.context.notify(_("Press Ctrl+Q to quit."))

    @property
    def last_answer(self) -> str:
        """The text of the last answer; empty if nothing was answered yet, or if the chat is private."""
        if self.context.open.view.private:
            return ""
        answers = (message.text for message in reversed(self.transcript.messages) if message.role is Role.ASSISTANT)
        return next(answers, "")

    async def leave(self) -> None:
        """Save the question that was just sent, and the draft if that can be; stop what runs and end the engine."""
        try:
            await self.context.wait_for("ask", _STORING_S)
            await self.drafts.save_at_the_end()
        finally:
            self.paths.close()
            await self.context.close()

    def _run_action_soon(self, action: str) -> None:
        self.context.run(self.run_action(f"screen.{action}"))

    # What the sidebar reads; in threads

    def _newest(self, limit: int, offset: int) -> "list[ListedSession]":
        return self.program.store.listing.newest(limit, offset)

    def _search(self, typed: str) -> "SearchResults":
        return self.program.store.search.find(typed)


def _freeze_memory() -> None:
    """Collect what was frozen before and is garbage now, and freeze what exists."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
