"""Where qwenchat keeps things. Nothing is made on disk here until someone calls `private_folder`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from qwenchat.errors import FileError
from qwenchat.i18n import _
from qwenchat.text.safe import clean_line


@dataclass(frozen=True, slots=True)
class Paths:
    """The four folders; QWENCHAT_HOME puts all of them below one, for a USB stick."""

    config: Path
    data: Path
    cache: Path
    logs: Path

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> "Paths":
        """Return the folders that the environment asks for, else the platform's own."""
        if home := environ.get("QWENCHAT_HOME"):
            root = at_home(home).absolute()
            return cls(root / "config", root / "data", root / "cache", root / "logs")
        dirs = platformdirs.PlatformDirs("qwenchat", appauthor=False)
        return cls(dirs.user_config_path, dirs.user_data_path, dirs.user_cache_path, dirs.user_log_path)

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.config / "config.toml"

    @property
    def theme_folders(self) -> tuple[Path, ...]:
        """Where themes lie: those that come with the program, then the person's own."""
        return (packed_themes(), self.config / "themes")

    @property
    def database(self) -> Path:
        """The conversations' database."""
        return self.data / "sessions.db"

    @property
    def models(self) -> Path:
        """What is known of model files, and the models of sources without a cache layout of their own."""
        return self.data / "models"

    @property
    def saved_kv(self) -> Path:
        """KV caches of sessions, so that a resumed session need not read itself again."""
        return self.cache / "kv"

    @property
    def engine_log(self) -> Path:
        """What llama.cpp says."""
        return self.logs / "engine.log"


def packed_themes() -> Path:
    """Return the folder of the themes that come with the program: beside it in a checkout, within it installed."""
    installed = Path(__file__).parent / "themes"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "themes"


def at_home(path: str | Path) -> Path:
    """Return a path as a person typed it, with `~` resolved. Raises FileError where that is nobody's home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileError(
            _("The home folder in {path} can't be found.").format(path=clean_line(str(path))),
            _("Write the whole path, without ~."),
        ) from error


def is_missing(path: Path) -> bool:
    """Say whether the system knows that nothing is there; False also for what it does not let us see."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
    return False


def private_folder(folder: Path) -> Path:
    """Make `folder` if it is missing, as `make_private` does, and return it.

    Raises FileError when it can't be made.
    """
    try:
        make_private(folder)
    except OSError as error:
        raise FileError(
            _("The folder {folder} can't be made: {reason}.").format(folder=folder, reason=error.strerror),
            _("Make it writable, or set QWENCHAT_HOME to a folder that is."),
        ) from error
    return folder


def make_private(folder: Path) -> None:
    """Make `folder` and all that is missing above it readable by its owner alone; what is there stays as it is."""
    if not folder.parent.exists():
        make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
