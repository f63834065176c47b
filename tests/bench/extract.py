"""How fast files become text, and with which words: `python -m tests.bench.extract [--rounds N] [PDF]...`.

PDFs in English and in Chinese are made from the program's own pages, and read by us and by pdfminer.six in turns; so
are the files that are named. The other formats hold the same English text. pdfminer.six is not among the development
packages: install it by hand, or it is left out.
"""

import argparse
import asyncio
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from xml.sax.saxutils import escape

import psutil

from qwenchat.documents.reader import DocumentReader
from tests.fakes import files

ROOT = Path(__file__).parents[2]
PAGES = 300
LINES = 48
SOURCES = 2000
WIDTHS = {"en": 88, "zh": 42}
"""Characters of a line of a page."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pdf", nargs="*", type=Path, help="PDFs of yours that are read, too")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(pdfs(Path(folder), arguments.pdf, arguments.rounds))
        asyncio.run(others(Path(folder), arguments.rounds))


async def pdfs(folder: Path, named: Iterable[Path], rounds: int) -> None:
    """Compare times and words of PDFs."""
    other = _pdfminer()
    print("| PDF | pages | we, s | once more, s | pdfminer.six, s | ratio | same words | our words in the text |")
    print("|---|---|---|---|---|---|---|---|")
    for language in WIDTHS:
        pages = [page.split("\n") for page in _pages(language)]
        (folder / f"{language}.pdf").write_bytes(files.pdf(pages))
        truth = _words("\n".join(line for page in pages for line in page))
        await _compare(folder / f"{language}.pdf", other, truth, rounds)
    for path in named:
        await _compare(path, other, None, rounds)


async def _compare(path: Path, other: Callable[[Path], str] | None, truth: Counter[str] | None, rounds: int) -> None:
    ours, again, theirs = list[float](), list[float](), list[float]()
    text, said, pages = "", "", 0
    for _round in range(rounds):
        async with DocumentReader() as reader:
            started = time.perf_counter()
            document = await reader.read(path)
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            await reader.read(path)
            again.append(time.perf_counter() - started)
            text, pages = document.text, document.pages or 1
        if other:
            started = time.perf_counter()
            said = other(path)
            theirs.append(time.perf_counter() - started)
    words = _words(text)
    they = (
        f"{statistics.median(theirs):.2f} | {statistics.median(theirs) / statistics.median(ours):.1f}"
        if theirs
        else " | "
    )
    same = f"{_overlap(words, _words(said)):.2%}" if other else ""
    right = f"{_overlap(words, truth):.2%}" if truth else ""
    print(
        f"| {path.name} | {pages} | {statistics.median(ours):.3f} | {statistics.median(again):.3f} | {they} | {same} "
        f"| {right} |"
    )


async def others(folder: Path, rounds: int) -> None:
    """Time the other formats, and a folder of sources; print the peak of the child's memory."""
    lines = "\n".join(_pages("en")).split("\n")
    print("\n| file | text, MB | median, s | MB/s |\n|---|---|---|---|")
    async with DocumentReader() as reader:
        for name, content in _formats(lines).items():
            (folder / name).write_bytes(content)
            times, size = list[float](), 0
            for _round in range(rounds):
                started = time.perf_counter()
                size = len((await reader.read(folder / name)).text)
                times.append(time.perf_counter() - started)
            median = statistics.median(times)
            print(f"| {name} | {size / 1e6:.1f} | {median:.3f} | {size / 1e6 / median:.1f} |")
        sources = sorted((ROOT / "qwenchat").rglob("*.py"))
        started, size = time.perf_counter(), 0
        for at in range(SOURCES):
            size += len((await reader.read(sources[at % len(sources)])).text)
        took = time.perf_counter() - started
        print(f"| {SOURCES:,} sources | {size / 1e6:.1f} | {took:.3f} | {size / 1e6 / took:.1f} |")
        (child,) = psutil.Process().children()
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{child.pid}/status").read_text(encoding="ascii"))
        print(f"\nPeak memory of the child, which read no PDF: {int(peak[1]) / 1024:.0f} MB" if peak else "")


def _pages(language: str) -> list[str]:
    """Return the texts of pages, from the program's own ones, repeated."""
    text = "\n".join(page.read_text("utf-8") for page in sorted((ROOT / "docs" / language).glob("*.md")))
    width = WIDTHS[language]
    plain = (" ".join(re.sub(r"[`*#|<>\[\]]", " ", line).split()) for line in text.split("\n"))
    keep = [line for line in plain if line and (language == "en") == line.isascii()]
    lines = [line[at : at + width] for line in keep for at in range(0, len(line), width)]
    return ["\n".join(lines[(page * LINES + line) % len(lines)] for line in range(LINES)) for page in range(PAGES)]


def _formats(lines: list[str]) -> Mapping[str, bytes]:
    marked = [escape(line) for line in lines]
    return {
        "plain.txt": "\n".join(lines).encode(),
        "word.docx": files.docx("".join(map(files.paragraph, marked))),
        "office.odt": files.odt("".join(f"<text:p>{line}</text:p>" for line in marked)),
        "book.epub": files.epub({"one": "".join(f"<p>{line}</p>" for line in marked)}, ["one"]),
        "page.html": "".join(f"<p>{line}</p>" for line in marked).encode(),
        "rich.rtf": ("{\\rtf1 " + "\\par ".join(re.sub(r"([\\{}])", r"\\\1", line) for line in lines) + "}").encode(),
    }


def _pdfminer() -> Callable[[Path], str] | None:
    if find_spec("pdfminer") is None:
        print("pdfminer.six is not installed, so nothing is compared with it: pip install pdfminer.six\n")
        return None
    extract_text = import_module("pdfminer.high_level").extract_text
    return lambda path: str(extract_text(path))


def _words(text: str) -> Counter[str]:
    """Return the words of a text, and of Chinese the pairs of characters."""
    text = re.sub(r"(?<=[\u4e00-\u9fff])\s*\n\s*(?=[\u4e00-\u9fff])", "", text)  # lines are joined by some
    pairs = (run[at : at + 2] for run in re.findall(r"[\u4e00-\u9fff]+", text) for at in range(max(1, len(run) - 1)))
    return Counter(re.findall(r"[a-z0-9]+", text.lower())) + Counter(pairs)


def _overlap(one: Counter[str], other: Counter[str]) -> float:
    return (one & other).total() / max(1, (one | other).total())


if __name__ == "__main__":
    main()
