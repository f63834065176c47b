"""Where qwenchat's folders and files are, and how folders are created.

Looking up a path creates nothing: folders are created when they are needed.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import platformdirs
from msgspec import Struct

from qwenchat.errors import FileError
from qwenchat.i18n import _, reason_of
from qwenchat.text.safe import clean_line


class Paths(Struct, frozen=True):
    """The folders; QWENCHAT_HOME puts all of them below one folder, such as one on a USB stick."""

    config: Path
    data: Path
    cache: Path
    logs: Path
    home: Path | None = None
    """The folder of QWENCHAT_HOME."""

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> "Paths":
        """Return the folders that the environment sets, otherwise those of the platform."""
        if home := environ.get("QWENCHAT_HOME"):
            root = expand_home(home).absolute()
            return cls(root / "config", root / "data", root / "cache", root / "logs", home=root)
        dirs = platformdirs.PlatformDirs("qwenchat", appauthor=False)
        return cls(dirs.user_config_path, dirs.user_data_path, dirs.user_cache_path, dirs.user_log_path)

    @property
    def runtime(self) -> Path | None:
        """The folder for sockets of running programs; None where the platform has no safe place for it."""
        if self.home:
            return self.home / "run"
        with warnings.catch_warnings(action="ignore"):  # of a session without XDG_RUNTIME_DIR, such as one of cron
            try:
                return platformdirs.PlatformDirs("qwenchat", appauthor=False).user_runtime_path
            except OSError:
                return None

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.config / "config.toml"

    @property
    def tool_servers(self) -> Path:
        """The file that names the servers of tools, as other programs have it."""
        return self.config / "mcp.json"

    @property
    def theme_folders(self) -> tuple[Path, ...]:
        """The folders with themes: those that come with the program, then the user's own."""
        return (bundled_themes(), self.config / "themes")

    @property
    def database(self) -> Path:
        """The session database."""
        return self.data / "sessions.db"

    @property
    def documents(self) -> Path:
        """The index of documents, which can be made again."""
        return self.data / "documents.db"

    @property
    def collections(self) -> Path:
        """The file that names the collections of documents and what is in each."""
        return self.data / "collections.json"

    @property
    def models(self) -> Path:
        """The folder for records about model files, and for downloads from sources without a cache of their own."""
        return self.data / "models"

    @property
    def saved_kv(self) -> Path:
        """The folder of saved KV caches, with which a session resumes without a new prefill."""
        return self.cache / "kv"

    @property
    def engine_log(self) -> Path:
        """The log of llama.cpp."""
        return self.logs / "engine.log"


def bundled_themes() -> Path:
    """Return the folder of the themes that come with the program: beside the package in a checkout, else inside it."""
    installed = Path(__file__).parent / "themes"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "themes"


def file_name(name: str) -> str:
    """Return a name with which a file can be created in any locale.

    Characters that the locale's encoding lacks would be refused; such a name is written in UTF-8 instead.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return os.fsdecode(name.encode("utf-8", "replace"))
    return name


def expand_home(path: str | Path) -> Path:
    """Return a path that the user typed with `~` expanded. Raises FileError if that home folder is unknown."""
    try:
        return Path(file_name(str(path))).expanduser()
    except RuntimeError as error:
        raise FileError(
            _("The home folder in {path} can't be found.").format(path=clean_line(str(path))),
            _("Write the full path, without ~."),
        ) from error


def shortened(path: str) -> str:
    """Return a path with `~` for the user's home folder, as `expand_home` reads it; any other text is unchanged."""
    try:
        inside = Path(path).relative_to(Path.home())
    except (RuntimeError, ValueError):
        return path
    return str(Path("~") / inside)


def is_missing(path: Path) -> bool:
    """Return whether a path is known not to exist; False also where that can't be determined."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
    return False


def folder_problem(folder: Path) -> str:
    """Return the reason why a folder can't be read, in the user's language; empty if it can."""
    try:
        os.scandir(folder).close()
    except FileNotFoundError:
        return _("it does not exist")
    except NotADirectoryError:
        return _("it is not a folder")
    except OSError as error:
        return reason_of(error)
    return ""


def private_folder(folder: Path) -> Path:
    """Create a folder as `make_private` does, and return it. Raises FileError."""
    try:
        make_private(folder)
    except OSError as error:
        raise FileError(
            _("The folder {folder} can't be created: {reason}.").format(folder=folder, reason=reason_of(error)),
            _("Make it writable, or set QWENCHAT_HOME to a folder that is."),
        ) from error
    return folder


def make_private(folder: Path) -> None:
    """Create a folder and its missing parents, readable by their owner only. Existing ones are not changed."""
    if not folder.parent.exists():
        make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
