"""One page that needs nothing else: to read in any browser, to print, to send.

It has no script and loads nothing; its policy forbids a browser both, should a hole ever be found. Colours follow the
reader's light or dark setting.
"""

from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files

from qwenchat.chat.conversation import Attachment, Role
from qwenchat.i18n import _
from qwenchat.sessions import markdown
from qwenchat.sessions.archive import Archive
from qwenchat.sessions.exporters import Format
from qwenchat.sessions.transcript import Entry, attached, entries, model_of, notes, speaker, title_of, when

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write(archives: Iterable[Archive], all_branches: bool) -> Iterator[str]:
    """Yield each conversation as a page, a message at a time."""
    asked, answered = markdown.questions(), markdown.answers()
    for archive in archives:
        yield _head(archive)
        if archive.session.system:
            words = markdown.question_html(archive.session.system, asked)
            yield _article("system", "system", escape(_("System prompt")), words)
        for place, entry in enumerate(entries(archive, all_branches), 1):
            if entry.message.role is Role.USER:
                words = markdown.question_html(entry.message.text, asked)
            else:
                words = markdown.answer_html(entry.message.text, answered)
            yield _message(place, entry, words)
        yield "</main>\n</body>\n</html>\n"


def _head(archive: Archive) -> str:
    session, title = archive.session, escape(title_of(archive))
    style = files(__package__).joinpath("html.css").read_text("utf-8") + markdown.highlighting_css()
    facts = (f"{when(session.created)} – {when(session.updated)}", model_of(archive), ", ".join(session.tags))
    return (
        "<!DOCTYPE html>\n<html>\n<head>\n"
        '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="generator" content="qwenchat">\n'
        f"<title>{title}</title>\n<style>\n{style}\n</style>\n</head>\n<body>\n<main>\n"
        f'<header>\n<h1 dir="auto">{title}</h1>\n<p>{escape(" · ".join(filter(None, facts)))}</p>\n</header>\n'
    )


def _message(place: int, entry: Entry, words: str) -> str:
    heading = f'{escape(speaker(entry))}<span class="notes">{escape(notes(entry))}</span>'
    if entry.follows:
        heading = f'<a href="#m{entry.follows}">↑</a> {heading}'
    files_above = "".join(_attachment(attachment) for attachment in entry.message.attachments)
    return _article(f"m{place}", entry.message.role, heading, words, files_above)


def _article(anchor: str, kind: str, heading: str, words: str, above: str = "") -> str:
    body = f'<div class="words" dir="auto">\n{words}</div>\n' if words else ""
    return f'<article class="{kind}" id="{anchor}">\n<h2>{heading}</h2>\n{above}{body}</article>\n'


def _attachment(attachment: Attachment) -> str:
    name, text = attached(attachment)
    if not text:
        return f'<p class="notes">{escape(name)}</p>\n'
    return f"<details open>\n<summary>{escape(name)}</summary>\n<pre>{escape(text)}</pre>\n</details>\n"


FORMAT = Format("html", ".html", many=False, write=write)
