"""The index of documents: what it finds, who owns what, and that what nobody owns is gone."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qwenchat.documents.document import Document
from qwenchat.documents.index import DocumentIndex, chat_owner, collection_owner
from qwenchat.errors import NotFound, StoreError
from qwenchat.sessions.store import Store

CHAT, BOOKS = chat_owner("s"), collection_owner("books")
FILLER = "The weather was fair and nothing else happened on that day. " * 30


@pytest.fixture(params=["file", "memory"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DocumentIndex]:
    opened = DocumentIndex(tmp_path / "documents.db" if request.param == "file" else None)
    yield opened
    opened.close()


def document(name: str, text: str) -> Document:
    return Document(name=name, media_type="text/plain", text=text)


HARBOUR = document(
    "harbour.txt", f"# Fees\n\n{FILLER}\n\n# Pilots\n\nThe pilot of Kessrin charges 41 crowns.\n{FILLER}"
)
HARBOUR_ZH = document(
    "港口.txt", f"# 费用\n\n{'那天天气很好，什么也没有发生。' * 40}\n\n# 引航\n\n克斯林的引航员收费四十一克朗。\n"
)


def test_finds_english_and_chinese(index: DocumentIndex) -> None:
    index.add(CHAT, [HARBOUR, HARBOUR_ZH])
    best = index.search([CHAT], ["What does the pilot of Kessrin charge?"], 3)[0]
    assert (best.document, best.digest, best.chunk.heading) == ("harbour.txt", HARBOUR.digest, "Pilots")
    assert HARBOUR.text[best.chunk.start : best.chunk.end] == best.chunk.text
    best = index.search([HARBOUR_ZH.digest], ["克斯林的引航员收多少钱？"], 3)[0]
    assert (best.document, best.chunk.heading) == ("港口.txt", "引航")
    scores = [found.score for found in index.search([CHAT], ["weather", "pilot"], 10)]
    assert scores == sorted(scores, reverse=True) and len(scores) > 1


def test_finds_only_what_it_is_asked_about(index: DocumentIndex) -> None:
    index.add(CHAT, [HARBOUR])
    index.add(BOOKS, [HARBOUR_ZH])
    assert {found.document for found in index.search([CHAT], ["pilot", "引航员"], 9)} == {"harbour.txt"}
    assert {found.document for found in index.search([BOOKS, CHAT], ["pilot", "引航员"], 9)} == {
        "harbour.txt",
        "港口.txt",
    }
    assert index.search([collection_owner("none")], ["pilot"], 9) == []
    assert index.search([CHAT], ['"*', "NEAR(", ""], 9) == []


def test_what_is_stored(index: DocumentIndex) -> None:
    index.add(CHAT, [HARBOUR, HARBOUR_ZH, HARBOUR])
    assert [each.name for each in index.owned(CHAT)] == ["harbour.txt", "港口.txt"]
    harbour = index.owned(CHAT)[0]
    assert harbour.chunks == len(index.chunks(HARBOUR.digest)) and harbour.pages is None
    assert index.text(HARBOUR_ZH.digest) == HARBOUR_ZH.text


def test_pages(index: DocumentIndex) -> None:
    paged = document("paged.pdf", "\f".join(f"This is page {n}. {'word ' * n * 40}" for n in range(1, 30)))
    index.add(CHAT, [paged])
    for number, text in enumerate(paged.text.split("\f"), 1):
        start = paged.text.index(f"This is page {number}. ")
        for place in (start, start + len(text) - 1):
            page = index.page(paged.digest, place)
            assert (page.number, page.start, page.text) == (number, start, text)


def test_what_nobody_owns_is_deleted(index: DocumentIndex) -> None:
    index.add(CHAT, [HARBOUR])
    index.add(BOOKS, [HARBOUR])
    index.add_verdict(HARBOUR.digest, "How much?", "model", chunk=1, verdict="yes")
    index.drop(CHAT)
    assert index.owners() == [BOOKS]
    assert index.search([BOOKS], ["pilot"], 1) and index.verdicts(HARBOUR.digest, "How much?", "model") == {1: "yes"}
    index.drop(BOOKS)
    index.drop(BOOKS)
    with pytest.raises(NotFound):
        index.chunks(HARBOUR.digest)
    assert index.search([HARBOUR.digest], ["pilot"], 1) == []
    assert index.verdicts(HARBOUR.digest, "How much?", "model") == {}


def test_verdicts_are_about_one_question_and_one_model(index: DocumentIndex) -> None:
    index.add(CHAT, [HARBOUR])
    index.add_verdict(HARBOUR.digest, "How much?", "a", chunk=0, verdict="no")
    index.add_verdict(HARBOUR.digest, "How much?", "a", chunk=1, verdict="yes")
    index.add_verdict(HARBOUR.digest, "How much?", "b", chunk=0, verdict="yes")
    assert index.verdicts(HARBOUR.digest, "How much?", "a") == {0: "no", 1: "yes"}
    assert index.verdicts(HARBOUR.digest, "How many?", "a") == {}


def test_questions_that_are_old_are_forgotten(index: DocumentIndex) -> None:
    index.add(CHAT, [HARBOUR])
    for n in range(102):
        index.add_verdict(HARBOUR.digest, f"Question {n}?", "a", chunk=0, verdict="no")
    assert not index.verdicts(HARBOUR.digest, "Question 1?", "a") and index.verdicts(HARBOUR.digest, "Question 2?", "a")


def test_threads_read_and_write_at_once(index: DocumentIndex) -> None:
    def use(n: int) -> int:
        own = document(f"{n}.txt", f"Vessel number {n}. {FILLER}")
        index.add(chat_owner(str(n)), [own, HARBOUR])
        found = len(index.search([chat_owner(str(n))], ["vessel"], 9))
        index.add_verdict(HARBOUR.digest, "Which?", "a", chunk=n, verdict="no")
        index.drop(chat_owner(str(n)))
        return found

    index.add(BOOKS, [HARBOUR])
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(use, range(12))) == [1] * 12
    assert len(index.verdicts(HARBOUR.digest, "Which?", "a")) == 12
    assert index.owners() == [BOOKS] and index.text(HARBOUR.digest) == HARBOUR.text


def test_no_trace_is_left_in_the_file(tmp_path: Path) -> None:
    index = DocumentIndex(tmp_path / "documents.db")
    index.add(BOOKS, [HARBOUR_ZH])
    for n in range(5):  # segments of the index that are merged later
        index.add(CHAT, [document(f"{n}.md", f"# Quixotic {n}\n\nThe zeppelin {n} of 齐柏林. {FILLER}")])
    index.add_verdict(index.owned(CHAT)[0].digest, "q", "m", chunk=0, verdict="flying")
    index.drop(CHAT)
    for word in ("zeppelin", "uixot", "齐柏", "柏林", "flying"):
        assert word.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir()), word
    index.close()


def test_a_database_in_use_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "documents.db"
    index = DocumentIndex(file)
    index.add(CHAT, [HARBOUR])
    index.close()
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(size // 4)
        opened.write(b"\xff" * (size // 2))
    index = DocumentIndex(file)
    with pytest.raises(StoreError, match="was damaged"):
        for _again in range(3):
            index.text(HARBOUR.digest)
            index.add(CHAT, [HARBOUR_ZH])
    index.add(CHAT, [HARBOUR])
    assert index.text(HARBOUR.digest) == HARBOUR.text
    index.close()


def test_a_newer_or_foreign_index_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "documents.db"
    DocumentIndex(file).close()
    with sqlite3.connect(file) as plain:
        plain.execute("PRAGMA user_version = 99")
    plain.close()
    before = file.read_bytes()
    with pytest.raises(StoreError, match="newer"):
        DocumentIndex(file)
    assert file.read_bytes() == before
    Store(tmp_path / "sessions.db").close()
    with pytest.raises(StoreError, match="another program"):
        DocumentIndex(tmp_path / "sessions.db")


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    index = DocumentIndex(tmp_path / "documents.db")
    index.add(CHAT, [HARBOUR])
    with index._database.write() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(StoreError, match="full"):
        index.add(CHAT, [document("big.txt", FILLER * 500)])
    assert [each.name for each in index.owned(CHAT)] == ["harbour.txt"]
    index.close()


def test_a_busy_index_says_so(tmp_path: Path) -> None:
    file = tmp_path / "documents.db"
    one, other = DocumentIndex(file, busy_s=0.1), DocumentIndex(file, busy_s=0.1)
    with one._database.write(), pytest.raises(StoreError, match="too long"):
        other.add(CHAT, [HARBOUR])
    other.add(CHAT, [HARBOUR])
    one.close()
    other.close()


def test_words_as_people_type_them(index: DocumentIndex) -> None:
    text = "C++ costs $5. Its name: naïve-Bayes ＡＢＣ.\n\n他说：“我爱北京。”"
    index.add(CHAT, [document("odd.md", text)])
    for word in ("C++", "$5", "naive bayes", "abc", "爱", "北京", "running name", "我爱北京"):
        assert index.search([CHAT], [word], 1), word
    assert not index.search([CHAT], ["上海"], 1)


def test_a_phrase_counts_more_than_its_words_apart(index: DocumentIndex) -> None:
    apart = document("apart.txt", "The red boat and the blue house stood apart by the sea. " + FILLER)
    phrase = document("phrase.txt", "The boat house stood by the sea and it was red or blue. " + FILLER)
    index.add(CHAT, [apart, phrase])
    assert index.search([CHAT], ["boat house"], 1)[0].document == "phrase.txt"
