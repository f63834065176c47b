"""Every model that a person can choose: what is on this machine first, then the catalogue, best first.

Values only: no network, no widget. `survey` reads folders and headers and may measure the memory, so it is called
from a thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qwenchat.errors import NotFound
from qwenchat.i18n import _
from qwenchat.models import fit
from qwenchat.models.catalogue import Published
from qwenchat.models.gguf import identity
from qwenchat.models.library import Entry, owner
from qwenchat.models.measured import Speed
from qwenchat.models.recommendation import Advice, here, reason, recommended, table, verdict_words
from qwenchat.models.reference import Guide, path_reference
from qwenchat.runtime.program import Program
from qwenchat.text.pinyin import initials
from qwenchat.text.safe import clean_line, human_size

_NO_MARK = "\N{NO-BREAK SPACE}"
"""As wide as a mark; plain spaces at a line's start are dropped when it is drawn."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One model, here or to download."""

    reference: str
    """What to use or to order."""
    entry: Entry | None = None
    """The file, where it is on this machine."""
    published: Published | None = None
    """Of the catalogue, if it is one of its models."""
    advice: Advice | None = None
    """How well it fits; None for a file that can't be read."""
    best_of_size: bool = False
    """Whether it is what to take of its size."""
    recommended: bool = False

    @property
    def problem(self) -> str:
        """Why the file here can't be used; empty where there is none."""
        return self.entry.problem if self.entry else ""

    @property
    def must_accept(self) -> bool:
        """Whether the licence has to be accepted before the download."""
        return self.entry is None and self.published is not None and self.published.model.must_accept

    @property
    def name(self) -> str:
        """What it is called, for people."""
        is_path = self.entry is not None and self.reference == path_reference(self.entry.path)
        return clean_line(Path(self.reference).name if is_path else self.reference)

    @property
    def size(self) -> int:
        """Bytes of its files, 0 where that is not known."""
        if self.entry and self.entry.header:
            return self.entry.header.file_size
        return self.published.file_size if self.published else 0

    def row(self) -> list[str]:
        """Return the columns of a list, the most telling first."""
        mark = "★" if self.recommended else "✗" if self.problem else _NO_MARK
        place = _owner(self.entry) if self.entry else human_size(self.size) if self.size else ""
        if self.advice is None:
            return [f"{mark} {self.name}", _("can't be used") if self.problem else "", "", "", place]
        row = self.advice
        verdict = verdict_words(row.fit.verdict)
        if row.disk_missing:
            verdict = _("disk too small")
        return [f"{mark} {self.name}", verdict, human_size(row.fit.memory.total), _speed(row), place]

    def details(self) -> list[str]:
        """Return what else there is to know, a line each."""
        lines = [self._facts(), self._advice()]
        if self.problem:
            lines.append(self.problem)
        elif self.advice:
            lines.append(_sentence(reason(self.advice)))
        if self.advice and self.advice.disk_missing:
            lines.append(
                _("{size} of disk are missing for the download.").format(size=human_size(self.advice.disk_missing))
            )
        if self.entry:
            lines.append(_("It lies in {place}: {path}").format(place=_owner(self.entry), path=self.entry.path))
        return [clean_line(line, 600) for line in lines if line]

    def answers_to(self, name: str) -> bool:
        """Say whether a reference or a path is this model's."""
        return name == self.reference or (self.entry is not None and name == str(self.entry.path))

    def matches(self, words: Sequence[str]) -> bool:
        """Say whether all of the words, in lower case, are in what is shown of it, or its pinyin initials."""
        shown = " ".join([*self.row(), self._facts()]).casefold()
        read = initials(shown)
        return all(word in shown or word in read for word in words)

    def _facts(self) -> str:
        header = self.entry.header if self.entry else None
        model = self.published.model if self.published else None
        title = model.title if model else header.name if header else ""
        quant = self.published.quant.label if self.published else header.quantisation if header else ""
        context = header.context_length if header else model.context if model else 0
        facts = [" ".join(part for part in (title, quant) if part), human_size(self.size) if self.size else ""]
        facts.append(_("{count:,} tokens of context").format(count=context) if context else "")
        facts.append(model.licence if model else "")
        return " · ".join(fact for fact in facts if fact)

    def _advice(self) -> str:
        if self.reference == "guide":
            return _("A tiny model that comes with the program, to look around with at once.")
        return self.published.model.advice_here() if self.published else ""


def headings(title: str, place: str) -> list[str]:
    """Return what stands above the columns of `Offer.row`, for a group of models and what its last column is."""
    return [title, _("fits"), _("memory"), _("speed"), place]


@dataclass(frozen=True, slots=True)
class Survey:
    """What this machine has, and the models that it can choose from."""

    resources: fit.Resources
    offers: tuple[Offer, ...]

    @property
    def here(self) -> list[Offer]:
        """The models on this machine."""
        return [offer for offer in self.offers if offer.entry]

    @property
    def catalogue(self) -> list[Offer]:
        """The models to download."""
        return [offer for offer in self.offers if not offer.entry]


def survey(program: Program) -> Survey:
    """Look at the machine, its folders and the catalogue. Blocks for up to a second."""
    resources = program.usable(measure=True)
    entries, speeds = program.library.entries(), program.machine.measured.speeds()
    usable = [entry for entry in entries if not entry.problem]
    kv_type = program.settings.model.kv_type
    advices = table(program.catalog, resources, here(usable, speeds), kv_type=kv_type)
    by_reference = {advice.reference: advice for advice in advices}
    best = recommended(advices)
    offers = []
    for entry in sorted(entries, key=lambda entry: bool(entry.problem)):
        advice = by_reference.get(entry.published.reference) if entry.published else None
        if advice is None and not entry.problem:
            advice = _advice(entry, resources, kv_type, speeds.get(identity(entry.path)) if speeds else None)
        fits, is_best = None if entry.problem else advice, advice is not None and advice is best
        offers.append(Offer(entry.reference, entry, entry.published, fits, recommended=is_best))
    known, sizes = {offer.reference for offer in offers if not offer.problem}, set()
    offers += _guide(program)
    for advice in advices:
        size, _colon, label = advice.reference.partition(":")
        model = program.catalog.get(size)
        quant = model.quantisation(label) if model else None
        first = size not in sizes
        sizes.add(size)
        if model and quant and advice.reference not in known:
            offers.append(Offer(advice.reference, None, Published(model, quant), advice, first, advice is best))
    return Survey(resources, tuple(offers))


def _advice(entry: Entry, resources: fit.Resources, kv_type: str, speed: Speed | None) -> Advice | None:
    header = entry.header
    if header is None:
        return None
    window = min(fit.NATIVE_CONTEXT, header.context_length or fit.NATIVE_CONTEXT)
    return Advice(entry.reference, fit.plan(header, resources, window, kv_type), entry.path, speed, 0)


def _guide(program: Program) -> list[Offer]:
    try:
        return [Offer("guide", program.library.entry(Guide()))]
    except NotFound:
        return []


def _owner(entry: Entry) -> str:
    return _("built in") if entry.found.origin == "file" else owner(entry)


def _speed(row: Advice) -> str:
    if row.decode_tps is None:
        return ""
    return _("{speed} tokens/s").format(speed=f"{'' if row.is_measured else '~'}{row.decode_tps:.1f}")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
