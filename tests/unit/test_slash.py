"""What is typed behind a slash."""

import pytest

from qwenchat.tui.slash_commands import ALIASES, SlashCommand, TextToSend, UnknownCommand, commands, completions, parse


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("hello", TextToSend("hello")),
        ("/new", SlashCommand("new")),
        ("/NEW", SlashCommand("new")),
        ("/model 7b:q4_k_m", SlashCommand("model", "7b:q4_k_m")),
        ("/bye", SlashCommand("quit")),
        ("/clear", SlashCommand("new")),
        ("/read a b.txt ", SlashCommand("attach", "a b.txt")),
        ("/?", SlashCommand("help")),
        ("//new", TextToSend("/new")),
        ("/etc/hosts", TextToSend("/etc/hosts")),
        ("/new\nmore", TextToSend("/new\nmore")),
        ("/ new", TextToSend("/ new")),
        (" /new", TextToSend(" /new")),
        ("/nonsense", UnknownCommand("nonsense")),
        ("/modle 7b", UnknownCommand("modle", "model")),
        ("/quit smoking, how?", TextToSend("/quit smoking, how?")),
        ("/exit strategy?", TextToSend("/exit strategy?")),
        ("/new york in three days", TextToSend("/new york in three days")),
        ("/new private", SlashCommand("new", "private")),
        ("/model trains for children", TextToSend("/model trains for children")),
        ("/read war and peace?", TextToSend("/read war and peace?")),
        ("/set theory basics", TextToSend("/set theory basics")),
        ("/set seed money ideas", TextToSend("/set seed money ideas")),
        ("/set temprature 0.7", SlashCommand("set", "temprature 0.7")),
        ("/set top-k=3", SlashCommand("set", "top-k=3")),
        ("/etc 里有什么？", TextToSend("/etc 里有什么？")),
        ("/", TextToSend("/")),
    ],
)
def test_what_is_meant(typed: str, meant: object) -> None:
    assert parse(typed) == meant


def test_aliases_stand_for_commands() -> None:
    assert set(ALIASES.values()) <= set(commands())
    assert not set(ALIASES) & set(commands())


def test_completions() -> None:
    assert completions("/") == list(commands())
    assert completions("/s") == ["system", "set", "stats", "show", "save", "search"]
    assert completions("/model x") == completions("model") == []
