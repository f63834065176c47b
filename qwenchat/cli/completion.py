"""Shell completion: the script for a shell, and the words offered for models, sessions, settings and themes.

The user waits for this after pressing Tab, so it is fast and never fails: nothing is written to disk, and neither
Textual nor llama.cpp nor huggingface_hub is imported. Click writes the script.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import wraps

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from qwenchat import config
from qwenchat.cli.output import Output
from qwenchat.errors import QwenchatError
from qwenchat.paths import shortened
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line

_Offered = list[CompletionItem[str]]
_Complete = Callable[[click.Context, click.Parameter, str], _Offered]
_SESSIONS = 30
"""Sessions that are offered, as many as a user can look through."""
_TITLE = 60
"""Characters."""


def _offering(words: Callable[[Program, click.Context], Iterable[tuple[str, str]]]) -> _Complete:
    """Turn a function that yields words with explanations into a completion, which offers nothing when it fails."""

    @wraps(words)
    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> _Offered:
        program = context.find_root().obj
        if not isinstance(program, Program):
            return []
        try:
            found = list(words(program, context))
        except (QwenchatError, OSError):
            return []
        with_colon = ":" in incomplete or incomplete.startswith("@")  # quantisations are offered once a colon is typed
        return [
            CompletionItem(word, help=note or None)
            for word, note in found
            if word.startswith(incomplete) and (with_colon or ":" not in word)
        ]

    return complete


def _or_file(complete: _Complete) -> _Complete:
    """Let the shell itself complete what begins as a path."""

    @wraps(complete)
    def either(context: click.Context, parameter: click.Parameter, incomplete: str) -> _Offered:
        if incomplete.startswith(("/", "./", "../", "~", ".\\")):
            return [CompletionItem(incomplete, type="file")]
        return complete(context, parameter, incomplete)

    return either


@_or_file
@_offering
def models(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the models on this machine, those elsewhere, then those of the catalogue, alone and quantised."""
    yield from _here_and_published(program, _remote(program))


