"""`qwenchat needle`: the needle test of a model, drawn as a map.

Everything that can be refused is refused before the model is loaded, and what the test will take is said before it
begins. `documents.needle` runs it; `needle_output` and `needle_map` show it.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from qwenchat.chat.ports import Engine, ModelInfo
from qwenchat.cli import completion
from qwenchat.cli.consent import ask_to_send
from qwenchat.cli.needle_output import duration, row, view_for
from qwenchat.cli.output import Output, is_terminal
from qwenchat.cli.typed import forget_typed, typed_line
from qwenchat.documents.needle import pictures
from qwenchat.documents.needle.haystack import Haystack, shipped_text
from qwenchat.documents.needle.plan import LANGUAGES, MOST_NEEDLES, NeedlePlan, depths_of, lengths_of
from qwenchat.documents.needle.results import NeedleReport, ResultsFile
from qwenchat.documents.needle.run import CellProgress, NeedleRun
from qwenchat.documents.reader import read_document
from qwenchat.engines.local.protocol import MAX_THREADS
from qwenchat.errors import CannotLoad, EngineDied, FileError, NetworkError, RecoveryKind, WrongUse
from qwenchat.files import write_atomically
from qwenchat.i18n import _, language, ngettext, reason_of
from qwenchat.models import gguf
from qwenchat.models.context_sizes import context_sizes
from qwenchat.models.reference import remote_in
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.model_choice import default_model, no_model
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line

_LONG_S = 60.0
"""Seconds from which on the user is asked before the test begins."""


@dataclass(frozen=True, slots=True)
class _NeedleText:
    """What needles are hidden in."""

    name: str
    """Empty for the text that comes with the program."""
    source: str


def _write_json(report: NeedleReport) -> str:
    return msgspec.json.format(msgspec.json.encode(report.as_json()), indent=2).decode() + "\n"


_PICTURES: dict[str, Callable[[NeedleReport], str]] = {
    ".html": pictures.html,
    ".svg": pictures.svg,
    ".json": _write_json,
}


@click.command()
@click.option("-m", "--model", default="", metavar="REF", shell_complete=completion.models, help="Model to test.")
@click.option(
    "--lengths",
    default="1k..8k",
    show_default=True,
    metavar="TOKENS",
    help="Lengths of the texts: 8k, a list such as 1k,4k,6000, or a range that doubles, such as 1k..32k.",
)
@click.option(
    "--depths",
    default="5",
    show_default=True,
    metavar="N|PERCENTS",
    help="Depths of the needle: how many, or percents such as 0,50,100.",
)
@click.option(
    "--needles", type=click.IntRange(1, MOST_NEEDLES), default=1, show_default=True, help="Needles in a text."
)
@click.option("--language", "spoken", type=click.Choice(LANGUAGES), help="Language of text and needles.")
@click.option("--text", type=click.Path(path_type=Path), metavar="FILE", help="Hide the needles in this document.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Draws the needles.")
@click.option("--ctx", type=click.IntRange(min=1), help="Context window in tokens; without it, the longest length.")
@click.option("--threads", type=click.IntRange(1, MAX_THREADS), help="Compute threads.")
@click.option("--gpu-layers", type=click.IntRange(-1, 2**31 - 1), help="Layers on the GPU; -1: as many as fit.")
@click.option("--no-rpc", "with_peers", flag_value=False, default=True, help="Use no peers of llama.cpp's RPC.")
@click.option("--kv-type", type=click.Choice(["f16", "q8_0"]), help="KV cache type.")
@click.option("--force", is_flag=True, help="Load the model even if it is not expected to fit into memory.")
@click.option("--resume/--fresh", default=True, help="Continue an earlier test, or test every cell again.")
@click.option(
    "-o",
    "--output",
    "targets",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the map to a file as well: .html, .svg or .json (repeatable).",
)
@click.option("--yes", is_flag=True, help="Begin, and replace existing files, without being asked.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end.")
@click.pass_obj
def needle(program: Program, /, **options: Any) -> None:
    """Test whether a model finds single facts in long texts.

    Sentences with a random number (needles) are hidden in a text, and the model is asked for the numbers. The map shows
    how many it found, by the length of the text and by the depth of the needle in it. A length counts the whole prompt
    and the answer, in tokens; a k is 1,024 of them. Sampling is greedy, so the same options give the same map.

    A test that was stopped continues where it was. To check YaRN, use lengths above the model's own window, or a larger
    --ctx; to check the quantisation of the KV cache, compare --kv-type f16 and q8_0.
    """
    plan = NeedlePlan(
        lengths=lengths_of(options["lengths"]),
        depths=depths_of(options["depths"]),
        needles=options["needles"],
        seed=options["seed"],
        language=options["spoken"] or language()[:2],
    )
    text = _text(options["text"], plan)
    haystack = Haystack(text.source, plan.seed)
    output = Output.standard()
    _check_targets(options["targets"], replace=options["yes"])
    model = options["model"] or default_model(program)
    if not model:
        raise no_model()
    ask_to_send(program, output, model, tuple, named=bool(options["model"]))
    engine = program.engine(model, _load_options(program, model, plan, options))
    report = asyncio.run(_Test(program, output, engine, options).run(plan, text, haystack))
    for target in options["targets"]:
        _write(target, _PICTURES[target.suffix.lower()](report))
    if options["as_json"]:
        output.json(report.as_json())
    elif output.on_terminal:
        from qwenchat.cli.needle_map import print_map  # noqa: PLC0415 - rich is for terminals only

        print_map(output, report)
    else:
        output.say(pictures.summary(report))


def _text(path: Path | None, plan: NeedlePlan) -> _NeedleText:
    """Return the text to hide needles in. Raises FileError."""
    if path is None:
        return _NeedleText("", shipped_text(plan.language))
    document = asyncio.run(read_document(path))
    return _NeedleText(document.name, document.text)


def _check_targets(targets: tuple[Path, ...], *, replace: bool) -> None:
    """Refuse files that can't be written in the end, and ask before one is replaced. Raises WrongUse and FileError."""
    for target in targets:
        shown = clean_line(str(target), 1000)
        if target.suffix.lower() not in _PICTURES:
            raise WrongUse(
                _("{file} is of no kind that this command writes.").format(file=shown),
                _("Use a name that ends in .html, .svg or .json."),
            )
        if target.is_dir() or not target.parent.is_dir():
            raise FileError(
                _("{file} can't be written: there is no folder for it, or it is one.").format(file=shown),
                _("Choose a file in an existing, writable folder."),
            )
        if target.exists() and not replace:
            if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
                raise FileError(_("{path} already exists.").format(path=shown), _("Give another name, or add --yes."))
            click.confirm(_("{path} already exists. Replace it?").format(path=shown), abort=True, err=True)


