"""The words around a message: author, variant, how it ended, how fast it was. Nothing is said by colour alone."""

import time
from collections.abc import Iterable, Mapping

from rich.cells import cell_len
from rich.style import Style

from qwenchat.chat.message import FinishReason, Message, Role, Status, guessed_words, summary_heading
from qwenchat.chat.statistics import count_words
from qwenchat.chat.tree import VariantPlace
from qwenchat.i18n import _, ngettext
from qwenchat.markdown.lines import Line, Run, line_of
from qwenchat.markdown.palette import Palette
from qwenchat.text.safe import clean_line
from qwenchat.text.wrap import drawable
from qwenchat.tui.attached import attached_of
from qwenchat.tui.model_names import with_host
from qwenchat.tui.transcript.drawing import Look, Note

_GAP = 2
"""Cells between two actions."""


def heading(message: Message, variant: VariantPlace, look: Look, *, unfolded: bool = False) -> list[Run]:
    """Return `❯ You`, `✦ 7b:q4_k_m` or `✦ qwen2:72b @ 10.0.0.5:8080`, with `‹2/3›` where there are variants.

    The time follows if it is wanted, and whether an answer still comes. A summary has `▸ Summary of 12 earlier
    messages`, which can be clicked; `unfolded` is about it.
    """
    palette, timestamps = look.palette, look.timestamps
    state = [("  " + moment(message.created, time.time()), palette.muted)] if timestamps else []
    if message.summarises:
        words = f"{'▾' if unfolded else '▸'} {summary_heading(message)}"
        folds = palette.muted + Style.from_meta({"fold": None})
        return [(words, folds), *variant_mark(variant, palette), *state]
    if message.role is Role.USER:
        you = _("You")
        return [(f"❯ {you}", palette.you), *variant_mark(variant, palette), *state]
    name = drawable(clean_line(look.name_of(message.model), 60)) or _("Assistant")
    state += [("  " + _("… answering"), palette.muted)] if message.status is Status.STREAMING else []
    rest = [*variant_mark(variant, palette), *state]
    room = look.measure - len("✦ ") - sum(cell_len(words) for words, _style in rest)
    return [(f"✦ {with_host(name, look.host_of(message), max(room, 1))}", palette.model), *rest]


def moment(unix_ms: int, now: float) -> str:
    """Return a time as the language writes it, with its date unless that is today; `now` in Unix seconds."""
    then = time.localtime(unix_ms / 1000)
    is_today = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if is_today else _("%d %b %Y, %H:%M"), then)


def variant_mark(variant: VariantPlace, palette: Palette) -> list[Run]:
    """Return `‹2/3›`, whose ends and number can be clicked; nothing for an only child."""
    if variant.count < 2:
        return []
    return [
        ("  ", palette.text),
        ("‹ ", palette.link + Style(underline=False) + Style.from_meta({"variant": -1})),
        (f"{variant.number}/{variant.count}", palette.text + Style.from_meta({"action": "branches"})),
        (" ›", palette.link + Style(underline=False) + Style.from_meta({"variant": 1})),
    ]


def with_actions(line: Line, message: Message, look: Look, keys: Mapping[str, str]) -> Line:
    """Return a heading with as many of its message's actions as there is room for; `…` stands for all others.

    `keys` are those that work now, by action.
    """
    rest = ("…", "")
    room = look.measure - line.width - cell_len(rest[0]) - _GAP
    if room < 0:
        return line
    shown: list[tuple[str, str]] = []
    for label, action in _actions(message, look):
        words = f"{keys[action]} {label}" if keys.get(action) else label
        room -= cell_len(words) + _GAP
        if room < 0:
            break
        shown.append((words, action))
    runs: list[Run] = []
    style = look.palette.link + Style(underline=False)
    for words, action in (*shown, rest):
        runs += [(" " * _GAP, look.palette.text), (words, style + Style.from_meta({"action": action}))]
    added = line_of(runs)
    return Line((*line.segments, *added.segments), line.width + added.width, line.margin, line.glue)


def _actions(message: Message, look: Look) -> list[tuple[str, str]]:
    """Return the usual actions on a message: their words and their ids."""
    either = [(_("copy"), "copy"), (_("quote"), "quote")]
    if message.status is Status.STREAMING:
        return either
    if message.summarises:
        own = [(_("edit"), "edit"), (_("show the original"), "original"), (_("summarise again"), "regenerate")]
    elif message.role is Role.USER:
        own = [(_("answer again"), "regenerate"), (_("edit"), "edit")]
    else:
        going_on = [(_("continue"), "carry_on")] * look.can_continue
        own = [(_("answer again"), "regenerate"), *going_on, (_("branch"), "branch")]
    return [*own, *either, (_("delete"), "delete")]


