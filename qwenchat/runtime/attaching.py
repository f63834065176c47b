"""Decides whether a model that another program shares, such as `qwenchat serve`, is the one that is wanted here.

It must be the same file, and loaded as the user has asked for explicitly; what the user has left open may differ.
Nothing is loaded here.
"""

import asyncio
import os
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from qwenchat.engines.local.attached import AttachedWorker, SharedModel, shared_models
from qwenchat.engines.local.loaded_model import PlannedModel
from qwenchat.errors import QwenchatError
from qwenchat.runtime.load_options import LoadOptions, load_warnings
from qwenchat.runtime.model_choice import is_guide

if TYPE_CHECKING:
    from qwenchat.runtime.program import Program


def may_attach(program: "Program", options: LoadOptions) -> bool:
    """Return whether options and settings let a shared model be used."""
    return options.attach and program.settings.server.attach


async def shared_model(
    program: "Program", model: str, options: LoadOptions
) -> tuple[AttachedWorker, PlannedModel] | None:
    """Return the worker of a program that shares a model as it is wanted, and how it is loaded there."""
    async with aclosing(shared_models(program.paths.runtime)) as found:
        async for worker in found:
            planned = None
            try:
                planned = await asyncio.to_thread(_planned, program, model, options, worker.shared)
            except QwenchatError:  # of the file; whoever loads it says so
                return None
            finally:
                if planned is None:
                    worker.kill()
            if planned:
                return worker, planned
    return None


def _planned(program: "Program", model: str, options: LoadOptions, shared: SharedModel) -> PlannedModel | None:
    """Return how the model is loaded in another program; None if that is another model, or not as it is wanted.

    Raises NotFound, WrongUse or FileError.
    """
    plan = shared.plan
    if not options.agree_with(plan) or not set(plan.peers) <= set(program.allowed_peers):
        return None
    same = PlannedModel(
        plan=plan,
        reference=model,
        name=shared.name,
        defaults=program.sampling.over(shared.advised),
        advised=shared.advised,
        warnings=load_warnings(plan),
        files=tuple(Path(os.fsdecode(file)) for file in shared.files),
        reads_history=not is_guide(model),
    )
    if model == shared.reference:  # what it stands for need not be looked up; the free memory may be another now
        return same if same.stamps() == shared.stamps else None
    from qwenchat.models import gguf  # noqa: PLC0415 - it is seldom named in two ways
    from qwenchat.models.file_names import split_paths  # noqa: PLC0415

    path = program.model_file(model)
    if gguf.identity(path) != plan.identity:
        return None
    return replace(same, name=program.model_name(model), files=tuple(split_paths(path)))


def is_shared_here(program: "Program") -> bool:
    """Return whether any program may share a model."""
    folder = program.paths.runtime
    try:
        return folder is not None and any(folder.glob("*.sock"))
    except OSError:
        return False
