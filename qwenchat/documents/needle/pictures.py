"""The map of a needle test as a picture (SVG) and as a page (HTML), both made of its report.

In the page the map is a table, which a screen reader reads, and every answer stands below it. In the picture each cell
is a rectangle with a title. Texts of models and files are escaped, and nothing is loaded from another place.
"""

from collections.abc import Iterator
from html import escape

from qwenchat.documents.needle.plan import Cell
from qwenchat.documents.needle.ramp import colour, ink, percent, short_length
from qwenchat.documents.needle.results import CellResult, NeedleReport
from qwenchat.i18n import _, enumerated, labelled, language
from qwenchat.text.safe import clean, clean_line

_WIDTH, _HEIGHT = 64, 28
"""Pixels of a cell."""
_LEFT, _TOP = 84, 84
_LEGEND_STEP, _LEGEND_STEPS = 48, 5
_FONT = 'font-family="system-ui, sans-serif" font-size="13"'
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { padding: .3rem .7rem; text-align: right; }
.map td { min-width: 3rem; text-align: center; border: 1px solid Canvas; }
.answers td, .answers th { text-align: left; vertical-align: top; border-top: 1px solid GrayText; }
.answers td { overflow-wrap: anywhere; white-space: pre-wrap; }
"""


def title(report: NeedleReport) -> str:
    """Return the title of a map."""
    return _("Needle test of {model}").format(model=clean_line(report.model.name))


def summary(report: NeedleReport) -> str:
    """Return a line about what was tested and how."""
    plan, model = report.plan, report.model
    facts = [
        labelled(_("needles found"), _("{percent} %").format(percent=percent(report.score() or 0.0))),
        labelled(_("context window"), f"{model.n_ctx:,}"),
        labelled("YaRN", f"{model.yarn_factor:.4g}") if model.yarn_factor not in (0, 1) else "",
        labelled(_("KV cache"), model.kv_type) if model.kv_type else "",
        labelled(_("needles in each text"), plan.needles) if plan.needles > 1 else "",
        labelled(_("text"), clean_line(report.text)) if report.text else "",
        labelled(_("seed"), plan.seed),
    ]
    return enumerated(fact for fact in facts if fact)


def svg(report: NeedleReport) -> str:
    """Return the map as a picture."""
    plan = report.plan
    width = _LEFT + max(_WIDTH * len(plan.lengths), _LEGEND_STEP * _LEGEND_STEPS) + 24
    height = _TOP + _HEIGHT * len(plan.depths) + 76
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" aria-labelledby="title about" lang="{_tag()}">',
            f'<title id="title">{escape(title(report))}</title>',
            f'<desc id="about">{escape(summary(report))}</desc>',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            f'<g {_FONT} fill="#000000">',
            _words(16, 26, title(report), "start", ' font-weight="bold"'),
            _words(16, 46, _("depth in percent, by length in tokens"), "start"),
            *_squares(report),
            *_legend(_TOP + _HEIGHT * len(plan.depths) + 24),
            "</g>",
            "</svg>\n",
        ]
    )


def html(report: NeedleReport) -> str:
    """Return the map and all answers as a page."""
    rows = "\n".join(_row(report, depth) for depth in report.plan.depths)
    heads = "".join(f'<th scope="col">{short_length(length)}</th>' for length in report.plan.lengths)
    caption, answers = _("Needles found in percent: depth in percent, by length in tokens"), _("Answers")
    return f"""<!doctype html>
<html lang="{_tag()}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{escape(title(report))}</title>
<style>{_STYLE}</style>
<h1>{escape(title(report))}</h1>
<p>{escape(summary(report))}</p>
<table class="map">
<caption>{escape(caption)}</caption>
<tr><td></td>{heads}</tr>
{rows}
</table>
<h2>{escape(answers)}</h2>
<table class="answers">
<tr>{"".join(f'<th scope="col">{escape(head)}</th>' for head in _heads())}</tr>
{"".join(_answers(report))}</table>
</html>
"""


def _squares(report: NeedleReport) -> Iterator[str]:
    plan = report.plan
    for column, length in enumerate(plan.lengths):
        x = _LEFT + _WIDTH * column
        yield _words(x + _WIDTH / 2, _TOP - 10, short_length(length))
        for row, depth in enumerate(plan.depths):
            y, result = _TOP + _HEIGHT * row, report.results.get(Cell(length, depth))
            if column == 0:
                yield _words(_LEFT - 10, y + 19, f"{depth:g} %", "end")
            yield _square(x, y, _cell_words(length, depth, result), result)


def _square(x: int, y: int, words: str, result: CellResult | None) -> str:
    fill = colour(result.score) if result else "#ffffff"
    shown = percent(result.score) if result else "·"
    text = _words(x + _WIDTH / 2, y + 19, shown, extra=f' fill="{ink(result.score) if result else "#000000"}"')
    return (
        f'<g><title>{escape(words)}</title><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" fill="{fill}" '
        f'stroke="#ffffff"/>{text}</g>'
    )


def _legend(y: int) -> Iterator[str]:
    yield _words(_LEFT - 10, y + 13, _("found"), "end")
    for step in range(_LEGEND_STEPS):
        x, score = _LEFT + _LEGEND_STEP * step, step / (_LEGEND_STEPS - 1)
        yield f'<rect x="{x}" y="{y}" width="{_LEGEND_STEP}" height="16" fill="{colour(score)}"/>'
        yield _words(x + _LEGEND_STEP / 2, y + 32, f"{percent(score)} %")


def _words(x: float, y: float, text: str, anchor: str = "middle", extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def _row(report: NeedleReport, depth: float) -> str:
    cells = []
    for length in report.plan.lengths:
        result = report.results.get(Cell(length, depth))
        words = escape(_cell_words(length, depth, result))
        look = f' style="background:{colour(result.score)};color:{ink(result.score)}"' if result else ""
        cells.append(f'<td title="{words}"{look}>{percent(result.score) if result else "·"}</td>')
    return f'<tr><th scope="row">{depth:g} %</th>{"".join(cells)}</tr>'


def _cell_words(length: int, depth: float, result: CellResult | None) -> str:
    place = _("{length:,} tokens, depth {depth:g} %").format(length=length, depth=depth)
    if result is None:
        return labelled(place, _("not tested"))
    return labelled(place, _("{percent} %").format(percent=percent(result.score)))


def _heads() -> tuple[str, ...]:
    return _("tokens"), _("depth"), _("found"), _("needles"), _("answer")


def _answers(report: NeedleReport) -> Iterator[str]:
    for cell in sorted(report.results, key=lambda cell: (cell.length, cell.depth)):
        result = report.results[cell]
        fields = (
            f"{result.prompt_tokens:,}",
            f"{cell.depth:g} %",
            f"{percent(result.score)} %",
            escape(clean("\n".join(result.needles))),
            escape(clean(result.answer)),
        )
        yield "<tr>" + "".join(f"<td>{field}</td>" for field in fields) + "</tr>\n"


def _tag() -> str:
    return language().replace("_", "-")
