"""Settings: one TOML file and the environment, typed, with every unknown key an error that names it.

A variable `QWENCHAT_MODEL_CONTEXT` wins over `context` in the section `[model]` of the file. Writing keeps the
file's comments and order. Descriptions here are what the settings reference and the settings screen show.
"""

import inspect
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, field

from qwenchat.errors import FileError, WrongUse
from qwenchat.files import write_atomically
from qwenchat.i18n import _
from qwenchat.paths import private_folder
from qwenchat.text.safe import whole


class _Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class ModelSettings(_Section, frozen=True):
    """How models are loaded."""

    default: Annotated[str, Meta(description="Model used where none is named, such as 7b:q4_k_m")] = ""
    context: Annotated[int, Meta(ge=0, description="Context window in tokens; 0: what fits, up to 32,768")] = 0
    threads: Annotated[int, Meta(ge=0, le=512, description="Compute threads; 0: the physical cores")] = 0
    gpu_layers: Annotated[int, Meta(ge=-1, le=2**31 - 1, description="Layers on the GPU; -1: as many as fit")] = -1
    kv_type: Annotated[
        Literal["auto", "f16", "q8_0"], Meta(description="KV cache type; auto: f16, or q8_0 where that fits more")
    ] = "auto"
    mmap: Annotated[bool, Meta(description="Map the model file instead of reading it into memory")] = True


class SamplingSettings(_Section, frozen=True):
    """How the next token is chosen; what is left out follows the model's makers."""

    temperature: Annotated[float, Meta(ge=0, le=100, description="0 always takes the likeliest token")] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1, description="Keep the likeliest tokens up to this total")] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000, description="Keep this many tokens; 0: all")] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1, description="Drop tokens below this share of the likeliest")] | None = None
    repeat_penalty: Annotated[float, Meta(ge=0.01, le=10, description="1: no penalty for repeating")] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1, description="Longest answer, in tokens")] | None = None


class HubSettings(_Section, frozen=True):
    """Where models come from and where they lie."""

    source: Annotated[str, Meta(description="hf, hf-mirror, modelscope, a base URL or a folder")] = "hf"
    offline: Annotated[bool, Meta(description="Never open a network connection")] = False
    folder: Annotated[str, Meta(description="Keep downloads here instead of the Hugging Face cache")] = ""
    folders: Annotated[tuple[str, ...], Meta(description="More folders in which to look for models")] = ()


class SessionSettings(_Section, frozen=True):
    """How conversations are kept."""

    empty_trash_after_days: Annotated[int, Meta(ge=0, description="Delete trashed sessions; 0: never")] = 0
    saved_kv_gb: Annotated[
        float, Meta(ge=0, le=1e6, description="Disk for resuming without rereading, in GiB; 0: none")
    ] = 4.0


