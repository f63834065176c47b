"""The recordings are of the running program, small, and ask no server for anything."""

import re
from html import unescape

import pytest
from pyte.screens import Char

from devtools import picture, recording

LARGEST = 300_000


def words(svg: str) -> str:
    """Return what stands in a recording, without the spaces."""
    return "".join(unescape("".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))).split())


@pytest.mark.parametrize("script", recording.SCRIPTS, ids=lambda script: script.scene.language)
def test_the_program_plays_the_script(script: recording.Script) -> None:
    frames = recording.record(script, pace=0)
    said = words(recording.draw(frames))
    kept = script.file.read_text("utf-8")
    for text in (script.scene.others[1][0], "2.4", picture.MODEL, script.search):
        assert "".join(text.split()) in said
        assert "".join(text.split()) in words(kept), "run `make recording`"
    assert "best_cop" in words(kept)  # of an answer that may come and go between two looks where nothing waits
    assert len(kept) < LARGEST
    assert set(re.findall(r"[a-z]+://[\w.]+", kept)) == {"http://www.w3.org"}  # a name, not an address
    assert not re.search(r"<script|<foreignObject|\bon[a-z]+=|@import|url\(", kept)


def test_a_line_is_stored_once_and_a_wide_character_has_its_place() -> None:
    awkward = (Char("a"), Char("<"), Char("好"), Char(""), Char("&", bg="ff0000", bold=True), Char(" "))
    empty = (Char(" "),) * len(awkward)
    frames = [recording.Frame((empty, awkward), 1.0), recording.Frame((awkward, awkward), 3.0)]
    svg = recording.draw(frames)
    assert words(svg) == "a<好&"
    assert re.findall(r'<text[^>]* x="(\d+)"[^>]*>([^<]+)</text>', svg) == [
        ("0", "a&lt;"),
        ("16", "好"),
        ("32", "&amp;"),
    ]
    assert svg.count("<use ") == 3 and svg.count('<g id="l') == 1
    assert "animation:play 4.0s" in svg and "25.000%{transform:translateX(-48px)}" in svg
