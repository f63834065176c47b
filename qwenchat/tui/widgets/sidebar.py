"""The list of chats, by date and in pages, and what a search over all text finds."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message as Event
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from qwenchat.chat.message import Role
from qwenchat.chat.session import Session
from qwenchat.errors import QwenchatError
from qwenchat.i18n import _
from qwenchat.text.clusters import next_boundary
from qwenchat.text.safe import clean_line
from qwenchat.text.wrap import cells, paragraph_cuts
from qwenchat.tui.actions import MENU_BUTTON
from qwenchat.tui.textual_private.widgets import EndsItsWork
from qwenchat.tui.widgets.fields import Filter

if TYPE_CHECKING:
    from qwenchat.sessions.listing import ListedSession
    from qwenchat.sessions.search import Excerpt, Hit, SearchResults

PAGE = 100
_NEAR_END = 20
_DAY_S = 86_400
_SEARCH_AFTER_S = 0.15
_EXCERPT_LINES = 2
_INDENT = "  "
Newest = Callable[[int, int], "Sequence[ListedSession]"]
"""Returns a page of sessions for (limit, offset); may block."""
Find = Callable[[str], "SearchResults"]
"""Searches all text; may block."""


class SessionList(OptionList):
    """The lines of the list; an option's id names its session. A click opens a session and leaves the focus alone."""

    FOCUS_ON_CLICK = False

    def on_click(self, event: events.Click) -> None:
        """Highlight the line under the pointer only, where a menu is wanted of it."""
        at = event.style.meta.get("option")
        if event.button == MENU_BUTTON:
            event.prevent_default()
            is_line = isinstance(at, int) and not self.get_option_at_index(at).disabled
            self.highlighted = at if is_line else None

    @property
    def session_id(self) -> str | None:
        """The id of the session under the cursor."""
        option = self.highlighted_option
        return option.id.split(" ")[0] if option and option.id else None


