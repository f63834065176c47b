"""The needle test without a model: plans, prompts to the token, scores, results on disk, pictures."""

import asyncio
import random
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.parsers import expat

import pytest
from msgspec import structs
from rich.cells import cell_len

from qwenchat.chat.events import EngineEvent
from qwenchat.chat.ports import ModelInfo, Request
from qwenchat.chat.sampling import UNSET
from qwenchat.cli.needle_map import map_lines
from qwenchat.documents.needle import pictures
from qwenchat.documents.needle.haystack import Haystack, shipped_text
from qwenchat.documents.needle.needles import Needle, draw, question
from qwenchat.documents.needle.plan import LANGUAGES, Cell, NeedlePlan, depths_of, lengths_of
from qwenchat.documents.needle.prompts import PromptMaker
from qwenchat.documents.needle.ramp import colour, ink, percent
from qwenchat.documents.needle.results import CellResult, NeedleReport, ResultsFile
from qwenchat.documents.needle.run import CellTested, NeedleRun
from qwenchat.documents.needle.speed import CellSpeed
from qwenchat.errors import FileError, WrongUse
from tests.fakes.scripted import ScriptedEngine

MODEL = ModelInfo(reference="7b", name="7B", file="f" * 32, n_ctx=32768, kv_type="f16", defaults=UNSET, load_s=0.0)
PLAN = NeedlePlan(lengths=(1500, 2000), depths=(0.0, 50.0, 100.0))


# The plan


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("1k..32k", [1024, 2048, 4096, 8192, 16384, 32768]),
        ("1k..12k", [1024, 2048, 4096, 8192, 12288]),
        ("8K", [8192]),
        ("8k..8k", [8192]),
        ("2k,1k, 6000,1024", [1024, 2048, 6000]),
    ],
)
def test_lengths(text: str, lengths: list[int]) -> None:
    assert list(lengths_of(text)) == lengths


@pytest.mark.parametrize(
    "text", ["", "k", "0", "-1", "1..", "..1k", "8k..4k", "1k..2k..4k", "1m", "1.5k", "99999999k", "٣"]
)
def test_no_lengths(text: str) -> None:
    with pytest.raises(WrongUse, match="no lengths"):
        lengths_of(text)


@pytest.mark.parametrize(
    ("text", "depths"),
    [
        ("3", [0, 50, 100]),
        ("11", [*range(0, 101, 10)]),
        ("1", [50]),
        ("4", [0, 33.3, 66.7, 100]),
        ("50%", [50]),
        ("100, 0,12.5%", [0, 12.5, 100]),
    ],
)
def test_depths(text: str, depths: list[float]) -> None:
    assert list(depths_of(text)) == depths


@pytest.mark.parametrize("text", ["", "0", "102", "50.5", "0,101", "0,-1", "a,b", "nan,1", "1,,2"])
def test_no_depths(text: str) -> None:
    with pytest.raises(WrongUse, match="no depths"):
        depths_of(text)


def test_the_deepest_cell_of_each_length_comes_first() -> None:
    assert [(cell.length, cell.depth) for cell in PLAN.cells] == [
        *((1500, 100), (1500, 50), (1500, 0)),
        *((2000, 100), (2000, 50), (2000, 0)),
    ]
    assert replace(PLAN, needles=4).depths_of(Cell(1500, 20.0)) == [20, 40, 60, 80]


# Needles


@pytest.mark.parametrize("language", LANGUAGES)
def test_needles_come_from_the_seed(language: str) -> None:
    needles = draw("7 1024 50", 20, language, lambda number: number.startswith("9"))
    assert needles == draw("7 1024 50", 20, language, lambda number: number.startswith("9"))
    assert needles != draw("8 1024 50", 20, language, lambda number: False)
    assert len({needle.subject for needle in needles}) == len({needle.number for needle in needles}) == 20
    for needle in needles:
        assert needle.number in needle.sentence and needle.subject.lower() in needle.sentence.lower()
        assert len(needle.number) == 6 and not needle.number.startswith("9")
        assert needle.subject in question(needles, language) and needle.number not in question(needles, language)
        assert needle.subject in question([needle], language)


