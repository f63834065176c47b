"""Speed of the session store at 1,000,000 messages in 20,000 sessions, half English, half Chinese.

    python -m tests.bench.sessions [--messages 1000000] [--folder FOLDER]

Prints a Markdown table. Texts are drawn from made-up words whose frequencies fall as in real languages (Zipf), half of
the messages are answers with token ids. Beside each search stands what a plain scan (`LIKE`) takes in the same run.
"""

import argparse
import itertools
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qwenchat.chat.message import Message, Role, Status, Text, text_parts
from qwenchat.chat.session import Session
from qwenchat.sessions import rows
from qwenchat.sessions.store import Store
from qwenchat.storage.database import Database

SESSIONS = 20_000
LONG_BRANCH = 10_000
START = 1_700_000_000_000
COMMON, COMMON_ZH = "server", "我们"
RARE = "zyzzyva"


def _marks(columns: str) -> str:
    return ",".join("?" * len(columns.split(",")))


INSERT_SESSION = f"INSERT INTO sessions ({rows.SESSION_COLUMNS}) VALUES ({_marks(rows.SESSION_COLUMNS)})"  # noqa: S608
INSERT_MESSAGE = (
    f"INSERT INTO messages (n, session, {rows.MESSAGE_COLUMNS}) VALUES (?,?,{_marks(rows.MESSAGE_COLUMNS)})"  # noqa: S608
)
_DETAILS = (
    '{"sampling":{"temperature":0.7,"top_p":0.8,"top_k":20,"min_p":0.0,"repeat_penalty":1.05},"finish_reason":"stop",'
    '"usage":{"prompt_tokens":812,"cached_tokens":700,"completion_tokens":96},"timings":{"load_s":0.0,"prefill_s":0.41,'
    '"prefill_tps":273.2,"decode_s":4.8,"decode_tps":20.0,"ttft_s":0.43}}'
)


class Words:
    """Draws texts in two made-up languages."""

    def __init__(self) -> None:
        self.random = random.Random(20_240_607)
        letters = "etaoinshrdlucmfwypvbgkq"
        self._english = ["the", "of", "and", "to", "in", COMMON]
        self._english += ["".join(self.random.choices(letters, k=self.random.randint(3, 10))) for _n in range(20_000)]
        self._chinese = ["的", "是", "在", "了", COMMON_ZH]
        self._chinese += ["".join(map(self._hanzi, range(self.random.choice((1, 2, 2, 2, 3))))) for _n in range(20_000)]
        self._weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(self._english))))
        self._weights_zh = self._weights[: len(self._chinese)]

    def _hanzi(self, _n: int) -> str:
        return chr(0x4E00 + int(3000 * self.random.random() ** 2))

    def english(self, words: int) -> str:
        return " ".join(self.random.choices(self._english, cum_weights=self._weights, k=words)) + "."

    def chinese(self, words: int) -> str:
        drawn = self.random.choices(self._chinese, cum_weights=self._weights_zh, k=words)
        return "，".join("".join(drawn[at : at + 7]) for at in range(0, words, 7)) + "。"


def fill(database: Database, total: int) -> None:
    """Fill an empty store."""
    words = Words()
    n = 0
    for session in range(1, SESSIONS + 1):
        title = words.english(6) if session % 2 else words.chinese(6)
        store_row = Session(
            id=f"{session:012x}",
            created=START,
            updated=START + session * 1000,
            title=title,
            tags=("rare",) if session % 500 == 1 else (),
        )
        with database.write() as connection:
            connection.execute(INSERT_SESSION, rows.session_row(store_row))
            count = LONG_BRANCH if session == SESSIONS // 2 else (total - LONG_BRANCH) // (SESSIONS - 1)
            batch = list(_messages(words, session, n + 1, count))
            n += len(batch)
            connection.executemany(INSERT_MESSAGE, batch)
        if session % 1000 == 0:
            print(f"  {n:,} messages", file=sys.stderr)


def _messages(words: Words, session: int, first: int, count: int) -> Iterator[tuple[Any, ...]]:
    for n in range(first, first + count):
        asks = (n - first) % 2 == 0
        length = words.random.randint(5, 50) if asks else words.random.randint(30, 300)
        text = words.english(length) if session % 2 else words.chinese(length)
        if n % 200_003 == 7:
            text += f" {RARE}"
        tokens = b"" if asks else rows.packed(words.random.choices(range(150_000), k=int(length * 1.3)))
        yield (
            *(n, session, f"{session:012x}-{n:023x}", None if n == first else n - 1),
            *("user" if asks else "assistant", "complete", START + n * 2000, START + n * 2000),
            *("" if asks else "7b:q4_k_m", "" if asks else "ab" * 16, "{}" if asks else _DETAILS),
            *(text, tokens),
        )


