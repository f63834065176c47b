"""`qwenchat serve`: other programs use a model over HTTP; or this machine is lent to another one (`serve_rpc`)."""

import asyncio
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from qwenchat.chat.events import LoadEvent, Loading
from qwenchat.cli import completion
from qwenchat.cli.consent import ask_to_send
from qwenchat.cli.load_options import load_options, with_load_options
from qwenchat.cli.output import Output, StatusLine
from qwenchat.cli.serving import refuse_if_offline, stopped_by_signal
from qwenchat.errors import ExitCode, WrongUse
from qwenchat.i18n import _
from qwenchat.runtime.model_choice import model_to_ask, no_model
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line

if TYPE_CHECKING:
    from qwenchat.runtime.served_models import ServedModels
    from qwenchat.server.chat import Answered, AnsweredChat

_PORT, _RPC_PORT = 8080, 50052
"""What llama-server and llama.cpp's RPC choose, too."""
_OF_RPC = ("rpc", "host", "port", "threads", "cache")
"""The options that lending this machine has."""


@click.command()
@click.option(
    "-m",
    "--model",
    default="",
    metavar="REF",
    shell_complete=completion.models,
    help="Model that is loaded at the start; requests may name other ones.",
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen at.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen at.  [default: 8080; with --rpc 50052]")
@click.option("--api-key-env", default="", metavar="NAME", help="Variable with the key that requests must carry.")
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Requests that are served together, each with a context window of its own.",
)
@click.option(
    "--keep-alive",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Unload a model that nobody has used for so long; default: never.",
)
@click.option("--save", is_flag=True, help="Save the chats that are answered as sessions.")
@with_load_options
@click.option("--rpc", is_flag=True, help="Lend memory and compute to another machine instead, by llama.cpp's RPC.")
@click.option(
    "--cache", is_flag=True, help="With --rpc: store the weights that are sent, so that the next load is faster."
)
@click.pass_context
def serve(context: click.Context, /, **options: Any) -> int:
    """Let other programs use a model by OpenAI's HTTP interface, until Ctrl-C.

    It listens at this machine alone unless --host says otherwise; then requests must carry a key. Nothing of them is
    logged, and nothing is stored without --save.

    With --rpc, another machine's qwenchat can put layers of a model here that is too large for it: there, add this
    address to the setting model.rpc. Nothing of its chats is stored here, but whoever reaches the port can use this
    machine and read what is computed. So an SSH tunnel is the best way to reach it.
    """
    program: Program = context.obj
    given = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    port = options["port"] or (_RPC_PORT if options["rpc"] else _PORT)
    if options["rpc"]:
        from qwenchat.cli.serve_rpc import lend_machine  # noqa: PLC0415 - the two have nothing in common

        _check_rpc(given)
        lend_machine(program, host=options["host"], port=port, threads=options["threads"], cache=options["cache"])
        return ExitCode.DONE
    if options["cache"]:
        raise WrongUse(_("--cache has no effect without --rpc."), _("Leave it out."))
    asyncio.run(_serve(program, options, port))
    return ExitCode.DONE


async def _serve(program: Program, options: dict[str, Any], port: int) -> None:
    """Listen, load the model, and serve until Ctrl-C or SIGTERM."""
    from qwenchat.engines.local.sharing import sharing  # noqa: PLC0415 - `--help` and `--rpc` need no HTTP
    from qwenchat.runtime.served_models import ServedModels  # noqa: PLC0415
    from qwenchat.runtime.served_names import ServedNames, name_of  # noqa: PLC0415
    from qwenchat.server.app import Access, App  # noqa: PLC0415
    from qwenchat.server.listening import is_only_loopback, listen, serving, url_of  # noqa: PLC0415

    output = Output.standard()
    key = _key(options["api_key_env"])
    model = model_to_ask(program, options["model"], None)
    if not model:
        raise no_model()
    ask_to_send(program, output, model, lambda: (), named=bool(options["model"]))
    wanted = load_options(options, parallel=options["parallel"], scores=True)
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(listen(options["host"], port))
        is_here = is_only_loopback(listening)
        if not is_here:
            _check_exposed(program, key)
        served = ServedModels(program.engine, wanted, keep_alive_s=options["keep_alive"])
        stack.push_async_callback(served.close)
        stopped = stopped_by_signal()
        if not await _is_loaded(served, model, output, stopped):
            return
        answered = _saved_by(program, output, stack) if options["save"] else _not_saved
        app = App(served, ServedNames(program, model), Access(key=key, only_loopback=is_here), answered=answered)
        await stack.enter_async_context(serving(app, listening))
        stack.push_async_callback(served.close)  # answers end before connections do
        await stack.enter_async_context(sharing(program.paths.runtime, served))
        for warning in served.info.warnings if served.info else ():
            output.say(warning)
        url = f"{url_of(listening)}/v1"
        output.say(_("{model} is served at {url}. Ctrl-C ends it.").format(model=name_of(model), url=url))
        await stopped.wait()


def _saved_by(program: Program, output: Output, stack: AsyncExitStack) -> "Answered":
    """Return what saves chats as sessions, all of them before the command ends. Raises StoreError."""
    from qwenchat.server.saving import SavedChats  # noqa: PLC0415

    chats = SavedChats(program.store, output.error)
    stack.callback(chats.close)
    return chats.add


def _not_saved(_answer: "AnsweredChat") -> None:
    """Save nothing."""


async def _is_loaded(served: "ServedModels", model: str, output: Output, stopped: asyncio.Event) -> bool:
    """Load the model; return False where the user stops that."""
    line = StatusLine(output)

    def show(event: LoadEvent) -> None:
        if isinstance(event, Loading):
            line.show(_("Loading the model: {percent:.0%}").format(percent=event.fraction))

    async def load() -> None:
        async with served.grant(model, show):
            line.clear()

    loading, stopping = asyncio.create_task(load()), asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
        return loading.done()
    finally:
        line.clear()
        for task in (loading, stopping):
            task.cancel()


def _key(variable: str) -> str:
    """Return the key of an environment variable; empty where none is named. Raises WrongUse for one that is not set."""
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise WrongUse(
            _("The variable {variable} is not set.").format(variable=clean_line(variable)),
            _("Set it to the key that requests have to carry."),
        )
    return key


def _check_exposed(program: Program, key: str) -> None:
    """Raise WrongUse where other machines could use the model without a key, NetworkError where they must not."""
    refuse_if_offline(program)
    if not key:
        raise WrongUse(
            _("Whoever reaches this address could use the model."),
            _("Name a variable that holds a key with --api-key-env, or serve at 127.0.0.1."),
        )


def _check_rpc(given: set[str]) -> None:
    """Raise WrongUse for an option that lending this machine does not have."""
    if others := sorted(given - {*_OF_RPC}):
        raise WrongUse(
            _("{first} and {second} can't be combined.").format(first="--rpc", second=f"--{others[0]}"),
            _("Leave one of them out."),
        )
