"""The pictures are of the running program, and ask no server for anything."""

import re
from html import unescape

import pytest

from devtools import picture


def words(svg: str) -> str:
    """Return what stands in a picture, without the spaces."""
    return "".join(unescape("".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))).split())


@pytest.mark.parametrize("scene", picture.SCENES, ids=lambda scene: scene.language)
async def test_the_program_draws_the_scene(scene: picture.Scene) -> None:
    svg = await picture.screenshot(scene)
    for text in (scene.question, scene.draft, scene.others[1][0], "best_cop", picture.MODEL):
        assert "".join(text.split()) in words(svg)
    assert set(re.findall(r"https?://([\w.]+)", svg)) == {"www.w3.org", "www.textualize.io"}  # names, not addresses
    assert words(scene.file.read_text("utf-8")).count(picture.MODEL) >= 2, "run `make picture`"
