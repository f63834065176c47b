"""`qwenchat engines`: adds, lists, checks and removes the engines elsewhere that `@NAME/MODEL` refers to.

Only `add` and `test` connect to a server. A key is never read from the command line, where other users of the machine
could see it, and never shown.
"""

import asyncio
from typing import Any

import click
import msgspec

from qwenchat import config
from qwenchat.chat.sampling import Dialect
from qwenchat.cli import completion
from qwenchat.cli.output import Output, shell_advice
from qwenchat.engine_settings import EngineSettings, checked
from qwenchat.engines.remote.keys import key_place
from qwenchat.errors import ExitCode, QwenchatError, WrongUse
from qwenchat.i18n import _, labelled, ngettext, sentences
from qwenchat.models.reference import RemoteReference, remote_in
from qwenchat.runtime.engine_check import EngineReport, check_engine, dialect_name, limitations
from qwenchat.runtime.program import Program
from qwenchat.runtime.remote_engines import EngineListing
from qwenchat.text.safe import clean_line

as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def engines() -> None:
    """Use models that run on other machines, as @NAME/MODEL."""


@engines.command(name="list")
@as_json
@click.pass_obj
def list_(program: Program, as_json: bool) -> None:
    """List the engines of the settings. Nothing is connected to."""
    output, rows = Output.standard(), [_row(program, *each) for each in program.settings.engines.items()]
    if as_json:
        output.json(rows)
    elif rows:
        headings = [_("engine"), "URL", _("kind"), _("key"), _("context")]
        output.table(headings, [_shown(program, *each) for each in program.settings.engines.items()])
    else:
        output.say(_("There are no engines elsewhere. `qwenchat engines add NAME URL` adds one."))


def _row(program: Program, name: str, engine: EngineSettings) -> dict[str, object]:
    server = program.remote_engines.server(name)
    place = key_place(server, program.environ)
    return {
        "name": name,
        "url": engine.url,
        "host": server.host,
        "kind": engine.kind,
        "key": {"from": place.kind, "name": place.name, "set": place.is_set} if place else None,
        "context": engine.context,
    }


def _shown(program: Program, name: str, engine: EngineSettings) -> list[str]:
    place = key_place(program.remote_engines.server(name), program.environ)
    kind = dialect_name(engine.kind) if engine.kind else _("found out by asking")
    return [name, engine.url, kind, place.words if place else "", f"{engine.context:,}" if engine.context else ""]


@engines.command()
@click.argument("name")
@click.argument("url")
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in Dialect]),
    metavar="KIND",
    help="openai, llama-server, vllm, lm-studio, dashscope or ollama; default: find out.",
)
@click.option("--key-env", default="", metavar="VARIABLE", help="Environment variable that holds the key.")
@click.option("--key-command", default="", metavar="COMMAND", help="Command that prints the key.")
@click.option("--key-file", default="", metavar="FILE", help="File that holds the key, readable by you alone.")
@click.option("--context", type=click.IntRange(min=1), help="Context window in tokens; default: what it reports.")
@click.option("--no-test", is_flag=True, help="Do not connect to it.")
@as_json
@click.pass_obj
def add(program: Program, /, **options: Any) -> None:
    """Add an engine and print its models. It is saved even if it does not answer now.

    NAME is lower-case letters, digits and hyphens; URL is that of the server, such as http://10.0.0.5:8080.
    """
    output, name = Output.standard(), options["name"]
    if name in program.settings.engines:
        raise WrongUse(
            _("There is an engine named {name} already.").format(name=name),
            _("Remove it first with `qwenchat engines remove {name}`, or use another name.").format(name=name),
        )
    engine = checked(
        name,
        EngineSettings(
            url=options["url"],
            kind=Dialect(options["kind"]) if options["kind"] else None,
            key_env=options["key_env"],
            key_command=options["key_command"],
            key_file=options["key_file"],
            context=options["context"] or 0,
        ),
    )
    config.put_engine(program.paths.settings, name, engine)
    program.reread_settings()
    _warn_of_exposed_key(output, engine)
    remote = program.remote_engines
    listing = None if options["no_test"] else asyncio.run(remote.listing(remote.server(name)))
    if options["as_json"]:
        output.json(_row(program, name, engine) | _answer(listing))
        return
    output.say(_("Saved. Its models are named @{name}/MODEL.").format(name=name))
    if listing:
        _show_answer(output, listing)


