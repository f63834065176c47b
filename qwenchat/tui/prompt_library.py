"""The library of system prompts: one TOML file each in the settings folder, so that users can edit and share them."""

from dataclasses import dataclass
from pathlib import Path

import tomlkit
from msgspec import Struct

from qwenchat.errors import FileError, QwenchatError, WrongUse
from qwenchat.files import write_atomically
from qwenchat.i18n import _, reason_of
from qwenchat.paths import private_folder
from qwenchat.text.safe import clean, clean_line, safe_name
from qwenchat.typed_values import read_toml

_SUFFIX = ".toml"
_LIMIT = 1 << 20
"""Bytes of a file; a larger one is refused."""


class PromptFile(Struct, frozen=True):
    """What a file holds; without a name, the file's own is the prompt's."""

    text: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class NamedPrompt:
    """A system prompt with its name."""

    name: str
    text: str
    file: Path


class PromptLibrary:
    """The prompts in one folder, which may be missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[NamedPrompt]:
        """Return them by name, without those that can't be used."""
        return self.read()[0]

    def read(self) -> tuple[list[NamedPrompt], list[QwenchatError]]:
        """Return them by name, and what is wrong with the files that can't be used."""
        found: list[NamedPrompt] = []
        problems: list[QwenchatError] = []
        for file in sorted(self._folder.glob(f"*{_SUFFIX}")):
            try:
                found.append(_read(file))
            except (FileError, WrongUse) as error:
                problems.append(error)
        return sorted(found, key=lambda prompt: prompt.name.casefold()), problems

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


def _read(file: Path) -> NamedPrompt:
    """Return the prompt in a file. Raises FileError or WrongUse."""
    shown = clean_line(str(file))
    try:
        if file.stat().st_size > _LIMIT:
            raise WrongUse(_("{file} is too large.").format(file=shown), _("Make it shorter, or move it away."))
        found, reason = read_toml(file, PromptFile)
    except OSError as error:
        raise FileError(
            _("The prompt {file} can't be read: {reason}.").format(file=shown, reason=reason_of(error)),
            _("Make it readable, or move it away."),
        ) from error
    if found:
        return NamedPrompt(clean_line(found.name or file.stem), clean(found.text), file)
    raise WrongUse(
        _("The prompt {file} is invalid: {reason}.").format(file=shown, reason=reason),
        _("Correct it, or move it away."),
    )


def _refused(file: Path, error: OSError) -> FileError:
    return FileError(
        _("The prompt {file} can't be written: {reason}.").format(file=file, reason=reason_of(error)),
        _("Make the folder writable."),
    )