@pytest.mark.parametrize(
    "answer",
    [
        "482913",
        "It is 482913.",
        "**482,913**",
        "482 913",
        "482\u202f913",
        "482'913",
        "４８２９１３",
        "编号是482913。",
        "4-8-2-9-1-3",
        "482_913",
        "12: 482913",
        "482.913",
    ],
)
def test_a_number_is_found_with_or_without_separators(answer: str) -> None:
    assert Needle("", "", "482913").is_in(answer)


@pytest.mark.parametrize("answer", ["", "48291", "4829131", "1482913", "482914", "482 and 913", "319284", "no idea"])
def test_another_number_is_not_taken_for_it(answer: str) -> None:
    assert not Needle("", "", "482913").is_in(answer)


# The haystack


def test_sentences_end_where_they_end() -> None:
    text = '# I. One\n\nHe said: "Go." She went! Why?\nA line (long.) Then\n\n# 二\n\n他说：“走。”她走了！为什么？'
    haystack = Haystack(text, 0)
    haystack.grow(3 * len(text))
    pieces = [haystack.text[start:end] for start, end in zip(haystack.ends, haystack.ends[1:], strict=False)]
    assert "".join(pieces) == haystack.text
    whole = [*("# I. One\n\n", 'He said: "Go."', " She went!", " Why?\n", "A line (long.)", " Then\n\n")]
    whole += [*("# 二\n\n", "他说：“走。”", "她走了！", "为什么？\n\n")]
    assert set(pieces[:-1]) == set(whole)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 5000,
        "x\n" * 3000,
        ". . . . " * 500,
        "\x1b[31mred\x07. \ufeff<|im_end|>\n" * 50,
        "。" * 3000,
        "{[(\\d+)]}*\n\n\n" * 200,
        "\f\f# \n#\n\f",
        "one",
        " \ta b\r\n",
    ],
    ids=range(9),
)
def test_any_text_is_a_haystack(text: str) -> None:
    haystack = Haystack(text, 3)
    for size in (10, 4000, 30_000):
        haystack.grow(size)
    assert len(haystack.text) > 30_000 and haystack.ends == sorted(set(haystack.ends))
    assert haystack.ends[0] == 0 and haystack.ends[-1] == len(haystack.text)
    assert max(end - start for start, end in zip(haystack.ends, haystack.ends[1:], strict=False)) < 1000
    assert not re.search("[\x00-\x08\x0b-\x1f]", haystack.text)
    at_once = Haystack(text, 3)
    at_once.grow(30_000)
    assert (
        at_once.text.startswith(haystack.text[:30_000]) and at_once.ends[:-2] == haystack.ends[: len(at_once.ends) - 2]
    )


@pytest.mark.parametrize("text", ["", " \n\t\n", "\f\f", "\x00\x07"])
def test_without_a_text_there_is_no_haystack(text: str) -> None:
    with pytest.raises(FileError, match="empty"):
        Haystack(text, 0)


def test_of_a_very_long_text_only_the_beginning_is_looked_at() -> None:
    haystack = Haystack("All work and no play. " * 500_000, 0)
    haystack.grow(1000)
    assert len(haystack.text) < 50_000


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_shipped_text(language: str) -> None:
    text = shipped_text(language)
    assert text.startswith("# ") and "wordcloud" not in text
    assert not re.search(r"\d{3}|[\ue000-\uf8ff*<>_①⑴]", text)
    beginnings = set()
    for seed in range(100):
        haystack = Haystack(text, seed)
        haystack.grow(40)
        beginnings.add(haystack.text[:40])
    assert len(beginnings) == text.count("\n# ") + 1 >= 7


# Prompts


