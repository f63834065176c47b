"""A line above the prompt that stays until it is answered: an error with what can be done, or who waits."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message as Event
from textual.widgets import Button, Static

from qwenchat.text import clean_line


class Notice(Vertical):
    """Words and, below them, things to do. Hidden while there is nothing to say."""

    @dataclass
    class Chosen(Event):
        """A person chose the offer of this number."""

        number: int

    async def say(self, words: str, offers: Sequence[str] = (), *, warning: bool = False) -> None:
        """Show words, as untrusted as they are, and buttons; empty words hide the notice."""
        if not self.children:
            if not words:
                return
            await self.mount(Static(id="notice-words", markup=False), Horizontal(id="notice-offers"))
        self.query_one("#notice-words", Static).update(Content(clean_line(words, 1000)))
        row = self.query_one("#notice-offers", Horizontal)
        await row.remove_children()
        if offers:
            buttons = [Button(Content(label), name=str(number), compact=True) for number, label in enumerate(offers)]
            await row.mount_all(buttons)
        row.set_class(bool(offers), "shown")
        self.set_class(bool(words), "shown")
        self.set_class(warning, "warning")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Say what was chosen."""
        event.stop()
        self.post_message(self.Chosen(int(event.button.name or 0)))
