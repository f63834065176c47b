"""What the screen does for those whom motion disturbs, and whom it names."""

from qwenchat import config
from qwenchat.runtime.program import Program
from tests.tui.chatting import chatting
from tests.tui.screens import until


async def test_nothing_blinks_or_slides_where_it_is_not_wanted() -> None:
    async with chatting() as it:
        assert it.chat.prompt.area.cursor_blink and it.app.animation_level != "none"
    config.put(Program.here().paths.settings, "reduced_motion", "true")
    async with chatting() as it:
        await until(lambda: it.chat.prompt.area.has_focus)
        await it.pilot.pause()
        assert not it.chat.prompt.area.cursor_blink and it.app.animation_level == "none"


async def test_no_model_is_called_by_anothers_name() -> None:
    async with chatting("Hi.") as it:
        await it.ask("Hello")
        await it.do("copy_chat")
        assert it.app.clipboard == "**You**\n\nHello\n\n---\n\n**guide**\n\nHi."