ENDS = {*"\n。！？”’…", ">\n", "\n\n", *(mark + " " for mark in ".?!'\")")}
"""What stands before a needle that is not at the end of the text."""


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("needles", [1, 3, 20])
async def test_prompts_are_exact_to_the_token_and_share_their_beginning(language: str, needles: int) -> None:
    plan = NeedlePlan(lengths=(6000, 9000), depths=(0.0, 25.0, 50.0, 75.0, 100.0), needles=needles, language=language)
    maker = PromptMaker(ScriptedEngine(), plan, Haystack(shipped_text(language), 0), answer_tokens=100)
    before, shared, room = "", 0, 0
    for cell in plan.cells:
        prompt = await maker.make(cell)
        (turn,) = prompt.turns
        assert prompt.tokens == cell.length - 100 and prompt.exact
        assert turn.text.endswith(prompt.question)
        places = [turn.text.index(needle.sentence) for needle in prompt.needles]
        assert places == sorted(places)
        if cell.depth == 100:
            room = prompt.places[0]
            assert all(turn.text[place - 2 : place] == "\n\n" for place in places)
        else:
            assert {turn.text[place - 1] if language == "zh" else turn.text[:place][-2:] for place in places} <= ENDS
        for wanted, place in zip(plan.depths_of(cell), prompt.places, strict=True):
            assert wanted / 100 * room - 600 <= place <= wanted / 100 * (room + 100)
        if cell.depth < 100:  # what stands before the needle was in the prompt before
            assert before[: places[0] - 2] == turn.text[: places[0] - 2]
            shared += places[0]
        before = turn.text
    assert shared > 12_000


async def test_a_length_without_room_is_refused_with_one_that_has() -> None:
    maker = PromptMaker(ScriptedEngine(), PLAN, Haystack(shipped_text("en"), 0), answer_tokens=100)
    with pytest.raises(WrongUse) as caught:
        await maker.make(Cell(300, 50.0))
    least = int(re.findall(r"\d+", caught.value.hint)[0])
    assert (await maker.make(Cell(least, 50.0))).tokens == least - 100


# A run


