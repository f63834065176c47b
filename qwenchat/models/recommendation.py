"""Recommends a model for this machine: assesses all models of the catalogue, orders them best first, gives reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from qwenchat.i18n import _
from qwenchat.models import fit
from qwenchat.models.catalogue import Catalogue, PublishedModel
from qwenchat.models.fit import Fit, Resources, Verdict
from qwenchat.models.gguf import identity
from qwenchat.models.library import LocalModel
from qwenchat.models.measured import ModelSpeed
from qwenchat.text.safe import human_size


@dataclass(frozen=True, slots=True)
class Assessment:
    """How well one model suits this machine."""

    reference: str
    """The model reference."""
    fit: Fit
    _: KW_ONLY
    path: Path | None
    """The file, if the model is already on this machine."""
    measured: ModelSpeed | None
    disk_missing: int
    """Bytes of disk space that its download lacks."""

    @property
    def decode_tps(self) -> float | None:
        """Tokens per second: measured if possible, otherwise predicted."""
        return self.measured.decode_tps if self.measured and self.measured.decode_tps else self.fit.decode_tps

    @property
    def is_measured(self) -> bool:
        """Whether `decode_tps` was measured."""
        return bool(self.measured and self.measured.decode_tps)

    @property
    def is_slow(self) -> bool:
        """Whether readers would wait for the text."""
        return self.decode_tps is not None and self.decode_tps < fit.READING_SPEED

    @property
    def can_run(self) -> bool:
        """Whether it fits into memory, and on the disk if it must be downloaded."""
        return self.fit.verdict is not Verdict.TOO_LARGE and not self.disk_missing


def assess_catalogue(
    catalogue: Catalogue,
    resources: Resources,
    local: Mapping[str, tuple[Path, ModelSpeed | None]],
    *,
    limit: int = fit.NATIVE_CONTEXT,
    kv_type: str = "auto",
) -> list[Assessment]:
    """Return every published quantisation, best first; `local` (see `local_files`) are those on this machine.

    The criteria, most important first: it can run; it is worth choosing by default (`CatalogueModel.offered`); it is
    fast enough to read along; it has at least four bits per weight, if any such model fits comfortably, because a
    smaller model answers better than a rough quantisation; it leaves room for other programs; the model is larger; it
    fits completely on an accelerator; the quantisation is larger. Among slow models, smaller ones come first.
    """
    rows = []
    for model in catalogue.models:
        for quant in model.quantisations:
            published = PublishedModel(model, quant)
            path, speed = local.get(published.reference, (None, None))
            planned = fit.plan(published, resources, min(limit, max(model.context, model.yarn_context)), kv_type)
            missing = 0 if path else fit.disk_missing(quant.size, resources.disk_free)
            assessment = Assessment(published.reference, planned, path=path, measured=speed, disk_missing=missing)
            rows.append((published, assessment))
    has_better = any(_is_good(published, row) for published, row in rows)

    def rank(pair: tuple[PublishedModel, Assessment]) -> tuple[bool | int, ...]:
        published, row = pair
        model, quant, verdict = published.model, published.quant, row.fit.verdict
        is_offered = quant in model.offered
        is_worse_than_smaller = quant.rough and (has_better or row.is_slow)
        size, file_size = catalogue.models.index(model), quant.size
        if not row.is_slow:
            size, file_size = -size, -file_size
        tight = verdict is Verdict.TIGHT
        return not row.can_run, not is_offered, row.is_slow, is_worse_than_smaller, tight, size, verdict.rank, file_size

    return [row for _published, row in sorted(rows, key=rank)]


def _is_good(published: PublishedModel, row: Assessment) -> bool:
    """Return whether a model is better than a larger one with fewer than four bits per weight."""
    comfortable = row.fit.verdict in (Verdict.COMFORTABLE, Verdict.PARTLY_ON_GPU)
    offered = published.quant in published.model.offered and not published.quant.rough
    return offered and comfortable and row.can_run and not row.is_slow


def local_files(
    models: Sequence[LocalModel], speeds: Mapping[str, ModelSpeed]
) -> dict[str, tuple[Path, ModelSpeed | None]]:
    """Return file and speed of the catalogue's models on this machine, by reference; the first of several files."""
    return {
        model.published.reference: (model.path, speeds.get(identity(model.path)) if speeds else None)
        for model in reversed(models)
        if model.published
    }


def recommended(rows: Sequence[Assessment]) -> Assessment | None:
    """Return the recommended model: the first one, if it can run at all."""
    return rows[0] if rows and rows[0].can_run else None


def reason(row: Assessment) -> str:
    """Return a sentence with the reason for recommending a model."""
    fits = _("{verdict}: it takes {needed} of {available} of free memory with a window of {n_ctx:,} tokens").format(
        verdict=verdict_words(row.fit.verdict),
        needed=human_size(row.fit.memory.total),
        available=human_size(row.fit.available),
        n_ctx=row.fit.n_ctx,
    )
    if row.decode_tps is None:
        speed = _("its speed here has not been measured yet")
    elif row.is_measured:
        speed = _("it ran at {speed:.1f} tokens per second here").format(speed=row.decode_tps)
    else:
        speed = _("it should reach about {speed:.1f} tokens per second (an estimate)").format(speed=row.decode_tps)
    return _("{fits}; {speed}.").format(fits=fits, speed=speed)


def verdict_words(verdict: Verdict) -> str:
    """Return a verdict in the user's language."""
    return {
        Verdict.COMFORTABLE: _("comfortable"),
        Verdict.PARTLY_ON_GPU: _("partly on GPU"),
        Verdict.TIGHT: _("tight"),
        Verdict.TOO_LARGE: _("too large"),
    }[verdict]