def _write(target: Path, text: str) -> None:
    try:
        write_atomically(target, text.encode(), private=False)
    except OSError as error:
        raise FileError(
            _("{path} can't be written: {reason}.").format(path=clean_line(str(target), 1000), reason=reason_of(error)),
            _("The results are stored: the same command with another name writes them at once."),
        ) from error


def _load_options(program: Program, model: str, plan: NeedlePlan, options: dict[str, Any]) -> LoadOptions:
    """Return how the model is loaded. Raises WrongUse for lengths beyond its window."""
    longest = plan.lengths[-1]
    if not remote_in(model):
        header = gguf.check(gguf.read_header(program.model_file(model)))
        limit = context_sizes(header, program.catalogue).limit
        if longest > limit:
            raise WrongUse(
                _("{name} has a context window of at most {limit:,} tokens; these options need {asked:,}.").format(
                    name=program.model_name(model), limit=limit, asked=longest
                ),
                _("Use smaller --lengths, or a model with a larger window: 7b and 72b have one with YaRN."),
            )
    if options["ctx"] and options["ctx"] < longest:
        raise _beyond_window(longest, options["ctx"])
    given = {name: options[name] for name in ("threads", "gpu_layers", "kv_type", "with_peers", "force")}
    return LoadOptions(ctx=options["ctx"] or longest, **given)


