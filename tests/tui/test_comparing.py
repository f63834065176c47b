"""Two answers side by side: a second model's as it is written, and variants that are there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from msgspec.structs import replace

from qwenchat.chat.message import Message, Status, Text, text_parts
from qwenchat.chat.ports import Engine
from qwenchat.errors import NotFound
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.tui.dialogs.compare import CompareScreen, VariantPane
from qwenchat.tui.widgets.prose import Prose
from tests.fakes.scripted import ScriptedEngine
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import click, until

LONG = "slow " * 400
SLOW = "72b"
"""A model whose answer takes long."""


@dataclass
class Comparing(Chatting):
    """A chat, and the comparison that lies over it."""

    @property
    def dialog(self) -> CompareScreen:
        assert isinstance(self.app.screen, CompareScreen)
        return self.app.screen

    @property
    def panes(self) -> list[VariantPane]:
        return list(self.dialog.query(VariantPane))

    @property
    def compared(self) -> list[tuple[str, str]]:
        """Model and text of both panes."""
        return [(message.model, message.text) for pane in self.panes for message in pane.messages]

    @property
    def models(self) -> list[str]:
        """The model of each answer on disk that the branch has."""
        return [message.model for message in self.kept() if message.model]

    def variants(self) -> list[Message]:
        """All answers to the first question, as they are on disk."""
        store = self.app.program.store
        return store.tree(self.chat.session.id).children(self.kept()[0].id)

    @property
    def is_open(self) -> bool:
        return isinstance(self.app.screen, CompareScreen)

    async def compare(self, model: str) -> None:
        self.write(f"/compare {model}")
        await self.pilot.press("enter")
        await until(lambda: self.is_open and self.panes[1].messages)


@asynccontextmanager
async def comparing(*answers: str, size: tuple[int, int] = (120, 30)) -> AsyncIterator[Comparing]:
    """A chat with one question that the guide has answered; any other model has an answer of its own."""

    async with chatting(*(answers or ("By the guide.",)), size=size) as it:

        def new_engine(reference: str, _options: LoadOptions) -> Engine:
            if reference == "nope":
                raise NotFound("There is no model nope.", "Choose another one.")
            slow = ScriptedEngine((LONG,), delay_s=0.005, reference=SLOW, file="2" * 32)
            other = ScriptedEngine((f"By {reference}.",), reference=reference, file="1" * 32)
            return it.engine if reference == "guide" else slow if reference == SLOW else other

        it.chat.context.chats.model._new_engine = new_engine
        await it.ask("Why?")
        yield Comparing(it.app, it.pilot, it.engine)


async def test_a_second_model_answers_the_same_question_and_the_chat_goes_on_from_the_one_picked() -> None:
    async with comparing() as it:
        await it.compare("7b")
        await until(lambda: it.compared == [("guide", "By the guide."), ("7b", "By 7b.")])
        left, right = it.panes
        assert left.region.y == right.region.y and left.region.right <= right.region.x
        assert "Why?" in str(it.dialog.query_one(".heading", Prose).content)
        await it.pilot.press("2")
        await until(lambda: not it.is_open and it.texts == ["Why?", "By 7b."])
        assert any("with its own model, guide" in said for said in it.said)
        assert [each.model for each in it.variants()] == ["guide", "7b"]
        await it.ask("And?")
        assert it.models == ["7b", "guide"]


async def test_esc_stops_the_second_answer_and_another_one_leaves_the_chat_as_it_was() -> None:
    async with comparing() as it:
        await it.compare(SLOW)
        await until(lambda: it.panes[1].messages[0].text)
        await it.pilot.press("escape")
        await until(lambda: it.panes[1].messages[0].status is Status.STOPPED)
        assert it.panes[1].messages[0].text
        await it.pilot.press("escape")
        await until(lambda: not it.is_open and it.texts == ["Why?", "By the guide."])
        assert [each.status for each in it.variants()] == [Status.COMPLETE, Status.STOPPED]


async def test_the_second_answer_is_on_disk_while_it_is_written_and_its_speed_is_shown() -> None:
    async with comparing(size=(80, 24)) as it:
        await it.compare(SLOW)
        await until(lambda: len(it.variants()) == 2 and it.variants()[1].text)
        assert it.variants()[1].model == SLOW
        above, below = it.panes
        assert above.region.bottom <= below.region.y and above.region.x == below.region.x
        await until(
            lambda: any("tokens/s" in str(words.content) for words in it.dialog.query(".activity").results(Prose))
        )
        await click(it.app, "#pick-1")
        await until(lambda: not it.is_open and it.texts == ["Why?", "By the guide."])
        await it.idle()
        assert it.variants()[1].status is Status.STOPPED


async def test_a_model_that_is_not_there_closes_the_comparison_and_says_so() -> None:
    async with comparing() as it:
        it.write("/compare nope")
        await it.pilot.press("enter")
        await until(lambda: it.chat.query("#notice-words") and "no model nope" in it.notice and not it.is_open)
        assert it.texts == ["Why?", "By the guide."]
        assert not it.chat.query("#notice Button")
        await it.ask("And?")
        assert it.models == ["guide", "guide"] and it.notice == ""


async def test_stopping_before_the_second_model_answers_closes_the_comparison() -> None:
    async with comparing() as it:
        it.engine.delay_s = 0.01
        it.engine.answers = (LONG,)
        it.write("More")
        await it.pilot.press("enter")
        await until(lambda: it.messages[-1].text.startswith("slow"))
        await it.compare("7b")
        await it.pilot.press("escape")
        await until(lambda: not it.is_open and it.messages[-1].status is Status.STOPPED)
        assert it.models == ["guide", "guide"]


async def test_any_two_variants_are_compared_with_a_key_and_picked_with_enter() -> None:
    async with comparing("One.", "Two.", "Three.") as it:
        for _again in range(2):
            await it.do("retry")
            await it.idle()
        await it.pilot.press("f6", "v")
        await until(lambda: it.is_open and it.compared == [("guide", "Two."), ("guide", "Three.")])
        await it.pilot.press("left")
        await until(lambda: it.compared[0] == ("guide", "One."))
        await it.pilot.press("enter")
        await until(lambda: not it.is_open and it.texts == ["Why?", "One."])
        await it.do("compare")
        await until(lambda: it.is_open and it.compared == [("guide", "One."), ("guide", "Two.")])
        await it.pilot.press("escape")
        await until(lambda: not it.is_open)
        await it.idle()
        assert it.texts == ["Why?", "One."]


async def test_an_empty_chat_has_nothing_to_compare() -> None:
    async with chatting() as it:
        it.write("/compare 7b")
        await it.pilot.press("enter")
        await until(lambda: any("no answer to compare" in said for said in it.said))


async def test_continue_beside_a_stopped_answer_picks_it_and_goes_on() -> None:
    async with comparing() as it:
        await it.compare(SLOW)
        await until(lambda: it.panes[1].messages[0].text)
        await it.pilot.press("escape")
        await until(lambda: it.panes[1].messages[0].status is Status.STOPPED)
        it.dialog.action_pick(1, "carry_on")
        await until(lambda: len(it.engine.requests) == 2)
        await it.idle()
        assert it.texts[-1].startswith("slow") and it.texts[-1].endswith("By the guide.")
        assert len(it.variants()) == 3


async def test_what_comes_while_it_closes_is_shown_nowhere() -> None:
    async with comparing() as it:
        await it.compare("other")
        await until(lambda: it.compared[1] == ("other", "By other."))
        dialog, pane = it.dialog, it.panes[1]
        (answer,) = pane.messages
        await dialog.query_one(".frame").remove()
        dialog.append(answer.id, Text(" More."), index=0, offset=len(answer.text))
        dialog.update_variant(replace(answer, parts=text_parts("Another text.")))
        assert [message.text for message in pane.messages] == ["By other."]
