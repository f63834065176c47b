"""A source by the name that a person gives it: `hf`, `hf-mirror`, `modelscope`, an address, or a folder."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from qwenchat.errors import WrongUse
from qwenchat.i18n import _
from qwenchat.models.download.http import origin
from qwenchat.models.sources.source import Source
from qwenchat.paths import expand_home

_TRUE = frozenset({"1", "on", "yes", "true"})


def is_offline(environ: Mapping[str, str], setting: bool) -> bool:
    """Say whether no connection may be opened: by the setting, or by what huggingface_hub's programs listen to."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return setting or any(environ.get(name, "").lower() in _TRUE for name in names)


def is_folder(text: str) -> bool:
    """Say whether a source is a folder, which is open offline too; one that is closed to us is found out later."""
    spelt = "://" not in text and ("/" in text or "\\" in text)
    try:
        return text.startswith("file:") or (spelt and expand_home(text).is_dir())
    except OSError:
        return True


def is_file_address(text: str) -> bool:
    """Say whether an address is that of one model file."""
    scheme, host, _port = origin(text)
    return scheme in ("http", "https") and bool(host) and urlsplit(text).path.lower().endswith(".gguf")


def is_hub_page(text: str) -> bool:
    """Say whether an address is of the public hub, where it names a repository rather than one file."""
    return origin(text)[1] in ("huggingface.co", "www.huggingface.co", "hf.co")


def source_named(text: str, environ: Mapping[str, str]) -> Source:
    """Return the source. An address is one file if it ends in `.gguf`, else a hub that speaks the HF API.

    Nothing is asked yet. Raises WrongUse.
    """
    # Each of these brings an HTTP library with it: only the one in use is imported.
    if is_folder(text):
        from qwenchat.models.sources.url_and_folder import FolderSource  # noqa: PLC0415

        return FolderSource(_folder(text))
    if is_file_address(text):
        from qwenchat.models.sources.url_and_folder import UrlSource  # noqa: PLC0415

        return UrlSource(text)
    if text == "modelscope":
        from qwenchat.models.sources.modelscope import ModelScopeSource  # noqa: PLC0415

        return ModelScopeSource()
    from qwenchat.models.sources.huggingface import MIRROR, HubSource  # noqa: PLC0415

    if text in ("", "hf"):
        return HubSource.home(environ)
    if text == "hf-mirror":
        return HubSource.at(text, MIRROR)
    scheme, host, _port = origin(text)
    if scheme in ("http", "https") and host:
        return HubSource.at(host, text)
    raise WrongUse(
        _("{source} is not a source.").format(source=text),
        _("Give hf, hf-mirror, modelscope, an address that begins with https://, or file:FOLDER."),
    )


def _folder(text: str) -> Path:
    path = text.removeprefix("file:")
    if path.startswith("//"):
        path = unquote(urlsplit(text).path)
    return expand_home(path)
