"""What the pages name exists in the program: commands, options, settings, keys, formats, messages."""

import re
from pathlib import Path

import click
import pytest
from babel.messages.pofile import read_po
from click.exceptions import Exit, NoArgsIsHelpError
from textual.binding import Binding
from textual.widgets import Input, OptionList, TextArea

from devtools import catalogue, pages
from qwenchat import config
from qwenchat.cli.main import root
from qwenchat.engine_settings import EngineSettings
from qwenchat.errors import ExitCode
from qwenchat.sessions import exporters, importers
from qwenchat.tui import actions, slash_commands
from qwenchat.tui.app import QwenchatApp
from qwenchat.tui.dialogs.compare import CompareScreen
from qwenchat.tui.transcript.transcript import Transcript
from qwenchat.tui.widgets import prompt
from tests.fakes.documents import Page, all_pages, of_qwenchat
from tests.fakes.spoken import options_of, parse

PAGES = all_pages()
LANGUAGES = ("en", "zh")
WITH_NAMES = config.Settings(
    engines={"lab": EngineSettings(url="http://10.0.0.5:8080")},
    tools=config.ToolSettings(policy={"read_file": "allow", "search_chats": "deny"}),
)
"""Settings with the engine that the pages use as their example."""
FOREIGN = {"--no-isolation", "--snapshot-update"}
"""Options of other programs that a sentence names."""
each_page = pytest.mark.parametrize("page", PAGES, ids=str)


def refused(commands: list[list[str]], *, whole: bool) -> list[str]:
    wrong = []
    for words in commands:
        try:
            parse(words, whole=whole)
        except Exit:  # --help and --version
            continue
        except click.UsageError as error:
            if whole or not isinstance(error, NoArgsIsHelpError):
                wrong.append(f"{' '.join(words)}: {error.message}")
    return wrong


@each_page
def test_commands_can_be_typed_as_they_stand(page: Page) -> None:
    commands = [words for line in page.shell_lines if (words := of_qwenchat(line)) is not None]
    assert refused(commands, whole=True) == []


@each_page
def test_commands_in_sentences_exist(page: Page) -> None:
    named = [code.split() for code in page.words_in_code if code.startswith("qwenchat ")]
    assert refused([words[1:] for words in named], whole=False) == []


@each_page
def test_options_in_sentences_exist(page: Page) -> None:
    known = options_of(root) | {"-h", "--help"}
    named = {code.split()[0] for code in page.words_in_code if re.match(r"--?[a-z][a-z-]*( |$)", code)}
    assert named - known - FOREIGN == set()


def test_a_command_that_does_not_exist_is_found_out() -> None:
    wrong = ["fetch 7b", "models pull", "ask --ctx many Hello", "ask --nonsense Hello", "--inline models fit --ctx"]
    assert len(refused([line.split() for line in wrong], whole=True)) == len(wrong)


# Names


@each_page
def test_settings_exist(page: Page) -> None:
    sections = "|".join({key.partition(".")[0] for key in config.names() if "." in key})
    known = {*config.names(WITH_NAMES), *(f"keys.{action.id}" for action in actions.actions())}
    named = {code for code in page.words_in_code if re.fullmatch(rf"({sections}|keys)\.[a-z_]+", code)}
    assert {name for name in named if not name.endswith((".gguf", ".db", ".md", ".py"))} <= known
    written = {
        words[2] for line in page.shell_lines if (words := of_qwenchat(line)) and words[0] == "config" and words[2:]
    }
    assert written <= known


@each_page
def test_variables_exist(page: Page) -> None:
    known = {"QWENCHAT_HOME", *map(config.variable, config.names(WITH_NAMES))}
    assert set(re.findall(r"QWENCHAT_[A-Z_]+", page.text)) <= known


@each_page
def test_slash_commands_exist(page: Page) -> None:
    named = [code for code in page.words_in_code if re.fullmatch(r"/[a-z?]+( .*)?", code)]
    assert [code for code in named if not isinstance(slash_commands.parse(code), slash_commands.SlashCommand)] == []


@pytest.fixture(scope="module")
def keys_of_the_program() -> set[str]:
    """Every key that does something on the screen, as people write it."""
    bound = [action.keys for action in actions.actions()]
    for widget in (Transcript, TextArea, Input, OptionList, CompareScreen):
        bound += [binding.key for binding in widget.BINDINGS if isinstance(binding, Binding)]
    bound.append(QwenchatApp.COMMAND_PALETTE_BINDING)
    source = Path(prompt.__file__).read_text("utf-8")
    bound += re.findall(r'"((?:ctrl\+|shift\+|alt\+)?(?:[a-z]|enter|tab))"', source)
    return {actions.key_name(key) for keys in bound for key in keys.split(",") if key}


@each_page
def test_keys_do_something(page: Page, keys_of_the_program: set[str]) -> None:
    assert set(page.keys) <= keys_of_the_program


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_format_and_exit_code_is_described(language: str) -> None:
    formats = Page(pages.DOCS / language / "sessions.md")
    assert set(exporters.names()) <= set(formats.words_in_code)
    assert [form.name for form in importers.formats() if form.name.split()[0] not in formats.text] == []
    trouble = Page(pages.DOCS / language / "troubleshooting.md")
    assert [code for code in ExitCode if f"| {code.value} |" not in trouble.text] == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/en/architecture.md", "docs/zh/architecture.md"])
def test_the_house_has_no_room_that_is_not_described(name: str) -> None:
    rooms = {f"qwenchat/{file.parent.name}/" for file in (pages.ROOT / "qwenchat").glob("*/__init__.py")}
    assert rooms <= set(Page(pages.ROOT / name).words_in_code)


@pytest.mark.parametrize("language", LANGUAGES)
def test_messages_that_are_explained_are_said(language: str) -> None:
    with catalogue.PO.open("rb") as file:
        known = [message for message in read_po(file) if message.id]
    said = [str(text) for message in known for text in _forms(message.id if language == "en" else message.string)]
    patterns = [(heading, _pattern(heading)) for heading in _explained(language)]
    assert len(patterns) > 25
    assert [heading for heading, pattern in patterns if not any(map(pattern.fullmatch, said))] == []


def _explained(language: str) -> list[str]:
    """Return the messages that the page explains: its headings of the third level."""
    text = Page(pages.DOCS / language / "troubleshooting.md").text
    return re.findall(r"^### (.+)$", text, re.MULTILINE)


def _forms(text: object) -> tuple[object, ...]:
    return tuple(text) if isinstance(text, list | tuple) else (text,)


def _pattern(heading: str) -> re.Pattern[str]:
    """Return what a message is that a heading stands for: `…` for what differs, the full stop left out."""
    return re.compile(r"\{[^}]*\}".join(map(re.escape, heading.split("…"))) + "[.。]?", re.DOTALL)
