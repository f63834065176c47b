"""The command palette: every action by its words, by the pinyin initials of Chinese words, and by its English name."""

from textual.command import DiscoveryHit, Hit, Hits, Provider

from qwenchat.text.pinyin import initials

_NAMED = 0.5
"""How good a match by initials or by name is; a match of the words themselves is better."""


class Palette(Provider):
    """Searches what `App.get_system_commands` yields, in its order while nothing is typed."""

    async def discover(self) -> Hits:
        for command in self.app.get_system_commands(self.screen):
            yield DiscoveryHit(command.title, command.callback, help=command.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        typed = "".join(query.casefold().split())
        for command in self.app.get_system_commands(self.screen):
            name = getattr(command.callback, "keywords", {}).get("action", "")
            score = matcher.match(command.title)
            if not score and typed and (typed in initials(command.title.casefold()) or name.startswith(typed)):
                score = _NAMED
            if score:
                yield Hit(score, matcher.highlight(command.title), command.callback, help=command.help)
