"""A real browser without a window: Chromium, driven by its DevTools protocol. Nothing is installed for it but itself.

`QWENCHAT_BROWSER` is the path of Chromium or Chrome.
"""

import asyncio
import base64
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

BROWSER = os.environ.get("QWENCHAT_BROWSER", "")
_FIND_TERMINAL = """Object.defineProperty(Object.prototype, "terminal", {
  configurable: true,
  set(value) {
    Object.defineProperty(this, "terminal", { value, writable: true, configurable: true });
    if (value.buffer) window.shownTerminal = value;
  },
});"""
"""Keeps the page's terminal where it can be asked, as the page has it in no variable."""
_TEXT = """(() => {
  const buffer = shownTerminal.buffer.active;
  return [...Array(shownTerminal.rows).keys()].map((row) => buffer.getLine(row)?.translateToString(true)).join("\\n");
})()"""
_KEYS = {
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "Tab": (9, ""),
    "F1": (112, ""),
    "F5": (116, ""),
    "F6": (117, ""),
    "F12": (123, ""),
}
"""Windows' code of a key and the text that it types."""
_MODIFIERS = {"Alt": 1, "Ctrl": 2, "Shift": 8}


class BrowserPage:
    """A tab of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._session, self._number = socket, "", 0

    async def open(self, url: str, width: int = 1100, height: int = 700) -> None:
        target = (await self._do("Target.createTarget", url="about:blank"))["targetId"]
        self._session = (await self._do("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        await self.resize(width, height)
        await self._do("Page.enable")
        await self._do("Page.addScriptToEvaluateOnNewDocument", source=_FIND_TERMINAL)
        await self._do("Page.navigate", url=url)

    async def resize(self, width: int, height: int) -> None:
        """Give the window another size, in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self._do("Emulation.setDeviceMetricsOverride", **size)

    async def type(self, text: str) -> None:
        """Type text as an input method enters it: composed first, then confirmed."""
        await self._do("Input.imeSetComposition", text=text, selectionStart=len(text), selectionEnd=len(text))
        await self._do("Input.insertText", text=text)

    async def press(self, key: str) -> None:
        """Press a key, such as `a`, `Enter` or `Ctrl+c`."""
        *held, name = key.split("+")
        code, text = _KEYS.get(name) or (ord(name.upper()), "" if held else name)
        modifiers = sum(_MODIFIERS[each] for each in held)
        event = {"key": name, "windowsVirtualKeyCode": code, "modifiers": modifiers, "code": _code(name)}
        commands = {"commands": ["paste"]} if key == "Ctrl+v" else {}
        await self._do(
            "Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **event, **commands
        )
        await self._do("Input.dispatchKeyEvent", type="keyUp", **event)

    async def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag with the left button between two places, in pixels."""
        mouse = {"button": "left", "clickCount": 1}
        await self._do("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], **mouse)
        for step in range(1, 6):
            x, y = (a + (b - a) * step / 5 for a, b in zip(start, end, strict=True))
            await self._do("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        await self._do("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], **mouse)

    async def text(self) -> str:
        """Return what the page's terminal shows; nothing as long as there is none."""
        return str(await self.run(f"window.shownTerminal ? {_TEXT} : ''"))

    async def until(self, words: str) -> None:
        """Wait until the terminal shows words; fail with what it shows when they do not come."""
        await self.until_true(f"(window.shownTerminal ? {_TEXT} : '').includes({json.dumps(words)})")

    async def until_not(self, words: str) -> None:
        """Wait until the terminal shows words no longer."""
        await self.until_true(f"!{_TEXT}.includes({json.dumps(words)})")

    async def until_true(self, condition: str) -> None:
        """Wait until an expression is true in the page; fail with what the terminal shows where it does not."""
        for _time in range(600):
            if await self.run(condition):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{condition} is false; the page shows:\n{await self.text()}")

    async def run(self, script: str) -> Any:
        """Return the value of an expression in the page; promises are awaited."""
        found = await self._do("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def allow(self, *permissions: str) -> None:
        """Grant the page what a user would be asked for."""
        session, self._session = self._session, ""
        await self._do("Browser.grantPermissions", permissions=list(permissions))
        self._session = session

    async def picture(self, file: Path) -> None:
        """Write what the page looks like to a PNG."""
        file.write_bytes(base64.b64decode((await self._do("Page.captureScreenshot"))["data"]))

    async def close(self) -> None:
        await self._do("Page.close")

    async def _do(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        await self._socket.send_json(message | ({"sessionId": self._session} if self._session else {}))
        async with asyncio.timeout(60):
            while (answer := json.loads((await self._socket.receive()).data)).get("id") != self._number:
                pass
        assert "result" in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result


def _code(name: str) -> str:
    return f"Key{name.upper()}" if len(name) == 1 and name.isalpha() else name


@asynccontextmanager
async def browser_page(url: str, profile: Path) -> AsyncIterator[BrowserPage]:
    """Start the browser with an empty profile and open a page in it."""
    process = await asyncio.create_subprocess_exec(
        BROWSER,
        "--headless=new",
        "--no-sandbox",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    try:
        async with asyncio.timeout(60):
            while not (found := re.search(rb"listening on (ws://\S+)", await process.stderr.readline())):
                pass
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(found[1].decode(), max_msg_size=0) as socket,
        ):
            page = BrowserPage(socket)
            await page.open(url)
            yield page
    finally:
        process.kill()
        await process.wait()
