"""Deletes models that this program downloaded. Files of other programs and of the user are never touched.

In the Hugging Face cache, files are deleted only at the user's explicit request, by huggingface_hub, which preserves
blobs that other revisions share.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from qwenchat.errors import FileError, Recovery, RecoveryKind, WrongUse
from qwenchat.i18n import _
from qwenchat.models.file_names import split_paths
from qwenchat.models.folders import ModelFolders
from qwenchat.models.library import LocalModel
from qwenchat.models.sources.registry import prepare_huggingface_hub
from qwenchat.models.verify import unreadable
from qwenchat.text.safe import clean_line

_ENGINE = "qwenchat.engines.worker.main"
"""This is in the command line of every engine process of this program."""


@dataclass(frozen=True, slots=True)
class Removal:
    """The files that a removal deletes."""

    files: tuple[Path, ...]
    frees: int
    """Bytes."""
    execute: Callable[[], None]
    """Delete them. Raises FileError."""


def plan_removal(model: LocalModel, folders: ModelFolders, *, hf_cache: bool = False) -> Removal:
    """Return the files that removing a model would delete; `hf_cache` allows deleting in the Hugging Face cache.

    Raises WrongUse for a file that this program did not download, FileError while another program uses it.
    """
    in_hf_cache = model.file.origin == "hf"
    if in_hf_cache and not hf_cache:
        raise WrongUse(
            _("{model} is in the Hugging Face cache, where other programs may use it too.").format(
                model=clean_line(model.reference)
            ),
            recoveries=(Recovery(RecoveryKind.DELETE_SHARED),),
        )
    is_ours = model.file.origin == "qwenchat" or folders.is_downloaded(model.path)
    if not is_ours and not in_hf_cache:
        raise WrongUse(
            _("{model} was not downloaded by qwenchat, which deletes only its own files.").format(
                model=clean_line(model.reference)
            ),
            _("Delete it yourself, or with the program that it belongs to: {path}").format(
                path=clean_line(str(model.path))
            ),
        )
    parts = tuple(part for part in split_paths(model.path) if part.exists() or part.is_symlink())
    refuse_while_used(parts)
    return _from_hf_cache(parts, folders.hf) if in_hf_cache else _from_folders(parts, folders)


def refuse_while_used(files: Sequence[Path]) -> None:
    """Raise FileError while another program has one of the files open or mapped into memory.

    Only processes that this user may inspect are checked. A process that read the file and closed it is not found.
    """
    paths = {str(file.resolve()) for file in files}
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.pid == os.getpid():
            continue
        try:
            used = {mapped.path for mapped in process.memory_maps()} if hasattr(process, "memory_maps") else set()
            used |= {opened.path for opened in process.open_files()}
        except (psutil.Error, OSError):
            continue
        if paths & used:
            raise FileError(
                _("{name} (process {pid}) is using the model.").format(name=_name(process.info), pid=process.pid),
                _("Quit that program first, or switch it to another model."),
            )


def _name(process: Mapping[str, Any]) -> str:
    """Return a program's name for users; the engine process of this program has the name of the interpreter."""
    if _ENGINE in (process["cmdline"] or ()):
        return "qwenchat"
    return clean_line(process["name"] or "?")


def _from_folders(parts: tuple[Path, ...], folders: ModelFolders) -> Removal:
    roots = [*folders.own, *([folders.download_folder] if folders.download_folder else [])]

    def execute() -> None:
        for part in parts:
            try:
                part.unlink(missing_ok=True)
                folders.records.remove(part)
                folder = part.parent
                while any(root in folder.parents for root in roots) and not any(folder.iterdir()):
                    folder.rmdir()
                    folder = folder.parent
            except OSError as error:
                raise unreadable(part, error) from error

    return Removal(parts, sum(part.lstat().st_size for part in parts), execute)


def _from_hf_cache(parts: tuple[Path, ...], cache: Path) -> Removal:
    prepare_huggingface_hub()
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