@_or_file
@_offering
def models_and_families(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the models on this machine, the families of the catalogue, then its models."""
    yield from _here_and_published(program, _families(program))


@_offering
def families(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the families of the catalogue."""
    yield from _families(program)


@_or_file
@_offering
def local_models(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the models on this machine."""
    yield from _local(program)


@_offering
def published_models(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the models of the catalogue."""
    yield from _published(program)


def _here_and_published(program: Program, between: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the models on this machine, what comes `between`, then the models of the catalogue that are not here."""
    here = dict(_local(program))
    yield from here.items()
    yield from between
    yield from ((word, note) for word, note in _published(program) if word not in here)


def _local(program: Program) -> Iterator[tuple[str, str]]:
    with suppress(QwenchatError):  # wrong settings do not hide the others
        for model in program.library.survey(save=False)[0]:
            if not model.problem:
                yield shortened(model.reference), str(model.name)
    yield "guide", ""


def _remote(program: Program) -> Iterator[tuple[str, str]]:
    """Yield the models that engines elsewhere offered when they were asked last; none is asked now."""
    with suppress(QwenchatError):
        for listing in program.remote_engines.known():
            for model in listing.models:
                yield clean_line(listing.reference(model), 1000), clean_line(listing.server.host)


@_offering
def engines(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the names of the engines elsewhere with their URLs."""
    for name, engine in program.settings.engines.items():
        yield name, engine.url


@_offering
def tools(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the names of the built-in tools with what they do; no server is asked for its tools."""
    yield from _tools(program)


@_offering
def tools_and_servers(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the names of the built-in tools and of the MCP servers."""
    yield from _tools(program)
    yield from _servers(program)


@_offering
def tool_servers(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the names of the MCP servers."""
    yield from _servers(program)


def _tools(program: Program) -> Iterator[tuple[str, str]]:
    from qwenchat.runtime.session_tools import built_in  # noqa: PLC0415 - only this completion needs it

    for tool in built_in(program):
        yield tool.spec.name, tool.spec.description


def _servers(program: Program) -> Iterator[tuple[str, str]]:
    from qwenchat.tools.mcp.settings import load  # noqa: PLC0415 - only this completion needs it

    for name, server in load(program.paths.tool_servers).servers.items():
        yield name, server.shown


@_offering
def models_to_show(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the models on this machine and those elsewhere."""
    yield from _local(program)
    yield from _remote(program)


def _families(program: Program) -> Iterator[tuple[str, str]]:
    for family in program.catalogue.families:
        yield family.name, family.about_here()


def _published(program: Program) -> Iterator[tuple[str, str]]:
    """Yield the names, then the names with each quantisation."""
    for model in program.catalogue.models:
        yield model.name, model.title
    for model in program.catalogue.models:
        for quant in model.quantisations:
            yield model.reference(quant), model.title


@_offering
def sessions(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the ids of the newest sessions with their titles."""
    return _sessions(program, trashed=False)


@_offering
def trashed_sessions(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the ids of the newest sessions in the trash with their titles."""
    return _sessions(program, trashed=True)


def _sessions(program: Program, *, trashed: bool) -> Iterator[tuple[str, str]]:
    from qwenchat.sessions.listing import SessionListing  # noqa: PLC0415
    from qwenchat.storage.database import Database  # noqa: PLC0415 - only this completion needs it

    if not program.paths.database.exists():
        return
    database = Database(program.paths.database, busy_s=0.2)
    try:
        for listed in SessionListing(database).newest(_SESSIONS, trashed=trashed):
            yield listed.session.id, clean_line(listed.session.title, _TITLE)
    finally:
        database.close()


@_offering
def collections(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the names of the collections of documents with what is in them."""
    from qwenchat.documents.collections import collections_in  # noqa: PLC0415 - only this completion needs it

    for each in collections_in(program.paths.collections):
        yield each.name, clean_line(" ".join(shortened(str(path)) for path in each.paths), _TITLE)


collections_or_files = _or_file(collections)


@_offering
def settings(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the keys of all settings with their descriptions."""
    for key in _setting_keys(program):
        yield key, config.description(key)


def _setting_keys(program: Program) -> list[str]:
    """Return all keys; where the settings are wrong, those that every settings file can have."""
    try:
        return config.names(program.settings)
    except QwenchatError:
        return config.names()


@_offering
def values(program: Program, context: click.Context) -> Iterable[tuple[str, str]]:
    """Yield the possible values of the setting given as the previous argument."""
    key = str(context.params.get("key", ""))
    if key not in _setting_keys(program):
        return ()
    if key == "theme":
        return _themes(program)
    return ((choice, "") for choice in config.choices(key) if choice)


@_offering
def themes(program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the names of all themes."""
    return _themes(program)


def _themes(program: Program) -> Iterator[tuple[str, str]]:
    for folder in program.paths.theme_folders:
        for file in sorted(folder.glob("*.toml")):
            yield file.stem, ""


@_offering
def sources(_program: Program, _context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the named sources of models."""
    for name in ("hf", "hf-mirror", "modelscope"):
        yield name, ""


@add_completion_class
class _BashWords(BashComplete):
    """Completion in bash, where a word ends at each colon: the line is read, and what follows the colon is replaced."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}" response completion type value
    local word="${line##*[[:space:]]}"
    local breaks="${COMP_WORDBREAKS//[@$]}"  # these two begin a word
    local kept="${word%%"${word##*[$breaks]}"}"
    response=$(env COMP_LINE="$line" %(complete_var)s=bash_complete $1)
    for completion in $response; do
        IFS=',' read type value <<< "$completion"
        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("${value#"$kept"}")
        fi
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the finished words after the program's name, and the one that the cursor stands at the end of."""
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)[1:]
        is_new = not words or line[-1:].isspace()
        return (words, "") if is_new else (words[:-1], words[-1])


_INSTALL = {
    "bash": "qwenchat completion bash > ~/.local/share/bash-completion/completions/qwenchat",
    "zsh": "qwenchat completion zsh > FOLDER/_qwenchat   (FOLDER: one of $fpath, named before compinit runs)",
    "fish": "qwenchat completion fish > ~/.config/fish/completions/qwenchat.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and values in a shell.

    Its first lines say where to save it.
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(shell)
    script = found(context.find_root().command, {}, "qwenchat", "_QWENCHAT_COMPLETE").source()
    first, _newline, rest = script.partition("\n")
    note = f"# qwenchat completion for {shell}. Save it here (create the folder if needed), then open a new shell:\n"
    note += f"#   {_INSTALL[shell]}\n"
    marked = first.startswith("#compdef")  # zsh looks for this in the first line only
    Output.standard().piece(f"{first}\n{note}{rest}\n" if marked else f"{note}{script}\n")
