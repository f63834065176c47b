"""The settings: one TOML file and the environment, typed and checked. An unknown key is an error that names it.

A variable such as `QWENCHAT_MODEL_CONTEXT` overrides `context` in the section `[model]` of the file. Writing preserves
the file's comments and order. The settings reference and the settings screen show the descriptions given here.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, field

from qwenchat.chat.sampling import Dialect, parameter
from qwenchat.engine_settings import EngineSettings, checked
from qwenchat.errors import FileError, Recovery, RecoveryKind, WrongUse
from qwenchat.files import write_atomically
from qwenchat.i18n import _, enumerated, reason_of, sentences
from qwenchat.paths import bundled_themes, expand_home, private_folder
from qwenchat.text import syntax
from qwenchat.text.safe import clean_line, encodable

_MOST_PEERS = 16
"""The most peers that llama.cpp's RPC can use (GGML_RPC_MAX_SERVERS)."""
_PEER = re.compile(r"\w[\w.-]{0,252}:(?P<port>[0-9]{1,5})", re.ASCII)
"""A host name or an IPv4 address, and a port."""


class _Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class ModelSettings(_Section, frozen=True):
    """Model loading."""

    default: Annotated[str, Meta(description="Used where no other is chosen, such as 7b:q4_k_m")] = ""
    context: Annotated[
        int, Meta(ge=0, description="How much of a chat the model sees, in tokens; 0: as much as fits, up to 32,768")
    ] = 0
    threads: Annotated[
        int, Meta(ge=0, le=512, description="How many processor cores compute; 0: all physical ones")
    ] = 0
    gpu_layers: Annotated[
        int, Meta(ge=-1, le=2**31 - 1, description="How many layers of the model the GPU computes; -1: as many as fit")
    ] = -1
    kv_type: Annotated[
        Literal["auto", "f16", "q8_0"],
        Meta(description="Precision of what the model remembers of a chat; auto: f16, or q8_0 where that fits more"),
    ] = "auto"
    draft: Annotated[
        str,
        Meta(description="Much smaller model that guesses ahead: auto (one of the same family), off or a model"),
    ] = "auto"
    mmap: Annotated[bool, Meta(description="Read its parts when they are needed instead of all of it at the start")] = (
        True
    )
    rpc: Annotated[
        tuple[str, ...],
        Meta(
            max_length=_MOST_PEERS,
            description="Machines that take a part of too large models (RPC): host:port, ...",
        ),
    ] = ()


def _limits(name: str) -> Meta:
    """Return the range and the description of a sampling parameter."""
    found = parameter(name)
    return Meta(ge=found.low, le=found.high, description=found.help)


class SamplingSettings(_Section, frozen=True):
    """Sampling (unset = what the model's makers recommend)."""

    temperature: Annotated[float, _limits("temperature")] | None = None
    top_p: Annotated[float, _limits("top_p")] | None = None
    top_k: Annotated[int, _limits("top_k")] | None = None
    min_p: Annotated[float, _limits("min_p")] | None = None
    repeat_penalty: Annotated[float, _limits("repeat_penalty")] | None = None
    max_tokens: Annotated[int, _limits("max_tokens")] | None = None


class HubSettings(_Section, frozen=True):
    """Downloads and storage of models."""

    source: Annotated[str, Meta(description="hf, hf-mirror, modelscope, a base URL or a folder")] = "hf"
    offline: Annotated[bool, Meta(description="Never connect to another machine")] = False
    folder: Annotated[str, Meta(description="Store downloads here instead of in the Hugging Face cache")] = ""
    folders: Annotated[tuple[str, ...], Meta(description="Searched for models, too; separated by commas")] = ()


class SessionSettings(_Section, frozen=True):
    """Storage of chats."""

    empty_trash_after_days: Annotated[
        int, Meta(ge=0, description="Delete chats after this many days in the trash; 0: never")
    ] = 0
    saved_kv_gb: Annotated[
        float,
        Meta(
            ge=0,
            le=1e6,
            description="Disk space for what lets chats resume faster; 0: none",
        ),
    ] = 4.0