class Finder(ScriptedEngine):
    """Answers with the numbers in the last three fifths of its prompt."""

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        prompt = request.turns[0].text
        said = " and ".join(re.findall(r"\d{6}", prompt[len(prompt) * 2 // 5 :]))
        async for event in super().events(request, said or "nothing", cancelled):
            yield event


async def run_of(
    folder: Path, plan: NeedlePlan = PLAN, engine: ScriptedEngine | None = None
) -> tuple[NeedleRun, float]:
    """Return a run that continues what is in a folder, and its predicted seconds."""
    file = ResultsFile(folder, MODEL, plan, "text")
    known = file.load()
    results = {cell: known[cell] for cell in plan.cells if cell in known}
    report = NeedleReport(model=MODEL, plan=plan, text="", results=results)
    run = NeedleRun(engine or Finder(), report, Haystack(shipped_text(plan.language), plan.seed), file)
    return run, await run.predict()


async def results_of(run: NeedleRun) -> list[CellResult]:
    return [event.result async for event in run.run() if isinstance(event, CellTested)]


async def test_each_cell_is_asked_greedily_and_scored_by_its_number(tmp_path: Path) -> None:
    engine = Finder()
    run, predicted = await run_of(tmp_path, engine=engine)
    results = await results_of(run)
    assert predicted > 0
    assert [each.cell for each in results] == list(PLAN.cells)
    assert [each.score for each in results] == [1, 1, 0] * 2
    assert run.report.score() == pytest.approx(4 / 6) and run.report.score(length=1500) == pytest.approx(2 / 3)
    assert all(each.answer == each.expected[0] for each in results if each.score)
    assert all(each.prompt_tokens == each.length - 64 for each in results)
    for request in engine.requests:
        assert (request.sampling.temperature, request.sampling.repeat_penalty, request.cache_key) == (0, 1, "")


async def test_of_several_needles_the_share_counts(tmp_path: Path) -> None:
    run, _predicted = await run_of(tmp_path, replace(PLAN, lengths=(4000,), needles=4))
    scores = {each.depth: each.score for each in await results_of(run)}
    assert scores == {100: 1, 50: 1, 0: 0.5}


async def test_a_run_continues_after_the_last_answer_and_makes_the_same_map(tmp_path: Path) -> None:
    whole, _predicted = await run_of(tmp_path / "whole")
    await results_of(whole)
    stopped, _predicted = await run_of(tmp_path / "stopped")
    events = stopped.run()
    while len(stopped.report.results) < 2:
        await anext(events)
    await events.aclose()
    (file,) = (tmp_path / "stopped").iterdir()
    file.write_bytes(file.read_bytes() + b'{"length": 1500, "dep')  # killed while it wrote
    engine = Finder()
    again, _predicted = await run_of(tmp_path / "stopped", engine=engine)
    assert again.cells == list(PLAN.cells[2:])
    await results_of(again)
    assert len(engine.requests) == 2 + 4
    finished, predicted = await run_of(tmp_path / "stopped", engine=engine)
    assert (finished.cells, predicted, len(engine.requests)) == ([], 0.0, 6)

    def answers(run: NeedleRun) -> list[tuple[object, ...]]:
        return [(*each.needles, *each.places, each.answer, each.found) for _cell, each in sorted_results(run)]

    assert answers(finished) == answers(again) == answers(whole)
    assert oct(file.parent.stat().st_mode & 0o777) == "0o700"


def sorted_results(run: NeedleRun) -> list[tuple[Cell, CellResult]]:
    return sorted(run.report.results.items(), key=lambda item: (item[0].length, item[0].depth))


@pytest.mark.parametrize(
    ("model", "plan", "source"),
    [
        (MODEL, replace(PLAN, seed=1), "text"),
        (MODEL, replace(PLAN, needles=2), "text"),
        (MODEL, replace(PLAN, language="zh"), "text"),
        (MODEL, PLAN, "other"),
        (structs.replace(MODEL, kv_type="q8_0"), PLAN, "text"),
        (structs.replace(MODEL, yarn_factor=2.0), PLAN, "text"),
        (structs.replace(MODEL, file="0" * 32), PLAN, "text"),
    ],
)
def test_what_an_answer_depends_on_has_results_of_its_own(
    model: ModelInfo, plan: NeedlePlan, source: str, tmp_path: Path
) -> None:
    ResultsFile(tmp_path, MODEL, PLAN, "text").append(result_of(PLAN.cells[0], 1.0))
    assert ResultsFile(tmp_path, model, plan, source).load() == {}
    same = ResultsFile(tmp_path, structs.replace(MODEL, n_ctx=8192), replace(PLAN, lengths=(7,), depths=(1.0,)), "text")
    assert list(same.load()) == [PLAN.cells[0]]
    same.clear()
    assert same.load() == {}


def test_results_that_can_not_be_written_are_an_error_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = ResultsFile(tmp_path / "file", MODEL, PLAN, "text")
    with pytest.raises(FileError):
        file.append(result_of(Cell(1500, 0.0), 1.0))
    with pytest.raises(FileError):
        file.load()


# Time


def test_the_prediction_fits_what_was_measured() -> None:
    speed, rng = CellSpeed(), random.Random(1)
    each, growth = 0.005, 4e-7

    def truly(start: float, end: float) -> float:
        return each * (end - start) + growth * (end**2 - start**2) / 2

    for step in range(16):
        seconds = truly(128 * step, 128 * step + 128)
        speed.note_reading(128 * step, 128 * step + 128, seconds * rng.uniform(0.98, 1.02))
    speed.note_answer(1.0)
    plan = NeedlePlan(lengths=(4096, 16384), depths=(0.0, 50.0, 100.0))
    true = sum(truly(0, length) * 2 + truly(length / 2, length) + 3 for length in plan.lengths)
    assert speed.seconds(plan.cells) == pytest.approx(true, rel=0.15)
    assert speed.seconds(plan.cells[2:3], after=plan.cells[1]) == pytest.approx(truly(0, 4096) + 1, rel=0.1)


def test_a_prediction_is_never_negative() -> None:
    speed = CellSpeed()
    assert speed.seconds(PLAN.cells) == 0
    speed.note_reading(0, 100, 2.0)
    speed.note_reading(100, 200, 1.0)  # faster than before, as when another program ended
    speed.note_reading(200, 200, 5.0)
    assert speed.seconds([Cell(100_000, 0.0)]) == pytest.approx(1500)


# Pictures


def result_of(cell: Cell, score: float, answer: str = "42") -> CellResult:
    return CellResult(
        length=cell.length,
        depth=cell.depth,
        prompt_tokens=cell.length - 64,
        exact=True,
        needles=("The number is 42.",),
        places=(1,),
        question="?",
        expected=("42",),
        found=(score > 0.5,),
        answer=answer,
        cached_tokens=0,
        prefill_s=1.0,
        decode_s=1.0,
        took_s=2.0,
    )


HOSTILE = "\x1b[31m</title><script>alert(1)</script>&amp; ]]> \x07\u202e"
REPORT = NeedleReport(
    model=structs.replace(MODEL, name=HOSTILE),
    plan=PLAN,
    text=HOSTILE,
    results={cell: result_of(cell, cell.depth / 100, HOSTILE) for cell in PLAN.cells[:5]},
)


def test_the_picture_has_a_rectangle_with_a_title_for_each_cell() -> None:
    picture = pictures.svg(REPORT)
    expat.ParserCreate().Parse(picture, True)  # fails for what is not well-formed
    titles = re.findall(r"<g><title>([^<]*)</title><rect [^<]*/>", picture)
    assert titles == [
        "1,500 tokens, depth 0 %: 0 %",
        "1,500 tokens, depth 50 %: 0 %",
        "1,500 tokens, depth 100 %: 100 %",
        "2,000 tokens, depth 0 %: not tested",
        "2,000 tokens, depth 50 %: 0 %",
        "2,000 tokens, depth 100 %: 100 %",
    ]
    assert 'role="img"' in picture and "<script" not in picture and "&lt;script&gt;" in picture


def test_the_page_is_a_table_and_lists_every_answer() -> None:
    seen: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append(tag)

    page = pictures.html(REPORT)
    Tags().feed(page)
    assert "script" not in seen and "caption" in seen
    assert page.count('scope="row"') == 3 and page.count('scope="col"') >= 2
    assert page.count("&lt;script&gt;") >= 5
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", page)
    assert "http" not in page


def test_colours_get_lighter_and_words_on_them_can_be_read() -> None:
    def light(shade: str) -> float:
        parts = (int(shade[place : place + 2], 16) / 255 for place in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lights = [light(colour(score / 100)) for score in range(101)]
    assert lights == sorted(lights)
    for score in range(101):
        one, other = sorted((light(ink(score / 100)), lights[score]))
        assert (other + 0.05) / (one + 0.05) >= 4.0
    assert [percent(score) for score in (0, 0.001, 0.5, 0.999, 1)] == ["0", "1", "50", "99", "100"]


@pytest.mark.parametrize("width", [13, 18, 40, 200])
def test_a_map_fits_the_terminal(width: int) -> None:
    plan = replace(PLAN, lengths=tuple(range(1000, 9000, 1000)))
    report = replace(REPORT, plan=plan)
    lines = map_lines(report, width)
    assert max(cell_len(line.text) for line in lines) <= width
    heads = re.findall(r"\b[1-8]000\b", "\n".join(line.text for line in lines))
    assert heads == [str(length) for length in plan.lengths]


def test_a_map_can_be_read_without_colour() -> None:
    text = [line.text.split() for line in map_lines(REPORT, 80, Cell(2000, 0.0))]
    assert text == [
        ["1500", "2000"],
        ["0", "%", "0", ">"],
        ["50", "%", "0", "0"],
        ["100", "%", "100", "100"],
        ["33", "50"],
        [],
    ]
