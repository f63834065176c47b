"""`make recording`: records the running program in a terminal and writes animated pictures for the READMEs.

The program is the real one, started in an emulated terminal and driven by keys; a scripted engine answers, so that
every recording says the same. A picture is a strip of frames that CSS moves behind a window: no script, no font, no
address. Lines that are the same in several frames are stored once. Where animations are off, the last one is shown.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path

from pyte.screens import Char

from devtools import pages, picture
from qwenchat.chat.message import Status
from qwenchat.i18n import use_language
from qwenchat.runtime.program import Program
from qwenchat.tui.app import QwenchatApp, Start
from tests.fakes.commands import environment
from tests.tui.terminal import CTRL_Q, ENTER, ESCAPE, Terminal

COLUMNS, ROWS = 100, 28
READY = {"en": "Ask anything", "zh_CN": "有问题尽管问"}
F4 = "\x1bOS"
MARK = "❯"
"""Stands before a question, and in the list before one that was found."""
CELL, LINE = 8, 17
"""Pixels of a cell, and of a line; a wide character is as wide as the font is high, and space is added to it."""
_EM = 13.3
_FONT = f"{_EM}px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono','Noto Sans Mono CJK SC',monospace"
_MARGIN = 10
_WORDS = re.compile(r"\S+(?: \S+)*")
"""What is drawn together: words with single spaces between them, whose places no font can shift much."""
_TICK_S = 0.12
"""The shortest time that a frame is shown."""
_LONGEST_S = 2.5
"""The longest one, however long the program took."""
_LAST_S = 4.0


@dataclass(frozen=True, slots=True)
class Script:
    """What is typed, and what is answered, beside a scene of `picture`."""

    file: Path
    scene: picture.Scene
    second_answer: str
    search: str


ENGLISH, CHINESE = picture.SCENES
SCRIPTS = (
    Script(
        pages.DOCS / "recording.svg",
        ENGLISH,
        "At −15 °C and 55 °C the best possible ratio is 4.7; a good machine reaches about **2**. Larger radiators that "
        "make do with 45 °C raise that to 2.4.\n",
        "pump",
    ),
    Script(
        pages.DOCS / "recording.zh.svg",
        CHINESE,
        "零下 15 °C、水温 55 °C 时，理想值是 4.7，好的机型约为 **2**。换成 45 °C 就够用的大暖气片，能到 2.4。\n",
        "热泵",
    ),
)

Row = tuple[Char, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """What the terminal shows, and for how long."""

    rows: tuple[Row, ...]
    seconds: float


class Camera:
    """Looks at a terminal while it is used."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._seen: list[tuple[float, tuple[Row, ...]]] = []

    def watch(self, seconds: float) -> None:
        """Look for so long."""
        end = time.monotonic() + seconds
        self._terminal.until(lambda _text: self._look() >= end, seconds + 30)

    def until(self, state: Callable[[], bool]) -> None:
        """Look until a state is reached."""
        self._terminal.until(lambda _text: bool(self._look()) and state(), 60)

    def type(self, text: str, key_s: float) -> None:
        """Type a text, key by key."""
        for key in text:
            self._terminal.send(key)
            self.watch(key_s)

    def frames(self) -> list[Frame]:
        """Return what was seen, one frame for each moment at which something changed, none too short or too long."""
        kept = list[tuple[float, tuple[Row, ...]]]()
        for at, rows in self._seen:
            if kept and at - kept[-1][0] < _TICK_S:
                kept[-1] = (kept[-1][0], rows)
            elif not kept or kept[-1][1] != rows:
                kept.append((at, rows))
        ends = [at for at, _rows in kept[1:]]
        shown = [Frame(rows, min(end - at, _LONGEST_S)) for (at, rows), end in zip(kept, ends, strict=False)]
        return [*shown, Frame(kept[-1][1], _LAST_S)]

    def _look(self) -> float:
        """Keep what is shown if it is new, and return the time."""
        now, rows = time.monotonic(), tuple(map(tuple, self._terminal.cells))
        if not self._seen or self._seen[-1][1] != rows:
            self._seen.append((now, rows))
        return now


