"""The library of system prompts: one TOML file each in the settings folder, so that users can edit and share them."""

import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tomlkit

from qwenchat.errors import FileError, WrongUse
from qwenchat.files import write_atomically
from qwenchat.i18n import _, reason_of
from qwenchat.paths import private_folder
from qwenchat.text.safe import clean, clean_line, safe_name

_SUFFIX = ".toml"
_LIMIT = 1 << 20
"""Bytes of a file; a larger one is ignored."""


@dataclass(frozen=True, slots=True)
class NamedPrompt:
    """A system prompt with its name."""

    name: str
    text: str
    file: Path


class PromptLibrary:
    """The prompts in one folder, which may be missing. Files that can't be read are left out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[NamedPrompt]:
        """Return them by name."""
        found = (_read(file) for file in self._folder.glob(f"*{_SUFFIX}"))
        return sorted((prompt for prompt in found if prompt), key=lambda prompt: prompt.name.casefold())

    def save(self, name: str, text: str) -> None:
        """Save a prompt; one of the same name is replaced. Raises WrongUse or FileError."""
        name = clean_line(name)
        if not name:
            raise WrongUse(_("The prompt has no name."), _("Enter a name."))
        file = private_folder(self._folder) / (safe_name(name) + _SUFFIX)
        content = tomlkit.dumps({"name": name, "text": clean(text)})
        try:
            write_atomically(file, content.encode())
        except OSError as error:
            raise _refused(file, error) from error

    def delete(self, prompt: NamedPrompt) -> None:
        """Delete a prompt. Raises FileError."""
        try:
            prompt.file.unlink(missing_ok=True)
        except OSError as error:
            raise _refused(prompt.file, error) from error


def _read(file: Path) -> NamedPrompt | None:
    with suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        if file.stat().st_size > _LIMIT:
            return None
        content = tomllib.loads(file.read_text("utf-8"))
        text = content.get("text")
        if isinstance(text, str):
            return NamedPrompt(clean_line(str(content.get("name") or file.stem)), clean(text), file)
    return None


def _refused(file: Path, error: OSError) -> FileError:
    return FileError(
        _("The prompt {file} can't be written: {reason}.").format(file=file, reason=reason_of(error)),
        _("Make the folder writable."),
    )
