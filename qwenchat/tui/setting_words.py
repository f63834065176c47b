"""Settings and sampling parameters in words: what each is called, what a choice means, what holds where none is set.

The keys of the settings file are for the shell. Words are made when they are asked for, in the language of that moment.
"""

from qwenchat import config
from qwenchat.config import Settings
from qwenchat.i18n import _


def title(key: str) -> str:
    """Return what a setting, such as `model.context`, is called."""
    section, _dot, name = key.rpartition(".")
    if section == "sampling":
        return sampling_title(name)
    return {
        "language": _("Language"),
        "theme": _("Theme"),
        "timestamps": _("Message times"),
        "reduced_motion": _("Reduce motion"),
        "system": _("System prompt"),
        "model.default": _("Default model"),
        "model.context": _("Context window"),
        "model.threads": _("Compute threads"),
        "model.gpu_layers": _("GPU layers"),
        "model.kv_type": _("KV cache type"),
        "model.draft": _("Draft model"),
        "model.mmap": _("Memory-map the model file"),
        "model.rpc": _("RPC peers"),
        "hub.source": _("Download source"),
        "hub.offline": _("Work offline"),
        "hub.folder": _("Download folder"),
        "hub.folders": _("More model folders"),
        "sessions.empty_trash_after_days": _("Days in the trash"),
        "sessions.saved_kv_gb": _("Saved KV caches (GiB)"),
        "server.attach": _("Use shared models"),
        "tools.enabled": _("Tools in new chats"),
        "tools.folders": _("Folders for tools"),
        "tools.fetch": _("Fetch web pages"),
        "tools.max_rounds": _("Rounds of tool calls"),
        "tools.max_seconds": _("Seconds for tool calls"),
    }.get(key, key)


def sampling_title(name: str) -> str:
    """Return what a sampling parameter, such as `top_p`, is called."""
    return {
        "temperature": _("Temperature"),
        "top_p": _("Top-p"),
        "top_k": _("Top-k"),
        "min_p": _("Min-p"),
        "repeat_penalty": _("Repeat penalty"),
        "seed": _("Seed"),
        "max_tokens": _("Max answer length"),
    }.get(name, name)


def meaning(choice: str) -> str:
    """Return what one of the values of a setting means."""
    return {
        "true": _("on"),
        "false": _("off"),
        "auto": _("automatic"),
        "en": "English",
        "zh_CN": "简体中文",
        "hf": "Hugging Face",
    }.get(choice, choice)


def default(key: str) -> str:
    """Return what holds where a setting is not set."""
    if key == "system" or key.startswith("sampling."):
        return of_the_model()
    words = {
        "language": _("same as the system"),
        "theme": "ink",
        "model.default": _("last used"),
        "model.context": _("automatic (as large as fits)"),
        "model.threads": _("one per core"),
        "model.gpu_layers": _("as many as fit"),
        "hub.folder": _("the Hugging Face cache"),
        "hub.folders": _("none"),
        "model.rpc": _("none"),
        "tools.folders": _("none"),
        "sessions.empty_trash_after_days": _("keep forever"),
    }
    return as_default(words.get(key) or meaning(as_typed(config.get(Settings(), key))))


def of_the_model() -> str:
    """Return words for what the model's makers decide where nothing is set."""
    return _("model default")


def as_default(value: str) -> str:
    """Return words for a value that holds where nothing is set."""
    return _("default: {value}").format(value=value)


def as_typed(value: object) -> str:
    """Return the value of a setting as a user types it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else f"{value}"
