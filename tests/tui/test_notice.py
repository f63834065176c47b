"""The line above the prompt: however long its words, what it offers and the prompt stay within reach."""

from functools import partial

import pytest
from textual.errors import NoWidget
from textual.widget import Widget
from textual.widgets import Button
from textual.widgets._toast import Toast, ToastRack

from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import until

LONG = "✗ The model needs more memory than this machine has left for it, which is not much. " * 6
OFFERS = ["Use a smaller context", "Use fewer GPU layers", "Run without the GPU", "Choose another model"]


def is_seen(it: Chatting, widget: Widget) -> bool:
    """Whether all rows of a widget are on the screen."""
    try:
        found = it.chat.find_widget(widget)
    except NoWidget:  # not laid out yet
        return False
    return bool(found.region) and found.clip.contains_region(found.region)


@pytest.mark.parametrize("size", [(20, 5), (40, 12), (80, 24), (120, 40)])
@pytest.mark.parametrize("words", ["Short.", LONG], ids=["short", "long"])
async def test_every_offer_can_be_reached(size: tuple[int, int], words: str) -> None:
    async with chatting(size=size) as it:
        await it.ask("A")
        it.write("half")
        it.chat.notice.show(words, OFFERS, warning=True)
        buttons = list(it.chat.query("#notice Button").results(Button))
        await until(lambda: all(button.size for button in buttons))
        await until(lambda: is_seen(it, it.chat.prompt.area))
        for button in buttons:
            button.focus()
            await until(partial(is_seen, it, button))
            assert it.chat.prompt.area.size.height >= 1


async def test_long_words_scroll_with_the_arrows() -> None:
    async with chatting(size=(80, 24)) as it:
        it.chat.notice.show(LONG, OFFERS)
        it.chat.query("#notice Button").first(Button).focus()
        text = it.chat.query_one("#notice-text")
        await until(lambda: text.max_scroll_y)
        await it.pilot.press("down", "down")
        await until(lambda: text.scroll_y == 2)
        it.chat.notice.show("Other words.")
        await until(lambda: text.scroll_y == 0)


@pytest.mark.parametrize("size", [(20, 5), (60, 20), (80, 24), (120, 36)])
async def test_notifications_lie_neither_on_the_prompt_nor_on_each_other(size: tuple[int, int]) -> None:
    async with chatting(size=size, notifications=True) as it:
        for number in range(6):
            it.chat.context.notify(f"{number} {LONG}"[:200])
        await until(lambda: len(it.chat.query(Toast)) == 6)
        await until(lambda: all(toast.region for toast in it.chat.query(Toast)))
        newest, rack = it.chat.query(Toast).last(), it.chat.query_one(ToastRack)
        await until(lambda: rack.region.contains_region(newest.region) or rack.size.height < newest.size.height)
        regions = [toast.region.intersection(rack.region) for toast in it.chat.query(Toast)]
        for at, region in enumerate(regions):
            assert not region.overlaps(it.chat.prompt.region)
            assert not any(region.overlaps(other) for other in regions[at + 1 :])
        assert rack.region.y >= it.chat.header.region.bottom and 2 * rack.region.width <= max(size[0], 120)
