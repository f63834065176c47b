"""Finds a source by the name that a user gives: `hf`, `hf-mirror`, `modelscope`, a URL, or a folder.

No connection is opened here.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from qwenchat.errors import WrongUse
from qwenchat.i18n import _
from qwenchat.models.sources.folder import FolderSource
from qwenchat.models.sources.modelscope import ModelScopeSource
from qwenchat.models.sources.source import Source
from qwenchat.models.sources.url import UrlSource, is_file_url
from qwenchat.net.addresses import is_address, origin
from qwenchat.paths import expand_home

_TRUE = frozenset({"1", "on", "yes", "true"})


def is_offline(environ: Mapping[str, str], setting: bool) -> bool:
    """Return whether connections are forbidden, by the setting or by the variables of huggingface_hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return setting or any(environ.get(name, "").lower() in _TRUE for name in names)


def is_folder(text: str) -> bool:
    """Return whether a source is a folder, which works offline too. It may be missing or unreadable."""
    looks_like_path = "://" not in text and ("/" in text or "\\" in text)
    try:
        return text.startswith("file:") or (looks_like_path and expand_home(text).is_dir())
    except OSError:
        return True


def is_hub_address(text: str) -> bool:
    """Return whether a URL belongs to the public hub, where it names a repository instead of a single file."""
    return origin(text)[1] in ("huggingface.co", "www.huggingface.co", "hf.co")


def prepare_huggingface_hub() -> None:
    """Clean the variables that huggingface_hub reads when it is imported, which it fails to be if they are wrong.

    Raises WrongUse that names the variable.
    """
    for variable in ("HF_ENDPOINT", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        value = os.environ.pop(variable, "").strip()
        if not value:
            continue
        if variable == "HF_ENDPOINT" and not is_address(value):
            raise WrongUse(
                _("The variable HF_ENDPOINT is not the address of a hub."),
                _("Set it to an address such as https://hf-mirror.com, or unset it."),
            )
        if variable != "HF_ENDPOINT" and not value.lstrip("+-").isdecimal():
            raise WrongUse(
                _("The variable {variable} is not a whole number.").format(variable=variable),
                _("Set it to a number of seconds, or unset it."),
            )
        os.environ[variable] = value


def find_source(text: str, environ: Mapping[str, str]) -> Source:
    """Return a source. A URL that ends in `.gguf` is one file; any other URL is a hub with the Hugging Face API.

    Raises WrongUse.
    """
    if is_folder(text):
        return FolderSource(_folder(text))
    if is_file_url(text):
        return UrlSource(text)
    if text == "modelscope":
        return ModelScopeSource()
    prepare_huggingface_hub()
    from qwenchat.models.sources.huggingface import MIRROR, HubSource  # noqa: PLC0415 - it imports an HTTP library

    if text in ("", "hf"):
        return HubSource.public(environ)
    if text == "hf-mirror":
        return HubSource.at(text, MIRROR)
    if is_address(text):
        return HubSource.at(origin(text)[1], text)
    raise WrongUse(
        _("{source} is not a source.").format(source=text),
        _("Give hf, hf-mirror, modelscope, a URL that begins with https://, or file:FOLDER."),
    )


def _folder(text: str) -> Path:
    path = text.removeprefix("file:")
    if path.startswith("//"):
        path = unquote(urlsplit(text).path)
    return expand_home(path)
