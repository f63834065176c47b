"""Decides which engine answers for a model reference: llama.cpp in a worker process here, or a server elsewhere.

This is the only place that knows both kinds. Nothing is loaded or connected to before the engine is first asked.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

from qwenchat.chat.ports import Engine
from qwenchat.chat.sampling import UNSET, qwen2_defaults_by_name
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import WrongUse
from qwenchat.i18n import _
from qwenchat.models.reference import RemoteReference, remote_in
from qwenchat.runtime.attaching import is_shared_here, may_attach, shared_model
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.model_choice import lasting_reference
from qwenchat.text.safe import clean_line

if TYPE_CHECKING:
    from qwenchat.engines.local.attached import AttachedWorker
    from qwenchat.engines.local.loaded_model import PlannedModel, Planner
    from qwenchat.engines.local.protocol import Device
    from qwenchat.runtime.program import Program

_OPTIONS_HERE = {
    "threads": "--threads",
    "gpu_layers": "--gpu-layers",
    "kv_type": "--kv-type",
    "draft": "--draft",
    "loras": "--lora",
    "with_peers": "--no-rpc",
    "force": "--force",
    "parallel": "--parallel",
}


def engine_for(program: "Program", model: str, options: LoadOptions) -> Engine:
    """Return an engine for a model reference.

    Raises NotFound, FileError or CannotLoad for a file that can't be used; NotFound for an engine that the settings
    lack, and WrongUse for load options that a server can't be given. Where another program shares a model, the file is
    looked at when it turns out that it has to be loaded here.
    """
    if remote := remote_in(model):
        _check_options(remote, options)
        server = program.remote_engines.server(remote.engine)
        return remote_engine(program, server, remote.model, ctx=options.ctx, found=program.model_folders.used.add)
    planner = cache(partial(_planner, program, model, options))

    def plan(found: "Sequence[Device]") -> "PlannedModel":
        return planner()(found)

    async def attach() -> "tuple[AttachedWorker, PlannedModel] | None":
        shared = await shared_model(program, model, options)
        if shared is None:
            await asyncio.to_thread(planner)  # what can't be loaded here is refused before a question is stored
        return shared

    if not (attaches := may_attach(program, options)) or not is_shared_here(program):
        planner()
    return LocalEngine(
        plan,
        program.paths.engine_log,
        program.saved_kv,
        parallel=options.parallel,
        attach=attach if attaches else None,
    )


def _planner(program: "Program", model: str, options: LoadOptions) -> "Planner":
    """Return what decides how a model is loaded here, and record that it is used."""
    planner = program.planner(model, options)
    program.model_folders.used.add(lasting_reference(program, model))
    return planner


def remote_engine(
    program: "Program",
    server: RemoteServer,
    model: str,
    *,
    ctx: int | None = None,
    found: Callable[[str], object] = lambda reference: None,
) -> Engine:
    """Return an engine for a model of a server, without `model` for its only one.

    The server need not be in the settings. `found` is called with the model's reference when the server has shown
    that it has the model.
    """
    from qwenchat.engines.remote.engine import RemoteEngine  # noqa: PLC0415 - these import an HTTP library
    from qwenchat.engines.remote.http import RemoteHttp  # noqa: PLC0415

    known = program.catalogue.by_served_name(model)
    return RemoteEngine(
        RemoteHttp(server, offline=program.remote_engines.offline),
        model,
        defaults=program.sampling.over(known.sampling if known else UNSET).over(qwen2_defaults_by_name(model)),
        n_ctx=ctx or 0,
        found=found,
    )


def _check_options(reference: RemoteReference, options: LoadOptions) -> None:
    """Raise WrongUse for an option that only loading a file here can follow."""
    given = [name for name in _OPTIONS_HERE if getattr(options, name) != getattr(LoadOptions(), name)]
    if given:
        raise WrongUse(
            _("{options} can't be chosen for {model}, which its server loads.").format(
                options=", ".join(_OPTIONS_HERE[name] for name in given), model=clean_line(str(reference))
            ),
            _("Leave it out; the server's own options decide."),
        )
