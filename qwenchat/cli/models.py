"""`qwenchat models`: lists, verifies, removes and exports models. `models_fit` and `pull` have the rest."""

import asyncio
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from msgspec import structs

from qwenchat.cli import completion
from qwenchat.cli.models_fit import fit
from qwenchat.cli.output import Output, is_terminal
from qwenchat.cli.pull import pull
from qwenchat.engines.remote.api import ServedModel
from qwenchat.errors import CannotLoad, ExitCode, NotFound, WrongUse
from qwenchat.i18n import _, enumerated, labelled, sentences
from qwenchat.models import gguf, verify
from qwenchat.models.catalogue import QWEN2, Catalogue, CatalogueModel, Quantisation
from qwenchat.models.context_sizes import ContextSizes
from qwenchat.models.export import export as export_model
from qwenchat.models.export import name_to_pull, size_of
from qwenchat.models.library import LocalModel, as_rows, owner, tools_words
from qwenchat.models.reference import RemoteReference, remote_in
from qwenchat.models.removal import plan_removal
from qwenchat.paths import shortened
from qwenchat.runtime.program import Program
from qwenchat.runtime.remote_engines import EngineListing
from qwenchat.text.safe import clean_line, human_size

_ANSWER_S = 2.0
"""Seconds that a list waits for engines elsewhere."""


as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def models() -> None:
    """Choose, check and manage models."""


models.add_command(fit)
models.add_command(pull)


@models.command(name="list")
@click.option("--local", is_flag=True, help="Leave out the models of engines elsewhere, and ask none.")
@as_json
@click.pass_obj
def list_(program: Program, local: bool, as_json: bool) -> None:
    """List the models on this machine, including those of other programs, and those of engines elsewhere."""
    output, (local_models, problems) = Output.standard(), program.library.survey()
    listings = asyncio.run(_elsewhere(program)) if program.settings.engines and not local else []
    remote = [(listing, model) for listing in listings if not listing.error for model in listing.models]
    if as_json:
        rows = [row | {"engine": "", "host": ""} for row in as_rows(local_models, problems)]
        output.json([*rows, *(_remote_row(*each) for each in remote)])
    elif local_models or remote:
        headings = [_("model"), _("name"), _("quantisation"), _("size"), _("context"), _("tools"), _("where"), ""]
        output.table(headings, [*map(_listed, local_models), *(_listed_elsewhere(*each) for each in remote)])
    else:
        output.say(_("There are no models yet. `qwenchat models fit` recommends one."))
    for listing in listings:
        if listing.error:
            output.say(labelled(f"@{listing.server.name}", listing.error.message))
    for problem in [] if as_json else problems:
        output.say(sentences(problem.message, problem.hint))


async def _elsewhere(program: Program) -> list[EngineListing]:
    """Ask all engines elsewhere and return their listings in the order of the settings."""
    listings = {listing.server.name: listing async for listing in program.remote_engines.ask(_ANSWER_S)}
    return [listings[server.name] for server in program.remote_engines.servers]


def _remote_row(listing: EngineListing, model: ServedModel) -> dict[str, object]:
    """Return a model elsewhere as an object of `models list --json`, with the fields of a local one."""
    empty = {"path": "", "from": "engine", "repo": "", "sha256": "", "architecture": ""}
    return {
        "model": listing.reference(model),
        "name": RemoteReference(listing.server.name, model.id).name,
        **empty,
        "quantisation": model.quantisation,
        "bytes": model.size,
        "context": model.n_ctx,
        "context_max": model.n_ctx_max,
        "parts": [],
        "tools": None,
        "problem": "",
        "engine": listing.server.name,
        "host": listing.server.host,
    }


def _listed_elsewhere(listing: EngineListing, model: ServedModel) -> list[str]:
    name = RemoteReference(listing.server.name, model.id).name
    size = human_size(model.size) if model.size else ""
    window = f"{model.n_ctx or model.n_ctx_max:,}" if model.n_ctx or model.n_ctx_max else ""
    return [listing.reference(model), name, model.quantisation, size, window, "", listing.server.host, ""]


