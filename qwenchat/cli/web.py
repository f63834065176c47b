"""`qwenchat web`: the screen in a browser."""

import asyncio
import socket
import sys
import webbrowser
from typing import TYPE_CHECKING, Any

import click

from qwenchat.children import child_environment
from qwenchat.cli.output import Output
from qwenchat.cli.serving import refuse_if_offline, stopped_by_signal
from qwenchat.errors import ExitCode, WrongUse
from qwenchat.i18n import _, locale_encoding
from qwenchat.runtime.program import Program

if TYPE_CHECKING:
    from qwenchat.web.server import WebServer

_PORT = 8081
_INSTALL = "pip install 'qwenchat[web]'"
_NOT_THEIRS = ("COLUMNS", "LINES", "DISPLAY", "WAYLAND_DISPLAY", "TERM_PROGRAM", "TERM_PROGRAM_VERSION")
"""Variables that speak of another terminal or desktop than the browser that shows the program."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=_PORT,
    show_default=True,
    help="Port to listen at; 0: any free one.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.pass_obj
def web(program: Program, /, **options: Any) -> int:
    """Show the screen in a browser, until Ctrl-C.

    Prints the address of the page. It contains a secret, a new one each time: with it, anyone can do what you can do in
    the screen. Each tab is a program of its own, with your settings and chats; when it is closed, the program saves
    everything and ends.

    The page listens at this machine alone unless --host says otherwise; an SSH tunnel makes it reachable for one other
    machine.
    """
    if sys.platform == "win32":
        raise WrongUse(_("Windows has no terminals of the kind that this needs."), _("Run qwenchat in WSL."))
    from qwenchat.server.listening import is_only_loopback, listen, url_of  # noqa: PLC0415 - `--help` needs no HTTP

    server = _server()
    with listen(options["host"], options["port"]) as listening:
        if not (is_private := is_only_loopback(listening)):
            refuse_if_offline(program)
        asyncio.run(_serve(server, listening, url_of(listening), is_private=is_private, opens=options["opens"]))
    return ExitCode.DONE


def _server() -> "WebServer":
    """Return the server. Raises WrongUse without the extra that it needs."""
    try:
        from qwenchat.web.server import WebServer  # noqa: PLC0415 - it may be missing

        return WebServer([sys.executable, "-m", "qwenchat"], _environment())
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("qwenchat"):
            raise
        raise WrongUse(
            _("The screen in a browser needs a package that is not installed: {name}.").format(name="textual-serve"),
            _("Install it: {command}").format(command=_INSTALL),
        ) from None


async def _serve(server: "WebServer", listening: socket.socket, url: str, *, is_private: bool, opens: bool) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    stopped = stopped_by_signal()
    async with server.serving(listening, url) as addresses:
        _introduce(_reached_at(addresses.page), is_private=is_private)
        if opens:
            webbrowser.open(addresses.once)
        await stopped.wait()


def _environment() -> dict[str, str]:
    """Return the environment of the programs in tabs: the same home and language, and the terminal that a tab has."""
    environ = {name: value for name, value in child_environment().items() if name not in _NOT_THEIRS}
    environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    if locale_encoding() != "utf-8":  # which browsers always send; the language is in LANGUAGE
        environ["LC_ALL"] = "C.UTF-8"
    return environ


def _reached_at(page: str) -> str:
    """Return an address that works elsewhere, too, in place of one that stands for all of this machine."""
    for everywhere in ("://0.0.0.0:", "://[::]:"):
        page = page.replace(everywhere, f"://{socket.gethostname()}:", 1)
    return page


def _introduce(page: str, *, is_private: bool) -> None:
    """Print the address, and warn where others could read what passes."""
    output = Output.standard()
    output.say(_("The screen is at this address, which is secret, until Ctrl-C:"))
    output.data(page)
    if not is_private:
        output.say(
            _(
                "Warning: nothing is encrypted. Whoever can read the traffic reads the chats and the secret, and can do"
                " what you can do here: never serve an open network, prefer 127.0.0.1 and an SSH tunnel."
            )
        )
