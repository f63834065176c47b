"""Checks an engine elsewhere: whether it answers, what it is, what it offers and can't do, and how fast it generates.

The words of the report are made here, so that the screen and the command line say the same. Only a fixed sentence is
sent, never a chat.
"""

from collections.abc import Callable
from contextlib import aclosing

from msgspec import Struct, structs

from qwenchat.chat.events import Finished
from qwenchat.chat.message import Timings
from qwenchat.chat.ports import Capabilities, Engine, Mode, ModelInfo, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import PARAMETERS, Dialect, Sampling
from qwenchat.engines.remote.api import ServedModel
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import NotFound, QwenchatError
from qwenchat.i18n import _, enumerated
from qwenchat.runtime.remote_engines import EngineListing, RemoteEngines

_QUESTION = "Count from 1 to 20."
_TOKENS = 32
"""Enough to measure speed, and few enough to cost nothing."""


class EngineReport(Struct, frozen=True, kw_only=True):
    """What was found out."""

    listing: EngineListing
    model: str = ""
    """The model that was asked; empty where none could be."""
    info: ModelInfo | None = None
    capabilities: Capabilities | None = None
    timings: Timings | None = None
    error: QwenchatError | None = None
    """Why not everything was found out; None where it was."""

    @property
    def lacks(self) -> tuple[str, ...]:
        """The sampling parameters that can't be sent to it, as options and the screen write them."""
        dialect = self.listing.dialect
        return tuple(each.label for each in PARAMETERS if dialect and dialect not in each.dialects)


async def check_engine(
    engines: RemoteEngines, server: RemoteServer, new_engine: Callable[[RemoteServer, str], Engine], model: str = ""
) -> EngineReport:
    """Check a server, which need not be in the settings: with `model`, or with one that it has loaded."""
    listing = await engines.listing(server)
    report = EngineReport(listing=listing, error=listing.error)
    if listing.error:
        return report
    chosen = model or _to_ask(listing.models)
    if not chosen:
        return structs.replace(report, error=_no_model(server))
    report = structs.replace(report, model=chosen)
    engine = new_engine(server, chosen)
    try:
        info = await engine.load()
        report = structs.replace(report, info=info, capabilities=engine.capabilities)
        return structs.replace(report, timings=await _measured(engine))
    except QwenchatError as error:
        return structs.replace(report, error=error)
    finally:
        await engine.close()


async def _measured(engine: Engine) -> Timings | None:
    request = Request(
        turns=(Turn("user", _QUESTION),), sampling=Sampling(temperature=0, max_tokens=_TOKENS), mode=Mode.ANSWER
    )
    async with aclosing(engine.generate(request)) as generation:
        async for event in generation:
            if isinstance(event, Finished):
                return event.timings
    return None


def _to_ask(models: tuple[ServedModel, ...]) -> str:
    """Return the id of a model that is loaded, a Qwen if there is one; of any, where none is loaded."""
    by_fitness = sorted(models, key=lambda model: (not model.is_loaded, "qwen" not in model.id.lower()))
    return by_fitness[0].id if by_fitness else ""


def _no_model(server: RemoteServer) -> NotFound:
    return NotFound(
        _("The engine {name} offers no model.").format(name=server.name), _("Load or install a model there first.")
    )


def dialect_name(dialect: Dialect | None) -> str:
    """Return what a kind of server is called."""
    return {
        None: _("unknown"),
        Dialect.OPENAI: _("OpenAI-compatible"),
        Dialect.LLAMA_SERVER: "llama-server",
        Dialect.VLLM: "vLLM",
        Dialect.LM_STUDIO: "LM Studio",
        Dialect.DASHSCOPE: "DashScope",
        Dialect.OLLAMA: "Ollama",
    }[dialect]


def limitations(report: EngineReport) -> list[str]:
    """Return what an engine can't do that the local one can, a sentence each."""
    found = []
    if (can := report.capabilities) is not None:
        if not can.continue_answer:
            found.append(_("An answer that ended early can't be continued, only regenerated."))
        if not can.exact_counts:
            found.append(_("Token counts before an answer are estimates, marked with ≈."))
        if not can.token_ids:
            found.append(_("It is sent text, not tokens; control tokens in what you write are broken up first."))
        if not can.prefill_progress:
            found.append(_("It does not report how far it has read the prompt."))
        if not can.json_schema:
            found.append(_("Answers can't be made to follow a JSON Schema."))
    if report.lacks:
        found.append(_("It does not take: {names}.").format(names=enumerated(report.lacks)))
    return found