def median_ms(action: Callable[[], object], times: int = 7) -> float:
    """Return the median time of `times` calls in milliseconds."""
    taken = []
    for _n in range(times):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def append_ms(store: Store) -> tuple[float, float]:
    """Return the median and the 99th percentile of appending to a long answer."""
    session, question, answer = (f"appending-{time.time_ns()}-{n}" for n in range(3))
    now = 2 * START
    store.create(Session(id=session, created=now, updated=now))
    store.add(Message(id=question, session=session, parent=None, role=Role.USER, parts=text_parts("?"), created=now))
    store.add(
        Message(
            id=answer,
            session=session,
            parent=question,
            role=Role.ASSISTANT,
            parts=text_parts(""),
            created=now,
            status=Status.STREAMING,
        )
    )
    taken = []
    with store.streaming(session):
        for _n in range(2000):
            start = time.perf_counter()
            store.append(answer, [Text("five more words of text ", (1, 2, 3, 4, 5))])
            taken.append((time.perf_counter() - start) * 1000)
    store.trash.delete_forever(session)
    return statistics.median(taken), sorted(taken)[int(len(taken) * 0.99)]


def rewrite_ms(folder: Path) -> float:
    """Return the median of the obvious way: one row that is rewritten with all of the text so far."""
    file = folder / "peer.db"
    connection = sqlite3.connect(file, isolation_level=None)
    connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (text); ")
    connection.execute("INSERT INTO t VALUES ('')")
    taken = median_ms(lambda: connection.execute("UPDATE t SET text = text || 'five more words of text '"), 2000)
    connection.close()
    file.unlink()
    return taken


def measure(store: Store, file: Path, built_s: float) -> Iterator[tuple[str, str, str]]:
    """Yield what was measured, the target and the number."""
    leaf = max(store.tree(f"{SESSIONS // 2:012x}"), key=lambda message: message.id).id
    assert len(store.branch(leaf)) == LONG_BRANCH
    yield "open the database", "", f"{median_ms(lambda: Store(file).close()):.1f} ms"
    yield "list the newest 50", "20 ms", f"{median_ms(lambda: store.listing.newest(50)):.1f} ms"
    last = SESSIONS - 50
    yield "list the last 50 of all", "", f"{median_ms(lambda: store.listing.newest(50, last)):.1f} ms"
    for name, typed, target in (
        ("rare word", RARE, "100 ms"),
        ("common word", COMMON, "100 ms"),
        ("two-character Chinese word", COMMON_ZH, "100 ms"),
        ("one Chinese character", "们", ""),
        ("phrase", f'"{COMMON} the"', ""),
        ("beginning of a word", RARE[:4], ""),
        ("common word, the oldest tenth", f"{COMMON} before:2023-11-16", ""),
        ("common word, one tag", f"{COMMON} tag:rare", ""),
        ("common word, one session", f"{COMMON} in:{SESSIONS // 2 + 1:012x}", ""),
    ):
        found = store.search.find(typed, 50)
        count = "1,000 or more" if found.messages == 1000 else str(found.messages)
        taken = median_ms(lambda: store.search.find(typed, 50))  # noqa: B023 - called at once
        yield f"search: {name} ({count} hits)", target, f"{taken:.1f} ms"
    with sqlite3.connect(file) as plain:
        scan = "SELECT n FROM messages WHERE text LIKE ? ORDER BY n DESC LIMIT 50"
        yield (
            "the rare word by a plain scan",
            "",
            f"{median_ms(lambda: plain.execute(scan, (f'%{RARE}%',)).fetchall(), 1):,.0f} ms",
        )
    yield f"open a branch of {LONG_BRANCH:,} messages", "200 ms", f"{median_ms(lambda: store.branch(leaf)):.0f} ms"
    median, slow = append_ms(store)
    yield "append a piece to an answer, median", "2 ms", f"{median:.2f} ms"
    yield "append a piece, 99th percentile", "", f"{slow:.2f} ms"
    yield "the same by rewriting the row, median", "", f"{rewrite_ms(file.parent):.2f} ms"
    with sqlite3.connect(file) as plain:
        sizes = "SELECT sum(length(CAST(text AS BLOB))), sum(length(token_ids)) FROM messages"
        raw, ids = plain.execute(sizes).fetchone()
    size = file.stat().st_size
    yield "raw text", "", f"{raw / 1e6:,.0f} MB"
    yield "token ids of the answers", "", f"{ids / 1e6:,.0f} MB"
    yield "database", "", f"{size / 1e6:,.0f} MB ({size / raw:.2f} x raw text)"
    with sqlite3.connect(file) as plain:
        index = plain.execute("SELECT sum(length(block)) FROM words_data").fetchone()[0]
    yield "of which search index", "", f"{index / 1e6:,.0f} MB ({index / raw:.2f} x raw text)"
    if built_s > 1:
        yield "building all of it", "", f"{built_s:,.0f} s"


def main() -> None:
    """Build, measure, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=int, default=1_000_000)
    options.add_argument("--folder", type=Path, help="build here and keep it, or measure what is here")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = (chosen.folder or Path(folder)) / "sessions.db"
        store, database = Store(file), Database(file)
        start = time.perf_counter()
        if not store.listing.count():
            fill(database, chosen.messages)
        built_s = time.perf_counter() - start
        print("| sessions | target | measured |\n|---|---:|---:|")
        for what, target, measured in measure(store, file, built_s):
            print(f"| {what} | {target} | {measured} |", flush=True)
        database.close()
        store.close()


if __name__ == "__main__":
    main()
