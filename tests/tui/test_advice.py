"""What an error says to do: in the screen by keys and commands that work there, in the shell by its options."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from textual.app import App, ComposeResult

import qwenchat
from qwenchat.cli.output import shell_advice
from qwenchat.engines.remote.explanations import explain as explain_remote
from qwenchat.engines.remote.faults import Fault, FaultKind
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import CannotLoad, NotFound, QwenchatError, Recovery, RecoveryKind
from qwenchat.i18n import use_language
from qwenchat.models.catalogue import load
from qwenchat.models.download.retry import SourceError, SourceFault, explain
from qwenchat.models.reference import parse, unknown
from qwenchat.runtime import recoveries
from qwenchat.tui.actions import actions
from qwenchat.tui.advice import advice, words
from qwenchat.tui.dialogs.dialog import Complaint
from qwenchat.tui.slash_commands import parse as parse_command
from tests.tui.chatting import chatting
from tests.tui.screens import until

PACKAGE = Path(qwenchat.__file__).parent
SHELL = re.compile(
    r"(?:^|[\s(`])--?[a-z]|\bqwenchat (?:-|ask|models|sessions|engines|docs|tools|serve|config|doctor|bench)"
)
SHELL_ONLY = ("cli", "doctor", "server", "web")
COMMON = frozenset(
    {"use", "the", "its", "for", "this", "can", "another", "anyway", "all", "what", "file", "engine", "key"}
)
ALL = tuple(Recovery(kind, value=2048, name="my model") for kind in RecoveryKind)


def texts(module: Path) -> Iterator[str]:
    """Yield what a module passes to gettext."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_", "ngettext"):
            yield from (
                each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )


def test_no_text_that_can_reach_the_screen_names_an_option_or_a_command_of_the_shell() -> None:
    modules = [each for each in PACKAGE.rglob("*.py") if each.relative_to(PACKAGE).parts[0] not in SHELL_ONLY]
    found = {text for module in modules for text in texts(module) if SHELL.search(text)}
    assert len(modules) > 100
    assert found == set()


@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_every_recovery_has_a_name_and_a_way_in_the_shell(language: str) -> None:
    use_language(language)
    assert set(recoveries.names()) == set(RecoveryKind)
    for recovery in ALL:
        error = QwenchatError("No.", "Do it.", recoveries=(recovery,))
        assert not SHELL.search(words(error))
        hint, _separator, way = shell_advice(error).partition("Do it.")
        assert hint == "" and way
    assert "qwenchat models pull 'my model'" in shell_advice(QwenchatError("No.", recoveries=ALL))


def test_the_keys_and_commands_that_the_screen_names_exist() -> None:
    said = advice(QwenchatError("No.", "", recoveries=ALL))
    keys = {key for action in actions() for key in action.keys.split(",")}
    named = re.findall(r"\bCtrl\+[A-Z]\b|\bF\d+\b", said)
    assert {"Ctrl+O", "Ctrl+T", "F2", "Ctrl+B"} <= set(named)
    assert all(name.lower() in keys for name in named)
    for command in re.findall(r"/[a-z]+", said):
        assert type(parse_command(command)).__name__ == "SlashCommand"


def test_what_a_button_offers_is_not_said_beside_it() -> None:
    error = CannotLoad("No.", "Do it.", recoveries=(Recovery(RecoveryKind.OTHER_MODEL),))
    assert advice(error) == "Do it. Choose another model: Ctrl+O"
    assert advice(error, offered=[RecoveryKind.OTHER_MODEL]) == "Do it."


@pytest.mark.parametrize("fault", list(SourceFault))
def test_the_errors_of_a_download_name_ways_of_the_place(fault: SourceFault) -> None:
    error = explain(SourceError(fault), "7b")
    assert advice(error) or shell_advice(error)
    assert not SHELL.search(words(error))
    assert not error.recoveries or shell_advice(error) != error.hint


def test_a_model_that_is_not_here_says_how_to_download_it() -> None:
    catalogue = load()
    error = unknown(parse("7b:q4_0", catalogue), catalogue)
    assert shell_advice(error) == "Download it: qwenchat models pull 7b:q4_0"
    assert advice(error) == "Download it: Ctrl+O"


def repeated(hint: str, kinds: Iterable[RecoveryKind]) -> set[str]:
    """The nouns and verbs of recoveries that a hint has, too; names are known only when a message is made."""
    use_language("en")
    names = recoveries.names()
    called = {word for kind in kinds for word in re.findall(r"[a-z]{3,}", names[kind].lower())}
    return (called - COMMON) & set(re.findall(r"[a-z]{3,}", re.sub(r"\{\w+\}|\w+\.\w+", "", hint).lower()))


def hints(module: Path) -> Iterator[tuple[str, set[RecoveryKind]]]:
    """Yield each hint in a module that is written beside its recoveries."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        beside = " ".join(ast.unparse(each.value) for each in node.keywords if each.arg == "recoveries")
        kinds = {kind for kind in RecoveryKind if re.search(rf"\b{kind.name}\b", beside)}
        if re.search(r"\b(?:less|recoveries)\b", beside):  # what an engine offers
            kinds |= {RecoveryKind.START_AGAIN, RecoveryKind.SMALLER_CONTEXT, RecoveryKind.OTHER_MODEL}
        if kinds and len(node.args) > 1:
            words = [each.value for each in ast.walk(node.args[1]) if isinstance(each, ast.Constant)]
            yield " ".join(str(word) for word in words), kinds


def test_no_hint_says_what_a_recovery_beside_it_says() -> None:
    written = [(module.name, *each) for module in PACKAGE.rglob("*.py") for each in hints(module)]
    assert len(written) > 15
    assert [(name, hint) for name, hint, kinds in written if repeated(hint, kinds)] == []
    server = RemoteServer(name="lab", url="http://10.0.0.5:8080")
    explained = [
        *(explain(SourceError(fault), "7b") for fault in SourceFault),
        *(explain_remote(Fault(kind=kind), server) for kind in FaultKind),
    ]
    said = [(error.hint, {each.kind for each in error.recoveries}) for error in explained]
    assert [(hint, found) for hint, kinds in said if (found := repeated(hint, kinds))] == []


class Complaining(App[None]):
    def compose(self) -> ComposeResult:
        yield Complaint()


async def test_notices_notifications_and_dialogs_show_the_words_of_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    error = NotFound("It is not here.", "Look.", recoveries=ALL)
    app = Complaining()
    async with app.run_test():
        app.query_one(Complaint).show(error)
        assert "Ctrl+O" in app.query_one(Complaint).text and not SHELL.search(app.query_one(Complaint).text)
    async with chatting() as it:

        def fails(*_given: object) -> None:
            raise error

        monkeypatch.setattr(it.chat.context.chats.model, "_new_engine", fails)
        it.write("A")
        await it.pilot.press("enter")
        await until(lambda: it.chat.query("#notice Button") and "It is not here." in it.notice)
        assert "Use a larger context: Ctrl+T" in it.notice and not SHELL.search(it.notice)
        assert "another model:" not in it.notice
        it.chat.context.notify_error(error)
        await until(lambda: "Ctrl+O" in " ".join(it.said[-1:]))
        assert not SHELL.search(it.said[-1])
