"""`make picture`: draws the screenshots of the READMEs with the real program and a scripted engine.

The chats are written here; their speeds are those of a laptop with 16 GB. The pictures use the reader's own fonts and
load nothing from a server.
"""

import asyncio
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape, unescape
from itertools import groupby
from pathlib import Path

from msgspec.structs import replace
from rich.cells import cell_len

from devtools import pages
from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.message import Message, Role, Timings, Usage, text_parts
from qwenchat.chat.ports import Mode, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.session import Session
from qwenchat.i18n import use_language
from qwenchat.runtime.program import Program
from qwenchat.tui.app import QwenchatApp, Start
from tests.fakes.scripted import ScriptedEngine
from tests.tui.screens import until

SIZE = (100, 30)
THEME = "ink"
MODEL = "7b:q4_k_m"
_HOUR = 3_600_000
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_TEXT = re.compile(r'<text class="([\w-]+)" x="([\d.]+)" y="([\d.]+)" textLength="[\d.]+" ([^>]*)>([^<]*)</text>')
_CELL = 12.2
"""Width of a terminal cell in the picture."""
_MARGIN = 2.2
"""Space on each side of a Chinese character in its two cells."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The content of one screenshot."""

    file: Path
    language: str
    others: tuple[tuple[str, str, int], ...]
    """Title, tag and age in hours of the other chats; the first is pinned."""
    title: str
    question: str
    answer: str
    draft: str


SCENES = (
    Scene(
        pages.DOCS / "screen.svg",
        "en",
        (
            ("Two weeks in Yunnan", "travel", 2),
            ("把周报改得简短一些", "", 3),
            ("Explain Rust lifetimes", "code", 25),
            ("注意力机制是怎么工作的", "", 27),
            ("Letter to the landlord", "", 50),
            ("SQL: second highest salary", "code", 75),
            ("写一首关于秋天的七言绝句", "", 98),
            ("Names for a black cat", "", 120),
        ),
        "How heat pumps work",
        "Why does a heat pump give more heat than the power it takes?",
        """\
It does not *make* heat, it **moves** it: power only drives the compressor. The best possible ratio depends on the \
temperatures inside and outside, in kelvin:

$$\\text{COP} = \\frac{T_1}{T_1 - T_2}$$

| outside | best possible | a good machine |
|--------:|--------------:|---------------:|
|    7 °C |          11.0 |        4 to 5  |
|   −7 °C |           7.3 |        about 3 |

```python
def best_cop(outside, inside=35):
    hot = inside + 273.15
    return hot / (inside - outside)
```

So insulate first: a house that 35 °C water keeps warm needs the least power.
""",
        "And at −15 °C, with radiators at 55 °C?",
    ),
    Scene(
        pages.DOCS / "screen.zh.svg",
        "zh_CN",
        (
            ("云南两周行程", "旅行", 2),
            ("把周报改得简短一些", "", 3),
            ("讲讲 Rust 的生命周期", "代码", 25),
            ("注意力机制是怎么工作的", "", 27),
            ("给房东写封信", "", 50),
            ("SQL：第二高的薪水", "代码", 75),
            ("写一首关于秋天的七言绝句", "", 98),
            ("Names for a black cat", "", 120),
        ),
        "热泵的原理",
        "热泵放出的热量为什么比它耗的电还多？",
        """\
它不*制造*热量，只是**搬运**热量：电只用来驱动压缩机。理想的能效比取决于室内外的绝对温度：

$$\\text{COP} = \\frac{T_1}{T_1 - T_2}$$

| 室外温度 | 理想值 | 好的机型 |
|---------:|-------:|---------:|
|     7 °C |   11.0 |   4 到 5 |
|    −7 °C |    7.3 |   约 3   |

```python
def best_cop(outside, inside=35):
    hot = inside + 273.15
    return hot / (inside - outside)
```

所以先做好保温：用 35 °C 的水就能供暖的房子最省电。
""",
        "那零下 15 °C、暖气片要 55 °C 的水呢？",
    ),
)


