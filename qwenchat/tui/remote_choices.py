"""Models on other machines as rows of the list of models, grouped by engine. Values only: nothing is asked here."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from qwenchat.engines.remote.api import ServedModel
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.i18n import _, labelled, sentences
from qwenchat.models.reference import RemoteReference
from qwenchat.runtime.remote_engines import EngineListing
from qwenchat.text.safe import clean_line, human_size
from qwenchat.tui import advice

_INDENT = "\N{NO-BREAK SPACE} "
"""As wide as a mark of `model_choices`; plain spaces at the start of a line are not drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteChoice:
    """A model of an engine."""

    server: RemoteServer
    model: ServedModel

    @property
    def reference(self) -> str:
        """What chats call it."""
        return str(RemoteReference(self.server.name, self.model.id))

    @property
    def name(self) -> str:
        """The name to show."""
        return clean_line(self.model.id)

    def row(self) -> list[str]:
        """Return the columns of a list, the most important first."""
        model = self.model
        window = _tokens(model.n_ctx or model.n_ctx_max)
        size = human_size(model.size) if model.size else ""
        return [_INDENT + self.name, window, clean_line(model.quantisation), size, "", ""]

    def details(self) -> list[str]:
        """Return what else is known of it, line by line."""
        model = self.model
        facts = [clean_line(model.quantisation), human_size(model.size) if model.size else ""]
        if model.n_ctx:
            facts.append(_("{count:,} tokens of context").format(count=model.n_ctx))
        lines = [
            labelled(self.name, " · ".join(filter(None, facts))) if any(facts) else self.name,
            _("Runs on {host}: what you write goes there.").format(host=self.server.host),
        ]
        if model.n_ctx_max > model.n_ctx > 0:
            lines.append(_("The model itself could take {count:,} tokens.").format(count=model.n_ctx_max))
        if not model.is_loaded:
            lines.append(_("The server loads it when it is first asked."))
        return [*lines, *(clean_line(notice, 400) for notice in model.notices), self.reference]

    def answers_to(self, name: str) -> bool:
        """Return whether a reference is this model's."""
        return name == self.reference

    def matches(self, words: Sequence[str]) -> bool:
        """Return whether all words, in lower case, are in what is shown of it."""
        shown = f"{self.reference} {self.server.host} {' '.join(self.row())}".casefold()
        return all(word in shown for word in words)


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentEngine:
    """An engine that did not answer; choosing it asks again."""

    listing: EngineListing

    @property
    def reference(self) -> str:
        """What references to its models begin with."""
        return f"@{self.listing.server.name}"

    @property
    def name(self) -> str:
        """The name to show."""
        return self.listing.server.name

    def row(self) -> list[str]:
        """Return the columns of a list."""
        words = _("{name} ({host}): no answer").format(name=self.name, host=self.listing.server.host)
        return [_INDENT + words, "", "", "", "", ""]

    def details(self) -> list[str]:
        """Return why it did not answer, and what to do."""
        error = self.listing.error
        return [clean_line(sentences(error.message, advice.advice(error)), 600)] if error else []

    def answers_to(self, name: str) -> bool:
        """Return whether a reference is to one of its models."""
        return name == self.reference or name.startswith(self.reference + "/")

    def matches(self, words: Sequence[str]) -> bool:
        """Return whether all words, in lower case, are in what is shown of it."""
        shown = f"{self.reference} {self.listing.server.host}".casefold()
        return all(word in shown for word in words)


def remote_groups(
    listings: Sequence[EngineListing], asking: Collection[str]
) -> Iterator[tuple[list[str], list[RemoteChoice | SilentEngine]]]:
    """Yield each engine's headings and its models; `asking` are those that have not answered yet.

    What an engine offered before is shown until it answers, and no longer if it does not.
    """
    for listing in listings:
        server = listing.server
        where = f"{server.name} ({server.host})"
        models = [RemoteChoice(server=server, model=model) for model in listing.models]
        if listing.error:
            yield [], [SilentEngine(listing=listing)]
        elif models:
            yield [where, _("context"), "", _("size"), "", ""], list(models)
        else:
            state = _("asking…") if server.name in asking else _("no model")
            yield [labelled(where, state), "", "", "", "", ""], []


def _tokens(count: int) -> str:
    return f"{count:,}" if count else ""
