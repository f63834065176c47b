"""What can follow the name of a slash command: models, saved prompts, parameters with their values, paths.

Folders are read, so this is called from a thread; it is imported when the first argument is typed.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from qwenchat.chat.sampling import PARAMETERS
from qwenchat.chat.session import Session
from qwenchat.i18n import _, labelled
from qwenchat.models.catalogue import QWEN2
from qwenchat.models.reference import path_reference
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line, human_size
from qwenchat.tui import slash_commands
from qwenchat.tui.completions import Completion
from qwenchat.tui.parameters import CONTEXT
from qwenchat.tui.prompt_library import PromptLibrary

IMPORTED = (".json", ".jsonl", ".zip")
"""Ends of files from which chats are imported."""
_MOST = 50
_PATH = re.compile(r"[/\\]|^[~.]")
"""What only a path has."""
_Offered = Iterator[tuple[str, str, str]]
"""Text, label and words about it."""
_Offer = Callable[[str, Program, Session], _Offered]
_WITH_ARGUMENT = re.compile(r"(/([a-zA-Z?]+)[ \t]+)(\S.*)?")


def arguments(typed: str, program: Program, session: Session) -> list[Completion]:
    """Return what may follow the command that is typed, as far as it is typed. Raises no error: folders may be gone."""
    found = _WITH_ARGUMENT.fullmatch(typed)
    if not found:
        return []
    before, name, begun = found[1], slash_commands.canonical(found[2]), found[3] or ""
    offered: dict[str, _Offer] = {
        "new": _private,
        "model": _models,
        "compare": _models,
        "system": _prompts,
        "set": _parameters,
        "attach": _paths,
        "import": partial(_paths, suffixes=IMPORTED),
    }
    if name not in offered:
        return []
    is_whole = not begun or (name == "attach" and _is_folder(begun))  # what is in the folder is only offered
    return [
        Completion(before + text, label, words, is_offer=is_whole or before + text == typed)
        for text, label, words in offered[name](begun, program, session)
    ][:_MOST]


def _is_folder(path: str) -> bool:
    try:
        return Path(path).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):
        return False


def path_completions(begun: str, suffixes: Sequence[str] = ("",)) -> list[str]:
    """Return the folders, and the files that end in a suffix, that a path may become; none where it can't be read."""
    try:
        folder = Path(begun).expanduser()
        folder, start = (folder, "") if begun.endswith(("/", "\\")) else (folder.parent, folder.name)
        found = [path.name + "/" * path.is_dir() for path in sorted(folder.iterdir())]
    except (OSError, RuntimeError, ValueError):
        return []
    return [
        begun[: len(begun) - len(start)] + name
        for name in found
        if name.startswith(start) and (start or not name.startswith("."))
        if name.endswith(("/", *suffixes)) and name.isprintable()
    ]


def _private(begun: str, _program: Program, _session: Session) -> _Offered:
    if "private".startswith(begun.lower()):
        yield "private", "private", _("not saved")


def _models(begun: str, program: Program, session: Session) -> _Offered:
    """Yield the models on this machine, those that engines elsewhere offered last, then those to download."""
    wanted = begun.casefold()
    here = [model for model in program.library.models() if not model.problem]
    for model in here:
        if wanted in model.reference.casefold():
            is_path = model.reference == path_reference(model.path)
            size = human_size(model.header.file_size) if model.header else ""
            words = " · ".join(filter(None, (_("on this computer"), size)))
            yield model.reference, clean_line(model.path.name if is_path else model.reference, 60), words
    for listing in program.remote_engines.known():
        for served in listing.models:
            reference = listing.reference(served)
            if wanted in reference.casefold():
                window = _("{count:,} tokens of context").format(count=served.n_ctx) if served.n_ctx else ""
                yield reference, clean_line(reference, 60), " · ".join(filter(None, (listing.server.host, window)))
    known = {model.reference for model in here}
    offered = program.catalogue.models if wanted else program.catalogue.of(QWEN2)
    for published in offered:
        if published.name not in known and wanted in published.name:
            yield published.name, published.name, _("to download")
    if _PATH.search(begun):
        yield from _paths(begun, program, session, (".gguf",))


def _prompts(begun: str, program: Program, _session: Session) -> _Offered:
    for prompt in PromptLibrary(program.paths.config / "prompts").all():
        if prompt.name.casefold().startswith(begun.casefold()):
            yield prompt.name, prompt.name, clean_line(prompt.text, 60)


def _parameters(begun: str, program: Program, session: Session) -> _Offered:
    """Yield the parameters with the values that they have now."""
    if " " in begun.strip():
        return
    context = session.context or program.settings.model.context
    now = {CONTEXT: context or None}
    help = {CONTEXT: _("Context window, in tokens")}
    for each in PARAMETERS:
        value = getattr(session.sampling, each.name)
        now[each.label] = getattr(program.sampling, each.name) if value is None else value
        help[each.label] = _(each.help)
    for label, value in now.items():
        if begun.strip() == label:
            if value is not None and begun != label:
                yield f"{label} {value}", f"{value}", _("current value")
        elif label.startswith(begun.replace("_", "-").lower()):
            shown = _("model default") if value is None else f"{value}"
            yield f"{label} ", labelled(label, shown), help[label]


def _paths(begun: str, _program: Program, _session: Session, suffixes: Sequence[str] = ("",)) -> _Offered:
    for path in path_completions(begun if _PATH.search(begun) else f"./{begun}", suffixes):
        yield path, path, ""
