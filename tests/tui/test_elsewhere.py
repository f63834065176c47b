"""Models on other machines: the screen shows where words go, and asks before the first of a chat goes there."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from textual.widgets import Button, Input

from qwenchat import config
from qwenchat.chat.events import Delta, EngineEvent, Finished, WaitingToRetry
from qwenchat.chat.message import Attachment, FinishReason, Message, Role, Timings, Usage, text_parts
from qwenchat.chat.ports import Request
from qwenchat.chat.sampling import Sampling
from qwenchat.engine_settings import EngineSettings
from qwenchat.engines.remote.api import ServedModel
from qwenchat.errors import Recovery, RecoveryKind, RemoteBroken
from qwenchat.runtime.program import Program
from qwenchat.tui.app import Start
from qwenchat.tui.attached import attached_of
from qwenchat.tui.dialogs.compare import CompareScreen
from qwenchat.tui.dialogs.consent import ConsentScreen
from qwenchat.tui.dialogs.engines import EngineScreen
from qwenchat.tui.dialogs.menu import MenuScreen
from qwenchat.tui.dialogs.model import ModelScreen
from qwenchat.tui.palette import _thing_lines
from tests.fakes.scripted import ALL_OF_LOCAL, ScriptedEngine
from tests.tui.chatting import Chatting, chatting, kept_session
from tests.tui.screens import click, is_open, until, words_in_dialog, words_on

HOST = "10.0.0.5:8080"
FAR = "@lab/Qwen/Qwen2-72B-Instruct"
HERE = "guide"


@pytest.fixture(autouse=True)
def engines() -> None:
    settings = Program.here().paths.settings
    config.put_engine(settings, "lab", EngineSettings(url=f"http://{HOST}/v1"))
    config.put_engine(settings, "box", EngineSettings(url="http://127.0.0.1:8080"))


def far(**fields: Any) -> Any:
    return chatting(start=Start(model=FAR), file=f"http://{HOST}/v1#Qwen/Qwen2-72B-Instruct", **fields)


def asks(it: Chatting) -> bool:
    return is_open(it.app, ConsentScreen) and "Send" in words_in_dialog(it.app) and it.app.focused is not None


async def begin(it: Chatting, text: str) -> None:
    it.write(text)
    await it.pilot.press("enter")
    await until(lambda: asks(it))
    await it.pilot.pause()


async def send(it: Chatting) -> None:
    await click(it.app, "#send")
    await until(lambda: it.app.screen is it.chat)
    await it.idle()


async def test_header_empty_chat_and_answer_show_the_host() -> None:
    async with far() as it:
        await until(lambda: f"✦ Qwen/Qwen2-72B-Instruct @ {HOST}" in words_on(it.app).splitlines()[0])
        assert f"Your words go to {HOST}." in words_on(it.app)
        assert "stays on this computer" not in words_on(it.app)
        await begin(it, "Hello?")
        await send(it)
        await until(lambda: words_on(it.app).count(f"✦ Qwen/Qwen2-72B-Instruct @ {HOST}") == 2)


async def test_a_model_here_has_no_host_and_everything_stays_on_this_computer() -> None:
    async with chatting() as it:
        await until(lambda: "Everything stays on this computer." in words_on(it.app))
        await it.ask("Hello?")
        assert "@" not in words_on(it.app)


async def test_that_everything_stays_is_only_said_of_a_model_in_this_program() -> None:
    async with chatting(start=Start(model="@box/m")) as it:
        await until(lambda: "Your words go to 127.0.0.1:8080." in words_on(it.app))
        assert "stays on this computer" not in words_on(it.app)


async def test_nothing_stays_here_where_other_machines_compute_parts_or_the_engine_is_gone() -> None:
    settings = Program.here().paths.settings
    config.put(settings, "model.rpc", "10.0.0.7:50052")
    async with chatting(start=Start(model="7b")) as it:
        await until(lambda: "10.0.0.7:50052 compute parts of each answer." in words_on(it.app))
        assert "✦ 7b @ this computer + 10.0.0.7:50052" in words_on(it.app)
    async with chatting(start=Start(model="@gone/m")) as it:
        await until(lambda: "✦ m" in words_on(it.app))
        assert "Ask anything." in words_on(it.app)
        assert "stays on this computer" not in words_on(it.app)


@pytest.mark.parametrize("width", [40, 56, 80])
async def test_narrow_screens_shorten_the_model_and_never_the_host(width: int) -> None:
    async with far(size=(width, 24)) as it:
        await until(lambda: f" {HOST}" in words_on(it.app).splitlines()[0])
        await begin(it, "Hello?")
        await send(it)
        await until(lambda: sum(f"@ {HOST}" in line for line in words_on(it.app).splitlines()) == 2)


async def test_answers_of_both_kinds_stand_in_one_chat() -> None:
    async with far() as it:
        await begin(it, "Hello?")
        await send(it)
        it.engine.file = "0" * 32
        it.chat.session_actions.use_model(HERE)
        await until(lambda: it.chat.session.model == HERE)
        await it.ask("And here?")
        answers = [line for line in words_on(it.app).splitlines() if line.strip().startswith("✦")]
        assert [HOST in line for line in answers] == [True, False]


async def test_nothing_is_sent_before_the_user_agrees_and_it_is_asked_once() -> None:
    async with far() as it:
        await begin(it, "Is this secret?")
        assert HOST in words_in_dialog(it.app)
        assert "Qwen2-72B-Instruct" in words_in_dialog(it.app)
        assert "1 message" in words_in_dialog(it.app)
        assert "not encrypted" in words_in_dialog(it.app)
        assert not it.engine.requests
        assert not it.chat.context.chats.running
        await send(it)
        assert it.texts == ["Is this secret?", "Hello."]
        await it.ask("And this?")
        assert len(it.engine.requests) == 2
        session = it.chat.session.id
    async with chatting(start=Start(session=session)) as later:
        await until(lambda: len(later.messages) == 4)
        await later.ask("Days later?")
        assert len(later.engine.requests) == 1


async def test_a_server_on_this_machine_needs_no_consent() -> None:
    async with chatting(start=Start(model="@box/m")) as it:
        await it.ask("Hello?")
        assert it.texts == ["Hello?", "Hello."]


@pytest.mark.parametrize("key", ["escape", "enter"])
async def test_a_message_that_is_not_sent_returns_to_the_prompt_with_its_files(key: str) -> None:
    async with far() as it:
        it.chat.prompt.fill("Is this secret?", attached_of([Attachment("a.txt", "text/plain", b"secret")]))
        await it.pilot.press("enter")
        await until(lambda: asks(it))
        await it.pilot.pause()
        assert "1 file" in words_in_dialog(it.app) and "a.txt" in words_in_dialog(it.app)
        await it.pilot.press(key)
        await until(lambda: it.chat.prompt.text == "Is this secret?")
        assert [file.name for file in it.chat.prompt.attachments] == ["a.txt"]
        await until(lambda: not it.messages)
        assert it.kept() == []
        assert not it.engine.requests


async def test_another_model_can_answer_instead() -> None:
    async with far() as it:
        await begin(it, "Is this secret?")
        await click(it.app, "#model")
        await until(lambda: is_open(it.app, ModelScreen) and "guide" in words_in_dialog(it.app))
        it.engine.file = "0" * 32
        it.app.screen.dismiss(HERE)
        await until(lambda: len(it.engine.requests) == 1)
        await it.idle()
        assert it.messages[-1].model == HERE


async def test_a_closed_list_of_models_asks_again() -> None:
    async with far() as it:
        await begin(it, "Is this secret?")
        await click(it.app, "#model")
        await until(lambda: is_open(it.app, ModelScreen))
        await it.pilot.press("escape")
        await until(lambda: asks(it))
        assert not it.engine.requests


async def test_nothing_is_counted_on_a_server_before_the_user_agrees() -> None:
    async with far() as it:
        counted: list[str] = []
        count = it.engine.count

        async def noting(turns: Any, *rest: Any) -> Any:
            counted.extend(turn.text for turn in turns)
            return await count(turns, *rest)

        it.engine.count = noting
        await it.pilot.press(*"secret")
        await until(lambda: it.chat.context.chats.model.info)
        await it.chat.counts._show_counts()
        assert counted == []
        await it.pilot.press("enter")
        await until(lambda: asks(it))
        await send(it)
        await until(lambda: "secret" in counted)


async def test_what_else_sends_a_chat_asks_too() -> None:
    program = Program.here()
    session = kept_session(program, "Colours")
    question = Message(id="q", session=session.id, parent=None, role=Role.USER, parts=text_parts("Why?"), created=1)
    answer = Message(
        id="a", session=session.id, parent="q", role=Role.ASSISTANT, parts=text_parts("So."), created=2, model=HERE
    )
    program.store.add(question)
    program.store.add(answer)
    program.store.label(session.id, model=FAR)
    program.close()
    async with chatting(start=Start(session=session.id), file=f"http://{HOST}/v1#m") as it:
        await until(lambda: len(it.messages) == 2)
        for doing in (
            it.chat.message_actions.regenerate,
            it.chat.session_actions.suggest_title,
            lambda: it.chat.comparing.compare_with("@lab/other"),
        ):
            doing()
            await until(lambda: asks(it))
            await it.pilot.press("escape")
            await until(lambda: it.app.screen is it.chat)
        await it.chat.message_actions._drafts.edit(it.messages[0])
        it.write("Why else?")
        await it.pilot.press("enter")
        await until(lambda: asks(it))
        await it.pilot.press("escape")
        await until(lambda: it.chat.prompt.text == "Why else?")
        assert it.texts == ["Why?", "So."]
        assert not it.engine.requests


async def test_a_comparison_with_a_model_elsewhere_asks_once_and_shows_both() -> None:
    async with chatting("Here.", "There.") as it:
        await it.ask("Why?")
        it.engine.file = f"http://{HOST}/v1#m"
        it.chat.comparing.compare_with(FAR)
        await until(lambda: asks(it))
        await click(it.app, "#send")
        await until(lambda: is_open(it.app, CompareScreen))
        await until(lambda: len(it.engine.requests) == 2)
        await until(lambda: f"2 · Qwen/Qwen2-72B-Instruct @ {HOST}" in words_in_dialog(it.app))
        assert "1 · guide" in words_in_dialog(it.app)


async def test_a_question_in_another_chat_is_decided_when_that_is_opened() -> None:
    async with far(notifications=True) as it:
        await begin(it, "First?")
        await send(it)
        it.engine.delay_s = 0.05
        it.engine.answers = ["word " * 400]
        it.write("Long?")
        await it.pilot.press("enter")
        await until(lambda: it.chat.context.chats.running)
        await it.do("new")
        await until(lambda: not it.messages)
        it.write("In a second chat?")
        await it.pilot.press("enter")
        await until(lambda: len(it.messages) == 1)
        second = it.chat.session.id
        await it.do("new")
        await until(lambda: not it.messages)
        await it.chat.context.chats.stop(it.chat.context.chats.running)
        await until(lambda: any(HOST in said for said in it.said))
        assert not asks(it)
        it.chat.navigation.open_soon(second)
        await until(lambda: asks(it))
        it.engine.delay_s, it.engine.answers = 0.0, ["Second."]
        await send(it)
        assert it.texts == ["In a second chat?", "Second."]


async def test_a_private_chat_asks_too(tmp_path: Path) -> None:
    async with far() as it:
        await it.do("new_private")
        await until(lambda: it.chat.context.open.view.private)
        await begin(it, "Secret?")
        await send(it)
        assert it.texts == ["Secret?", "Hello."]


def activity(it: Chatting) -> str:
    return it.chat.context.open.view.activity


@dataclass
class Slow(ScriptedEngine):
    """A server that was busy, then reads a prompt without saying how far it is."""

    first: WaitingToRetry | None = None

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        if self.first:
            yield self.first
        await cancelled.wait()
        yield Finished(FinishReason.CANCELLED, Usage(), Timings())


async def test_a_server_that_reports_nothing_is_waited_for_in_words_and_seconds() -> None:
    busy = WaitingToRetry(reason="It is busy.", wait_s=1, attempt=2, attempts=4)
    async with chatting(start=Start(model="@box/m"), make=Slow) as it:
        it.write("Long?")
        await it.pilot.press("enter")
        await until(lambda: activity(it) == "waiting for 127.0.0.1:8080 · 1 s")
        await it.do("new")
        await until(lambda: not it.messages)
        assert activity(it) == ""
        session = it.chat.context.open.view.queue.running
        it.chat.navigation.open_soon(session)
        await until(lambda: "waiting for 127.0.0.1:8080" in activity(it))
        await it.pilot.press("escape")
        await it.idle()
        assert activity(it) == ""
        assert isinstance(it.engine, Slow)
        it.engine.first = busy
        it.write("Again?")
        await it.pilot.press("enter")
        await until(lambda: activity(it) == "trying again in 1 s (2 of 4) · It is busy.")
        await until(lambda: activity(it) == "waiting for 127.0.0.1:8080 · 0 s")
        await it.pilot.press("escape")
        await it.idle()


async def test_what_a_server_can_not_continue_is_not_offered() -> None:
    no = structs.replace(ALL_OF_LOCAL, continue_answer=False, token_ids=False, exact_counts=False)
    async with chatting("One two three four", start=Start(model="@box/m"), capabilities=no) as it:
        it.chat.session_actions.change(structs.replace(it.chat.session, sampling=Sampling(max_tokens=8)))
        await until(lambda: it.chat.session.sampling.max_tokens == 8)
        await it.ask("Count?")
        await until(lambda: "Stopped at the token limit" in words_on(it.app))
        await it.pilot.press("f6")
        await until(lambda: "answer again" in words_on(it.app).splitlines()[-1])
        assert "continue" not in words_on(it.app)
        await it.pilot.press("shift+f10")
        await until(lambda: is_open(it.app, MenuScreen))
        assert "Continue" not in words_on(it.app)
        await it.pilot.press("escape")
        await it.pilot.press("c")
        await until(lambda: any("can't continue an answer" in said for said in it.said))
        it.chat.session_actions.use_model(HERE)
        it.engine.capabilities = ALL_OF_LOCAL
        await until(lambda: it.chat.session.model == HERE)
        await until(lambda: "continue" in words_on(it.app))


async def test_models_elsewhere_are_completed_and_found_from_what_is_known() -> None:
    program = Program.here()
    served = ServedModel(id="Qwen/Qwen2-72B-Instruct", n_ctx=32768)
    (lab, box) = program.remote_engines.known()
    program.remote_engines._listings = {"lab": structs.replace(lab, models=(served,), is_known=True), "box": box}
    program.remote_engines._write()
    async with chatting() as it:
        it.write("/model @l")
        await until(lambda: FAR in words_on(it.app) and HOST in words_on(it.app))
        await it.pilot.press("tab")
        assert it.chat.prompt.text == f"/model {FAR}"
        await it.pilot.press("enter")
        await until(lambda: it.chat.session.model == FAR)
        await it.do("session_settings")
        await until(lambda: f"Runs on {HOST}" in words_in_dialog(it.app))
        assert it.app.screen.query_one("#model", Input).value == FAR
        await it.pilot.press("escape")
        titles = [line.title for line in _thing_lines(it.chat)]
        assert "Model: Qwen/Qwen2-72B-Instruct" in titles


async def test_speeds_are_told_apart_by_host() -> None:
    async with far(make=Measured) as it:
        await begin(it, "Hello?")
        await send(it)
        it.engine.file = "0" * 32
        it.chat.session_actions.use_model(HERE)
        await until(lambda: it.chat.session.model == HERE)
        await it.ask("And here?")
        await it.do("stats")
        await until(lambda: "on this computer" in words_in_dialog(it.app) and HOST in words_in_dialog(it.app))


@dataclass
class Measured(ScriptedEngine):
    """An engine that says how fast it was."""

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        async for event in super().events(request, text, cancelled):
            yield structs.replace(event, timings=Timings(decode_tps=20.0)) if isinstance(event, Finished) else event


async def test_an_estimate_is_marked_as_one() -> None:
    async with chatting(start=Start(model="@box/m")) as it:
        await it.ask("Hello?")
        await until(lambda: it.chat.context.open.view.usage)
        assert "≈" not in words_on(it.app)
        usage = it.chat.context.open.view.usage
        assert usage is not None
        it.chat.context.open.show_usage(structs.replace(usage, exact=False))
        await until(lambda: f"≈ {usage.used}" in words_on(it.app))


@dataclass
class Failing(ScriptedEngine):
    """A server that breaks off after a word, and then recovers."""

    fails: int = 1

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        if self.fails:
            self.fails -= 1
            yield Delta("Half ", (1,))
            kinds = (RecoveryKind.ASK_AGAIN, RecoveryKind.SET_KEY, RecoveryKind.OTHER_MODEL)
            recoveries = tuple(Recovery(kind, name="box") for kind in kinds)
            raise RemoteBroken("The connection broke off.", "Try again.", recoveries=recoveries)
        async for event in super().events(request, text, cancelled):
            yield event


@pytest.mark.parametrize("continues", [True, False])
async def test_a_broken_answer_is_continued_or_asked_for_again(continues: bool) -> None:
    can = structs.replace(ALL_OF_LOCAL, continue_answer=continues)
    file = "http://127.0.0.1:8080#m"
    async with chatting("whole.", start=Start(model="@box/m"), make=Failing, capabilities=can, file=file) as it:
        await it.ask("Why?")
        await until(lambda: "The connection broke off." in it.notice)
        await until(lambda: ("Continue the answer" if continues else "Ask again") in words_on(it.app))
        assert it.messages[-1].text == "Half "
        await click(it.app, "#notice-offers Button")
        await until(lambda: len(it.engine.requests) == 2)
        await it.idle()
        assert it.messages[-1].text == ("Half whole." if continues else "whole.")


async def test_the_key_of_an_engine_can_be_set_where_it_was_refused() -> None:
    async with chatting(start=Start(model="@box/m"), make=Failing) as it:
        await it.ask("Why?")
        await until(lambda: "Set its key" in words_on(it.app))
        buttons = [each for each in it.chat.notice.query(Button) if str(each.label) == "Set its key"]
        buttons[0].press()
        await until(lambda: is_open(it.app, EngineScreen) and "Engine box" in words_in_dialog(it.app))
        await until(lambda: it.app.focused is not None and it.app.focused.id == "place")
