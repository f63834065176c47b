"""How documents are divided into chunks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.documents.chunks import LIMIT, Chunk, chunks_of
from qwenchat.documents.document import Document
from qwenchat.text.token_estimate import estimated_tokens

SENTENCE = "The harbour master counts every boat that enters before the tide turns. "
SENTENCE_ZH = "港务长在涨潮之前清点每一条进港的船，并把它们的名字写在本子上。"
ROUNDING = 1e-6


def document(text: str) -> Document:
    return Document(name="a.md", media_type="text/markdown", text=text)


def chunked(text: str, limit: int = LIMIT) -> list[Chunk]:
    """Return the chunks of a text, after the checks that hold for any."""
    whole = document(text)
    chunks = chunks_of(whole, limit)
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert "".join(chunk.text for chunk in chunks) == text
    for chunk in chunks:
        assert chunk.text and whole.text[chunk.start : chunk.end] == chunk.text
        assert estimated_tokens(chunk.text) <= limit + ROUNDING
    return chunks


TEXTS = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(
            [SENTENCE * 3, SENTENCE_ZH * 4, "\n", "\n\n", "\f", "## A heading\n", "| a | b |\n", "    x = 1\n"]
        ),
        st.sampled_from("ab1 ，。.\t🏴\u0301").flatmap(lambda each: st.integers(1, 400).map(lambda n: each * n)),
    ),
    max_size=30,
).map("".join)


@given(TEXTS, st.sampled_from([16, 64, LIMIT]))
def test_every_character_is_in_one_chunk_and_no_chunk_is_too_long(text: str, limit: int) -> None:
    chunked(text, limit)


def test_nothing_has_no_chunks() -> None:
    assert chunked("") == []


def test_a_chunk_begins_at_a_heading() -> None:
    text = f"# Boats\n\n## Names\n\n{SENTENCE * 15}\n\n## Crews\n\n{SENTENCE * 15}\n"
    names, crews = chunked(text)
    assert (names.heading, crews.heading) == ("Boats", "Crews")
    assert crews.text.startswith("## Crews")


def test_what_is_a_heading() -> None:
    text = "# A\n```sh\n# in code\n```\n## B ##\n#\n#no\n \f# C\n   ~~~\n# in code\n# to the end"
    assert [heading for _place, heading in document(text).headings] == ["A", "B", "C"]
    assert Document(name="a.py", media_type="text/x-python", text="# A comment\n").headings == []
    ((_place, long),) = document("# " + " " * 10_000 + "x" * 10_000).headings
    assert long == "x" * 200


def test_short_sections_share_a_chunk() -> None:
    assert len(chunked("".join(f"## Rule {n}\n\nStay ashore.\n\n" for n in range(8)))) == 1


@pytest.mark.parametrize("sentence", [SENTENCE, SENTENCE_ZH])
def test_a_long_section_is_divided_into_equal_parts_between_sentences(sentence: str) -> None:
    chunks = chunked("# Boats\n" + sentence * 60)
    sizes = [estimated_tokens(chunk.text) for chunk in chunks]
    assert max(sizes) < 1.3 * min(sizes)
    assert all(chunk.text.endswith(sentence) and chunk.heading == "Boats" for chunk in chunks)


def test_paragraphs_stay_whole() -> None:
    paragraph = SENTENCE * 12 + "\n\n"
    assert all(chunk.text.endswith("\n\n") for chunk in chunked(paragraph * 12))


def test_a_line_that_goes_on_is_not_the_end_of_a_sentence() -> None:
    lines = (SENTENCE * 40).replace(" before ", "\nbefore ")
    assert all(chunk.text.endswith("turns. ") for chunk in chunked(lines))


def test_rows_of_a_table_stay_whole() -> None:
    rows = "".join(f"| {n} | {n * 7} | boat {n} |\n" for n in range(300))
    assert all(chunk.text.endswith("|\n") for chunk in chunked(rows))


def test_pages() -> None:
    chunks = chunked("\f".join(f"Page {n}.\n{SENTENCE * 20}" for n in range(1, 6)))
    assert [chunk.page for chunk in chunks] == [1, 2, 3, 4, 5]
    assert [chunk.text[:7] for chunk in chunks] == [f"Page {n}." for n in range(1, 6)]


def test_empty_pages_belong_to_the_next_text() -> None:
    (chunk,) = chunked("\f\f\n\fAt last.")
    assert chunk.page == 4


@pytest.mark.parametrize(
    "character", ["👨‍👩‍👧‍👦", "e\u0301", "क्षि", "🇨🇳"], ids=["family", "accent", "syllable", "flag"]
)
def test_no_cut_inside_a_character(character: str) -> None:
    for chunk in chunked(character * 3000):
        assert len(chunk.text) % len(character) == 0


@pytest.mark.parametrize("character", ["x", "7", "好", " ", "\n"])
def test_text_without_any_place_to_cut(character: str) -> None:
    assert len(chunked(character * 50_000)) <= 50_000 / 256
