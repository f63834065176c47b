"""The MCP servers of the user, in `mcp.json`, the file that other programs have as well.

```json
{"mcpServers": {"notes": {"command": "uvx", "args": ["notes-server"], "env": {"TOKEN": "${NOTES_TOKEN}"}},
                "wiki": {"url": "https://wiki.example.com/mcp", "headers": {"Authorization": "Bearer ${WIKI_TOKEN}"}}}}
```

`servers` stands for `mcpServers`, too, and comments and commas before a closing bracket are accepted, as editors write
them. `${NAME}` and `${env:NAME}` stand for a variable of the environment, `${NAME:-words}` for its value or else the
words. They are replaced when a server is started, so that a file needs to hold no secret; no error and no repr shows
what an environment or a header is set to. What else an entry says is for other programs: it is neither used nor
changed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from qwenchat.errors import FileError, NotFound, WrongUse
from qwenchat.files import write_atomically
from qwenchat.i18n import _, reason_of
from qwenchat.net.addresses import is_address, is_loopback
from qwenchat.paths import is_missing, private_folder
from qwenchat.text import syntax
from qwenchat.text.safe import clean_line
from qwenchat.tools.mcp.protocol import ServerFault
from qwenchat.typed_values import problem

_SIZE_LIMIT = 4 << 20
"""Bytes of a file; those of other programs hold more than servers."""
_SHORTEST_SECRET = 6
"""Characters; shorter values stand in too many other words."""
_KEYS = ("servers", "mcpServers")
"""What a file may call its servers; the last one wins."""
_REFERENCE = re.compile(r"\$\{(?:env:)?(?P<name>[A-Za-z_]\w*)(?P<has_default>:-(?P<default>[^{}]*))?\}", re.ASCII)
_OTHER_REFERENCE = re.compile(r"\$\{[^{}]*\}")
_STRING = r'("(?:[^"\\]|\\.|\\\Z)*+(?:"|\Z))'
"""One that is not closed ends with the text, so that nothing is searched twice."""
_COMMENT = re.compile(_STRING + r"|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_LAST_COMMA = re.compile(_STRING + r"|,(?=\s*[}\]])", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCommand:
    """How a server on this machine is started; without references to the environment."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables beside the usual ones."""
    cwd: str = ""

    def without_secrets(self, text: str) -> str:
        """Return a text of the server as errors may show it."""
        return _without(text, self.env.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """Where a server elsewhere is reached; without references to the environment."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def without_secrets(self, text: str) -> str:
        """Return a text of the server as errors may show it."""
        return _without(text, (self.url, *self.headers.values()))


class ToolServerSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of `mcpServers`: a command or a URL."""

    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str | None = None
    url: str = ""
    headers: dict[str, str] = {}
    type: str | None = None
    """How other programs write what kind of server it is; `sse` is not supported any more."""
    disabled: bool = False

    def __repr__(self) -> str:
        return f"ToolServerSettings({self.shown!r})"

    @property
    def shown(self) -> str:
        """What users are shown: the command with its arguments, or the address without what could be a secret."""
        if self.url:
            parts = urlsplit(self.url)
            return clean_line(f"{parts.scheme and f'{parts.scheme}://'}{parts.netloc.rpartition('@')[2]}{parts.path}")
        return clean_line(" ".join((self.command, *self.args)))

    @property
    def is_elsewhere(self) -> bool:
        """Whether what is sent to it leaves this machine at once. What a program on this machine sends is unknown."""
        return bool(self.url) and not is_loopback(urlsplit(self.url).hostname or "")

    def target(self, environ: Mapping[str, str]) -> ServerCommand | ServerAddress:
        """Return how the server is reached. Raises ServerFault for a variable that is not set."""
        if self.url:
            headers = {name: _expanded(value, environ) for name, value in self.headers.items()}
            url = _expanded(self.url, environ)
            if not is_address(url):
                raise ServerFault(lambda: _("its URL is not valid"))
            return ServerAddress(url=url, headers=headers)
        return ServerCommand(
            command=_expanded(self.command, environ),
            args=tuple(_expanded(each, environ) for each in self.args),
            env={name: _expanded(value, environ) for name, value in self.env.items()},
            cwd=_expanded(self.cwd or "", environ),
        )


@dataclass(frozen=True, slots=True)
class ServerFile:
    """The servers of a file by name, and why other entries can't be used, in the user's language."""

    servers: Mapping[str, ToolServerSettings]
    problems: Mapping[str, str] = field(default_factory=dict)


def load(file: Path) -> ServerFile:
    """Return the servers of qwenchat's own file; where it is missing or empty there are none.

    Raises FileError for a file that can't be read, WrongUse for one that is not JSON.
    """
    text = "" if is_missing(file) else _read(file)
    if not text.strip():
        return ServerFile({})
    return _servers(text, file)


def found_in(file: Path) -> ServerFile:
    """Return the servers in a file of another program. Raises NotFound for one without any, FileError, WrongUse."""
    found = _servers(_read(file), file)
    if not found.servers and not found.problems:
        raise NotFound(
            _("{file} has no tool servers.").format(file=clean_line(str(file))),
            _('Give a file with "mcpServers", such as mcp.json.'),
        )
    return found


def put(file: Path, name: str, server: ToolServerSettings | None) -> None:
    """Write one server into qwenchat's file, in place of what it has by this name; None removes it.

    The other entries stay as they are. Raises WrongUse or FileError, and then writes nothing.
    """
    text = "" if is_missing(file) else _read(file)
    if text.strip() and _plain(text) != text:
        raise WrongUse(
            _("{file} has comments, which would be lost.").format(file=clean_line(str(file))),
            _("Edit the file, or remove the comments."),
        )
    document = _document(text, file) if text.strip() else {}
    for key in _KEYS:
        document.get(key, {}).pop(name, None)
    if server is not None:
        entry = msgspec.to_builtins(server)
        try:
            _checked(name, entry)
        except ValueError as error:
            raise wrong_entry(name, str(error)) from error
        document.setdefault("mcpServers", {})[name] = entry
    content = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    try:
        private_folder(file.parent)
        write_atomically(file, content)
    except OSError as error:
        raise FileError(
            _("{file} can't be written: {reason}.").format(file=clean_line(str(file)), reason=reason_of(error)),
            _("Check the permissions of its folder."),
        ) from error


def wrong_entry(name: str, reason: str, file: Path | None = None) -> WrongUse:
    """Return the error for an entry that can't be used, of a file or about to be written."""
    words = _("The tool server {name} can't be used: {reason}.").format(name=clean_line(name, 60), reason=reason)
    hint = _("Correct its entry in {file}.").format(file=clean_line(str(file))) if file else _("Correct it.")
    return WrongUse(words, hint)


def _servers(text: str, file: Path) -> ServerFile:
    servers: dict[str, ToolServerSettings] = {}
    problems: dict[str, str] = {}
    for name, entry in _entries(_document(text, file)):
        shown = clean_line(name, 60)
        try:
            servers[name] = _checked(name, entry)
        except ValueError as error:
            problems[shown] = clean_line(str(error), 500)
    return ServerFile(servers, problems)


def _without(text: str, values: Iterable[str]) -> str:
    """Return a text without values that may be secrets, and without their words, where they are not too short."""
    words = {word for value in values for word in (value, *value.split()) if len(word) >= _SHORTEST_SECRET}
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, "***")
    return text


