"""An answer's text comes out whole, its tokens stand for it, and stop strings end it."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from qwenchat.engines.worker.detokenizer import Detokenizer


def run(pieces: Sequence[bytes], stops: Sequence[str] = (), every: int = 1) -> tuple[list[str], list[int], str]:
    """Feed pieces as tokens 0, 1, 2...; return the texts given out, the tokens, and the text without a token."""
    answer = Detokenizer(lambda token: pieces[token], stops)
    texts: list[str] = []
    tokens: list[int] = []
    for token in range(len(pieces)):
        stopped = answer.feed(token)
        if stopped:
            break
        if token % every == 0:
            text, ids = answer.take()
            texts.append(text)
            tokens += ids
    text, ids, tail = answer.finish()
    return [*texts, text], [*tokens, *ids], tail


def test_a_character_split_over_tokens_waits_until_it_is_complete() -> None:
    parts = ["😀".encode()[i : i + 1] for i in range(4)]
    texts, tokens, tail = run([b"a", *parts, b"b"])
    assert texts == ["a", "", "", "", "😀", "b", ""]
    assert tokens == [0, 1, 2, 3, 4, 5]
    assert tail == ""


def test_invalid_bytes_become_replacement_characters() -> None:
    texts, _tokens, tail = run([b"a\xff", b"b", "好".encode()[:2]])
    assert "".join(texts) == "a�b"
    assert tail == "�"


def test_a_stop_string_over_many_tokens_is_found_and_cut() -> None:
    texts, tokens, tail = run([b"one E", b"N", b"D two"], ["END"])
    assert "".join(texts) + tail == "one "
    assert tokens == []
    texts, tokens, tail = run([b"one ", b"E", b"ND two"], ["END"])
    assert ("".join(texts), tokens, tail) == ("one ", [0], "")


def test_what_only_looks_like_a_stop_string_is_shown() -> None:
    texts, tokens, tail = run([b"E", b"N", b"x", b"E"], ["END"])
    assert texts == ["", "", "ENx", "", "E"]
    assert (tokens, tail) == ([0, 1, 2, 3], "")


def test_overlapping_beginnings_of_a_stop_string() -> None:
    texts, _tokens, tail = run([b"a", b"a", b"a", b"b", b"c"], ["aab"])
    assert "".join(texts) + tail == "a"


@given(st.text(max_size=60), st.lists(st.integers(1, 5), min_size=60), st.lists(st.text(min_size=1, max_size=4)))
def test_any_split_gives_the_same_text(text: str, sizes: list[int], stops: list[str]) -> None:
    data, pieces, start = text.encode(), [], 0
    for size in sizes:
        pieces.append(data[start : start + size])
        start += size
    pieces.append(data[start:])
    texts, tokens, tail = run(pieces, stops, every=3)
    places = [place for stop in stops if (place := text.find(stop) + len(stop)) >= len(stop)]
    first_end = min(places, default=None)
    found = "".join(texts) + tail
    if first_end is None:
        assert found == text
        assert tokens == list(range(len(pieces)))
    else:
        assert any(found + stop == text[: len(found) + len(stop)] for stop in stops)
        assert len(found) <= first_end
    shown = b"".join(pieces[token] for token in tokens).decode()
    assert shown == "".join(texts)


def test_what_a_long_stop_string_holds_back_moves_on_token_by_token() -> None:
    held, count = 20_000, 60_000  # a look at all that is held at each token would take minutes
    answer, given = Detokenizer(lambda token: b"a", ["a" * held + "b"]), 0
    for token in range(count):
        assert not answer.feed(token)
        text, ids = answer.take()
        assert len(text) == len(ids) == (token >= held)
        given += len(text)
    assert answer.finish() == ("a" * held, tuple(range(given, count)), "")
