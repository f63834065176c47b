"""Which model to take on this machine: the whole catalogue judged and ordered, best first, with the reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwenchat.i18n import _
from qwenchat.models import fit
from qwenchat.models.catalogue import Catalog, Published
from qwenchat.models.fit import Fit, Resources, Verdict
from qwenchat.models.gguf import identity
from qwenchat.models.library import Entry
from qwenchat.models.measured import Speed
from qwenchat.text.safe import human_size


@dataclass(frozen=True, slots=True)
class Advice:
    """One model on this machine."""

    reference: str
    """What to type to use it."""
    fit: Fit
    here: Path | None
    """The file, where it is on this machine already."""
    measured: Speed | None
    disk_missing: int
    """Bytes that its download lacks on the disk."""

    @property
    def decode_tps(self) -> float | None:
        """Tokens a second: measured if they were, else predicted."""
        return self.measured.decode_tps if self.measured and self.measured.decode_tps else self.fit.decode_tps

    @property
    def is_measured(self) -> bool:
        """Whether `decode_tps` was measured."""
        return bool(self.measured and self.measured.decode_tps)

    @property
    def is_slow(self) -> bool:
        """Whether a person would wait for the text."""
        return self.decode_tps is not None and self.decode_tps < fit.READING_SPEED

    @property
    def can_run(self) -> bool:
        """Whether it fits memory, and the disk if it is not here."""
        return self.fit.verdict is not Verdict.TOO_LARGE and not self.disk_missing


def table(
    catalog: Catalog,
    resources: Resources,
    here: Mapping[str, tuple[Path, Speed | None]],
    limit: int = fit.NATIVE_CONTEXT,
    kv_type: str = "auto",
) -> list[Advice]:
    """Return every published quantisation, best first; `here` says by reference what is on this machine.

    First what can run and is read as fast as it is written, then what leaves room for other programs before what is
    tight, larger models before smaller ones, what an accelerator holds wholly before what it holds partly, larger
    quantisations before smaller ones; where all are slower than that, the smaller first. Fewer than four bits a weight
    come after all that, where anything better is comfortable: a smaller model answers better than one so rough. Those
    that are not worth taking by default (see `Model.offered`) come after the others.
    """
    rows = []
    for model in catalog.models:
        for quant in model.quantisations:
            published = Published(model, quant)
            path, speed = here.get(published.reference, (None, None))
            planned = fit.plan(published, resources, min(limit, max(model.context, model.yarn_context)), kv_type)
            missing = 0 if path else fit.disk_missing(quant.size, resources)
            rows.append((published, Advice(published.reference, planned, path, speed, missing)))
    better = any(_is_good(published, row) for published, row in rows)

    def rank(pair: tuple[Published, Advice]) -> tuple[bool | int, ...]:
        (model, quant), row = (pair[0].model, pair[0].quant), pair[1]
        offered, rough = quant in model.offered, quant.rough and (better or row.is_slow)
        sign = 1 if row.is_slow else -1
        size, file_size = sign * catalog.models.index(model), sign * quant.size
        tight, verdict = row.fit.verdict is Verdict.TIGHT, row.fit.verdict.rank
        return not row.can_run, not offered, row.is_slow, rough, tight, size, verdict, file_size

    return [row for _published, row in sorted(rows, key=rank)]


def _is_good(published: Published, row: Advice) -> bool:
    """Say whether a row is worth more than a larger model with fewer than four bits a weight."""
    comfortable = row.fit.verdict in (Verdict.COMFORTABLE, Verdict.PARTLY_ON_GPU)
    offered = published.quant in published.model.offered and not published.quant.rough
    return offered and comfortable and row.can_run and not row.is_slow


def here(entries: Sequence[Entry], speeds: Mapping[str, Speed]) -> dict[str, tuple[Path, Speed | None]]:
    """Return what `table` takes of the catalogue's models on this machine; of two files of one model the first."""
    return {
        entry.published.reference: (entry.path, speeds.get(identity(entry.path)) if speeds else None)
        for entry in reversed(entries)
        if entry.published
    }


def recommended(rows: Sequence[Advice]) -> Advice | None:
    """Return the one to take: the first, if it can run at all."""
    return rows[0] if rows and rows[0].can_run else None


def reason(row: Advice) -> str:
    """Say why a model is the one to take."""
    fits = _("{verdict}: it takes {needed} of {available} of free memory with a window of {n_ctx:,} tokens").format(
        verdict=verdict_words(row.fit.verdict),
        needed=human_size(row.fit.memory.total),
        available=human_size(row.fit.available),
        n_ctx=row.fit.n_ctx,
    )
    if row.decode_tps is None:
        speed = _("how fast it is here nobody has measured yet")
    elif row.is_measured:
        speed = _("it ran at {speed:.1f} tokens a second here").format(speed=row.decode_tps)
    else:
        speed = _("it should give about {speed:.1f} tokens a second (an estimate)").format(speed=row.decode_tps)
    return _("{fits}; {speed}.").format(fits=fits, speed=speed)


def verdict_words(verdict: Verdict) -> str:
    """Return a verdict in the person's language."""
    return {
        Verdict.COMFORTABLE: _("comfortable"),
        Verdict.PARTLY_ON_GPU: _("partly on GPU"),
        Verdict.TIGHT: _("tight"),
        Verdict.TOO_LARGE: _("too large"),
    }[verdict]
