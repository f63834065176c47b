"""The screen in a real browser: typing, streaming, Chinese, sizes, copying and pasting, keys that browsers take.

They run where QWENCHAT_BROWSER names Chromium or Chrome. QWENCHAT_PICTURES is a folder for pictures of what it showed.
"""

import os
from pathlib import Path

import pytest

from tests.fakes import ggufs
from tests.fakes.browser import BROWSER, BrowserPage, browser_page
from tests.fakes.web_tabs import serving

pytestmark = pytest.mark.skipif(not BROWSER, reason="QWENCHAT_BROWSER names no browser")
READY = "Ask anything"
CELLS_OF = """(() => {
  for (let row = 0; row < shownTerminal.rows; row++) {
    const line = shownTerminal.buffer.active.getLine(row);
    for (let column = 0; column < shownTerminal.cols; column++) {
      if (line.getCell(column).getChars() === "%s") return line.getCell(column).getWidth();
    }
  }
})()"""
COPIED = "navigator.clipboard.readText()"


async def take_picture(page: BrowserPage, name: str) -> None:
    if folder := os.environ.get("QWENCHAT_PICTURES"):
        await page.picture(Path(folder) / f"{name}.png")


async def test_a_chat_in_a_browser(chain: ggufs.Chain, tmp_path: Path) -> None:
    with serving(QWENCHAT_MODEL_DEFAULT=str(chain.path)) as web:
        async with browser_page(web.page, tmp_path / "profile") as page:
            await page.until(READY)
            await take_picture(page, "ready")
            assert await page.run("document.fonts.check(\"16px 'Roboto Mono'\")")
            for key in "Hello, ":
                await page.press(key)
            await page.type("茶是什么？")
            await page.until("Hello, 茶是什么？")
            assert await page.run(CELLS_OF % "茶") == 2
            await page.press("Enter")
            await page.until("end.")
            assert "“你好”，世界" in await page.text()
            assert (await page.run("document.title")).startswith("Hello, 茶是什么")
            await take_picture(page, "answered")

            await page.resize(500, 620)
            await page.until_not("Today")  # which stands in the list of chats
            columns, rows = await page.run("[shownTerminal.cols, shownTerminal.rows]")
            assert columns < 60 and rows > 25
            assert "Hello, 茶是什么？" in await page.text()
            await take_picture(page, "narrow")
            await page.resize(1500, 800)
            await page.until("Today")
            assert await page.run("shownTerminal.cols") > 140
            await take_picture(page, "wide")

            await page.allow("clipboardReadWrite", "clipboardSanitizedWrite")
            await page.press("F6")
            await page.press("y")
            await page.until("opied")
            assert "“你好”，世界" in await page.run(COPIED)
            await page.press("Escape")
            await page.run("navigator.clipboard.writeText('粘贴 one\\ntwo')")
            await page.press("Ctrl+v")
            await page.until("粘贴 one")
            assert "two" in await page.text()
            await take_picture(page, "pasted")


async def test_streaming_stopping_and_the_end(endless: ggufs.Chain, tmp_path: Path) -> None:
    with serving(QWENCHAT_MODEL_DEFAULT=str(endless.path), LANG="zh_CN.UTF-8") as web:
        async with browser_page(web.page, tmp_path / "profile") as page:
            await page.until("帮助")
            await page.type("讲个故事")
            await page.until("讲个故事")
            await page.press("Enter")
            await page.until("once upon a time once upon a time")
            await take_picture(page, "streaming")
            await page.press("Escape")
            await page.until("已停止")
            for key in ("F1", "F5", "F12"):  # which a browser would take for itself if the page let it
                await page.press(key)
                assert await page.run("document.body.classList.contains('-usable')")
            await page.press("Escape")
            await page.press("Ctrl+q")
            await page.until_true("document.querySelector('#ended button').checkVisibility()")
            await take_picture(page, "ended")
            await page.press("Enter")  # opens a new one
            await page.until("帮助")
            assert web.programs
