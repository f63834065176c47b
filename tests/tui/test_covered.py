"""What covers something else is drawn whole: no edge below it divides a wide character."""

import pytest

from tests.tui.chatting import chatting
from tests.tui.screens import until

NOTICE = "没有需要概括的内容。对话占用超过一半的上下文窗口时，概括才有用。" * 3


@pytest.mark.parametrize("width", [60, 100, 120, 121, 130])
async def test_a_notice_in_chinese_loses_no_character(width: int) -> None:
    async with chatting("word\n\n" * 60, size=(width, 30), notifications=True) as it:

        def shown() -> str:
            strips = it.app.screen._compositor.render_strips()
            assert {strip.cell_length for strip in strips} == {width}
            return "".join(strip.text.partition("▌")[2].strip() for strip in strips)

        await it.ask("Many?")
        await it.idle()
        it.app.notify(NOTICE, markup=False)
        await until(lambda: NOTICE[:6] in shown())
        assert NOTICE in shown()
