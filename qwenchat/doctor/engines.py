"""Checks the engines elsewhere: which there are, where their keys come from, and whether they answer.

They are contacted only if the user asks for it (`--online`). No key is looked up before, and no host and no command is
reported.
"""

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

from qwenchat.doctor.finding import Finding, failed, ok, warning
from qwenchat.engines.remote.keys import key_place
from qwenchat.errors import ExitCode
from qwenchat.i18n import _, clauses, ngettext
from qwenchat.runtime.engine_check import dialect_name
from qwenchat.runtime.program import Program
from qwenchat.runtime.remote_engines import EngineListing


def engines(program: Program, *, online: bool) -> Iterator[Finding]:
    """Check each engine of the settings; where there are none, nothing is reported."""
    remote = program.remote_engines
    listings = asyncio.run(_ask(program)) if remote.servers and online else {}
    for server in remote.servers:
        check, title = f"engine:{server.name}", _("engine {name}").format(name=server.name)
        kind, place = server.dialect, key_place(server, program.environ)
        key = _("key: {place}").format(place=place.words) if place else _("no key")
        words, listing = clauses(*([dialect_name(kind)] if kind else []), key), listings.get(server.name)
        test = f"qwenchat engines test {server.name}"
        if not remote.may_ask(f"@{server.name}"):
            yield ok(check, title, clauses(words, _("not contacted: qwenchat is set to stay offline")))
        elif listing and listing.error:
            yield failed(check, title, clauses(words, _reason(listing)), then=test, exit_code=ExitCode.NETWORK)
        elif place and place.is_set is False:
            yield warning(check, title, words, test)
        elif program.settings.engines[server.name].exposes_key:
            yield warning(check, title, clauses(words, _("the key is sent unencrypted")), _("Use https where you can."))
        elif listing:
            count = len(listing.models)
            answer = ngettext("answers with {count} model", "answers with {count} models", count).format(count=count)
            yield ok(check, title, clauses(words, answer))
        else:
            yield ok(check, title, clauses(words, _("not contacted (`qwenchat doctor --online` does that)")))


async def _ask(program: Program) -> dict[str, EngineListing]:
    return {listing.server.name: listing async for listing in program.remote_engines.ask()}


def _reason(listing: EngineListing) -> str:
    """Return why a server does not answer, without its address."""
    server, message = listing.server, listing.error.message if listing.error else ""
    for private in (server.url, server.host, urlsplit(server.url).hostname or ""):
        message = message.replace(private, "HOST")
    return message
