"""Checks the engines elsewhere: which there are, where their keys come from, and whether they answer.

They are contacted only if the user asks for it (`--online`). No key is looked up before, and no host and no command is
reported.
"""

import asyncio
from collections.abc import Iterator

from qwenchat.doctor.finding import Finding, failed, ok, warning
from qwenchat.errors import ExitCode
from qwenchat.i18n import _, clauses, ngettext
from qwenchat.runtime.engine_check import dialect_name
from qwenchat.runtime.program import Program
from qwenchat.runtime.remote_engines import EngineListing, key_place


def engines(program: Program, *, online: bool) -> Iterator[Finding]:
    """Check each engine of the settings; where there are none, nothing is reported."""
    settings = program.settings.engines
    listings = asyncio.run(_ask(program)) if settings and online else {}
    for name, engine in settings.items():
        check, title = f"engine:{name}", _("engine {name}").format(name=name)
        place = key_place(engine, program.environ)
        kind = dialect_name(engine.kind) if engine.kind else ""
        words = clauses(*filter(None, (kind, _("key: {place}").format(place=place.words) if place else _("no key"))))
        listing = listings.get(name)
        if listing and listing.error:
            hidden = _without_host(listing)
            yield failed(
                check, title, clauses(words, hidden), then=f"qwenchat engines test {name}", exit_code=ExitCode.NETWORK
            )
        elif place and place.is_set is False:
            yield warning(check, title, words, f"qwenchat engines test {name}")
        elif engine.exposes_key:
            yield warning(check, title, clauses(words, _("the key is sent unencrypted")), _("Use https where you can."))
        elif listing:
            count = len(listing.models)
            answer = ngettext("answers with {count} model", "answers with {count} models", count).format(count=count)
            yield ok(check, title, clauses(words, answer))
        else:
            yield ok(check, title, clauses(words, _("not contacted (`qwenchat doctor --online` does that)")))


async def _ask(program: Program) -> dict[str, EngineListing]:
    return {listing.server.name: listing async for listing in program.remote_engines.ask()}


def _without_host(listing: EngineListing) -> str:
    """Return why a server does not answer, without its address."""
    message = listing.error.message if listing.error else ""
    for private in (listing.server.url, listing.server.host, listing.server.host.rpartition(":")[0]):
        message = message.replace(private, "HOST") if private else message
    return message
