"""The index of documents: what it finds, who owns what, and that what nobody owns is gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenchat.documents.document import Document
from qwenchat.documents.index import DocumentIndex, chat_owner, collection_owner
from qwenchat.errors import NotFound

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
