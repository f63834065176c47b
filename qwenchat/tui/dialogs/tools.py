"""The tools that a model may call: whether they are on in the chat, what holds for each of them, and their folders.

Rules and folders are settings of the program and saved at once; whether the tools are on belongs to the chat.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.types import CSSPathType
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from qwenchat import config
from qwenchat.chat.session import Session
from qwenchat.config import Rule
from qwenchat.errors import QwenchatError
from qwenchat.i18n import _, labelled, ngettext
from qwenchat.runtime.program import Program
from qwenchat.runtime.session_tools import SessionTools
from qwenchat.text.safe import clean_line
from qwenchat.tools.policy import DEFAULT_RULES
from qwenchat.tools.tool import Tool
from qwenchat.tui.dialogs.dialog import Buttons, Complaint, Dialog, button, plain, relabel
from qwenchat.tui.dialogs.fields import aligned
from qwenchat.tui.dialogs.small import TextScreen
from qwenchat.tui.widgets.prose import Prose


class ToolsScreen(Dialog[bool]):
    """Answers whether the tools are on in the chat of a session."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "engines.tcss"]

    def __init__(self, program: Program, source: SessionTools, session: Session) -> None:
        super().__init__()
        self._program, self._source, self._session = program, source, session
        self._are_on = source.are_on(session)
        self._tools: Mapping[str, Tool] = {}

    def heading(self) -> str:
        return _("Tools")

    def body(self) -> ComposeResult:
        yield plain("", id="state")
        yield OptionList(markup=False)
        yield plain("", classes="muted", id="about")
        yield plain("", classes="muted", id="folders")
        yield plain("", id="servers")
        yield Complaint("about-tools")
        yield Buttons(
            [
                button("", "toggle", main=True),
                button(_("Folders…"), "choose-folders"),
                button(_("Restart servers"), "restart"),
                button(_("Close"), "close"),
            ]
        )

    def enter_on_list(self) -> str:
        return _("change")

    def on_mount(self) -> None:
        """List the tools."""
        self.set_focus(self.query_one(OptionList))
        self._show_state()
        self._list()

    def _show_state(self) -> None:
        on_words = _("On in this chat: its model may call these tools. Enter changes what happens then.")
        self.query_one("#state", Prose).update(on_words if self._are_on else _("Off in this chat."))
        relabel(self.query_one("#toggle", Button), _("Turn off") if self._are_on else _("Turn on"))

    @work(exclusive=True, group="tools")
    async def _list(self) -> None:
        folders = self._program.settings.tools.folders
        words = ", ".join(folders) if folders else _("none, so the model can read no files")
        self.query_one("#folders", Prose).update(clean_line(labelled(_("Folders"), words), 1000))
        try:
            self._tools = await self._source.own(self._session)
            self._show()
            starting = await self._source.server_names()
            self._show_servers([labelled(clean_line(name), _("starting…")) for name in starting])
            self._tools = await self._source.all(self._session)
        except QwenchatError as error:
            self.query_one("#about-tools", Complaint).show(error)
        self._show_servers(self._server_lines())
        self._show()

    def _server_lines(self) -> list[str]:
        """Return which tool servers answer, and why others do not."""
        counts, problems = Counter(name.split("__")[0] for name in self._tools if "__" in name), self._source.problems
        lines = [
            labelled(clean_line(name), ngettext("{count} tool", "{count} tools", count).format(count=count))
            for name, count in counts.items()
        ]
        return lines + [f"✗ {labelled(clean_line(name), clean_line(why, 300))}" for name, why in problems.items()]

    def _show_servers(self, lines: Sequence[str]) -> None:
        shown = self.query_one("#servers", Prose)
        shown.update("\n".join([_("Tool servers"), *lines]))
        shown.display = self.query_one("#restart").display = bool(lines)

    @on(Button.Pressed, "#restart")
    @work(exclusive=True, group="tools")
    async def _restart(self) -> None:
        """End the servers; listing their tools starts them again."""
        await self._source.close()
        self._list()

    @on(events.Resize)
    def _show(self) -> None:
        listed = self.query_one(OptionList)
        rows = [
            [clean_line(name), self._rule_words(name), _("sends or changes something") if tool.writes else ""]
            for name, tool in self._tools.items()
        ]
        room = max(self.query_one(".frame").size.width - 4, 10)
        columns = aligned(rows, room)
        at = listed.highlighted or 0
        listed.clear_options()
        listed.add_options(map(Option, columns))
        listed.highlighted = min(at, len(rows) - 1) if rows else None

    @on(OptionList.OptionHighlighted)
    def _describe(self, event: OptionList.OptionHighlighted) -> None:
        """Show the highlighted tool's description for the model."""
        name = [*self._tools][event.option_index]
        words = clean_line(self._tools[name].spec.description, 300)
        self.query_one("#about", Prose).update(labelled(_("The model is told"), words))

    def _rule(self, name: str) -> Rule:
        """Return what holds for a tool; what writes asks where others would be allowed."""
        rule = {**DEFAULT_RULES, **self._program.settings.tools.policy}.get(name, "ask")
        return "ask" if rule == "allow" and self._tools[name].writes else rule

    def _rule_words(self, name: str) -> str:
        called = {"ask": _("asks"), "allow": _("allowed"), "deny": _("denied")}
        return called[self._rule(name)]

    @on(OptionList.OptionSelected)
    @work(exclusive=True, group="tools")
    async def _change_rule(self, event: OptionList.OptionSelected) -> None:
        name = [*self._tools][event.option_index]
        rules: list[Rule] = ["ask", "deny"] if self._tools[name].writes else ["ask", "allow", "deny"]
        await self._save(f"tools.policy.{name}", rules[(rules.index(self._rule(name)) + 1) % len(rules)])
        self._show()

    @on(Button.Pressed, "#choose-folders")
    @work(exclusive=True, group="tools")
    async def _choose_folders(self) -> None:
        now = ", ".join(self._program.settings.tools.folders)
        asking = TextScreen(_("Folders that the model may read, separated by commas"), now)
        folders = await self.app.push_screen_wait(asking)
        if folders is not None:
            await self._save("tools.folders", folders)
            self._list()

    async def _save(self, key: str, value: str) -> None:
        complaint = self.query_one("#about-tools", Complaint)
        try:
            await asyncio.to_thread(config.put, self._program.paths.settings, key, value)
            self._program.reread_settings()
        except QwenchatError as error:
            complaint.show(error)
        else:
            complaint.show(None)

    @on(Button.Pressed, "#toggle")
    def _toggle(self) -> None:
        self._are_on = not self._are_on
        self._show_state()

    @on(Button.Pressed, "#close")
    def action_close(self) -> None:
        """Answer whether the tools are on."""
        self.answer(self._are_on)