def _warn_of_exposed_key(output: Output, engine: EngineSettings) -> None:
    if engine.exposes_key:
        output.say(_("Its key is sent unencrypted over the network. Use https where you can."))


def _answer(listing: EngineListing | None) -> dict[str, object]:
    """Return what a server answered as JSON; nulls where it was not asked."""
    if listing is None:
        return {"reachable": None, "error": None, "models": []}
    return {
        "reachable": listing.error is None,
        "error": _error_json(listing.error),
        "kind": listing.dialect,
        "models": [] if listing.error else [listing.reference(model) for model in listing.models],
    }


def _error_json(error: QwenchatError | None) -> dict[str, str] | None:
    return {"code": error.code, "message": error.message, "advice": shell_advice(error)} if error else None


def _show_answer(output: Output, listing: EngineListing) -> None:
    if listing.error:
        output.say(sentences(listing.error.message, listing.error.hint))
        return
    output.say(_answers(listing))
    for model in listing.models:
        output.data(clean_line(listing.reference(model), 1000))


def _answers(listing: EngineListing) -> str:
    count = len(listing.models)
    return ngettext(
        "{host} answers as {kind}, with {count} model.", "{host} answers as {kind}, with {count} models.", count
    ).format(host=listing.server.host, kind=dialect_name(listing.dialect), count=count)


@engines.command()
@click.argument("name", metavar="NAME", shell_complete=completion.engines)
@as_json
@click.pass_obj
def test(program: Program, name: str, as_json: bool) -> int:
    """Check what an engine offers and can't do, and its speed.

    NAME is that of the engine, or @NAME/MODEL to choose the model that generates a few tokens.
    """
    output = Output.standard()
    reference = remote_in(name if name.startswith("@") else f"@{name}") or RemoteReference(name)
    server = program.remote_engines.server(reference.engine)
    report = asyncio.run(check_engine(program.remote_engines, server, program.remote_engine, reference.model))
    if as_json:
        output.json(_report_json(report))
    else:
        _show_report(output, report)
    if report.error:
        raise report.error
    _warn_of_exposed_key(output, program.settings.engines[server.name])
    return ExitCode.DONE


def _report_json(report: EngineReport) -> dict[str, object]:
    listing, info = report.listing, report.info
    models = [{"model": listing.reference(model), **msgspec.to_builtins(model)} for model in listing.models]
    return {
        "name": listing.server.name,
        "url": listing.server.url,
        "host": listing.server.host,
        "reachable": listing.error is None,
        "kind": listing.dialect,
        "models": [] if listing.error else models,
        "tested": report.model or None,
        "context": info.n_ctx if info else None,
        "warnings": list(info.warnings) if info else [],
        "capabilities": msgspec.to_builtins(report.capabilities),
        "lacks": list(report.lacks),
        "ttft_s": round(report.timings.ttft_s, 4) if report.timings else None,
        "decode_tps": round(report.timings.decode_tps, 2) if report.timings else None,
        "error": _error_json(report.error),
    }


def _show_report(output: Output, report: EngineReport) -> None:
    listing, info, timings = report.listing, report.info, report.timings
    if listing.error:
        return
    output.data(_answers(listing))
    rows = [
        [clean_line(listing.reference(model), 1000), model.quantisation, f"{model.n_ctx:,}" if model.n_ctx else ""]
        for model in listing.models
    ]
    output.table([_("model"), _("quantisation"), _("context")], rows)
    if info:
        words = _("{model} has a context window of {window:,} tokens.")
        output.data(words.format(model=clean_line(report.model), window=info.n_ctx))
        for words in info.warnings:
            output.data(words)
    if timings:
        words = _("First token after {first:.2f} s, then {speed:.1f} tokens/s.")
        output.data(words.format(first=timings.ttft_s, speed=timings.decode_tps))
    for words in limitations(report):
        output.data(words)


@engines.command()
@click.argument("name", shell_complete=completion.engines)
@as_json
@click.pass_obj
def remove(program: Program, name: str, as_json: bool) -> None:
    """Remove an engine from the settings. Chats and the server stay as they are."""
    output, server = Output.standard(), program.remote_engines.server(name)
    config.put_engine(program.paths.settings, name, None)
    program.reread_settings()
    if as_json:
        output.json({"name": name, "url": server.url})
    else:
        output.say(labelled(_("Removed"), f"{name} ({server.url})"))
