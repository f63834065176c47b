"""A widget's workers end before its children go."""

import asyncio
import gc

from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from qwenchat.tui.dialogs.dialog import Dialog
from qwenchat.tui.dialogs.downloads import DownloadList
from qwenchat.tui.dialogs.model_list import ModelList
from qwenchat.tui.palette import ChatPalette
from qwenchat.tui.screens.chat import ChatScreen
from qwenchat.tui.textual_private.widgets import EndsItsWork
from qwenchat.tui.widgets.sidebar import Sidebar
from tests.tui.chatting import chatting
from tests.tui.screens import until


class Leaf(Static):
    """Goes only when the work of its parent has ended, and says that it goes."""

    def __init__(self) -> None:
        super().__init__()
        self.going, self.may_go = asyncio.Event(), asyncio.Event()

    async def on_unmount(self) -> None:
        self.going.set()
        await self.may_go.wait()


class Branch(Vertical, EndsItsWork):
    """Works until its child goes; `came_back` tells that it went on after that."""

    came_back = False

    def compose(self) -> ComposeResult:
        yield Leaf()

    def on_mount(self) -> None:
        self.run_worker(self._work(self.query_one(Leaf)))

    async def _work(self, leaf: Leaf) -> None:
        try:
            await leaf.going.wait()
            self.came_back = True
        finally:
            leaf.may_go.set()


class Tree(App[None]):
    def compose(self) -> ComposeResult:
        yield Branch()


async def test_a_worker_never_finds_its_widget_taken_apart() -> None:
    async with Tree().run_test() as pilot:
        branch = pilot.app.query_one(Branch)
        await pilot.pause()
        await branch.remove()
        assert not branch.came_back


async def test_it_holds_as_the_program_ends_too() -> None:
    async with Tree().run_test() as pilot:
        branch = pilot.app.query_one(Branch)
        await pilot.pause()
    assert not branch.came_back


def test_every_widget_that_runs_workers_is_one_of_them() -> None:
    assert all(
        issubclass(each, EndsItsWork) for each in (ChatPalette, ChatScreen, Dialog, DownloadList, ModelList, Sidebar)
    )


async def test_work_that_is_cancelled_before_its_first_step_leaves_no_warning() -> None:
    done = list[str]()

    async def work(name: str) -> None:
        done.append(name)

    async with chatting() as it:
        for name in ("first", "second"):
            it.chat.context.run(work(name), "test", exclusive=True)
        await until(lambda: bool(done))
        gc.collect()  # a coroutine that was never awaited would fail the test
    assert done == ["second"]