def _beyond_window(longest: int, window: int) -> WrongUse:
    return WrongUse(
        _("A length of {length:,} tokens does not fit the context window of {window:,}.").format(
            length=longest, window=window
        ),
        _("Use smaller --lengths, or a larger --ctx; above the window of its training a model needs YaRN."),
    )


class _Test:
    """Carries out the command with an engine, and closes it."""

    def __init__(self, program: Program, output: Output, engine: Engine, options: dict[str, Any]) -> None:
        self._folder = program.paths.cache / "needle"
        self._output, self._engine, self._options = output, engine, options

    async def run(self, plan: NeedlePlan, text: _NeedleText, haystack: Haystack) -> NeedleReport:
        """Run the test and return its report."""
        try:
            self._status(_("Loading the model"))
            model = await self._engine.load()
            if plan.lengths[-1] > model.n_ctx:
                raise _beyond_window(plan.lengths[-1], model.n_ctx)
            run = self._prepared(model, plan, text, haystack)
            self._status(_("Measuring the speed"))
            predicted = await run.predict()
            self._status("")
            await self._say_before(run, predicted)
            has_rows = not (self._options["as_json"] or self._output.on_terminal)
            if has_rows:
                self._output.table((), [row(each) for each in run.report.results.values()])
            with view_for(self._output, lambda: run.report) as view:
                async for event in run.run():
                    if isinstance(event, CellProgress):
                        view.progress(event)
                        continue
                    view.tested(event.result, event.left_s)
                    if has_rows:
                        self._output.table((), [row(event.result)])
        except CannotLoad as error:
            ways = tuple(way for way in error.recoveries if way.kind is not RecoveryKind.COMPLETE)
            raise CannotLoad(error.message, error.hint, recoveries=ways) from error
        except (asyncio.CancelledError, EngineDied, NetworkError):
            self._output.say(_("Stopped. The same command continues where it was."))
            raise
        finally:
            self._status("")
            await self._engine.close()
        return run.report

    def _prepared(self, model: ModelInfo, plan: NeedlePlan, text: _NeedleText, haystack: Haystack) -> NeedleRun:
        file = ResultsFile(self._folder, model, plan, text.source)
        if not self._options["resume"]:
            file.clear()
        known = file.load()
        results = {cell: known[cell] for cell in plan.cells if cell in known}
        report = NeedleReport(model=model, plan=plan, text=text.name, results=results)
        return NeedleRun(self._engine, report, haystack, file)

    async def _say_before(self, run: NeedleRun, predicted: float) -> None:
        """Say what is known, and ask whether a long test shall begin."""
        left, known = len(run.cells), len(run.report.results)
        if known:
            words = ngettext(
                "{count} cell was tested before; --fresh tests it again.",
                "{count} cells were tested before; --fresh tests them again.",
                known,
            )
            self._output.say(words.format(count=known))
        for warning in run.report.model.warnings:
            self._output.say(warning)
        if not left:
            return
        words = ngettext("{count} cell takes about {time}.", "{count} cells take about {time}.", left)
        self._output.say(words.format(count=left, time=duration(predicted)))
        can_ask = is_terminal(sys.stdin) and is_terminal(self._output.err)
        if predicted > _LONG_S and can_ask and not self._options["yes"]:
            await self._ask()

    async def _ask(self) -> None:
        """Return when the user wants the test. Raises click.Abort."""
        forget_typed()
        self._output.err.write(_("Begin? y: yes, n: no > "))
        self._output.err.flush()
        line = await typed_line()
        if line.strip().lower() not in ("y", "yes"):
            raise click.Abort

    def _status(self, words: str) -> None:
        """Show on a terminal what is being done, until the next line is written."""
        if self._output.colour:
            self._output.err.write(f"\r\x1b[K{words}{'...' if words else ''}")
            self._output.err.flush()