class CountingEngine(ScriptedEngine):
    """Counts about as many tokens as Qwen2 does."""

    async def count(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> TokenCounts:
        return TokenCounts(values=tuple(5 + sum(map(_weight, turn.text)) // 4 for turn in turns))


def _weight(character: str) -> int:
    """Return about how many quarters of a token a character takes."""
    return 3 if character > "\u3000" else 1


def save_others(program: Program, scene: Scene) -> None:
    """Save the chats of a scene that are not open."""
    new_id, now = UUIDv7(), unix_ms()
    for title, tag, ago in reversed(scene.others):
        when, pinned = now - ago * _HOUR, title == scene.others[0][0]
        tags = (tag,) if tag else ()
        session = Session(id=new_id(), created=when, updated=when, title=title, model=MODEL, tags=tags, pinned=pinned)
        program.store.create(session)
        program.store.add(
            Message(id=new_id(), session=session.id, parent=None, role=Role.USER, parts=text_parts(title), created=when)
        )


def save_chats(program: Program, scene: Scene) -> str:
    """Save all chats of a scene and return the id of the open one."""
    save_others(program, scene)
    new_id, now = UUIDv7(), unix_ms()
    shown = Session(id=new_id(), created=now, updated=now, title=scene.title, model=MODEL, draft=scene.draft)
    question = Message(
        id=new_id(), session=shown.id, parent=None, role=Role.USER, parts=text_parts(scene.question), created=now
    )
    usage, timings = Usage(41, 0, 231), Timings(decode_tps=9.4, ttft_s=0.7)
    answer = Message(
        id=new_id(),
        session=shown.id,
        parent=question.id,
        role=Role.ASSISTANT,
        parts=text_parts(scene.answer),
        created=now,
        model=MODEL,
    )
    program.store.create(shown)
    program.store.add(question, replace(answer, usage=usage, timings=timings))
    return shown.id


async def screenshot(scene: Scene) -> str:
    """Return the screenshot of a scene as SVG."""
    use_language(scene.language)
    with tempfile.TemporaryDirectory() as home:
        program = Program({"QWENCHAT_HOME": home})
        start = Start(session=save_chats(program, scene))
        app = QwenchatApp(program, start, lambda _model, _wishes: CountingEngine(n_ctx=32_768))
        async with app.run_test(size=SIZE) as pilot:
            await until(lambda: app.chat.transcript.messages)
            await app.chat.context.chats.model.load(app.chat.session)
            app.chat.counts.count_soon()
            await until(lambda: app.chat.gauge.usage)
            await until(lambda: app.chat.sidebar.list.option_count > len(scene.others))
            app.theme = THEME  # with all colours, whatever the terminal
            app.chat.prompt.area.cursor_blink = False
            await pilot.pause()
            picture = app.export_screenshot(title="qwenchat")
            await app.chat.leave()
        program.close()
    picture = _FONT.sub("", picture).replace("Fira Code", "ui-monospace")
    return _TEXT.sub(lambda found: "".join(_positioned(*found.groups())), picture)


def _positioned(kind: str, x: str, y: str, more: str, words: str) -> Iterator[str]:
    """Yield a text in runs of narrow and of wide characters; each wide character needs a position of its own."""
    left = float(x)
    for cells, run in groupby(unescape(words), cell_len):
        part = "".join(run)
        places = [left + 2 * _CELL * number + _MARGIN for number in range(len(part))]
        place = " ".join(f"{place:.1f}" for place in places) if cells == 2 else f"{left:.1f}"
        length = "" if cells == 2 else f' textLength="{_CELL * len(part):.1f}"'
        text = escape(part).replace("\xa0", "&#160;")
        yield f'<text class="{kind}" x="{place}" y="{y}"{length} {more}>{text}</text>'
        left += _CELL * cells * len(part)


def main() -> None:
    """Write the pictures."""
    for scene in SCENES:
        scene.file.write_text(asyncio.run(screenshot(scene)), "utf-8")
        print(f"{scene.file}: look at it before you commit it")


if __name__ == "__main__":
    main()
