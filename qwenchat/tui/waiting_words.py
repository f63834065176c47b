"""What the screen says of a chat that does not go on by itself: why a question waits, what failed, what can be done.

Words and the ids of actions; nothing is drawn or done here.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qwenchat.chat.message import Message, Role
from qwenchat.errors import Recovery, RecoveryKind
from qwenchat.i18n import _, ngettext, sentences
from qwenchat.runtime import recoveries
from qwenchat.runtime.events import Hold, TurnFailed
from qwenchat.text.safe import clean_line, human_time
from qwenchat.tools.policy import Leave, PendingCall
from qwenchat.tui.advice import advice
from qwenchat.tui.session_view import SessionView
from qwenchat.tui.transcript.drawing import Note

if TYPE_CHECKING:
    from qwenchat.chat.events import Reading

_LONG_S = 20.0
"""Seconds of reading from which on the user is told beforehand, and can choose to read less."""
_LONGEST_FOUND = 300
Offer = tuple[str, str | int]
"""Words of a button, and the id of an action or the number of a recovery of the failure."""


def notes_of(view: SessionView) -> Mapping[str, Note]:
    """Return what is said below questions that have no answer, and below a call that is asked about, by ids."""
    notes: dict[str, Note] = {}
    if (pending := view.asked) and view.streaming:
        words = _("It sends or changes something: may it run?") if pending.writes else _("May this call run?")
        if pending.opens:
            words = sentences(words, _("It opens {path}.").format(path=clean_line(pending.opens, 500)))
        notes[view.streaming] = Note(words, decisions(pending), call=pending.call.id)
    elif (reading := view.reading) and view.streaming and (words := _found_words(reading)):
        can_read_less = reading.level > 1 and reading.seconds_left >= _LONG_S
        notes[view.streaming] = Note(words, ((_("only search"), "read_less"),) if can_read_less else ())
    for message in reversed(view.branch):
        if message.role is not Role.USER or message.summarises:
            break
        if note := _note_of(message, view):
            notes[message.id] = note
    return notes


def reading_words(reading: "Reading") -> str:
    """Return a line that says how far documents are read."""
    if not reading.total:
        return _("searching the documents")
    words = _("reading part {done:,} of {total:,} · {found:,} found")
    said = [words.format(done=reading.done, total=reading.total, found=reading.found)]
    if reading.seconds_left >= 1:
        said.append(_("{time} left").format(time=human_time(reading.seconds_left)))
    return " · ".join([*said, _("Esc pauses")])


def _found_words(reading: "Reading") -> str:
    """Return what is said in the waiting answer: at first how long it still takes, then what was found last."""
    if reading.latest:
        return _("Found so far: {sentence}").format(sentence=clean_line(reading.latest, _LONGEST_FOUND))
    if reading.total and reading.seconds_left >= _LONG_S:
        words = _("Reading all of the documents takes about {time} more.")
        return words.format(time=human_time(reading.seconds_left))
    return ""


def decisions(pending: PendingCall) -> tuple[tuple[str, str], ...]:
    """Return what the user can decide about a call: words and ids of actions."""
    words = {
        Leave.ONCE: (_("allow once"), "allow_once"),
        Leave.CHAT: (_("allow in this chat"), "allow_chat"),
        Leave.REFUSED: (_("refuse"), "refuse"),
    }
    return tuple(words[choice] for choice in pending.choices)


def _note_of(question: Message, view: SessionView) -> Note | None:
    ask, take_back = (_("ask"), "retry"), (_("take back"), "withdraw")
    if place := view.waiting.places.get(question.id):
        return Note(_("… waiting, number {place} in the queue").format(place=place), (take_back,))
    match view.waiting.holds.get(question.id):
        case Hold.STOPPED | Hold.FAILED | Hold.NO_CONSENT as hold:
            called = {
                Hold.STOPPED: _("■ Not asked: the queue was stopped"),
                Hold.FAILED: _("■ Not asked yet"),
                Hold.NO_CONSENT: _("■ Not sent yet"),
            }
            return Note(called[hold], (ask, take_back))
        case Hold.NO_MODEL:
            return Note(_("… waiting for a model"), ((_("choose a model"), "models"), take_back))
        case _ if view.branch[-1] is question and not view.answering:
            return Note(_("■ Not answered"), ((_("answer now"), "regenerate"),))
        case _:
            return None


def offers_after(failed: TurnFailed) -> tuple[Recovery, ...]:
    """Return what is offered about a failure: what the runtime carries out, and what the screen has a dialog for."""
    dialogs = (RecoveryKind.SET_KEY, RecoveryKind.TEST_ENGINE, RecoveryKind.ADD_ENGINE)
    return (*failed.recoveries, *(each for each in failed.error.recoveries if each.kind in dialogs))


def notice_of(view: SessionView) -> tuple[str, tuple[Offer, ...]]:
    """Return words and offers of the line above the prompt: a failure, what is held, who is ahead, or a warning."""
    if failed := view.failure:
        offered = [recovery.kind for recovery in offers_after(failed)]
        called = recoveries.names()
        if view.can_continue and view.branch and view.branch[-1].role is Role.ASSISTANT and view.branch[-1].text:
            called |= {RecoveryKind.ASK_AGAIN: _("Continue the answer")}
        words = "✗ " + sentences(failed.error.message, advice(failed.error, offered=offered))
        return words, tuple((called[kind], number) for number, kind in enumerate(offered))
    held = view.waiting.holds
    holds = [held[message.id] for message in view.branch if message.id in held] if held else []
    if Hold.NO_MODEL in holds:
        words = _("Your question is sent as soon as you choose a model.")
        return words, ((_("Choose a model · Ctrl+O"), "models"), (_("Take back"), "withdraw"))
    if holds:
        words = ngettext(
            "{count} question is waiting to be asked.", "{count} questions are waiting to be asked.", len(holds)
        )
        offers = ((_("Ask · Ctrl+R"), "retry"), (_("Take back"), "withdraw"))
        return words.format(count=len(holds)), offers
    if count := view.answers_ahead:
        words = ngettext(
            "Waiting for {count} answer in another chat.", "Waiting for {count} answers in other chats.", count
        )
        return words.format(count=count), ()
    return view.warning, ()
