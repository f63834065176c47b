"""The settings of one engine elsewhere, `[engines.NAME]`: its URL in one form, and where its key is looked up.

Nothing is connected to here, and no key is read: a key never stands in the settings.
"""

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from msgspec import Meta, Struct
from msgspec.structs import replace

from qwenchat.chat.sampling import Dialect
from qwenchat.errors import WrongUse
from qwenchat.i18n import _
from qwenchat.text.safe import clean_line

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PRIVATE_SUFFIXES = (".local", ".localhost", ".lan", ".home", ".internal", ".home.arpa")
"""Ends of names that exist in private networks only."""
_SHARED = ipaddress.ip_network("100.64.0.0/10")
"""What virtual private networks such as Tailscale give their machines (RFC 6598)."""


class EngineSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One server that runs models elsewhere."""

    url: Annotated[str, Meta(description="URL of the server, such as http://10.0.0.5:8080/v1")]
    kind: Annotated[Dialect | None, Meta(description="Kind of server; empty: found out by asking it")] = None
    key_env: Annotated[str, Meta(description="Environment variable that holds the key")] = ""
    key_command: Annotated[str, Meta(description="Command that prints the key")] = ""
    key_file: Annotated[str, Meta(description="File that holds the key, readable by you alone")] = ""
    context: Annotated[int, Meta(ge=0, description="Context window in tokens; 0: what the server reports")] = 0

    @property
    def has_key(self) -> bool:
        """Whether the settings say where a key is."""
        return bool(self.key_env or self.key_command or self.key_file)

    @property
    def exposes_key(self) -> bool:
        """Whether a key would cross a public network unencrypted."""
        parts = urlsplit(self.url)
        return self.has_key and parts.scheme == "http" and not _is_private(parts.hostname or "")


def checked(name: str, engine: EngineSettings) -> EngineSettings:
    """Return the settings of an engine with its URL in one form. Raises WrongUse."""
    if not _NAME.fullmatch(name):
        raise WrongUse(
            _("{name} can't be the name of an engine.").format(name=clean_line(name) or '""'),
            _("Use up to 32 lower-case letters, digits and hyphens, such as my-server."),
        )
    if sum(map(bool, (engine.key_env, engine.key_command, engine.key_file))) > 1:
        raise WrongUse(
            _("The engine {name} has more than one place for its key.").format(name=name),
            _("Give an environment variable, a command or a file, not several of them."),
        )
    if engine.key_env and not _VARIABLE.fullmatch(engine.key_env):
        raise WrongUse(  # it is not repeated: it may be the key
            _("What is given for the engine {name} can't be the name of an environment variable.").format(name=name),
            _("Give the name of the variable that holds the key, never the key itself."),
        )
    return replace(engine, url=normalised_url(engine.url))


def normalised_url(text: str) -> str:
    """Return a server's URL in the form that it is stored in. Raises WrongUse where it can't be one."""
    text = text.strip()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # a port that is no number, or an unclosed bracket
        raise _not_a_url(text) from None
    if parts.username is not None or parts.password is not None:
        raise WrongUse(
            _("The URL of an engine can't contain a user name or a password."),
            _("Say where its key is instead: in an environment variable, a command or a file."),
        )
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https") or not text.isprintable() or " " in text or "\\" in text:
        raise _not_a_url(text)
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise WrongUse(
            _("The URL of an engine can't contain a query or a fragment: {url}.").format(url=clean_line(text)),
            _("Leave out what follows the path."),
        )
    shown_port = "" if port is None or port == {"http": 80, "https": 443}[scheme] else f":{port}"
    return urlunsplit((scheme, _written_host(host, text) + shown_port, parts.path.rstrip("/"), "", ""))


def _written_host(host: str, url: str) -> str:
    """Return a host as a URL has it, in ASCII, so that no letter passes for another. Raises WrongUse."""
    try:
        return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        pass
    try:
        written = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise _not_a_url(url) from None
    if not _HOST.fullmatch(written):
        raise _not_a_url(url)
    return written


def _is_private(host: str) -> bool:
    """Return whether a host is this machine or in a private network, as far as its name or address says."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_SUFFIXES)
    return address.is_private or address.is_link_local or (address.version == 4 and address in _SHARED)


def _not_a_url(text: str) -> WrongUse:
    return WrongUse(
        _("{url} is not the URL of a server.").format(url=clean_line(text) or '""'),
        _("Write it as http://10.0.0.5:8080 or https://example.com/v1."),
    )