def attachments(message: Message, palette: Palette) -> list[Run]:
    """Return the names and sizes of the files and folders that came with a question, and which are read in parts."""
    runs: list[Run] = []
    for attached in attached_of(message.attachments):
        name = drawable(clean_line(attached.title, 60))
        size = ngettext("{count:,} byte", "{count:,} bytes", attached.bytes).format(count=attached.bytes)
        size += " · " + _("in parts") if attached.in_parts else ""
        runs += [("  " if runs else "", palette.text), (f"[{name}]", palette.inline_code), (f" {size}", palette.muted)]
    return runs


def reasoning(text: str, palette: Palette, *, unfolded: bool) -> list[Run]:
    """Return `▸ Reasoning · 312 words`, which can be clicked; a Chinese character counts as a word."""
    counted = count_words(text)
    count = counted.words + counted.han
    words = ngettext("Reasoning · {count:,} word", "Reasoning · {count:,} words", count).format(count=count)
    mark = "▾" if unfolded else "▸"
    return [(f"{mark} {words}", palette.muted + Style.from_meta({"fold": None}))]


def status(message: Message, look: Look) -> list[Run]:
    """Return how an answer ended if the model did not end it."""
    palette = look.palette
    style = palette.warning
    match message.status:
        case Status.COMPLETE | Status.STREAMING:
            return []
        case Status.STOPPED:
            words = _("■ Stopped")
        case Status.TRUNCATED if message.finish_reason is FinishReason.CONTEXT:
            words = _("■ Stopped: the context window is full")
        case Status.TRUNCATED:
            words = _("■ Stopped at the token limit")
        case Status.INTERRUPTED:
            words = _("! Interrupted: the program ended unexpectedly")
        case Status.FAILED:
            reason = drawable(clean_line(message.error, 500)) or _("reason unknown")
            words, style = _("✗ Failed: {reason}").format(reason=reason), palette.error
    return [(words, style), *_ways_on(message, look)]


def _ways_on(message: Message, look: Look) -> list[Run]:
    """Return what goes on from an answer that the model did not end, which can be clicked."""
    ways: list[tuple[str, str]] = []
    if look.can_continue and (message.text or message.status is not Status.FAILED):
        ways.append((_("continue"), "carry_on"))
    if message.status is Status.FAILED or not ways:
        ways.append((_("answer again"), "regenerate"))
    return _links(ways, look.palette)


def _links(ways: Iterable[tuple[str, str]], palette: Palette) -> list[Run]:
    """Return words that can be clicked, each behind a gap."""
    runs: list[Run] = []
    for words, action in ways:
        runs += [("  ", palette.text), (words, palette.link + Style.from_meta({"action": action}))]
    return runs


def note(of: Note, palette: Palette) -> list[Run]:
    """Return a note with its actions, which can be clicked."""
    return [(of.words, palette.warning), *_links(of.actions, palette)]


def stats(message: Message, palette: Palette) -> list[Run]:
    """Return tokens, speed and time to first token; nothing where the engine reported none."""
    if message.usage is None or message.timings is None:
        return []
    tokens = message.usage.completion_tokens
    words = [ngettext("{count:,} token", "{count:,} tokens", tokens).format(count=tokens)]
    if message.timings.decode_tps:
        words.append(_("{speed:.1f} tokens/s").format(speed=message.timings.decode_tps))
    if message.timings.ttft_s:
        words.append(_("first token {seconds:.1f} s").format(seconds=message.timings.ttft_s))
    if message.usage.accepted_tokens:
        words.append(guessed_words(message.usage))
    return [(" · ".join(words), palette.muted)]


def elsewhere(variant: VariantPlace) -> str:
    """Return the words of the line above a message whose siblings are followed by others: where those are."""
    messages = ngettext("{count:,} message", "{count:,} messages", variant.elsewhere).format(count=variant.elsewhere)
    if variant.count > 2:
        words = ngettext(
            "{messages} on {count} other branch", "{messages} on {count} other branches", variant.count - 1
        )
        return f"{words.format(messages=messages, count=variant.count - 1)} · /branches"
    key = "←" if variant.number > 1 else "→"
    return _("{messages} on another branch · F6 {key} shows them").format(messages=messages, key=key)


def fork(left_behind: int) -> str:
    """Return the words of the line below the message that the next question follows."""
    words = ngettext(
        "Your next question goes here; the {count:,} message below stays as another branch",
        "Your next question goes here; the {count:,} messages below stay as another branch",
        left_behind,
    )
    return words.format(count=left_behind)


def boundary() -> str:
    """Return the words of the line above which the model sees nothing any more, and the command for a summary."""
    return _("the model no longer sees the messages above") + " · /compact"