def _checked(name: str, entry: object) -> ToolServerSettings:
    """Return an entry as settings. Raises ValueError, in words for users; they show no value, only names."""
    if not name.strip() or clean_line(name, 60) != name:
        raise ValueError(_("the name is empty, too long, or has characters that can't be shown"))
    if wrong := problem(entry, ToolServerSettings, hides_values=True):
        raise ValueError(wrong)
    server = msgspec.convert(entry, ToolServerSettings)
    if bool(server.command) == bool(server.url):
        raise ValueError(_("it needs a command or a url"))
    if server.type == "sse":
        raise ValueError(_("servers of the type sse are not supported; their successor is streamable HTTP"))
    strings = (name, server.command, *server.args, *server.env, *server.env.values(), *server.headers.values())
    if any("\0" in each for each in strings):
        raise ValueError(_("it contains the character NUL"))
    if any("=" in each or not each for each in server.env):
        raise ValueError(_("the name of a variable is empty or contains ="))
    if server.url and not is_address(_REFERENCE.sub("x", server.url)) and not _REFERENCE.match(server.url):
        raise ValueError(_("its URL is not valid"))
    return server


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(_SIZE_LIMIT + 1)
        if len(data) > _SIZE_LIMIT:
            raise WrongUse(
                _("{file} is too large.").format(file=clean_line(str(file))), _("Give a file of servers only.")
            )
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else _("it is not UTF-8")
        raise FileError(
            _("{file} can't be read: {reason}.").format(file=clean_line(str(file)), reason=reason),
            _("Check its name and its permissions."),
        ) from error


def _document(text: str, file: Path) -> dict[str, Any]:
    plain = _plain(text)
    try:
        document = msgspec.json.decode(plain)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise WrongUse(
            _("{file} is not JSON: {reason}.").format(file=clean_line(str(file)), reason=syntax.fault(error, plain)),
            _("Correct the file."),
        ) from error
    if not isinstance(document, dict):
        raise WrongUse(_("{file} does not hold an object.").format(file=clean_line(str(file))), _("Correct the file."))
    for key in _KEYS:
        if not isinstance(document.get(key, {}), dict):
            raise WrongUse(
                _("{file}: {key} is not an object.").format(file=clean_line(str(file)), key=key), _("Correct the file.")
            )
    return document


def _plain(text: str) -> str:
    """Return a text without what editors accept beside JSON; strings stay, and so do the numbers of lines."""
    for accepted in (_COMMENT, _LAST_COMMA):
        text = accepted.sub(lambda found: found[1] or "\n" * found[0].count("\n"), text)
    return text


def _entries(document: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for key in _KEYS:
        yield from document.get(key, {}).items()


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    """Return a text with the values of variables in place of references. Raises ServerFault."""

    def value(found: re.Match[str]) -> str:
        name = found["name"]
        if name in environ:
            return environ[name]
        if found["has_default"]:
            return found["default"]
        raise ServerFault(lambda: _("the environment variable {name} is not set").format(name=name))

    if other := next((each[0] for each in _OTHER_REFERENCE.finditer(text) if not _REFERENCE.fullmatch(each[0])), ""):
        raise ServerFault(lambda: _("{reference} can't be used here").format(reference=clean_line(other, 60)))
    return _REFERENCE.sub(value, text)
