"""The statistics of the open chat: what was written, reading time, and the speed of its answers as a small chart."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Button

from qwenchat.chat.ports import ModelInfo
from qwenchat.chat.statistics import ChatStatistics, WordCount
from qwenchat.i18n import _, enumerated, ngettext
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs.dialog import Buttons, Dialog, button, plain
from qwenchat.tui.model_names import with_host

_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 40
_HOUR = 60
"""Minutes."""


class StatisticsScreen(Dialog[None]):
    """Shows counts; `info` is of the model that is loaded."""

    def __init__(self, counted: ChatStatistics, info: ModelInfo | None) -> None:
        super().__init__()
        self._counted, self._info = counted, info

    def heading(self) -> str:
        return _("Statistics of this chat")

    def body(self) -> ComposeResult:
        for name, value in rows(self._counted, self._info):
            with Horizontal(classes="row"):
                yield plain(name, classes="name")
                yield plain(value, classes="value")
        yield Buttons([button(_("Close"), "close", main=True)])

    @on(Button.Pressed)
    def _close(self) -> None:
        self.action_close()


def rows(counted: ChatStatistics, info: ModelInfo | None) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each statistic."""
    questions = ngettext("{count:,} question", "{count:,} questions", counted.questions)
    answers = ngettext("{count:,} answer", "{count:,} answers", counted.answers)
    yield (
        _("Messages"),
        enumerated((questions.format(count=counted.questions), answers.format(count=counted.answers))),
    )
    tokens = ngettext("{count:,} token generated", "{count:,} tokens generated", counted.tokens)
    yield _("You wrote"), _amount(counted.asked)
    yield _("The model wrote"), f"{_amount(counted.answered)}\n{tokens.format(count=counted.tokens)}"
    yield _("Reading time"), _duration((counted.asked + counted.answered).minutes)
    for host, speeds in counted.speeds.items():
        where = [clean_line(host) or _("on this computer")] if any(counted.speeds) else []
        yield _("Speed"), "\n".join((*where, sparkline(speeds[-_MOST_BARS:]), _range(speeds)))
    if info:
        window = ngettext("{count:,} token", "{count:,} tokens", info.n_ctx).format(count=info.n_ctx)
        if info.yarn_factor > 1:
            window += " · " + _("extended {factor:.1f} times with YaRN").format(factor=info.yarn_factor)
        yield _("Model"), with_host(info.name, info.host)
        yield _("Context window"), window


def sparkline(values: Sequence[float]) -> str:
    """Return a bar for each value; the highest is full, and an empty one would stand for zero."""
    highest = max(values)
    return "".join(_BARS[min(int(value / highest * len(_BARS)), len(_BARS) - 1)] for value in values)


def _amount(count: WordCount) -> str:
    """Return words, Chinese characters, or both."""
    words = ngettext("{count:,} word", "{count:,} words", count.words).format(count=count.words)
    han = ngettext("{count:,} Chinese character", "{count:,} Chinese characters", count.han).format(count=count.han)
    return enumerated([han] * bool(count.han) + [words] * bool(count.words or not count.han))


def _duration(minutes: float) -> str:
    if minutes < 1:
        return _("less than a minute")
    if minutes < 2 * _HOUR:
        whole = round(minutes)
        return ngettext("about {count} minute", "about {count} minutes", whole).format(count=whole)
    return _("about {hours:.1f} hours").format(hours=minutes / _HOUR)


def _range(speeds: Sequence[float]) -> str:
    if len(speeds) == 1:
        return _("{speed:.1f} tokens/s").format(speed=speeds[0])
    words = _("{low:.1f} to {high:.1f} tokens/s, {mean:.1f} on average")
    return words.format(low=min(speeds), high=max(speeds), mean=fmean(speeds))
