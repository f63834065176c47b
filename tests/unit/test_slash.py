"""What is typed behind a slash."""

import pytest

from qwenchat.tui.slash_commands import ALIASES, Command, Say, Unknown, commands, completions, parse


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("hello", Say("hello")),
        ("/new", Command("new")),
        ("/NEW", Command("new")),
        ("/model 7b:q4_k_m", Command("model", "7b:q4_k_m")),
        ("/bye", Command("quit")),
        ("/clear", Command("new")),
        ("/read a b.txt ", Command("attach", "a b.txt")),
        ("/?", Command("help")),
        ("//new", Say("/new")),
        ("/etc/hosts", Say("/etc/hosts")),
        ("/new\nmore", Say("/new\nmore")),
        ("/ new", Say("/ new")),
        (" /new", Say(" /new")),
        ("/nonsense x", Unknown("nonsense")),
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