class SearchLine(Filter):
    """Where words are typed that are searched in all chats: arrows move in the list, Enter opens what they lead to."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "submit", show=False)]


class Sidebar(Vertical, EndsItsWork):
    """Search on top, sessions below."""

    @dataclass(eq=False, repr=False)
    class SessionChosen(Event):
        """The user wants to read a session, at a message if one is named."""

        session: str
        message: str | None
        words: tuple[str, ...] = ()
        """What was found in the message, as it is written there."""

    @dataclass(eq=False, repr=False)
    class ListFailed(Event):
        """The list can't be read."""

        error: QwenchatError

    def __init__(self, newest: Newest, find: Find, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._newest, self._find = newest, find
        self._loaded = 0
        self._all_loaded = False
        self._shown = ""
        """What was searched for to find what the list shows: it follows the search line a moment later."""
        self._found: SearchResults | None = None
        """What the list shows of a search; None while it shows all chats."""
        self._opens_first = False
        """Whether the first hit of the next search is opened: Enter was faster than the search."""
        self._group = ""
        self._current = ""
        self._busy: frozenset[str] = frozenset()
        self._asking = ""
        self._sessions: dict[str, Session] = {}

    def compose(self) -> ComposeResult:
        """Lay out the search and the list."""
        yield SearchLine(placeholder=_("Search all chats"), id="session-search", compact=True)
        yield SessionList(id="sessions", markup=False, compact=True)

    @property
    def list(self) -> SessionList:
        """The list."""
        return self.query_one(SessionList)

    @property
    def searching(self) -> bool:
        """Whether a search is typed."""
        return bool(self.query_one(Input).value.strip())

    def reload(self) -> None:
        """Read the list again, from its beginning as far as it was read."""
        if self.searching:
            self._search()
        else:
            count = max(self._loaded, PAGE)
            self._fetch(0, count)

    def mark(self, current: str, busy: Sequence[str], asking: str = "") -> None:
        """Mark the session that is open, those that are answered or wait, and the one that waits for the user."""
        before = {self._current, *self._busy, self._asking}
        self._current, self._busy, self._asking = current, frozenset(busy), asking
        for session_id in {*before, current, *busy, asking} - {""}:
            if not self._found and (session := self._sessions.get(session_id)):
                self.list.replace_option_prompt(session_id, self._line(session))
        if self.list.highlighted is None and not self._found:
            self._highlight(current)

    def focus_search(self) -> None:
        """Go to the search at once: what is typed next stands in it, however fast it comes."""
        self.screen.set_focus(self.query_one(Input))

    @property
    def is_in_search(self) -> bool:
        """Whether the focus is in the search, or in the list of what it found."""
        return self.query_one(Input).has_focus or (self.searching and self.list.has_focus)

    def clear_search(self) -> None:
        """End a search."""
        self.query_one(Input).value = ""

    @on(Input.Changed)
    def search_typed_words(self, event: Input.Changed) -> None:
        """Search as it is typed."""
        event.stop()
        self._opens_first = False
        self.set_timer(_SEARCH_AFTER_S, lambda: self._search(event.value))

    @on(Input.Submitted)
    def open_result(self, event: Input.Submitted) -> None:
        """Open the line under the cursor, as soon as the list shows what was searched for."""
        event.stop()
        if event.value == self._shown:
            self.list.action_select()
        elif event.value.strip():
            self._opens_first = True
            self._search()

    def on_resize(self) -> None:
        """Fit what was found to the new width."""
        if self._found:
            self._show_hits(self._found)

    @on(OptionList.OptionHighlighted)
    def read_ahead(self, event: OptionList.OptionHighlighted) -> None:
        """Read the next page before its end is reached."""
        event.stop()
        if not self.searching and event.option_index > self.list.option_count - _NEAR_END:
            self._more()

    @on(OptionList.OptionSelected)
    def report_choice(self, event: OptionList.OptionSelected) -> None:
        """Report what was chosen."""
        event.stop()
        session, _space, message = (event.option_id or "").partition(" ")
        hits = self._found.hits if self._found else ()
        words = next((hit.excerpt.words for hit in hits if message and hit.message == message), ())
        self.post_message(self.SessionChosen(session, message or None, words))

    @on(events.MouseScrollDown)
    def read_ahead_of_wheel(self) -> None:
        """Read the next page before its end is reached."""
        if self.list.max_scroll_y - self.list.scroll_y < _NEAR_END * 2:
            self._more()

    def _more(self) -> None:
        if not (self._all_loaded or self.searching or self._found):
            at = self._loaded
            self._fetch(at, PAGE)

    @work(exclusive=True, group="list")
    async def _fetch(self, offset: int, limit: int) -> None:
        with self._reporting():
            self._show_page(await asyncio.to_thread(self._newest, limit, offset), offset, limit)

    def _show_page(self, page: "Sequence[ListedSession]", offset: int, limit: int) -> None:
        if self.searching or offset not in (0, self._loaded):
            return
        view = self.list
        at = None if self._found else view.session_id
        self._shown, self._found = "", None
        if offset == 0:
            self._group, self._sessions = "", {}
            view.clear_options()
        view.add_options(self._options(page))
        self._loaded = offset + len(page)
        self._all_loaded = len(page) < limit
        if offset == 0:
            self._highlight(at if at in self._sessions else self._current)

    def _highlight(self, session_id: str | None) -> None:
        if session_id in self._sessions:
            self.list.highlighted = self.list.get_option_index(session_id)

    def _options(self, page: "Sequence[ListedSession]") -> Iterator[Option]:
        for listed in page:
            session = listed.session
            if session.id in self._sessions:
                continue
            self._sessions[session.id] = session
            group = group_of(session, time.time())
            if group != self._group:
                self._group = group
                yield Option(Content.styled(group, "$foreground-muted bold"), disabled=True)
            yield Option(self._line(session), id=session.id)

    def _line(self, session: Session) -> Content:
        mark = "✎ " if session.id in self._busy else "● " if session.id == self._current else "  "
        mark = "? " if session.id == self._asking else mark
        title = clean_line(session.title or session.draft, 80) or _("New chat")
        tags = "".join(f" #{clean_line(tag, 20)}" for tag in session.tags)
        style = "bold" if session.id == self._current else ""
        has_draft = session.draft.strip() and not (session.title and session.id == self._current)
        draft = _("Draft") + " " if has_draft else ""
        if width := self.list.scrollable_content_region.width:
            title = _fitted(title, width - cells(mark + draft))
        parts = (draft, "$text-warning"), (title, style), (tags, "$foreground-muted")
        return Content.assemble(mark, *parts)

    def _search(self, typed: str | None = None) -> None:
        now = self.query_one(Input).value
        if typed is not None and typed != now:
            return
        if not now.strip():
            self._loaded = 0
            self.reload()
            return
        self._look_up(now)

    @work(exclusive=True, group="list")
    async def _look_up(self, typed: str) -> None:
        with self._reporting():
            self._show_found(typed, await asyncio.to_thread(self._find, typed))

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except QwenchatError as error:
            self.post_message(self.ListFailed(error))

    def _show_found(self, typed: str, found: "SearchResults") -> None:
        if typed != self.query_one(Input).value:
            return
        self._shown = typed
        self._show_hits(found)
        if self._opens_first:
            self._opens_first = False
            self.list.action_select()

    def _show_hits(self, found: "SearchResults") -> None:
        """Show hits, those of a chat below one another; the cursor stays on its line, or goes to the first one."""
        view = self.list
        before = view.highlighted_option.id if self._found and view.highlighted_option else None
        self._found = found
        view.clear_options()
        if not found.hits:
            view.add_option(Option(Content.styled(_("Nothing found"), "$foreground-muted"), disabled=True))
            return
        lines = dict(_found_lines(found.hits, view.scrollable_content_region.width))
        view.add_options(Option(content, id=name) for name, content in lines.items())
        view.highlighted = view.get_option_index(before) if before in lines else 0


def group_of(session: Session, now: float) -> str:
    """Return the heading that a session belongs below; `now` in Unix seconds."""
    if session.pinned:
        return _("Pinned")
    then = time.localtime(session.updated / 1000)
    days = (_midnight(now) - _midnight(session.updated / 1000)) / _DAY_S
    if days < 0.5:
        return _("Today")
    if days < 1.5:
        return _("Yesterday")
    if days < 7.5:
        return _("Last 7 days")
    return time.strftime("%Y-%m", then)


def _midnight(when: float) -> float:
    day = time.localtime(when)
    return time.mktime((day.tm_year, day.tm_mon, day.tm_mday, 0, 0, 0, 0, 0, -1))


def _found_lines(hits: "Sequence[Hit]", width: int) -> Iterator[tuple[str, Content]]:
    """Yield the id and the words of a line for each hit; the first of a chat names it."""
    by_session: dict[str, list[Hit]] = {}
    for hit in hits:
        by_session.setdefault(hit.session, []).append(hit)
    for session_id, found in by_session.items():
        title = clean_line(found[0].title, 60) or _("New chat")
        above = [Content.styled(title, "$foreground-muted"), Content("\n")]
        for hit in found:
            if hit.message is None:
                yield session_id, Content.assemble("▪ ", _marked(hit.excerpt).stylize("bold"))
            else:
                yield f"{session_id} {hit.message}", Content.assemble(*above, _snippet(hit, width))
            above = []


def _fitted(text: str, width: int) -> str:
    """Return a text, or as much of its beginning as leaves room for `…`, whole clusters only; `width` in cells."""
    if cells(text) <= width:
        return text
    end, room = 0, width - 1
    while end < len(text) and room >= 0:
        after = next_boundary(text, end)
        room -= cells(text[end:after])
        end = after if room >= 0 else end
    return text[:end].rstrip() + "…"


def _snippet(hit: "Hit", width: int) -> Content:
    """Return a few words of a message around the first match, who said them in front, in lines of `width` cells."""
    text, marks = hit.excerpt.text, hit.excerpt.marks
    room = max(width - cells(_INDENT), 1)
    match = marks[0][0] if marks else 0
    start = match
    while start and cells(text[start - 1 : match]) <= room // 2:
        start -= 1
    space = text.find(" ", start, match)
    start = space + 1 if start and space >= 0 else start
    cut_off = "…" if start else ""
    cuts = paragraph_cuts(cut_off + text[start:], room)[:_EXCERPT_LINES]
    content = Content.assemble(cut_off, _marked(hit.excerpt)[start:])
    lines = [content[cut.start : cut.end] for cut in cuts]
    sign = "❯ " if hit.role is Role.USER else "✦ "
    return Content.assemble((sign, "$foreground-muted"), Content("\n" + _INDENT).join(lines))


def _marked(excerpt: "Excerpt") -> Content:
    content = Content(excerpt.text)
    for begin, end in excerpt.marks:
        content = content.stylize("bold $text-accent", begin, end)
    return content
