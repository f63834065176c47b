"""Recommends a model for this machine: assesses the models of a family, orders them best first, gives reasons.

The advice is about the machine and not about the moment: it follows the memory that is usually free, so that it is the
same from one minute to the next. How a model fits right now is shown beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from operator import itemgetter
from pathlib import Path

from qwenchat.i18n import _, sentences
from qwenchat.models import fit
from qwenchat.models.catalogue import QWEN2, Catalogue, PublishedModel
from qwenchat.models.fit import Fit, Resources, Verdict
from qwenchat.models.gguf import ModelHeader, identity
from qwenchat.models.library import LocalModel
from qwenchat.models.measured import ModelSpeed
from qwenchat.text.safe import human_size

USUAL_QUANT, _ROOMY_QUANT = "q4_k_m", "q8_0"
"""The quantisation to recommend, and the one where far more would fit: its answers are hardly better."""
_TOO_SLOW = fit.READING_SPEED / 2
"""Tokens per second. An estimate may be far too low, and a larger model answers much better."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """How well one model suits this machine."""

    reference: str
    """The model reference."""
    fit: Fit
    """With the memory that is free now."""
    _: KW_ONLY
    usual: Fit
    """With the memory that is usually free."""
    path: Path | None
    """The file, if the model is already on this machine."""
    measured: ModelSpeed | None
    disk_missing: int
    """Bytes of disk space that its download lacks."""
    published: PublishedModel | None = None
    """The entry of the catalogue, if it has one."""
    is_offered: bool = True
    """Whether it is worth recommending on any machine: not below four bits, and not in half precision."""

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
        """Whether readers would clearly wait for the text."""
        return self.decode_tps is not None and self.decode_tps < _TOO_SLOW

    @property
    def suits(self) -> bool:
        """Whether this machine can usually run it."""
        return self.usual.verdict is not Verdict.TOO_LARGE and not self.disk_missing

    @property
    def can_run(self) -> bool:
        """Whether it fits into memory now, and on the disk if it must be downloaded."""
        return self.fit.verdict is not Verdict.TOO_LARGE and not self.disk_missing


def assess_catalogue(
    catalogue: Catalogue,
    resources: Resources,
    local: Mapping[str, tuple[Path, ModelSpeed | None]],
    *,
    family: str = QWEN2,
    limit: int = fit.NATIVE_CONTEXT,
    kv_type: str = "auto",
) -> list[Assessment]:
    """Return every quantisation of a family, best first; `local` (see `local_files`) are those on this machine.

    The criteria, most important first: this machine can usually run it; it is worth recommending at all
    (`Assessment.is_offered`), as a smaller model answers better than a rough quantisation of a larger one; its size is
    not slow here; it leaves room for other programs and needs no other machine; the model is larger; it has the usual
    quantisation, or the roomy one where that takes at most half of the memory and writes twice as fast as users read;
    the quantisation is larger. Among slow models, smaller ones come first.
    """
    ranked = []
    for number, model in enumerate(catalogue.of(family)):
        rows = []
        for quant in model.quantisations:
            published = PublishedModel(model, quant)
            path, speed = local.get(published.reference, (None, None))
            longest = min(limit, max(model.context, model.yarn_context))
            row = Assessment(
                published.reference,
                fit.plan(published, resources, longest, kv_type),
                usual=fit.plan(published, resources.usual, longest, kv_type),
                path=path,
                measured=speed,
                disk_missing=0 if path else fit.disk_missing(quant.size, resources.disk_free),
                published=published,
                is_offered=quant in model.offered and not quant.rough,
            )
            rows.append((quant, row))
        roomy = any(quant.label == _ROOMY_QUANT and _fits_with_ease(row, resources.usual) for quant, row in rows)
        has_usual = model.quantisation(USUAL_QUANT) is not None
        best = USUAL_QUANT if has_usual and not roomy else _ROOMY_QUANT
        is_slow = any(row.is_slow for quant, row in rows if quant.label == best)
        for quant, row in rows:
            size, file_size = (number, quant.size) if is_slow else (-number, -quant.size)
            strained = row.usual.verdict in (Verdict.TIGHT, Verdict.WITH_PEERS)
            order = not row.suits, not row.is_offered, is_slow, strained, size, quant.label != best, file_size
            ranked.append((order, row))
    return [row for _order, row in sorted(ranked, key=itemgetter(0))]


def _fits_with_ease(row: Assessment, usual: Resources) -> bool:
    quick = (row.usual.decode_tps or 0.0) >= 2 * fit.READING_SPEED
    on_gpu = usual.gpu_available > 0 and row.usual.gpu_layers > 0 and row.usual.verdict is Verdict.COMFORTABLE
    return row.suits and (quick or on_gpu) and row.usual.memory.total <= usual.alone.comfortable / 2


def assess_file(
    model: LocalModel, header: ModelHeader, resources: Resources, limit: int, *, kv_type: str, speed: ModelSpeed | None
) -> Assessment:
    """Return how well a file suits this machine with a window of at most `limit` tokens."""
    now, usual = (fit.plan(header, has, limit, kv_type) for has in (resources, resources.usual))
    return Assessment(
        model.reference,
        now,
        usual=usual,
        path=model.path,
        measured=speed,
        disk_missing=0,
        published=model.published,
    )


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
    """Return the recommended model: the first that this machine can usually run, never one below four bits."""
    return next((row for row in rows if row.suits and row.is_offered), None)


def advice(row: Assessment) -> str:
    """Return a sentence with the reason for recommending a model."""
    if not row.can_run:
        return _(
            "It usually runs well on this computer, but too little memory is free now: close other programs first."
        )
    if row.usual.verdict is Verdict.WITH_PEERS:
        return _("It runs only with the memory of peers, and slower than on one machine.")
    if row.is_slow:
        return _("It is the fastest on this computer that still answers well.")
    return _("It is the largest that runs well on this computer.")


def reason(row: Assessment) -> str:
    """Return a sentence on how a model fits now, and on its speed."""
    fits = _("{verdict}: it takes {needed} of {available} of free memory with a window of {n_ctx:,} tokens").format(
        verdict=verdict_words(row.fit.verdict),
        needed=human_size(row.fit.memory.total),
        available=human_size(row.fit.available),
        n_ctx=row.fit.n_ctx,
    )
    if row.decode_tps is None and row.fit.peer_layers:
        speed = _("its speed depends on the peers and the network")
    elif row.decode_tps is None:
        speed = _("its speed here has not been measured yet")
    elif row.is_measured:
        speed = _("it ran at {speed:.1f} tokens per second here").format(speed=row.decode_tps)
    else:
        speed = _("it should reach about {speed:.1f} tokens per second (an estimate)").format(speed=row.decode_tps)
    return _("{fits}; {speed}.").format(fits=fits, speed=speed)


def free_words(resources: Resources) -> str:
    """Return what this machine has free, and what marks an estimate, in sentences."""
    words = _("Free: {ram} of memory, {disk} of disk space.")
    if resources.gpu_available:
        words = _("Free: {ram} of memory, {gpu} of GPU memory, {disk} of disk space.")
    sizes = {"ram": resources.ram_available, "gpu": resources.gpu_available, "disk": resources.disk_free}
    return sentences(words.format(**{name: human_size(size) for name, size in sizes.items()}), _("~ = estimate."))


def verdict_words(verdict: Verdict) -> str:
    """Return a verdict in the user's language."""
    return {
        Verdict.COMFORTABLE: _("comfortable"),
        Verdict.PARTLY_ON_GPU: _("partly on GPU"),
        Verdict.WITH_PEERS: _("with peers"),
        Verdict.TIGHT: _("tight"),
        Verdict.TOO_LARGE: _("too large"),
    }[verdict]
