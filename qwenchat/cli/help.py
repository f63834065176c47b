"""Help as a user reads it: in the user's language, with lines that end where that language lets them.

Help is written in English in docstrings and decorators; `make locale` collects it from there.
"""

import copy
import inspect
from collections.abc import Iterable
from itertools import pairwise

import click

from qwenchat.i18n import _
from qwenchat.text.wrap import cells, wrapped


class HelpPage(click.HelpFormatter):
    """Click's pages of help, with lines broken by display width."""

    def write_text(self, text: str) -> None:
        """Write paragraphs, which blank lines separate."""
        indent = " " * self.current_indent
        for number, paragraph in enumerate(text.split("\n\n")):
            self.write("\n" * bool(number))
            for line in wrapped(_joined(paragraph.split("\n")), self.width - self.current_indent):
                self.write(f"{indent}{line}\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms and what they mean in two columns; the first is `col_max` cells wide at most."""
        rows = list(rows)
        indent = " " * self.current_indent
        column = min(max(cells(term) for term, _ in rows), col_max) + col_spacing
        for term, meaning in rows:
            first, *rest = wrapped(meaning, max(self.width - self.current_indent - column, 10))
            gap = column - cells(term)
            between = " " * gap if gap >= col_spacing else f"\n{indent}{' ' * column}"
            self.write(f"{indent}{term}{between}{first}".rstrip() + "\n")
            for line in rest:
                self.write(f"{indent}{' ' * column}{line}\n")


class HelpContext(click.Context):
    """The context of every command."""

    formatter_class = HelpPage


def localised(command: click.Command) -> click.Command:
    """Return a command whose help, and that of all its subcommands, is in the user's language."""
    command = copy.copy(command)
    command.context_class = HelpContext
    command.help = command.help and _(inspect.cleandoc(command.help))
    command.params = [_localised_parameter(parameter) for parameter in command.params]
    if isinstance(command, click.Group):
        command.commands = {name: localised(inner) for name, inner in command.commands.items()}
    return command


def _localised_parameter(parameter: click.Parameter) -> click.Parameter:
    if not (isinstance(parameter, click.Option) and parameter.help):
        return parameter
    localised_option = copy.copy(parameter)
    localised_option.help = _(parameter.help)
    return localised_option


def _joined(lines: list[str]) -> str:
    """Return the lines of a paragraph as one; between wide characters stands no space."""
    text = lines[0].strip()
    for before, line in pairwise(lines):
        is_spaced = not (before.strip() and line.strip() and cells(before.strip()[-1]) == cells(line.strip()[0]) == 2)
        text += " " * is_spaced + line.strip()
    return text