Rule = Annotated[
    Literal["ask", "allow", "deny"], Meta(description="Whether this tool may be called: ask, allow or deny")
]


class ToolSettings(_Section, frozen=True):
    """Tools that a model may call."""

    enabled: Annotated[bool, Meta(description="Offer tools to the model in new chats")] = False
    folders: Annotated[
        tuple[str, ...], Meta(description="Folders whose files the model may list, search and read")
    ] = ()
    fetch: Annotated[bool, Meta(description="Offer a tool that fetches web pages")] = False
    max_rounds: Annotated[int, Meta(ge=1, le=100, description="Rounds of tool calls in one answer")] = 8
    max_seconds: Annotated[
        int, Meta(ge=1, le=86_400, description="Seconds that the tool calls of one answer may take")
    ] = 300
    policy: dict[str, Rule] = field(default_factory=dict)
    """What the user decided about tools, by their names."""


class ServerSettings(_Section, frozen=True):
    """Models that `qwenchat serve` has loaded."""

    attach: Annotated[bool, Meta(description="Use what `qwenchat serve` has loaded instead of loading it again")] = True


class Settings(_Section, frozen=True):
    """All settings."""

    language: Annotated[
        Literal["", "en", "zh_CN"], Meta(description="Used in menus, messages and help; empty: the system's")
    ] = ""
    theme: Annotated[str, Meta(description="Colours of the screen; empty: ink")] = ""
    reduced_motion: Annotated[bool, Meta(description="No blinking, no animation")] = False
    timestamps: Annotated[bool, Meta(description="Show the time beside each message")] = True
    system: Annotated[str, Meta(description="What new chats tell the model first; empty: model default")] = ""
    model: ModelSettings = field(default_factory=ModelSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    tools: ToolSettings = field(default_factory=ToolSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    engines: dict[str, EngineSettings] = field(default_factory=dict)
    """Servers that run models elsewhere, by their names."""
    keys: dict[str, str] = field(default_factory=dict)
    """Keys of the screen's actions by the action's id (see `tui.actions`). They can only be set in the file."""


def load(file: Path, environ: Mapping[str, str]) -> Settings:
    """Return the settings of the file, overridden by the environment.

    A missing file means defaults. Raises WrongUse naming file and key, FileError when it can't be read.
    """
    document = _parse(file)
    settings = _convert(document, _("in {file}").format(file=file))
    wanted = {key: environ[name] for key in names(settings) if (name := variable(key)) in environ}
    for key, value in wanted.items():
        _put(document, key, value)
    return _convert(document, _("in the environment")) if wanted else settings


def names(settings: Settings | None = None) -> list[str]:
    """Return every key with its section, such as `model.context`.

    Those of engines, and of the policy for each tool, are only known from settings.
    """
    found: list[str] = []
    for entry in msgspec.structs.fields(Settings):
        if isinstance(entry.type, type) and issubclass(entry.type, _Section):
            inner = msgspec.structs.fields(entry.type)
            found += [f"{entry.name}.{each.name}" for each in inner if get_origin(each.type) is not dict]
        elif get_origin(entry.type) is not dict:
            found.append(entry.name)
    if settings:
        found += [f"engines.{name}.{field}" for name in settings.engines for field in _ENGINE_FIELDS]
        found += [f"tools.policy.{name}" for name in settings.tools.policy]
    return found


_FOLDER_LISTS = ("hub.folders", "tools.folders")
_LISTS = (*_FOLDER_LISTS, "model.rpc")
_ENGINE_FIELDS = tuple(entry.name for entry in msgspec.structs.fields(EngineSettings))


def description(key: str) -> str:
    """Return the description of a setting in English; `_` translates it."""
    return next((found for found in _descriptions(_type(key)) if found), "")


def choices(key: str) -> tuple[str, ...]:
    """Return the values that a setting can have, as a user types them; empty where they can't be listed."""
    kind = _type(key)
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if kind is bool:
        return ("true", "false")
    if kind == Dialect | None:
        return tuple(Dialect)
    return get_args(kind) if get_origin(kind) is Literal else ()


def section(key: str) -> str:
    """Return the description of a setting's section in English; empty where it has no section."""
    name = key.rpartition(".")[0]
    entry = next((entry for entry in msgspec.structs.fields(Settings) if entry.name == name), None)
    return (entry.type.__doc__ or "").strip() if entry else ""


def _type(key: str) -> Any:
    *sections, name = key.split(".")
    if sections == ["tools", "policy"]:
        return Rule
    struct: Any = EngineSettings if sections[:1] == ["engines"] else Settings
    for each in sections if struct is Settings else ():
        struct = next(entry.type for entry in msgspec.structs.fields(struct) if entry.name == each)
    return next(entry for entry in msgspec.structs.fields(struct) if entry.name == name).type


def _descriptions(annotated: Any) -> Iterator[str]:
    for meta in getattr(annotated, "__metadata__", ()):
        yield meta.description or ""
    for inner in getattr(annotated, "__args__", ()):
        yield from _descriptions(inner)


def variable(key: str) -> str:
    """Return the environment variable that overrides a key."""
    return "QWENCHAT_" + re.sub(r"[.-]", "_", key).upper()


def get(settings: Settings, key: str) -> Any:
    """Return the value of a setting by its key. Raises WrongUse for an unknown one."""
    if key not in names(settings):
        raise _no_setting(key)
    value: Any = settings
    for name in key.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


def put(file: Path, key: str, value: str) -> Settings:
    """Write one setting into the file, preserving comments and order, and return all settings.

    `value` is what the user types: text, a number, `true`, or several folders separated by commas; an empty value
    removes the key from the file. Nothing is written if the result would be invalid. Raises WrongUse or FileError.
    """
    import tomlkit  # noqa: PLC0415 - only writing has to preserve comments

    if key not in names() and not _is_named_by_user(key):
        raise _no_setting(key)
    if key in ("hub.folder", *_FOLDER_LISTS):
        _check_folders(_listed(value) if key in _LISTS else [value])
    if key == "theme":
        _check_theme(value, (bundled_themes(), file.parent / "themes"))
    if encodable(value) != value:
        raise WrongUse(
            _("The value for {key} is not UTF-8.").format(key=key),
            _("In a model's path, escape bytes that are not UTF-8, as in file:///a%FF.gguf."),
        )
    wanted = _parse(file)
    document = tomlkit.parse(_read(file))
    _put(wanted, key, value)
    settings = _convert(wanted, _("given here"))
    table, name = _table_of(document, key)
    if value == "":
        table.pop(name, None)
    else:
        table[name] = msgspec.to_builtins(get(settings, key))
    _write(file, tomlkit.dumps(document))
    return settings


def put_engine(file: Path, name: str, engine: EngineSettings | None) -> None:
    """Write the settings of an engine in place of what the file has for it; None removes them.

    Raises WrongUse or FileError, and then writes nothing.
    """
    import tomlkit  # noqa: PLC0415

    document = tomlkit.parse(_read(file))
    table = _table_of(document, f"engines.{name}")[0]
    if engine:
        fields = msgspec.to_builtins(checked(name, engine))
        table[name] = {key: value for key, value in fields.items() if value}
    else:
        table.pop(name, None)
    _convert(document.unwrap(), _("in {file}").format(file=file))
    _write(file, tomlkit.dumps(document))


def _is_named_by_user(key: str) -> bool:
    """Return whether a key has the form `engines.NAME.FIELD` or `tools.policy.NAME`.

    `engine_settings.checked` says which names of engines are valid.
    """
    match key.split("."):
        case ["engines", _, field]:
            return field in _ENGINE_FIELDS
        case ["tools", "policy", name]:
            return name != ""
    return False


def _no_setting(key: str) -> WrongUse:
    return WrongUse(
        _('No setting named "{key}".').format(key=key),
        _("Check the spelling."),
        recoveries=(Recovery(RecoveryKind.LIST_SETTINGS),),
    )


def _table_of(document: Any, key: str) -> tuple[Any, str]:
    *sections, name = key.split(".")
    for section in sections:
        document = document.setdefault(section, {})
        if not isinstance(document, MutableMapping):
            raise WrongUse(
                _("The settings have a value for {section}, which is a section.").format(section=section),
                _("Remove it from the settings file, config.toml."),
            )
    return document, name


def _put(document: Any, key: str, value: str) -> None:
    table, name = _table_of(document, key)
    if value == "":
        table.pop(name, None)
    else:
        table[name] = _listed(value) if key in _LISTS else value


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _check_folders(names: list[str]) -> None:
    """Raise WrongUse for what can never be a folder. A folder may be missing: its disk may come later."""
    for name in filter(None, names):
        folder = expand_home(name)
        if not folder.is_absolute():
            raise WrongUse(
                _("{folder} is not a full path.").format(folder=clean_line(name)),
                _("Write it as {folder}.").format(folder=clean_line(str(folder.absolute()))),
            )
        try:
            os.scandir(folder).close()
        except NotADirectoryError as error:
            words = _("{folder} is not a folder.").format(folder=clean_line(name))
            raise WrongUse(words, _("Give the folder that contains it.")) from error
        except OSError:
            continue


def _check_theme(name: str, folders: Iterable[Path]) -> None:
    """Raise WrongUse for a theme that no folder has; empty means the default one."""
    names = sorted({file.stem for folder in folders for file in folder.glob("*.toml")})
    if name and name not in names:
        raise WrongUse(
            _('No theme named "{name}".').format(name=clean_line(name, 60)),
            _("Themes: {names}.").format(names=enumerated(map(clean_line, names))),
        )


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        return ""


def _parse(file: Path) -> dict[str, Any]:
    text = ""
    try:
        text = _read(file)
        return tomllib.loads(text)
    except OSError as error:
        raise FileError(
            _("The settings {file} can't be read: {reason}.").format(file=file, reason=reason_of(error)),
            _("Make it readable, or move it away to start from the defaults."),
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise WrongUse(
            _("The settings {file} are not valid TOML: {reason}.").format(file=file, reason=syntax.fault(error, text)),
            _("Correct that line, or move the file away to start from the defaults."),
        ) from error


def _convert(document: Any, where: str) -> Settings:
    try:
        settings = msgspec.convert(document, Settings, strict=False)
        engines = {name: checked(name, engine) for name, engine in settings.engines.items()}
    except msgspec.ValidationError as error:
        from qwenchat.typed_values import problem  # noqa: PLC0415 - most settings are valid

        reason = problem(document, Settings, strict=False) or clean_line(str(error))
        raise WrongUse(
            _("A setting {where} is invalid: {reason}.").format(where=where, reason=reason),
            _("Correct or remove it."),
        ) from error
    except WrongUse as error:
        message = sentences(_("An engine {where} has invalid settings.").format(where=where), error.message)
        raise WrongUse(message, error.hint) from error
    _check_peers(settings.model.rpc)
    return msgspec.structs.replace(settings, engines=engines)


def _check_peers(peers: tuple[str, ...]) -> None:
    """Raise WrongUse for what llama.cpp's RPC can't connect to; it knows IPv4 only."""
    for peer in peers:
        found = _PEER.fullmatch(peer)
        if not (found and 0 < int(found["port"]) < 1 << 16) or peers.count(peer) > 1:
            raise WrongUse(
                _('"{peer}" in model.rpc is not the address of a peer, or stands there twice.').format(
                    peer=clean_line(peer)
                ),
                _("Write a host name or an IPv4 address, and a port: 192.168.1.20:50052."),
            )


def _write(file: Path, text: str) -> None:
    private_folder(file.parent)
    try:
        write_atomically(file, text.encode())
    except OSError as error:
        raise FileError(
            _("The settings {file} can't be written: {reason}.").format(file=file, reason=reason_of(error)),
            _("Make the folder writable."),
        ) from error
