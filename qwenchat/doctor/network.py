"""Whether models can be downloaded. Nothing is sent unless the person asked for that with --online."""

import time
from collections.abc import Iterator

from qwenchat.doctor.finding import Finding, failed, ok
from qwenchat.errors import ExitCode, WrongUse
from qwenchat.i18n import _
from qwenchat.models.download.retry import SourceError, SourceFault, explain
from qwenchat.models.sources.registry import find_source, is_offline
from qwenchat.runtime.program import Program

_PUBLIC = ("", "hf", "hf-mirror", "modelscope")
"""Sources whose names tell nothing of a person."""


def hub(program: Program, *, online: bool) -> Iterator[Finding]:
    """Ask the source of the settings for one small repository. Nothing of a private one's address is told."""
    title, setting = _("hub"), program.settings.hub
    own = setting.source not in _PUBLIC or (setting.source in ("", "hf") and "HF_ENDPOINT" in program.environ)
    name = _("a source of your own") if own else setting.source or "hf"
    if is_offline(program.environ, setting.offline):
        yield ok("hub", title, _("not asked: this program is set to be offline"))
        return
    if not online:
        yield ok("hub", title, _("{name}; not asked, `qwenchat doctor --online` does").format(name=name))
        return
    try:
        source = find_source(setting.source, program.environ)
    except WrongUse as error:
        yield failed("hub", title, _("hub.source is not a source"), error.hint, ExitCode.USAGE)
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
        words, then = (text.replace(error.host or repo, name) for text in (found.message, found.hint))
        yield failed("hub", title, words, then, ExitCode.NETWORK)
        return
    seconds = time.perf_counter() - started
    words = _("{name} answers after {seconds:.1f} s, with {count} files of {repo}")
    yield ok("hub", title, words.format(name=name, seconds=seconds, count=files, repo=repo))
