"""`qwenchat web`: the screen in a browser."""

import asyncio
import ipaddress
import socket
import sys
import webbrowser
from typing import Any

import click

from qwenchat.children import child_environment
from qwenchat.cli.output import Output
from qwenchat.errors import ExitCode, NetworkError, WrongUse
from qwenchat.i18n import _, locale_encoding
from qwenchat.net.addresses import is_loopback
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line

_PORT = 8081
_INSTALL = "pip install 'qwenchat[web]'"
_NOT_THEIRS = ("COLUMNS", "LINES", "DISPLAY", "WAYLAND_DISPLAY", "TERM_PROGRAM", "TERM_PROGRAM_VERSION")
"""Variables that speak of another terminal or desktop than the browser that shows the program."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="IP address to listen at.")
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

    Prints the address of the page. It contains a secret, which is another one each time: whoever knows the address can
    do what you can do in the screen. Each tab is a program of its own, with your settings and chats; when it is closed,
    the program saves everything and ends.

    The page listens at this machine alone unless --host says otherwise; an SSH tunnel makes it reachable for one other
    machine.
    """
    host, output = _address(program, options["host"]), Output.standard()
    if sys.platform == "win32":
        raise WrongUse(_("Windows has no terminals of the kind that this needs."), _("Run qwenchat in WSL."))
    try:
        from qwenchat.web.server import Addresses, WebServer  # noqa: PLC0415 - an extra, and no other command needs it

        server = WebServer([sys.executable, "-m", "qwenchat"], _environment())
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("qwenchat"):
            raise
        raise WrongUse(
            _("The screen in a browser needs a package that is not installed: {name}.").format(name="textual-serve"),
            _("Install it: {command}").format(command=_INSTALL),
        ) from None

    def started(addresses: Addresses) -> None:
        _introduce(host, addresses.page, output)
        if options["opens"]:
            webbrowser.open(addresses.once)

    asyncio.run(server.serve(host, options["port"], started))
    return ExitCode.DONE


def _address(program: Program, host: str) -> str:
    """Return the address to listen at. Raises WrongUse, and NetworkError where qwenchat is to stay offline."""
    try:
        address = str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host))
    except ValueError:
        raise WrongUse(
            _("{host} is not an IP address.").format(host=clean_line(host)),
            _("Give an address of this computer, such as 192.168.1.20, or 0.0.0.0 for all of them."),
        ) from None
    if program.settings.hub.offline and not is_loopback(address):
        raise NetworkError(
            _("qwenchat is set to stay offline, so it can't be reached from other computers."),
            _("Unset hub.offline, or serve at 127.0.0.1."),
        )
    return address


def _environment() -> dict[str, str]:
    """Return the environment of the programs in tabs: the same home and language, and the terminal that a tab has."""
    environ = {name: value for name, value in child_environment().items() if name not in _NOT_THEIRS}
    environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    if locale_encoding() != "utf-8":  # which browsers always send; the language is in LANGUAGE
        environ["LC_ALL"] = "C.UTF-8"
    return environ


def _introduce(host: str, page: str, output: Output) -> None:
    """Print the address, and say how it is reached from elsewhere and who could."""
    if ipaddress.ip_address(host).is_unspecified:
        page = page.replace(f"[{host}]" if ":" in host else host, socket.gethostname(), 1)
    output.say(_("The screen is at this address, which is secret, until Ctrl-C:"))
    output.data(page)
    if not is_loopback(host):
        output.say(
            _(
                "Warning: nothing is encrypted. Whoever can read the traffic reads the chats and the secret, and can do"
                " what you can do here: never serve an open network, prefer 127.0.0.1 and an SSH tunnel."
            )
        )