class Settings(_Section, frozen=True):
    """All that a person can set."""

    language: Annotated[Literal["", "en", "zh_CN"], Meta(description="Language; empty: the system's")] = ""
    theme: Annotated[str, Meta(description="Theme of the screen; empty: ink")] = ""
    reduced_motion: Annotated[bool, Meta(description="Nothing on the screen blinks or slides")] = False
    system: Annotated[str, Meta(description="System prompt of new sessions; empty: Qwen2's own")] = ""
    model: ModelSettings = field(default_factory=ModelSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    keys: dict[str, str] = field(default_factory=dict)
    """Keys of the screen's actions, by the action's id; `tui.actions` names them. Not set by name: a file's part."""


def load(file: Path, environ: Mapping[str, str]) -> Settings:
    """Return the settings of the file with the environment's over them.

    A missing file means defaults. Raises WrongUse naming file and key, FileError when it can't be read.
    """
    document = _parse(file)
    settings = _convert(document, _("in {file}").format(file=file))
    wanted = {key: environ[name] for key in names() if (name := variable(key)) in environ}
    for key, value in wanted.items():
        _put(document, key, value)
    return _convert(document, _("in the environment")) if wanted else settings


def names() -> list[str]:
    """Return every key, sections dotted, such as `model.context`."""
    found: list[str] = []
    for entry in msgspec.structs.fields(Settings):
        if isinstance(entry.type, type) and issubclass(entry.type, _Section):
            found += [f"{entry.name}.{inner.name}" for inner in msgspec.structs.fields(entry.type)]
        elif entry.name != "keys":
            found.append(entry.name)
    return found


def description(key: str) -> str:
    """Return what a setting means, in English; `_` gives it in the person's language."""
    return next((found for found in _descriptions(_type(key)) if found), "")


def choices(key: str) -> tuple[str, ...]:
    """Return the only values that a setting can have, as a person types them; empty where there are many."""
    kind = _type(key)
    kind = getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind
    return ("true", "false") if kind is bool else get_args(kind) if get_origin(kind) is Literal else ()


def section(key: str) -> str:
    """Return what a setting's section is about, in English; empty where it is in none."""
    name = key.rpartition(".")[0]
    entry = next((entry for entry in msgspec.structs.fields(Settings) if entry.name == name), None)
    return inspect.getdoc(entry.type) or "" if entry else ""


def _type(key: str) -> Any:
    *sections, name = key.split(".")
    struct: Any = Settings
    for each in sections:
        struct = next(entry.type for entry in msgspec.structs.fields(struct) if entry.name == each)
    return next(entry for entry in msgspec.structs.fields(struct) if entry.name == name).type


def _descriptions(annotated: Any) -> Iterator[str]:
    for meta in getattr(annotated, "__metadata__", ()):
        yield meta.description or ""
    for inner in getattr(annotated, "__args__", ()):
        yield from _descriptions(inner)


def variable(key: str) -> str:
    """Return the environment variable that wins over a key."""
    return "QWENCHAT_" + key.replace(".", "_").upper()


def get(settings: Settings, key: str) -> Any:
    """Return one setting by its dotted key. Raises WrongUse for an unknown one."""
    _check_key(key)
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def put(file: Path, key: str, value: str) -> Settings:
    """Write one setting into the file, comments and order kept, and return all settings.

    `value` is what a person types: text, a number, `true`, several folders with commas between; empty takes the
    key out of the file. Nothing is written when the result would not be valid.
    """
    import tomlkit  # noqa: PLC0415 - only who writes needs to keep comments

    _check_key(key)
    if whole(value) != value:
        raise WrongUse(
            _("The value for {key} is not UTF-8.").format(key=key),
            _("Write the other bytes of a model's path as in file:///a%FF.gguf."),
        )
    wanted = _parse(file)
    document = tomlkit.parse(_read(file))
    _put(wanted, key, value)
    settings = _convert(wanted, _("given here"))
    table, name = _place(document, key)
    if value == "":
        table.pop(name, None)
    else:
        table[name] = msgspec.to_builtins(get(settings, key))
    _write(file, tomlkit.dumps(document))
    return settings


def _check_key(key: str) -> None:
    if key not in names():
        raise WrongUse(_("There is no setting {key}.").format(key=key), _("`qwenchat config show` lists them all."))


def _place(document: Any, key: str) -> tuple[Any, str]:
    *sections, name = key.split(".")
    for section in sections:
        document = document.setdefault(section, {})
        if not isinstance(document, MutableMapping):
            raise WrongUse(
                _("The settings have a value for {section}, which is a section.").format(section=section),
                _("Take it out of the file that `qwenchat config path` names."),
            )
    return document, name


def _put(document: Any, key: str, value: str) -> None:
    table, name = _place(document, key)
    if value == "":
        table.pop(name, None)
    else:
        table[name] = [part.strip() for part in value.split(",")] if key == "hub.folders" else value


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        return ""


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read(file))
    except OSError as error:
        raise FileError(
            _("The settings {file} can't be read: {reason}.").format(file=file, reason=error.strerror),
            _("Make it readable, or move it away to start from the defaults."),
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise WrongUse(
            _("The settings {file} are not valid TOML: {reason}.").format(file=file, reason=error),
            _("Correct that line, or move the file away to start from the defaults."),
        ) from error


def _convert(document: object, where: str) -> Settings:
    try:
        return msgspec.convert(document, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise WrongUse(
            _("A setting {where} is wrong: {reason}.").format(
                where=where, reason=str(error).replace(" - at `$.", " - `")
            ),
            _("Correct it, or take it out."),
        ) from error


def _write(file: Path, text: str) -> None:
    private_folder(file.parent)
    try:
        write_atomically(file, text.encode())
    except OSError as error:
        raise FileError(
            _("The settings {file} can't be written: {reason}.").format(file=file, reason=error.strerror),
            _("Make the folder writable."),
        ) from error