def _listed(model: LocalModel) -> list[str]:
    header = model.header
    facts = [header.quantisation, human_size(header.file_size), _windows(model.context)] if header else ["", "", ""]
    tools = "" if model.problem else tools_words(model.tools)
    return [shortened(model.reference), model.name.title, *facts, tools, owner(model), model.problem]


def _windows(sizes: ContextSizes | None) -> str:
    """Return a model's context windows, in tokens."""
    if sizes is None:
        return ""
    return f"{sizes.native:,}" + (f" ({sizes.limit:,} YaRN)" if sizes.limit > sizes.native else "")


@models.command(name="catalog")
@click.argument("family", required=False, shell_complete=completion.families)
@click.option("--all", "every", is_flag=True, help="All families.")
@as_json
@click.pass_obj
def catalogue(program: Program, family: str | None, every: bool, as_json: bool) -> None:
    """List the models that can be downloaded: Qwen2's, or those of another FAMILY."""
    output, known = Output.standard(), program.catalogue
    models = known.models if every else known.of(_family_name(known, family or QWEN2))
    if as_json:
        output.json([_published(model) for model in models])
        return
    rows = []
    for model in models:
        window = f"{model.context:,}" + (f" ({model.yarn_context:,} YaRN)" if model.yarn_context else "")
        rows += [[model.reference(quant), _download(quant), window, model.licence] for quant in model.quantisations]
    output.table([_("model"), _("download"), _("context"), _("licence")], rows)
    for model in models:
        output.say(labelled(model.name, model.advice_here()))
    if family or every:
        return
    output.say(_("Other families (`qwenchat models catalog FAMILY` shows one, --all shows all):"))
    for each in known.relatives:
        sizes = ", ".join(model.size for model in known.of(each.name))
        output.say(labelled(each.name, f"{each.about_here()} ({sizes})"))


def _family_name(known: Catalogue, name: str) -> str:
    """Return the name of a family. Raises NotFound."""
    if family := known.family(name):
        return family.name
    raise NotFound(
        _("No family of models is named {name}.").format(name=clean_line(name)),
        _("The families: {names}.").format(names=enumerated(each.name for each in known.families)),
    )


def _download(quant: Quantisation) -> str:
    size = human_size(quant.size)
    return size if quant.exact else _("about {size}").format(size=size)


def _published(model: CatalogueModel) -> dict[str, object]:
    quants = [
        {
            "model": model.reference(quant),
            "bytes": quant.size,
            "exact": quant.exact,
            "files": [
                {"name": name, "bytes": part.bytes, "sha256": part.sha256 or None}
                for name, part in zip(model.file_names(quant), quant.parts, strict=True)
            ],
        }
        for quant in model.quantisations
    ]
    names = ("name", "family", "size", "title", "repo", "original", "base", "licence", "licence_url", "must_accept")
    facts = {name: getattr(model, name) for name in (*names, "context", "yarn_context", "advice")}
    facts |= {"purpose": model.purpose.value, "tools": model.calls_tools}
    sampling = {name: value for name, value in structs.asdict(model.sampling).items() if value not in (None, ())}
    return {**facts, "sampling": sampling, "parameters": model.shape.parameters, "quantisations": quants}


