"""`make man`: the manual page, generated from the definitions of the commands and written to man/qwenchat.1.

It is in English and has what `--help` says, the exit codes, the environment and the files.
"""

import inspect
from collections.abc import Iterator

import click

from qwenchat import __version__
from qwenchat.cli.main import root

_EXIT_CODES = {
    0: "Done.",
    1: "A bug; with --debug it prints a traceback to report.",
    2: "Wrong use, or an invalid setting.",
    3: "No such model or session.",
    4: "The network or the hub failed.",
    5: "The model can't be loaded, or llama-cpp-python can't be used.",
    6: "The engine process died.",
    7: "The session database can't be used.",
    8: "A file can't be read or written.",
    130: "Interrupted.",
}
_ENVIRONMENT = {
    "QWENCHAT_HOME": "Store settings, sessions, cache and logs below this folder.",
    "QWENCHAT_SECTION_NAME": "A setting, such as QWENCHAT_MODEL_CONTEXT=8192; it overrides the settings file.",
    "HF_HOME, HF_HUB_CACHE": "The Hugging Face cache, where downloads are stored.",
    "HF_ENDPOINT": "The hub to use instead of the public one.",
    "HF_HUB_OFFLINE": "1: open no network connection.",
    "NO_COLOR": "Use no colours.",
}


def page() -> str:
    """Return the whole page."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    context = root.make_context("qwenchat", [], resilient_parsing=True)
    yield f'.TH QWENCHAT 1 "" "qwenchat {__version__}" "User Commands"'
    yield from (".SH NAME", r"qwenchat \- chat with Qwen2 models in a terminal, offline")
    yield from (".SH SYNOPSIS", *_usage(context))
    yield from (".SH DESCRIPTION", *_help(root), ".SH OPTIONS", *_options(context), ".SH COMMANDS")
    yield from _commands(context)
    yield ".SH EXIT STATUS"
    for code, words in _EXIT_CODES.items():
        yield from _entry(str(code), words)
    yield ".SH ENVIRONMENT"
    for name, words in _ENVIRONMENT.items():
        yield from _entry(name, words)
    yield from (
        ".SH FILES",
        r"\fBqwenchat config path\fR prints the path of the settings file; \fBqwenchat doctor\fR lists all folders.",
    )


def _commands(context: click.Context) -> Iterator[str]:
    """Yield every command below a group, in the order of `--help`."""
    group = context.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if not isinstance(command, click.Group):
            yield f".SS {_escaped(inner.command_path)}"
            yield from (*_usage(inner), ".PP", *_help(command), *_options(inner))
        yield from _commands(inner)


def _usage(context: click.Context) -> Iterator[str]:
    pieces = " ".join(context.command.collect_usage_pieces(context))
    yield rf"\fB{_escaped(context.command_path)}\fR {_escaped(pieces)}"


def _help(command: click.Command) -> Iterator[str]:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record and isinstance(parameter, click.Option):
            yield from _entry(*record)


def _entry(name: str, words: str) -> Iterator[str]:
    yield from (".TP", rf"\fB{_escaped(name)}\fR", _escaped(" ".join(words.split())))


def _escaped(text: str) -> str:
    """Return text escaped for roff."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    return rf"\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    print(page(), end="")
