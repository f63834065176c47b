"""`qwenchat doctor`: prints a line for each check of `qwenchat.doctor`, and the next command where one fails."""

import os
import shutil
from collections.abc import Sequence

import click

from qwenchat import __version__
from qwenchat.cli.output import Output, is_dumb, shell_advice
from qwenchat.doctor.finding import Finding, Health
from qwenchat.doctor.report import examine
from qwenchat.errors import ExitCode
from qwenchat.i18n import _, labelled
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean
from qwenchat.text.wrap import cells, drawable, wrapped

_COLOURS = {Health.OK: "32", Health.WARNING: "33", Health.FAILED: "1;31"}


@click.command()
@click.option(
    "--online", is_flag=True, help="Also contact the hub and the engines elsewhere; otherwise nothing is sent anywhere."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def doctor(program: Program, online: bool, as_json: bool) -> int:
    """Report what this machine has and what works, with the exact next command.

    The report contains no names, titles, tokens or private addresses, so it is safe to post. The exit code is 0
    unless a line says "failed"; then it is that of the first such line: 2 settings, 4 hub and engines elsewhere,
    5 llama.cpp, 7 sessions, 8 folders and files.
    """
    output = Output.standard()
    findings: list[Finding] = []
    if not as_json:
        output.data(f"qwenchat {__version__}")
    for finding in examine(program, shell_advice, online=online):
        findings.append(finding)
        if not as_json:
            write(output, finding)
    if as_json:
        output.json({"version": __version__, "state": _worst(findings), "checks": [_record(f) for f in findings]})
    return next((finding.exit_code for finding in findings if finding.health is Health.FAILED), ExitCode.DONE)


def write(output: Output, finding: Finding) -> None:
    """Write a finding, broken to the width of a terminal, and the next command on a line of its own."""
    words = {Health.OK: _("ok"), Health.WARNING: _("warning"), Health.FAILED: _("failed")}
    column = max(map(cells, words.values()))
    label = words[finding.health] + " " * (column - cells(words[finding.health]))
    if output.on_terminal and not os.environ.get("NO_COLOR") and not is_dumb():
        label = f"\x1b[{_COLOURS[finding.health]}m{label}\x1b[0m"
    found = clean(labelled(finding.title, finding.found))
    room = max(shutil.get_terminal_size().columns - column - 2, 20)
    lines = wrapped(drawable(found), room) if output.on_terminal else [found]
    output.piece(f"{label}  " + f"\n{' ' * (column + 2)}".join(lines) + "\n")
    if finding.next:
        output.data(f"    -> {finding.next}")


def _record(finding: Finding) -> dict[str, str | None]:
    return {
        "check": finding.check,
        "state": finding.health.value,
        "found": finding.found,
        "next": finding.next or None,
    }


def _worst(findings: Sequence[Finding]) -> str:
    return max((finding.health for finding in findings), key=list(Health).index, default=Health.OK).value