@models.command()
@click.argument("model", shell_complete=completion.models_to_show)
@as_json
@click.pass_obj
def info(program: Program, model: str, as_json: bool) -> None:
    """Show the metadata of a model's file, or what its server reports."""
    if remote := remote_in(model):
        _show_remote(program, remote, as_json=as_json)
        return
    local_model = _local_model(program, model)
    row = next(as_rows([local_model]))
    if (header := local_model.header) is not None:
        row |= {
            "identity": None if header.missing else gguf.identity(local_model.path),
            "layers": header.layers,
            "width": header.width,
            "heads": header.heads,
            "kv_heads": header.kv_heads,
            "head": header.key_length,
            "experts": header.experts,
            "experts_used": header.experts_used,
            "vocabulary": header.vocab_size,
            "tensors": header.tensor_count,
            "rope_freq_base": header.rope.freq_base,
            "rope_scaling": header.rope.scaling,
            "rope_scaling_factor": header.rope.factor or None,
            "rope_original_context": header.rope.original_context or None,
            "tokenizer": header.tokenizer,
            "chat_template": header.chat_template,
        }
    output = Output.standard()
    if as_json:
        output.json(row)
        return
    hidden = ("chat_template", "parts")
    facts = {name: value for name, value in row.items() if value not in ("", None, []) and name not in hidden}
    _show_facts(output, facts, where=owner(local_model), tools=tools_words(local_model.tools))
    if words := _about_windows(local_model.context):
        output.say(words)
    if header and not header.has_chat_template:
        output.say(_("It has no chat template: it continues text instead of answering."))
    elif local_model.only_completes:
        output.say(_("It is a base model: it continues text instead of answering (`qwenchat ask --complete`)."))


def _show_remote(program: Program, reference: RemoteReference, *, as_json: bool) -> None:
    """Show what a server reports about a model. Raises RemoteError, or NotFound where it does not offer the model."""
    output, engines = Output.standard(), program.remote_engines
    listing = asyncio.run(engines.listing(engines.server(reference.engine)))
    row = _remote_row(listing, listing.model(reference.model))
    row |= {"url": listing.server.url, "kind": listing.dialect}
    if as_json:
        output.json(row)
    else:
        facts = {name: value for name, value in row.items() if value not in ("", 0, None, [])}
        _show_facts(output, facts, where=listing.server.host)


def _show_facts(output: Output, facts: Mapping[str, object], *, where: str, tools: str = "") -> None:
    """Write the facts of a model: by the names of `--json` in a pipe, in the user's words on a terminal."""
    if not output.on_terminal:
        output.record(facts)
        return
    names = {
        "model": _("model"),
        "name": _("name"),
        "path": _("file"),
        "from": _("where"),
        "repo": _("repository"),
        "architecture": _("architecture"),
        "quantisation": _("quantisation"),
        "bytes": _("size"),
        "context": _("context"),
        "context_max": _("context, at most"),
        "tools": _("tools"),
        "problem": _("problem"),
        "identity": _("fingerprint"),
        "layers": _("layers"),
        "width": _("width"),
        "heads": _("attention heads"),
        "kv_heads": _("KV heads"),
        "head": _("width of a head"),
        "experts": _("experts"),
        "experts_used": _("experts of a token"),
        "vocabulary": _("vocabulary"),
        "tensors": _("tensors"),
        "tokenizer": _("tokenizer"),
        "engine": _("engine"),
        "host": _("host"),
        "kind": _("kind"),
    }
    words = {"from": where, "tools": tools}
    rows = []
    for name, value in facts.items():
        number = human_size if name == "bytes" else "{:,}".format
        shown = number(value) if isinstance(value, int) else str(value)
        rows.append([names.get(name, name), words.get(name, shown)])
    output.table(["", ""], [row for row in rows if row[1] not in ("", "0")])


def _about_windows(sizes: ContextSizes | None) -> str:
    """Return a sentence about windows that are stretched; empty if none can be."""
    if sizes is None:
        return ""
    if sizes.trained_scaling:
        return _("Its context window is always scaled ({kind}), as it was trained.").format(kind=sizes.trained_scaling)
    if sizes.limit == sizes.native:
        return ""
    words = _("Context windows above {native:,} tokens, up to {limit:,}, use YaRN (--ctx); shorter ones do not.")
    return words.format(native=sizes.native, limit=sizes.limit)


