"""Walks a folder as its owner means it: what git ignores and what is hidden is not part of it.

Nothing is opened but `.gitignore` files, no link is followed, and nothing outside the folder is listed. The walk is
lazy and breadth first: who takes no more entries has ended it, and has seen what is near before what is deep.
"""

import os
import re
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pathspec import GitIgnoreSpec

_IGNORE_FILE = ".gitignore"
_LONGEST_IGNORE_FILE = 1 << 20
"""Bytes of it that are read."""
_STARS = re.compile(r"\*+")
_MOST_STARS = 4
"""In one pattern; matching more may take a time that grows with the length of a name to that power."""
_SYSTEM = frozenset() if sys.platform == "win32" else frozenset(("/proc", "/sys", "/dev", "/run"))


class Skip(StrEnum):
    """Why an entry is not part of a folder."""

    HIDDEN = "hidden"
    IGNORED = "ignored"
    """By a `.gitignore`."""
    LINK = "link"
    SPECIAL = "special"
    """Neither a file nor a folder, or a folder of the system."""
    UNREADABLE = "unreadable"
    """A folder that can't be listed; it also stands there as an entry that is not skipped."""


@dataclass(frozen=True, slots=True)
class WalkedPath:
    """A file or folder that was found, or what was skipped; nothing in a skipped folder is found."""

    name: str
    """The path below the folder, with `/`, as the disk has it: control characters and lone surrogates included."""
    is_folder: bool
    skipped: Skip | None = None

    def path_in(self, folder: Path) -> Path:
        """Return its path, given the folder that was walked."""
        return folder / self.name


@dataclass(frozen=True, slots=True)
class _Rules:
    """One `.gitignore`, for the names that begin with `prefix` once `above` stands before them."""

    spec: GitIgnoreSpec
    prefix: str
    above: str = ""
    """Folders between the ignore file and the walked folder, which are not part of the names."""

    def decide(self, name: str, *, is_folder: bool) -> bool | None:
        """Return whether a name is ignored; None where no pattern says anything of it."""
        relative = self.above + name.removeprefix(self.prefix) + "/" * is_folder
        return self.spec.check_file(relative).include


def walk(folder: Path) -> Iterator[WalkedPath]:
    """Yield everything in a folder, each folder before what is in it. Blocks; raises OSError if it can't be listed."""
    folder = folder.resolve()
    with os.scandir(folder):  # the one folder whose failure is the caller's
        pass
    waiting: deque[tuple[str, tuple[_Rules, ...]]] = deque([("", _rules_above(folder))])
    while waiting:
        prefix, rules = waiting.popleft()
        try:
            with os.scandir(folder / prefix) as listed:
                found = sorted(listed, key=lambda entry: entry.name)
        except OSError:
            yield WalkedPath(prefix.removesuffix("/"), is_folder=True, skipped=Skip.UNREADABLE)
            continue
        if any(entry.name == _IGNORE_FILE for entry in found):
            rules = (*rules, *_rules_of(folder / prefix / _IGNORE_FILE, prefix))
        for each in found:
            entry = _judged(each, prefix + each.name, rules)
            yield entry
            if entry.is_folder and not entry.skipped:
                waiting.append((entry.name + "/", rules))


def _judged(found: os.DirEntry[str], name: str, rules: Sequence[_Rules]) -> WalkedPath:
    try:
        is_link, is_folder = found.is_symlink(), found.is_dir(follow_symlinks=False)
        is_file = found.is_file(follow_symlinks=False)
    except OSError:
        return WalkedPath(name, is_folder=False, skipped=Skip.UNREADABLE)
    skipped = None
    if found.name.startswith("."):
        skipped = Skip.HIDDEN
    elif is_link:
        skipped = Skip.LINK
    elif not (is_file or is_folder) or found.path in _SYSTEM:
        skipped = Skip.SPECIAL
    elif _is_ignored(name, rules, is_folder=is_folder):
        skipped = Skip.IGNORED
    return WalkedPath(name, is_folder=is_folder, skipped=skipped)


def _is_ignored(name: str, rules: Sequence[_Rules], *, is_folder: bool) -> bool:
    """Return what the nearest ignore file says that says anything."""
    for each in reversed(rules):
        decided = each.decide(name, is_folder=is_folder)
        if decided is not None:
            return decided
    return False


def _rules_above(folder: Path) -> tuple[_Rules, ...]:
    """Return the ignore files above a folder, up to the root of its repository; none outside one."""
    rules: list[_Rules] = []
    for parent in (folder, *folder.parents):
        if parent != folder:
            above = folder.relative_to(parent).as_posix() + "/"
            rules[:0] = _rules_of(parent / _IGNORE_FILE, "", above)
        if (parent / ".git").exists():
            return tuple(rules)
    return ()


def _rules_of(file: Path, prefix: str, above: str = "") -> list[_Rules]:
    """Return the rules of an ignore file; none where it is missing or can't be read."""
    try:
        if not file.is_file():
            return []
        with file.open("rb") as opened:
            text = opened.read(_LONGEST_IGNORE_FILE).decode("utf-8", "replace")
    except OSError:
        return []
    usable = [line for line in text.splitlines() if len(_STARS.findall(line)) <= _MOST_STARS]
    try:
        spec = GitIgnoreSpec.from_lines(usable)
    except ValueError:  # one of them is no pattern
        spec = GitIgnoreSpec.from_lines(filter(_is_pattern, usable))
    return [_Rules(spec, prefix, above)]


def _is_pattern(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
