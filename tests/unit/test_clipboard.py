"""The clipboard's tools, stood in for by scripts that write down what they get."""

import shutil
from pathlib import Path

import pytest

from qwenchat.tui import external_tools


def tools(folder: Path, **scripts: str) -> dict[str, str]:
    """An environment in which only these programs are found."""
    cat = shutil.which("cat")
    for name, script in scripts.items():
        file = folder / name.replace("_", "-")
        file.write_text("#!/bin/sh\n" + script.format(cat=cat, out=folder / f"{name}.out"))
        file.chmod(0o700)
    return {"PATH": str(folder)}


async def test_the_tool_gets_the_text(tmp_path: Path) -> None:
    environ = tools(tmp_path, wl_copy="{cat} > {out}", xclip="{cat} > {out}") | {"WAYLAND_DISPLAY": "wayland-0"}
    assert await external_tools.copy_with_tool("好 [b]x[/b]\n", environ) == "wl-copy"
    assert (tmp_path / "wl_copy.out").read_text("utf-8") == "好 [b]x[/b]\n"


async def test_only_a_tool_that_has_a_display_is_asked(tmp_path: Path) -> None:
    environ = tools(tmp_path, wl_copy="{cat} > {out}", xclip="echo $@ > {out}")
    assert await external_tools.copy_with_tool("text", environ) == ""
    assert await external_tools.copy_with_tool("text", environ | {"DISPLAY": ":0"}) == "xclip"
    assert (tmp_path / "xclip.out").read_text() == "-selection clipboard\n"


@pytest.mark.parametrize("more", [{"SSH_CONNECTION": "1 2 3 4"}, {"SSH_TTY": "/dev/pts/1"}])
async def test_over_ssh_none_is_asked(tmp_path: Path, more: dict[str, str]) -> None:
    assert await external_tools.copy_with_tool("text", tools(tmp_path, pbcopy="exit 0") | more) == ""


async def test_a_tool_that_fails_or_hangs_took_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await external_tools.copy_with_tool("text", tools(tmp_path, pbcopy="exit 1")) == ""
    monkeypatch.setattr(external_tools, "_TOOL_TIMEOUT_S", 0.05)
    assert await external_tools.copy_with_tool("text", tools(tmp_path, pbcopy=f"exec {shutil.which('sleep')} 60")) == ""