def record(script: Script, pace: float = 1.0) -> list[Frame]:
    """Return the frames of a recording; `pace` 0 types and answers as fast as it goes."""
    with tempfile.TemporaryDirectory() as home:
        program = Program({"QWENCHAT_HOME": home})
        picture.save_others(program, script.scene)
        env = environment(
            QWENCHAT_HOME=home,
            QWENCHAT_LANGUAGE=script.scene.language,
            QWENCHAT_THEME=picture.THEME,
            QWENCHAT_REDUCED_MOTION="true",
            TERM="xterm-256color",
            COLORTERM="truecolor",
        )
        for name in ("NO_COLOR", "COLUMNS", "LINES"):  # the recording has its own colours and size
            env.pop(name, None)
        play = f"from devtools.recording import play; play({script.scene.language!r}, {pace})"
        terminal = Terminal([sys.executable, "-c", play], COLUMNS, ROWS, env)
        try:
            terminal.shows(READY[script.scene.language])
            camera = Camera(terminal)
            _ask(terminal, camera, script, pace)
            camera.until(lambda: _is_answered(program, script.second_answer))
            end = _without_spaces(script.second_answer)[-5:]
            camera.until(lambda: end in _without_spaces(terminal.text))
            camera.watch(max(1.5 * pace, _TICK_S))
            _search(terminal, camera, script, pace)
            terminal.send(CTRL_Q)
            terminal.end()
        finally:
            terminal.close()
            program.close()
    return camera.frames()


def _ask(terminal: Terminal, camera: Camera, script: Script, pace: float) -> None:
    """Ask, and ask again while the answer is written."""
    camera.watch(0.6 * pace)
    camera.type(script.scene.question, 0.05 * pace)
    terminal.send(ENTER)
    camera.until(lambda: MARK in terminal.text)  # what comes at once would be a paste of two lines
    camera.watch(3.0 * pace)
    camera.type(script.scene.draft, 0.05 * pace)
    terminal.send(ENTER)


def _is_answered(program: Program, answer: str) -> bool:
    """Return whether this answer was written to its end."""
    session = program.store.listing.latest()
    last = program.store.branch(session.leaf)[-1] if session and session.leaf else None
    return last is not None and last.text == answer and last.status is Status.COMPLETE


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def _search(terminal: Terminal, camera: Camera, script: Script, pace: float) -> None:
    """Search all chats, and go back."""
    camera.until(lambda: "Enter" in terminal.lines[-1])  # the line of keys is that of the prompt
    terminal.send(F4)
    camera.until(lambda: "Enter" not in terminal.lines[-1])  # it is that of the search
    camera.watch(0.5 * pace)
    camera.type(script.search, 0.15 * pace)
    found = _without_spaces(script.search)
    camera.until(
        lambda: any(line[:3].strip() == MARK for line in terminal.lines) and found in _without_spaces(terminal.text)
    )
    camera.watch(max(2.0 * pace, _TICK_S))  # what was found is a frame of its own
    terminal.send(ESCAPE)
    camera.watch(0.6 * pace)


def play(language: str, pace: float) -> None:
    """Run the program of a recording in this process's terminal."""
    use_language(language)
    script = next(script for script in SCRIPTS if script.scene.language == language)
    answers = (script.scene.answer, script.second_answer)
    engine = picture.CountingEngine(answers, delay_s=0.06 * pace, n_ctx=32_768)
    QwenchatApp(Program.here(), Start(model=picture.MODEL), lambda _model, _options: engine).run()


# Drawing


