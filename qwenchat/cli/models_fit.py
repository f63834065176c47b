"""`qwenchat models fit`: which models of a family fit this machine, best first. `models.recommendation` decides.

Without a name it shows Qwen2, and the best model of each other family in one line.
"""

from collections.abc import Sequence

import click
from msgspec import structs, to_builtins

from qwenchat.cli import completion
from qwenchat.cli.output import Output
from qwenchat.errors import CannotLoad
from qwenchat.i18n import _, labelled
from qwenchat.models.catalogue import QWEN2, Family
from qwenchat.models.fit import NATIVE_CONTEXT, Resources
from qwenchat.models.gguf import identity
from qwenchat.models.library import LocalModel
from qwenchat.models.recommendation import (
    Assessment,
    advice,
    assess_catalogue,
    assess_file,
    free_words,
    local_files,
    reason,
    recommended,
    verdict_words,
)
from qwenchat.models.reference import CatalogueReference
from qwenchat.paths import shortened
from qwenchat.runtime.program import Program
from qwenchat.text.safe import human_size

_BestOf = tuple[Family, Assessment | None]


@click.command()
@click.argument("model", required=False, shell_complete=completion.models_and_families)
@click.option("--ctx", type=click.IntRange(min=256), help="Largest context window, in tokens; default: up to 32768.")
@click.option("--kv-type", type=click.Choice(["auto", "f16", "q8_0"]), help="KV cache type.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def fit(program: Program, model: str | None, ctx: int | None, kv_type: str | None, as_json: bool) -> None:
    """Show which models fit this machine, best first, or whether one model does.

    MODEL may also be a family, such as coder. Without it, Qwen2 is shown, and the best model of each other family.
    """
    output, assessor = Output.standard(), _Assessor(program, ctx, kv_type or program.settings.model.kv_type)
    rows = assessor.named(model) if model else assessor.family(QWEN2)
    relatives = (
        [] if model else [(each, recommended(assessor.family(each.name))) for each in program.catalogue.relatives]
    )
    best = recommended(rows)
    if as_json:
        output.json(
            {
                "machine": to_builtins(assessor.resources),
                "recommended": best.reference if best else None,
                "reason": reason(best) if best else None,
                "models": [_record(row) for row in rows],
                "families": [_family_record(*each) for each in relatives],
            }
        )
        return
    headings = [_("model"), _("needs"), _("window"), _("KV"), _("fits"), _("tokens/s"), ""]
    output.table(headings, [_shown(row) for row in rows])
    _say_resources(program, output, assessor.resources)
    if best:
        output.say(_("Recommended: {model}. {reason}").format(model=shortened(best.reference), reason=advice(best)))
        output.say(_("It is already installed.") if best.path else f"qwenchat models pull {best.reference}")
    else:
        words = _("None of these can run on this computer. Free memory or disk space, or use a smaller window (--ctx).")
        if any(row.can_run for row in rows):
            words = _("None of these runs well on this computer.")
        output.say(words)
    _say_relatives(output, relatives)


class _Assessor:
    """Assesses models on this machine with the context window and the KV type that were asked for."""

    def __init__(self, program: Program, ctx: int | None, kv_type: str) -> None:
        self.resources: Resources = program.usable(measure=True)
        self._program, self._ctx, self._kv_type = program, ctx, kv_type
        self._speeds = program.machine.measured.speeds()
        self._local = local_files(program.library.usable(), self._speeds)

    def family(self, name: str) -> list[Assessment]:
        """Return all models of a family."""
        return assess_catalogue(
            self._program.catalogue,
            self.resources,
            self._local,
            family=name,
            limit=self._ctx or NATIVE_CONTEXT,
            kv_type=self._kv_type,
        )

    def named(self, name: str) -> list[Assessment]:
        """Return the models of a size or a family of the catalogue, or else the one model on this machine.

        Raises what `Library.model` does, and CannotLoad for a file that can't be used.
        """
        library, catalogue = self._program.library, self._program.catalogue
        wanted = library.parse(name)
        if isinstance(wanted, CatalogueReference):
            rows = [row for row in self.family(wanted.model.family) if row.published]
            models = [row for row in rows if row.published and row.published.model is wanted.model]
            return [row for row in models if wanted.quant is None or row.reference == str(wanted)]
        if (family := catalogue.family(name)) and not library.find(wanted):
            return self.family(family.name)
        return [self._file(library.model(wanted))]

    def _file(self, model: LocalModel) -> Assessment:
        if not model.header or not model.context or model.problem:
            raise CannotLoad(model.problem, _("Download it again, or choose another model."))
        sizes = model.context
        limit = min(self._ctx, sizes.limit) if self._ctx else min(NATIVE_CONTEXT, sizes.native)
        speed = self._speeds.get(identity(model.path))
        return assess_file(model, model.header, self.resources, limit, kv_type=self._kv_type, speed=speed)


def _say_resources(program: Program, output: Output, resources: Resources) -> None:
    """Say what this machine has free, and what each peer of the settings adds, or why it adds nothing."""
    output.say(free_words(resources))
    survey = program.machine.survey_peers(program.allowed_peers)
    for device in survey.devices:
        output.say(
            _("Peer {peer}: {free} of memory, for models that this computer has no room for.").format(
                peer=device.peer, free=human_size(device.memory_free)
            )
        )
    for peer, fault in survey.faults.items():
        output.say(_("Peer {peer}: {reason}.").format(peer=peer, reason=fault))
    if survey.devices:
        output.say(_("Peers add memory, not speed: each answer waits for the slowest of them and for the network."))


def _say_relatives(output: Output, relatives: Sequence[_BestOf]) -> None:
    """Say which model of each other family to take."""
    if relatives:
        output.say(_("The best of each other family (`qwenchat models fit FAMILY` shows all of it):"))
    for family, best in relatives:
        if best is None:
            output.say(labelled(family.name, _("none of its models runs well on this computer")))
            continue
        reference, needs, _window, _kv, verdict, speed, note = _shown(best)
        speed = _("{speed} tokens/s").format(speed=speed) if speed else ""
        output.say(labelled(family.name, " · ".join(filter(None, (reference, needs, verdict, speed, note)))))


def _shown(row: Assessment) -> list[str]:
    speed = "" if row.decode_tps is None else f"{'' if row.is_measured else '~'}{row.decode_tps:.1f}"
    note = _("installed") if row.path else ""
    if row.disk_missing:
        note = _("needs {size} more disk space").format(size=human_size(row.disk_missing))
    fit = row.fit
    needs, window = human_size(fit.memory.total), f"{fit.n_ctx:,}"
    return [shortened(row.reference), needs, window, fit.kv_type, verdict_words(fit.verdict), speed, note]


def _record(row: Assessment) -> dict[str, object]:
    fit = row.fit
    return {
        "model": row.reference,
        "family": row.published.model.family if row.published else "",
        "verdict": fit.verdict.value,
        "memory": structs.asdict(fit.memory) | {"total": fit.memory.total},
        "available": fit.available,
        "context": fit.n_ctx,
        "kv_type": fit.kv_type,
        "gpu_layers": fit.gpu_layers,
        "peer_layers": list(fit.peer_layers),
        "decode_tps": row.decode_tps,
        "measured": row.is_measured,
        "here": str(row.path) if row.path else None,
        "disk_missing": row.disk_missing,
    }


def _family_record(family: Family, best: Assessment | None) -> dict[str, object]:
    return {
        "family": family.name,
        "title": family.title,
        "recommended": best.reference if best else None,
        "reason": reason(best) if best else None,
    }
