"""`qwenchat models fit`: which models this machine can run, how fast, and which one to take."""

from dataclasses import asdict

import click

from qwenchat.cli import complete
from qwenchat.cli.output import Output
from qwenchat.errors import CannotLoad
from qwenchat.i18n import _
from qwenchat.models.advice import Advice, here, reason, recommended, table, verdict_words
from qwenchat.models.fit import NATIVE_CONTEXT, Resources, plan
from qwenchat.models.gguf import identity
from qwenchat.models.reference import Published, parse
from qwenchat.program import Program
from qwenchat.text import human_size


@click.command()
@click.argument("model", required=False, shell_complete=complete.models)
@click.option("--ctx", type=click.IntRange(min=256), default=NATIVE_CONTEXT, help="Largest context window, in tokens.")
@click.option("--kv-type", type=click.Choice(["auto", "f16", "q8_0"]), help="KV cache type.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def fit(program: Program, model: str | None, ctx: int, kv_type: str | None, as_json: bool) -> None:
    """Say which models fit this machine, best first, or whether one does."""
    output, resources = Output.standard(), program.usable(measure=True)
    rows = _rows(program, resources, model, ctx, kv_type or program.settings.model.kv_type)
    best = recommended(rows)
    if as_json:
        output.json(
            {
                "machine": asdict(resources),
                "recommended": best.reference if best else None,
                "reason": reason(best) if best else None,
                "models": [_record(row) for row in rows],
            }
        )
        return
    headings = [_("model"), _("needs"), _("window"), _("KV"), _("fits"), _("tokens/s"), ""]
    output.table(headings, [_shown(row) for row in rows])
    output.say(
        _("Free: {ram} of memory, {gpu} on accelerators, {disk} on the disk. ~ marks an estimate.").format(
            ram=human_size(resources.ram_available),
            gpu=human_size(resources.gpu_available),
            disk=human_size(resources.disk_free),
        )
    )
    if best:
        output.say(_("Take {model}: {reason}").format(model=best.reference, reason=reason(best)))
        output.say(_("It is here already.") if best.here else f"qwenchat models pull {best.reference}")
    else:
        output.say(_("None of these can run here: free memory or disk, or use a smaller window (--ctx)."))


def _rows(program: Program, resources: Resources, model: str | None, ctx: int, kv_type: str) -> list[Advice]:
    """Return the whole table, the rows of one size, or the one row of a model that is not of the catalogue."""
    wanted = parse(model, program.catalog) if model else None
    speeds = program.machine.measured.speeds()
    if wanted is None or isinstance(wanted, Published):
        rows = table(program.catalog, resources, here(program.library.usable(), speeds), ctx, kv_type)
        if wanted is None:
            return rows
        return [row for row in rows if str(wanted) in (row.reference, row.reference.partition(":")[0])]
    entry = program.library.entry(wanted)
    if not entry.header or entry.problem:
        raise CannotLoad(entry.problem, _("Download it again, or choose another model."))
    limit = min(ctx, entry.header.context_length or ctx)
    planned = plan(entry.header, resources, limit, kv_type)
    return [Advice(entry.reference, planned, entry.path, speeds.get(identity(entry.path)), 0)]


def _shown(row: Advice) -> list[str]:
    speed = "" if row.decode_tps is None else f"{'' if row.is_measured else '~'}{row.decode_tps:.1f}"
    note = _("here") if row.here else ""
    if row.disk_missing:
        note = _("{size} of disk missing").format(size=human_size(row.disk_missing))
    fit = row.fit
    needs, window = human_size(fit.memory.total), f"{fit.n_ctx:,}"
    return [row.reference, needs, window, fit.kv_type, verdict_words(fit.verdict), speed, note]


def _record(row: Advice) -> dict[str, object]:
    fit = row.fit
    return {
        "model": row.reference,
        "verdict": fit.verdict.value,
        "memory": asdict(fit.memory) | {"total": fit.memory.total},
        "available": fit.available,
        "context": fit.n_ctx,
        "kv_type": fit.kv_type,
        "gpu_layers": fit.gpu_layers,
        "decode_tps": row.decode_tps,
        "measured": row.is_measured,
        "here": str(row.here) if row.here else None,
        "disk_missing": row.disk_missing,
    }