def draw(frames: Sequence[Frame]) -> str:
    """Return an animated SVG of frames of one size."""
    styles, lines = _Names("s"), _Names("l")
    background = _background(frames)
    strip = list[str]()
    columns, rows = len(frames[0].rows[0]), len(frames[0].rows)
    width, height = columns * CELL, rows * LINE
    for number, frame in enumerate(frames):
        drawn = [_line(row, styles, background) for row in frame.rows]
        uses = [f'<use href="#{lines[line]}" y="{at * LINE}"/>' for at, line in enumerate(drawn) if line]
        strip.append(f'<g transform="translate({number * width})">{"".join(uses)}</g>')
    total = sum(frame.seconds for frame in frames)
    moves, at = list[str](), 0.0
    for number, frame in enumerate(frames):
        moves.append(f"{at / total:.3%}{{transform:translateX({-number * width}px)}}")
        at += frame.seconds
    last = f"transform:translateX({-(len(frames) - 1) * width}px)"
    outside = f"{width + 2 * _MARGIN} {height + 2 * _MARGIN}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {outside}" xml:space="preserve">',
            f"<style>text{{font:{_FONT};white-space:pre}}",
            f".w{{letter-spacing:{2 * CELL - _EM:.1f}px}}",
            *(f".{name}{{{style}}}" for style, name in styles.items()),
            f".strip{{{last};animation:play {total:.1f}s step-end infinite}}",
            "@media(prefers-reduced-motion:reduce){.strip{animation:none}}",
            f"@keyframes play{{{''.join(moves)}}}</style>",
            f'<rect width="100%" height="100%" rx="8" fill="{background}"/>',
            "<defs>",
            *(f'<g id="{name}">{line}</g>' for line, name in lines.items()),
            "</defs>",
            f'<svg x="{_MARGIN}" y="{_MARGIN}" width="{width}" height="{height}"><g class="strip">',
            *strip,
            "</g></svg></svg>",
            "",
        ]
    )


class _Names(dict[str, str]):
    """Short names for texts, by the order in which they are first asked for."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, text: str) -> str:
        self[text] = f"{self._prefix}{len(self)}"
        return self[text]


def _background(frames: Iterable[Frame]) -> str:
    """Return the colour that most cells of the first frame have behind them."""
    first = next(iter(frames))
    colours = [_colours(cell)[1] for row in first.rows for cell in row]
    return max(set(colours), key=colours.count)


def _colours(cell: Char) -> tuple[str, str]:
    """Return the colours of a cell, text first; what a terminal decides is light on dark."""
    text = "#d5daf0" if cell.fg == "default" else f"#{cell.fg}" if len(cell.fg) == 6 else cell.fg
    behind = "#16171f" if cell.bg == "default" else f"#{cell.bg}" if len(cell.bg) == 6 else cell.bg
    return (behind, text) if cell.reverse else (text, behind)


def _style(cell: Char) -> str:
    marks = [word for word, is_on in (("underline", cell.underscore), ("line-through", cell.strikethrough)) if is_on]
    more = (
        ";font-weight:700" if cell.bold else "",
        ";font-style:italic" if cell.italics else "",
        f";text-decoration:{' '.join(marks)}" if marks else "",
    )
    return f"fill:{_colours(cell)[0]}{''.join(more)}"


def _line(row: Row, styles: _Names, background: str) -> str:
    """Return the rectangles and texts of a line; empty where it shows nothing."""
    cells = [
        (column, cell, 2 if column + 1 < len(row) and not row[column + 1].data else 1)
        for column, cell in enumerate(row)
        if cell.data
    ]
    drawn = list[str]()
    for behind, same in groupby(cells, key=lambda each: _colours(each[1])[1]):
        group = list(same)
        if behind != background:
            left, right = group[0][0], group[-1][0] + group[-1][2]
            drawn.append(f'<rect x="{left * CELL}" width="{(right - left) * CELL}" height="{LINE}" fill="{behind}"/>')
    for (style, wide), same in groupby(cells, key=lambda each: (_style(each[1]), each[2])):
        group = list(same)
        text = "".join(cell.data for _column, cell, _wide in group)
        for words in _WORDS.finditer(text):
            left, length = group[words.start()][0] * CELL, len(words[0]) * wide * CELL
            kind = styles[style] if wide == 1 else f"{styles[style]} w"
            where = f'class="{kind}" x="{left}" textLength="{length}" y="13"'
            drawn.append(f"<text {where}>{escape(words[0], quote=False)}</text>")
    return "".join(drawn)


def main() -> None:
    """Record, and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pace", type=float, default=1.0, help="how slowly it is typed and answered")
    pace = parser.parse_args().pace
    for script in SCRIPTS:
        frames = record(script, pace)
        script.file.write_text(draw(frames), "utf-8")
        size = script.file.stat().st_size
        print(f"{script.file}: {len(frames)} frames, {size:,} bytes; look at it before you commit it")


if __name__ == "__main__":
    main()
