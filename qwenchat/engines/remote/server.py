"""A server that an engine asks: its name, its URL, its dialect, and whether words sent to it leave this machine.

It opens no connection and holds no key: a key is looked up when a request is sent (`keys`), and only its place is known
here.
"""

from urllib.parse import urlsplit

from msgspec import Struct

from qwenchat.chat.sampling import Dialect
from qwenchat.net.addresses import is_loopback


class RemoteServer(Struct, frozen=True, kw_only=True):
    """One `[engines.NAME]` of the settings."""

    name: str
    """What references call it: `@NAME/MODEL`."""
    url: str
    """Without a trailing slash; with the path that the user gave, such as `/v1`, and without user name or password."""
    dialect: Dialect | None = None
    """None: found out by asking."""
    key_env: str = ""
    """The environment variable that holds its key."""
    key_command: str = ""
    """The command that prints its key."""
    key_file: str = ""
    """The file, readable by its owner alone, that holds its key."""
    context: int = 0
    """Tokens of the context window to use; 0: what the server reports."""

    @property
    def host(self) -> str:
        """Host, and port where the URL has one, as it is shown to users."""
        return urlsplit(self.url).netloc

    @property
    def root(self) -> str:
        """The URL without the `/v1` of OpenAI's interface: where a server's own interface begins."""
        return self.url.removesuffix("/v1")

    def identity(self, model: str) -> str:
        """Return what is stored as `Message.model_file` with the answers of one of its models."""
        return f"{self.url}#{model}"

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine, so that words sent to it do not leave it."""
        return is_loopback(urlsplit(self.url).hostname or "")