@models.command(name="verify")
@click.argument("model", shell_complete=completion.local_models)
@as_json
@click.pass_obj
def verify_(program: Program, model: str, as_json: bool) -> int:
    """Verify a model's files against their published hashes."""
    output, local_model = Output.standard(), _local_model(program, model)
    with _progress(output, size_of(local_model)) as report:
        checked = verify.verify(local_model, report)
    if as_json:
        output.json([msgspec.to_builtins(file, enc_hook=str) | {"is": file.verdict} for file in checked])
    else:
        words = {
            "ok": _("ok"),
            "damaged": _("damaged"),
            "differs": _("differs from the catalogue"),
            "unknown": _("no published hash to compare with"),
        }
        output.table(
            [_("file"), "sha256", ""], [[str(file.path), file.sha256, words[file.verdict]] for file in checked]
        )
    if any(file.verdict == "damaged" for file in checked):
        raise CannotLoad(
            _("{model} is damaged.").format(model=local_model.reference), _("Remove it and download it again.")
        )
    if any(file.verdict == "differs" for file in checked):
        raise CannotLoad(
            _("{model} differs from this version's catalogue.").format(model=local_model.reference),
            _("It is damaged or altered, or its makers replaced it. Download it again to compare it with the hub."),
        )
    return ExitCode.DONE


@models.command()
@click.argument("model", shell_complete=completion.local_models)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--hf-cache", is_flag=True, help="Also delete from the Hugging Face cache, which other programs share.")
@as_json
@click.pass_obj
def remove(program: Program, model: str, yes: bool, hf_cache: bool, as_json: bool) -> None:
    """Delete a model's files and show how much space that frees."""
    output, local_model = Output.standard(), _local_model(program, model)
    removal = plan_removal(local_model, program.model_folders, hf_cache=hf_cache)
    for file in removal.files:
        output.say(str(file))
    if not yes:
        _ask(_("Delete this and free {size}?").format(size=human_size(removal.frees)))
    removal.execute()
    if as_json:
        files = [str(file) for file in removal.files]
        output.json({"model": local_model.reference, "files": files, "freed": removal.frees})
    else:
        output.say(_("Freed {size}.").format(size=human_size(removal.frees)))


def _ask(question: str) -> None:
    """Return when the user confirms. Raises click.Abort for a no, and WrongUse without a terminal to ask on."""
    if not is_terminal(sys.stdin):
        raise WrongUse(_("This command asks for confirmation, but there is no terminal."), _("Add --yes."))
    click.confirm(question, abort=True, err=True)


@models.command()
@click.argument("model", shell_complete=completion.local_models)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@as_json
@click.pass_obj
def export(program: Program, model: str, folder: Path, as_json: bool) -> None:
    """Copy a model and its hashes to FOLDER, for a machine that is never online."""
    output, local_model = Output.standard(), _local_model(program, model)
    if local_model.problem:
        raise CannotLoad(local_model.problem, _("Download it again before you export it."))
    with _progress(output, size_of(local_model)) as report:
        files = export_model(local_model, folder, report).files
    if as_json:
        output.json([{"name": file.name, "bytes": file.size, "sha256": file.sha256} for file in files])
    else:
        rows = [[file.name, human_size(file.size or 0), file.sha256 or ""] for file in files]
        output.table([_("file"), _("size"), "sha256"], rows)
    name = shlex.quote(name_to_pull(local_model))
    output.say(_("On the other machine: qwenchat models pull {model} --from file:FOLDER").format(model=name))


def _local_model(program: Program, model: str) -> LocalModel:
    return program.library.model(program.library.parse(model))


@contextmanager
def _progress(output: Output, total: int) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on a terminal; the function takes the bytes processed since its last call."""
    if not output.colour:
        yield lambda count: None
        return
    with click.progressbar(length=total, file=output.err) as bar:

        def report(count: int) -> None:
            bar.update(count)

        yield report
