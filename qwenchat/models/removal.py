"""Deletes models that are ours to delete, and frees what they take; other programs' files are never touched.

In the Hugging Face cache huggingface_hub deletes, so that blobs which other revisions share stay.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from qwenchat.errors import FileError, WrongUse
from qwenchat.i18n import _
from qwenchat.models.gguf import part_paths
from qwenchat.models.layouts import Places
from qwenchat.models.library import Entry
from qwenchat.models.verify import unreadable
from qwenchat.text.safe import clean_line

_ENGINE = "qwenchat.engines.worker.main"
"""How a process of ours that has a model loaded was started."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal would delete."""

    files: tuple[Path, ...]
    frees: int
    """Bytes."""
    execute: Callable[[], None]
    """Does it. Raises FileError."""


def plan_removal(entry: Entry, places: Places, *, hf_cache: bool = False) -> Removal:
    """Return what removing a model would delete; `hf_cache` says that a person asked to delete there too.

    Raises WrongUse for a file that is not ours, FileError while a program uses it.
    """
    if entry.found.origin == "hf" and not hf_cache:
        raise WrongUse(
            _("{model} lies in the Hugging Face cache, where other programs may use it too.").format(
                model=clean_line(entry.reference)
            ),
            _("Add --hf-cache to delete it there."),
        )
    if not _is_ours(entry, places) and entry.found.origin != "hf":
        raise WrongUse(
            _("{model} was not downloaded by this program, which deletes its own files only.").format(
                model=clean_line(entry.reference)
            ),
            _("Its owner is {owner}, its file {path}").format(
                owner=entry.found.origin, path=clean_line(str(entry.path))
            ),
        )
    parts = tuple(part for part in part_paths(entry.path) if part.exists() or part.is_symlink())
    refuse_while_used(parts)
    return _from_cache(parts, places.hf) if entry.found.origin == "hf" else _from_ours(parts, places)


def _is_ours(entry: Entry, places: Places) -> bool:
    brought = places.brought is not None and places.brought.has(entry.path)
    return entry.found.origin == "qwenchat" or brought


def refuse_while_used(files: Sequence[Path]) -> None:
    """Raise FileError while another program has one of the files open or mapped into memory.

    Only processes that we may look into are seen. One that read the whole file and closed it can lose it.
    """
    wanted = {str(file.resolve()) for file in files}
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.pid == os.getpid():
            continue
        try:
            used = {mapped.path for mapped in process.memory_maps()} if hasattr(process, "memory_maps") else set()
            used |= {opened.path for opened in process.open_files()}
        except (psutil.Error, OSError):
            continue
        if wanted & used:
            raise FileError(
                _("{name} (process {pid}) is using the model.").format(name=_name(process.info), pid=process.pid),
                _("End that program first, or let it use another model."),
            )


def _name(process: Mapping[str, Any]) -> str:
    """Return what a person calls a program; our engine's own name is that of the interpreter."""
    if _ENGINE in (process["cmdline"] or ()):
        return "qwenchat"
    return clean_line(process["name"] or "?")


def _from_ours(parts: tuple[Path, ...], places: Places) -> Removal:
    roots = (*places.ours, *([places.chosen] if places.chosen else []))

    def execute() -> None:
        for part in parts:
            try:
                part.unlink(missing_ok=True)
                if places.brought:
                    places.brought.forget(part)
                folder = part.parent
                while any(root in folder.parents for root in roots) and not any(folder.iterdir()):
                    folder.rmdir()
                    folder = folder.parent
            except OSError as error:
                raise unreadable(part, error) from error

    return Removal(parts, sum(part.lstat().st_size for part in parts), execute)


def _from_cache(parts: tuple[Path, ...], cache: Path) -> Removal:
    from huggingface_hub import scan_cache_dir  # noqa: PLC0415 - slow to import, and needed only here

    blobs = {part.resolve() for part in parts}
    info = scan_cache_dir(cache)
    files = [
        file
        for repo in info.repos
        for revision in repo.revisions
        for file in revision.files
        if file.blob_path.resolve() in blobs
    ]
    strategy = info.delete_files(*files)

    def execute() -> None:
        try:
            strategy.execute()
        except OSError as error:
            raise unreadable(parts[0], error) from error
        if left := [part for part in parts if part.exists()]:
            raise unreadable(left[0], PermissionError(13, "Permission denied"))

    return Removal(tuple(sorted(file.file_path for file in files)), strategy.expected_freed_size, execute)
