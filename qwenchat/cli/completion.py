"""`qwenchat completion`: the script with which a shell completes this program's words; click writes it."""

import click
from click.shell_completion import get_completion_class

from qwenchat.cli.output import Output

_WHERE = {
    "bash": "qwenchat completion bash > ~/.local/share/bash-completion/completions/qwenchat",
    "zsh": "qwenchat completion zsh > FOLDER/_qwenchat   (FOLDER: one of $fpath, named before compinit runs)",
    "fish": "qwenchat completion fish > ~/.config/fish/completions/qwenchat.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(_WHERE)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and values in a shell.

    Its first lines say where to put it.
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(shell)
    script = found(context.find_root().command, {}, "qwenchat", "_QWENCHAT_COMPLETE").source()
    first, _newline, rest = script.partition("\n")
    note = f"# Completion of qwenchat for {shell}. Put it here, make the folder if it is missing, open a new shell:\n"
    note += f"#   {_WHERE[shell]}\n"
    marked = first.startswith("#compdef")  # zsh looks for this in the first line alone
    Output.standard().piece(f"{first}\n{note}{rest}\n" if marked else f"{note}{script}\n")
