"""The screen in a browser, without the browser: what its page says reaches the real program, and nothing is lost."""

import asyncio

import psutil

from qwenchat.chat.message import Message, Status
from qwenchat.runtime.program import Program
from tests.fakes import ggufs
from tests.fakes.web_tabs import serving, tab_of

READY = "Ask anything"
ENTER, F6, CTRL_Z, CTRL_Q = "\r", "\x1b[17~", "\x1a", "\x11"


def last_answer() -> Message:
    program = Program.here()
    session = program.store.listing.latest()
    assert session
    message = program.store.branch(session.leaf)[-1]
    program.close()
    return message


async def all_end(programs: list[psutil.Process]) -> bool:
    """Wait until programs have ended, while the tabs answer; False where one does not."""
    return (await asyncio.to_thread(psutil.wait_procs, programs, 30))[1] == []


async def test_typing_streaming_chinese_copying_a_new_size_and_no_background(chain: ggufs.Chain) -> None:
    with serving(QWENCHAT_MODEL_DEFAULT=str(chain.path)) as web:
        async with tab_of(web.page, 100, 30) as tab:
            await tab.shows(READY)
            await tab.send("用中文问：茶是什么？")
            await tab.shows("用中文问：茶是什么？")
            await tab.send(ENTER)
            await tab.until(lambda text: "“你好”，世界" in text and " end." in text)
            await tab.resize(60, 20)
            await tab.until(lambda text: "茶是什么" in text and max(map(len, text.splitlines())) <= 60)
            await tab.send(F6)
            await tab.send("y")
            assert "“你好”，世界" in await tab.copied()
            assert "\x1b]2;用中文问".encode() in tab.written, "the title of the browser's tab"
            await tab.send(CTRL_Z)  # which would put it to sleep for ever
            await tab.shows("There is no shell here")
            await tab.send(CTRL_Q)
            await tab.ends()
        assert web.programs == []
        assert web.interrupt() == 0


async def test_a_closed_tab_ends_its_program_keeps_the_answer_and_leaves_other_tabs_alone(
    endless: ggufs.Chain,
) -> None:
    with serving(QWENCHAT_MODEL_DEFAULT=str(endless.path)) as web:
        async with tab_of(web.page) as other:
            await other.shows(READY)
            await other.send("half a question")
            others = web.programs
            async with tab_of(web.page) as tab:
                await tab.shows(READY)
                await tab.send("Tell me a story" + ENTER)
                await tab.until(lambda text: text.count("once upon a time") > 20)
                (program,) = [each for each in web.programs if each not in others]
                programs = [program, *program.children()]
                assert len(programs) > 1, "it has no engine"
            assert await all_end(programs)
            await other.shows("half a question")
            await other.send(CTRL_Q)
            await other.ends()
    answer = last_answer()
    assert answer.status is Status.STOPPED
    assert answer.text.count("once upon a time") > 20


async def test_a_killed_server_loses_nothing(endless: ggufs.Chain) -> None:
    with serving(QWENCHAT_MODEL_DEFAULT=str(endless.path)) as web:
        async with tab_of(web.page) as tab:
            await tab.shows(READY)
            await tab.send("Tell me a story" + ENTER)
            await tab.until(lambda text: text.count("once upon a time") > 20)
            programs = web.with_engines
            web.process.kill()
            assert await all_end(programs)
    answer = last_answer()
    assert answer.status is Status.STOPPED
    assert answer.text.count("once upon a time") > 20


async def test_tabs_have_the_home_and_the_language_of_the_command() -> None:
    with serving(LANG="zh_CN.UTF-8") as web:
        async with tab_of(web.page) as tab:
            await tab.until(lambda text: "帮助" in text)
