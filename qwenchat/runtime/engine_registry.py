"""Decides which engine answers for a model reference: llama.cpp in a worker process here, or a server elsewhere.

This is the only place that knows both kinds. Nothing is loaded or connected to before the engine is first asked.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from qwenchat.chat.ports import Engine
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.remote.api import ServerApi
from qwenchat.engines.remote.http import RemoteHttp
from qwenchat.engines.remote.retry import ASK_ONCE
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import WrongUse
from qwenchat.i18n import _
from qwenchat.models.reference import RemoteReference, remote_in
from qwenchat.runtime.load_planner import LoadOptions
from qwenchat.runtime.model_choice import lasting_reference
from qwenchat.text.safe import clean_line

if TYPE_CHECKING:
    from qwenchat.runtime.program import Program

_OPTIONS_HERE = {
    "threads": "--threads",
    "gpu_layers": "--gpu-layers",
    "kv_type": "--kv-type",
    "loras": "--lora",
    "with_peers": "--no-rpc",
    "force": "--force",
}


def engine_for(program: "Program", model: str, options: LoadOptions) -> Engine:
    """Return an engine for a model reference.

    Raises NotFound, FileError or CannotLoad for a file that can't be used; NotFound for an engine that the settings
    lack, WrongUse for load options that a server can't be given, RemoteError where qwenchat is to stay offline.
    """
    remote = remote_in(model)
    engine = _remote_engine(program, remote, options) if remote else _local_engine(program, model, options)
    program.model_folders.used.add(lasting_reference(program, model))
    return engine


def _local_engine(program: "Program", model: str, options: LoadOptions) -> Engine:
    return LocalEngine(program.planner(model, options), program.paths.engine_log, program.saved_kv)


def _remote_engine(program: "Program", reference: RemoteReference, options: LoadOptions) -> Engine:
    server = program.remote_engines.server(reference.engine)
    _check_options(reference, options)
    program.remote_engines.check_online(server)
    raise NotImplementedError  # until the remote engine is there


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


@asynccontextmanager
async def connect(server: RemoteServer) -> AsyncIterator[ServerApi]:
    """Connect to a server in its dialect. Raises RemoteError."""
    http = RemoteHttp(server, policy=ASK_ONCE)
    try:
        yield await _api(http)
    finally:
        await http.close()


async def _api(http: RemoteHttp) -> ServerApi:
    raise NotImplementedError(http.server.name)  # until dialects are found out
