"""The options by which `ask` and `serve` say how a model is loaded."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.decorators import FC

from qwenchat.engines.local.protocol import MAX_THREADS, Lora
from qwenchat.errors import FileError, WrongUse
from qwenchat.i18n import _
from qwenchat.paths import is_missing
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.text.safe import clean_line

_OPTIONS = (
    click.option("--ctx", type=click.IntRange(min=1), help="Context window in tokens."),
    click.option("--threads", type=click.IntRange(1, MAX_THREADS), help="Compute threads."),
    click.option("--gpu-layers", type=click.IntRange(-1, 2**31 - 1), help="Layers on the GPU; -1: as many as fit."),
    click.option("--no-rpc", "with_peers", flag_value=False, default=True, help="Use no peers of llama.cpp's RPC."),
    click.option("--kv-type", type=click.Choice(["f16", "q8_0"]), help="KV cache type."),
    click.option("--draft", metavar="REF|off", help="Smaller model that guesses ahead, or none."),
    click.option("--lora", "loras", multiple=True, metavar="FILE[:SCALE]", help="Add an adapter."),
    click.option("--force", is_flag=True, help="Load the model even if it is not expected to fit into memory."),
)


def with_load_options(command: FC) -> FC:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def load_options(given: Mapping[str, Any], **more: Any) -> LoadOptions:
    """Return how the model is to be loaded, given a command's options. Raises FileError or WrongUse for an adapter."""
    return LoadOptions(
        ctx=given["ctx"],
        threads=given["threads"],
        gpu_layers=given["gpu_layers"],
        kv_type=given["kv_type"],
        draft=given["draft"],
        loras=tuple(_adapter(lora) for lora in given["loras"]),
        with_peers=given["with_peers"],
        force=given["force"],
        **more,
    )


def _adapter(words: str) -> Lora:
    """Return the adapter that `FILE[:SCALE]` names. Raises FileError or WrongUse."""
    name, _colon, scale = words.rpartition(":")
    try:
        factor = float(scale) if name else 1.0
    except ValueError:  # the colon is part of the name
        name, factor = words, 1.0
    path = Path(name or words)
    if not math.isfinite(factor):
        raise WrongUse(
            _("{scale} is not a valid scale for an adapter.").format(scale=scale), _("Give a number such as 0.5.")
        )
    if is_missing(path):
        raise FileError(
            _("There is no adapter {file}.").format(file=clean_line(str(path))), _("Check the path given to --lora.")
        )
    return Lora(os.fsencode(path.absolute()), factor)  # other programs, too, know it by this path
