"""`qwenchat serve --rpc`: lends this machine to another one, which loads models that are too large for it alone."""

import asyncio
import ipaddress
import os
import socket
from contextlib import aclosing

from qwenchat.cli.output import Output
from qwenchat.cli.serving import refuse_if_offline
from qwenchat.engines.local.devices import ask_worker, this_host, usable_cores
from qwenchat.engines.local.lending import Lending, lend, without_rpc
from qwenchat.engines.local.memory import lacks_memory, memory_error
from qwenchat.engines.local.process import binding_missing
from qwenchat.engines.local.protocol import Hello
from qwenchat.errors import WrongUse
from qwenchat.i18n import _, enumerated
from qwenchat.net.addresses import is_loopback
from qwenchat.paths import private_folder
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line, human_size


def lend_machine(program: Program, *, host: str, port: int, threads: int | None, cache: bool) -> None:
    """Lend this machine until Ctrl-C. Raises WrongUse, NetworkError and CannotLoad."""
    address, output = _address(program, host), Output.standard()
    hello = ask_worker()
    if hello is None:
        missing = binding_missing(_("its process ended early"))
        raise memory_error() if lacks_memory(missing) else missing
    if not hello.rpc:
        raise without_rpc()
    lending = Lending(
        host=address,
        port=port,
        threads=threads or usable_cores(),
        cache=private_folder(program.paths.cache / "rpc") if cache else None,
    )
    asyncio.run(_serve(program, lending, hello, output))


def _address(program: Program, host: str) -> str:
    """Return the address to listen at. Raises WrongUse, and NetworkError where qwenchat is to stay offline."""
    try:
        address = str(ipaddress.IPv4Address("127.0.0.1" if host == "localhost" else host))
    except ValueError:
        raise WrongUse(
            _("{host} is not an IPv4 address.").format(host=clean_line(host)),
            _("Give an address of this computer, such as 192.168.1.20, or 0.0.0.0 for all of them."),
        ) from None
    if not is_loopback(address):
        refuse_if_offline(program)
    return address


async def _serve(program: Program, lending: Lending, hello: Hello, output: Output) -> None:
    """Serve, saying who comes and goes, until Ctrl-C."""
    async with aclosing(lend(lending, program.paths.engine_log.with_name(f"rpc-{lending.port}.log"))) as connections:
        await anext(connections)
        _introduce(lending, hello, output)
        async for is_connected in connections:
            output.say(_("A program is connected.") if is_connected else _("It has disconnected."))


def _introduce(lending: Lending, hello: Hello, output: Output) -> None:
    """Say what is lent, how another machine uses it, and who could."""
    address, port = f"{lending.host}:{lending.port}", lending.port
    devices = [f"{device.description} ({human_size(device.memory_total)})" for device in hello.devices]
    ram = _("the processor, with {ram} of memory").format(ram=human_size(this_host().memory_total))
    output.say(_("This computer lends {what} at {address}.").format(what=enumerated(devices) or ram, address=address))
    if is_loopback(lending.host):
        tunnel = f"ssh -N -L {port}:{address} {os.environ.get('USER', 'me')}@{socket.gethostname()}"
        output.say(_("It can be reached from this computer only. On the other one, open a tunnel:"))
        output.say(f"  {tunnel}")
        address = f"127.0.0.1:{port}"
    else:
        output.say(
            _(
                "Warning: there is no password and no encryption. Whoever reaches {address} can use this computer and"
                " read what it computes: never serve an open network, prefer 127.0.0.1 and an SSH tunnel."
            ).format(address=address)
        )
        address = f"{socket.gethostname()}:{port}" if lending.is_everywhere else address
    output.say(_("Then set there: {command}").format(command=f"qwenchat config set model.rpc {address}"))
    output.say(_("Both need the same version of llama-cpp-python. Ctrl-C ends it."))
