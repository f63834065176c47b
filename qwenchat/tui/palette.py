"""The command palette: finds actions, and models, themes, settings, saved prompts and chats, by their words.

A word is found in the title or the explanation of a line, that of an action in English and Chinese whatever the
language of the screen is, and Chinese by its pinyin initials too. Nothing is carried out here.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.markup import escape

from qwenchat import config
from qwenchat.errors import QwenchatError
from qwenchat.i18n import LANGUAGES, _, in_language, labelled
from qwenchat.text.pinyin import initials
from qwenchat.text.safe import clean_line
from qwenchat.tui import setting_words, themes
from qwenchat.tui.actions import Where, actions, key_of
from qwenchat.tui.prompt_library import PromptLibrary
from qwenchat.tui.screens.chat import ChatScreen
from qwenchat.tui.textual_private.palette import TranslatedPalette
from qwenchat.tui.textual_private.widgets import EndsItsWork

_CHAT_SCORE = 2.5
"""The score of a chat whose title has what is typed: before what has it only in its explanation."""
_NOT_OFFERED = ("escape", "palette")


@dataclass(frozen=True, slots=True)
class PaletteLine:
    """Something that can be chosen."""

    title: str
    help: str
    run: Callable[[], object]
    also: str = ""
    """Words by which it is found and which it does not show."""

    def score(self, typed: str) -> float:
        """Return how well it has what is typed, in lower case, in its words or their initials: 0 for not at all."""
        letters = "".join(typed.split())
        if not letters:
            return 0
        title, others = self.title.casefold(), f"{self.help}\n{self.also}".casefold()
        if title.startswith(typed) or initials(title).startswith(letters):
            return 4
        if typed in title or letters in initials(title):
            return 3
        return 2 if typed in others or letters in initials(others) else 0


class ChatPalette(TranslatedPalette, EndsItsWork):
    """The palette, whose search ends with it."""


class _LineProvider(Provider):
    """Finds lines by their words, else by the letters of their titles."""

    WEIGHT: ClassVar[float] = 0
    """What is added to the score of words, so that equals come after each other."""

    def found(self, query: str, lines: Iterable[PaletteLine]) -> Iterator[Hit]:
        """Yield the lines that have what is typed."""
        matcher, typed = self.matcher(query), query.strip().casefold()
        for line in lines:
            letters, words = matcher.match(line.title), line.score(typed)
            if letters or words:
                score = words + self.WEIGHT if words else letters / (1 + letters)
                shown = matcher.highlight(line.title) if letters else Content(line.title)
                yield Hit(score, shown, line.run, text=line.title, help=escape(line.help))


class ActionProvider(_LineProvider):
    """Offers every action, and finds them."""

    WEIGHT = 0.5

    async def discover(self) -> Hits:
        for line in action_lines(self.screen):
            yield DiscoveryHit(Content(line.title), line.run, text=line.title, help=escape(line.help))

    async def search(self, query: str) -> Hits:
        for hit in self.found(query, action_lines(self.screen)):
            yield hit


class ThingProvider(_LineProvider):
    """Finds models, themes, settings, saved prompts and chats; offers none before something is typed."""

    async def startup(self) -> None:
        """Begin to read what there is, off the loop.

        Textual's search waits for this and, ended by the next letter, would end it for good: so it only begins.
        """
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> list[PaletteLine]:
        screen = self.screen
        return await asyncio.to_thread(_thing_lines, screen) if isinstance(screen, ChatScreen) else []

    async def search(self, query: str) -> Hits:
        for hit in self.found(query, await asyncio.shield(self._reading)):
            yield hit
        if isinstance(self.screen, ChatScreen):
            for line in await asyncio.to_thread(_chat_lines, self.screen, query):
                yield Hit(_CHAT_SCORE, Content(line.title), line.run, text=line.title, help=escape(line.help))


def action_lines(screen: object) -> Iterator[PaletteLine]:
    """Yield every action of the chat with the key that it has now; nothing for another screen."""
    if not isinstance(screen, ChatScreen):
        return
    keymap = screen.program.settings.keys
    spoken = [{each.id: each for each in in_language(language, actions)} for language in LANGUAGES]
    seen: set[str] = set()
    for action in screen.actions:
        is_move = action.run and action.where is not Where.MESSAGE
        if action.label in seen or action.id in _NOT_OFFERED or is_move:
            continue
        seen.add(action.label)
        key = key_of(action, keymap) if action.where is Where.ANYWHERE else ""
        runner = screen.transcript if action.run else screen
        yield PaletteLine(
            action.label,
            f"{action.help}  [{key}]" if key else action.help,
            partial(runner.run_action, action.run or f"screen.{action.id}"),
            also="\n".join(f"{each[action.id].label}\n{each[action.id].help}" for each in spoken),
        )


def _thing_lines(screen: ChatScreen) -> list[PaletteLine]:
    """Return everything but actions and chats; what can't be read is left out."""
    program, lines = screen.program, []
    for name, title in themes.load_all(program.paths.config / "themes").titles.items():
        shown = clean_line(_(title) if title else name)
        run = partial(screen.run_action, f"app.use_theme({name!r})")
        lines.append(PaletteLine(labelled(_("Theme"), shown), "", run, also=name))
    for key in config.names():
        also = "\n".join(in_language(each, partial(_setting_words, key)) for each in LANGUAGES)
        run_at = partial(screen.program_actions.open_settings, key)
        lines.append(PaletteLine(labelled(_("Settings"), setting_words.title(key)), key, run_at, also=also))
    for prompt in PromptLibrary(program.paths.config / "prompts").all():
        write = partial(screen.session_actions.open_settings, system=prompt.name)
        lines.append(PaletteLine(labelled(_("System prompt"), prompt.name), clean_line(prompt.text, 80), write))
    with suppress(QwenchatError, OSError):
        for model in program.library.models():
            if not model.problem:
                use = partial(screen.session_actions.use_model, model.reference)
                title = labelled(_("Model"), clean_line(str(model.name), 80))
                lines.append(PaletteLine(title, clean_line(model.path.name, 80), use, also=model.reference))
    for listing in program.remote_engines.known():
        for served in listing.models:
            use = partial(screen.session_actions.use_model, listing.reference(served))
            title = labelled(_("Model"), clean_line(served.id, 80))
            lines.append(PaletteLine(title, listing.server.host, use, also=listing.reference(served)))
    return lines


def _setting_words(key: str) -> str:
    description = _(config.description(key))
    return f"{setting_words.title(key)}\n{description}"


def _chat_lines(screen: ChatScreen, typed: str) -> list[PaletteLine]:
    """Return the chats whose titles have what is typed."""
    with suppress(QwenchatError):
        hits = screen.program.store.search.find(typed, limit=1).hits
        return [
            PaletteLine(labelled(_("Chat"), hit.excerpt.text), "", partial(screen.navigation.open_soon, hit.session))
            for hit in hits
            if hit.message is None
        ]
    return []
