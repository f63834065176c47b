"""Checks which models are installed, and whether more can be downloaded.

The hub is contacted only if the user asks for it (`--online`). File names and private addresses are not reported.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

from qwenchat.doctor.finding import Finding, failed, ok, warning
from qwenchat.engines.local.attached import shared_models
from qwenchat.errors import ExitCode, NotFound, QwenchatError, RecoveryKind, WrongUse
from qwenchat.i18n import _, clauses, enumerated, labelled, ngettext
from qwenchat.models.download.retry import SourceError, SourceFault, explain
from qwenchat.models.reference import remote_in
from qwenchat.models.sources.registry import find_source, is_offline
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.model_choice import default_model
from qwenchat.runtime.program import Program
from qwenchat.runtime.recoveries import advice
from qwenchat.text.safe import clean_line

_PUBLIC = ("", "hf", "hf-mirror", "modelscope")
"""Sources whose names reveal nothing about the user."""


def installed(program: Program) -> Iterator[Finding]:
    """Check which models are on this machine. Only published models are named."""
    title, (entries, unread) = _("models"), program.library.survey()
    if unread:
        words = " ".join(folder.message for folder in unread)
        yield warning("model-folders", _("model folders"), words, unread[0].hint)
    usable = [entry for entry in entries if not entry.problem]
    known = sorted({entry.reference for entry in usable if entry.published})
    words = ngettext("{count} installed", "{count} installed", len(usable)).format(count=len(usable))
    words = labelled(words, enumerated(known)) if known else words
    if not usable and program.settings.engines:
        yield ok("models", title, _("none installed here; there are engines elsewhere"))
        return
    if not usable:
        yield warning("models", title, _("none installed"), "qwenchat models fit")
        return
    if broken := len(entries) - len(usable):
        words = clauses(words, _("unusable files: {count}").format(count=broken))
        yield warning("models", title, words, "qwenchat models list")
        return
    if problem := _default_missing(program):
        yield warning("models", title, clauses(words, problem), 'qwenchat config set model.default ""')
        return
    yield ok("models", title, words)


def drafts(program: Program) -> Iterator[Finding]:
    """Say whether the default model, if it fits, is loaded with a draft model; none of the two is named."""
    model = default_model(program)
    if not model or remote_in(model):
        return
    with suppress(QwenchatError):  # loading it says why
        if program.planner(model, LoadOptions(with_peers=False))(program.machine.devices).plan.draft:
            yield ok("draft", _("draft model"), _("a small model guesses ahead for the default model"))


def shared(program: Program) -> Iterator[Finding]:
    """Say which models other programs of this user have loaded and share; they are not named."""
    for words in asyncio.run(_shared(program)):
        yield ok("shared", _("loaded"), words)


async def _shared(program: Program) -> list[str]:
    found: list[str] = []
    async for worker in shared_models(program.paths.runtime):
        words = _("{model}, by process {pid}; new questions use it")
        found.append(words.format(model=clean_line(worker.shared.ready.description), pid=worker.pid))
        await worker.close()
    return found


def _default_missing(program: Program) -> str:
    """Return the problem of the default model; empty if there is none."""
    if not program.settings.model.default:
        return ""
    try:
        if program.remote_engines.server_of(program.settings.model.default):
            return ""
        program.library.locate(program.library.parse(program.settings.model.default))
    except (NotFound, WrongUse):
        return _("the default model (model.default) is not installed")
    return ""


def hub(program: Program, *, online: bool) -> Iterator[Finding]:
    """Check the source in the settings by listing one small repository."""
    title, setting = _("hub"), program.settings.hub
    own = setting.source not in _PUBLIC or (setting.source in ("", "hf") and "HF_ENDPOINT" in program.environ)
    name = _("a custom source") if own else setting.source or "hf"
    if is_offline(program.environ, setting.offline):
        yield ok("hub", title, _("not contacted: qwenchat is set to stay offline"))
        return
    if not online:
        yield ok("hub", title, _("{name}; not contacted (`qwenchat doctor --online` does that)").format(name=name))
        return
    try:
        source = find_source(setting.source, program.environ)
    except WrongUse as error:
        words = _("hub.source is not a source")
        yield failed("hub", title, words, then=error.hint, exit_code=ExitCode.USAGE)
        return
    repo = program.catalogue.models[0].repo
    started = time.perf_counter()
    try:
        files = len(source.files(repo, ""))
    except SourceError as error:
        if error.fault is SourceFault.REPO:
            yield ok("hub", title, _("{name} answers").format(name=name))
            return
        found = explain(error, repo)
        advised = advice(found, {RecoveryKind.OTHER_SOURCE: "qwenchat config set hub.source"})
        words, then = (text.replace(error.host or repo, name) for text in (found.message, advised))
        yield failed("hub", title, words, then=then, exit_code=ExitCode.NETWORK)
        return
    seconds = time.perf_counter() - started
    words = _("{name} answered after {seconds:.1f} s, with {count} files of {repo}")
    yield ok("hub", title, words.format(name=name, seconds=seconds, count=files, repo=repo))
