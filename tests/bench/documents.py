"""Speed of the index of documents at 10 MB of text, half English, half Chinese.

    python -m tests.bench.documents [--megabytes 10] [--folder FOLDER]

Prints a Markdown table. Texts are drawn from made-up words whose frequencies fall as in real languages (Zipf). Beside
the index stands a bare loop over FTS5 in the same run: the same words, cut every 1,500 characters, one table with the
texts, one transaction, the same queries.
"""

import argparse
import random
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from qwenchat.documents.chunks import chunks_of
from qwenchat.documents.document import Document
from qwenchat.documents.index import DocumentIndex, _match, collection_owner
from qwenchat.text.words import TOKENIZER, index_text
from tests.bench.sessions import Words

OWNER = collection_owner("bench")
DOCUMENT_SIZE = 100_000
"""Bytes of one document, about."""
CUT = 1_500
QUERIES, LIMIT = 300, 20


def documents(size: int) -> list[Document]:
    """Return documents of `size` bytes together, with headings and paragraphs."""
    words = Words()
    made: list[Document] = []
    while size > 0:
        draw = words.chinese if len(made) % 2 else words.english
        parts: list[str] = []
        length = 0
        while length < DOCUMENT_SIZE:
            parts += [f"## {draw(5)}\n\n", *(draw(random.randint(30, 120)) + "\n\n" for _paragraph in range(6))]
            length = sum(len(part.encode()) for part in parts)
        size -= length
        made.append(Document(name=f"{len(made)}.md", media_type="text/markdown", text="".join(parts)))
    return made


def questions(of: Sequence[Document]) -> list[str]:
    """Return texts of the length of a question, drawn from the documents."""
    found = []
    for _n in range(QUERIES):
        text = random.choice(of).text
        at = random.randrange(len(text) - 60)
        found.append(text[at : at + (12 if text[at] > "\u3400" else 40)])
    return found


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bare(folder: Path, made: Sequence[Document], asked: Sequence[str]) -> tuple[float, list[float]]:
    """Return the seconds in which a bare loop indexes the documents, and those of each query."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f'CREATE VIRTUAL TABLE words USING fts5 (tokens, text UNINDEXED, tokenize = "{TOKENIZER}")')

    def insert() -> None:
        connection.execute("BEGIN")
        for each in made:
            for at in range(0, len(each.text), CUT):
                text = each.text[at : at + CUT]
                connection.execute("INSERT INTO words (tokens, text) VALUES (?, ?)", (index_text(text), text))
        connection.execute("COMMIT")

    def find(question: str) -> None:
        query = f"SELECT text FROM words WHERE words MATCH ? ORDER BY rank LIMIT {LIMIT}"  # noqa: S608 - a constant
        connection.execute(query, (_match([question]),)).fetchall()

    took = seconds(insert)
    times = [seconds(partial(find, each)) for each in asked]
    connection.close()
    return took, times


def _slow(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=float, default=10.0)
    options.add_argument("--folder", type=Path, help="a folder on the disk to measure")
    given = options.parse_args()
    random.seed(20_240_607)
    print("making texts", file=sys.stderr)
    made = documents(int(given.megabytes * 1e6))
    size = sum(len(each.text.encode()) for each in made) / 1e6
    asked = questions(made)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        cutting = seconds(lambda: [chunks_of(each) for each in made])
        before = peak_mb()
        index = DocumentIndex(folder / "documents.db")
        indexing = seconds(partial(index.add, OWNER, made)) + seconds(index.tidy)
        grown = peak_mb() - before
        times = [seconds(partial(index.search, [OWNER], [each], LIMIT)) for each in asked]
        chunks = sum(each.chunks for each in index.owned(OWNER))
        stored = sum(file.stat().st_size for file in folder.glob("documents.db*")) / 1e6
        dropping = seconds(lambda: index.drop(OWNER))
        index.close()
        bare_indexing, bare_times = bare(folder, made, asked)
    print(f"\n{size:.1f} MB of text in {len(made)} documents, {chunks:,} chunks, {QUERIES} queries\n")
    print("| documents | ours | bare FTS5 | ratio |\n|---|---|---|---|")
    rows = (
        ("index, MB/s", size / indexing, size / bare_indexing),
        ("query, median, ms", statistics.median(times) * 1e3, statistics.median(bare_times) * 1e3),
        ("query, 95 of 100, ms", _slow(times) * 1e3, _slow(bare_times) * 1e3),
    )
    for label, ours, theirs in rows:
        print(f"| {label} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |")
    print(f"| dividing into chunks alone, MB/s | {size / cutting:.2f} | | |")
    print(f"| deleting all of it, s | {dropping:.2f} | | |")
    print(f"| file, MB for each MB of text | {stored / size:.2f} | | |")
    print(f"| peak memory of indexing, MB more | {grown:.0f} | | |")


if __name__ == "__main__":
    main()
