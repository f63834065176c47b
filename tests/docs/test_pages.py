"""The pages are whole: links lead somewhere, generated parts are of today, samples are valid, both languages agree."""

import json
import re
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import msgspec
import pytest
from msgspec.structs import replace

from devtools import pages
from qwenchat import config
from qwenchat.chat.message import (
    Citation,
    FinishReason,
    Message,
    Role,
    Timings,
    ToolCall,
    ToolResult,
    Usage,
    text_parts,
)
from qwenchat.cli.ask_output import answer_object
from qwenchat.models import catalogue
from qwenchat.sessions import importers
from qwenchat.sessions.records import records_in
from qwenchat.tui import actions, themes
from tests.fakes.documents import Page, all_pages

PAGES = all_pages()
LANGUAGES = ("en", "zh")
AT_THE_ROOT = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md")
ANSWER = json.loads((pages.SCHEMAS / "answer.json").read_text("utf-8"))
each_page = pytest.mark.parametrize("page", PAGES, ids=str)


def test_the_pages_are_there_in_both_languages() -> None:
    english, chinese = ({path.name for path in (pages.DOCS / name).glob("*.md")} for name in LANGUAGES)
    assert english == chinese
    assert len(english) > 8
    assert {str(page) for page in PAGES} >= set(AT_THE_ROOT)


def pairs() -> list[tuple[Page, Page]]:
    """Return each page in both languages."""
    english = sorted((pages.DOCS / "en").glob("*.md"))
    both = [(page, pages.DOCS / "zh" / page.name) for page in english]
    return [
        (Page(one), Page(other)) for one, other in (*both, (pages.ROOT / "README.md", pages.ROOT / "README.zh-CN.md"))
    ]


@pytest.mark.parametrize(("english", "chinese"), pairs(), ids=str)
def test_both_languages_give_the_same_examples(english: Page, chinese: Page) -> None:
    assert [gist(words) for words in chinese.shell_lines] == [gist(words) for words in english.shell_lines]
    assert len(chinese.headings) == len(english.headings)


def gist(words: list[str]) -> list[str]:
    """Return a command without its arguments in natural language."""
    return [*words[:2], *(word for word in words[2:] if word.startswith("-"))]


@each_page
def test_no_part_that_the_program_writes_is_stale(page: Page) -> None:
    assert page.text == pages.up_to_date(page.path), "run `make pages`"


def test_no_schema_is_stale() -> None:
    assert {file: file.read_text("utf-8") for file in pages.schemas()} == pages.schemas(), "run `make pages`"


@each_page
def test_links_lead_somewhere(page: Page) -> None:
    broken = []
    for link in page.links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _hash, anchor = unquote(link).partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        inside = target.is_relative_to(pages.DOCS) or not page.path.is_relative_to(pages.DOCS)
        if not target.is_file() or not inside or (anchor and anchor not in Page(target).anchors):
            broken.append(link)
    assert broken == []


@each_page
def test_files_that_are_named_exist(page: Page) -> None:
    """Of the repository; a page for contributors leaves `qwenchat/` out."""
    named = [code for code in page.words_in_code if re.fullmatch(r"[\w-]+/[\w./-]*\w+(\.\w+|/)", code)]
    places = (pages.ROOT, pages.ROOT / "qwenchat")
    foreign = ("owner/", "dist/", "site/")
    absent = [name for name in named if not any((place / name).exists() for place in places)]
    assert [name for name in absent if not name.startswith(foreign)] == []


@each_page
def test_samples_in_toml_are_valid(page: Page, tmp_path: Path) -> None:
    for number, sample in enumerate(page.blocks("toml")):
        file = tmp_path / f"sample{number}.toml"
        file.write_text(sample, "utf-8")
        if "[interface]" in sample:
            themes.load(file)
        elif "[[models]]" in sample:
            entry = msgspec.toml.decode(sample, type=dict[str, tuple[catalogue.CatalogueModel, ...]])
            assert set(entry) == {"models"}
        else:
            settings = config.load(file, {})
            assert actions.clashes(actions.actions(), settings.keys) == []


@each_page
def test_samples_in_json_are_valid(page: Page) -> None:
    for sample in page.blocks("json"):
        value = json.loads(sample)
        if '"format": "qwenchat"' in sample:
            jsonschema.validate(value, json.loads((pages.SCHEMAS / "conversations.json").read_text("utf-8")))
            reading = importers.read(records_in(BytesIO(sample.encode()), 0))
            assert len(reading.archives) == len(value) and not reading.problems
        elif "finish_reason" in sample:
            jsonschema.validate(value, ANSWER)


def test_an_answer_for_programs_follows_its_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(ANSWER)
    answer = Message(
        id="m",
        session="s",
        parent=None,
        role=Role.ASSISTANT,
        parts=text_parts("Yes."),
        created=1,
        model="7b",
        finish_reason=FinishReason.STOP,
    )
    jsonschema.validate(answer_object(replace(answer, usage=Usage(1, 0, 1), timings=Timings())), ANSWER)
    guessed = answer_object(replace(answer, usage=Usage(1, 0, 9, 8, 7), timings=Timings()))
    jsonschema.validate(guessed, ANSWER)
    assert guessed["usage"]["accepted_tokens"] == 7
    jsonschema.validate(answer_object(replace(answer, finish_reason=None)), ANSWER)
    cited = Citation(number=1, document="birds.pdf", digest="d", start=0, text="Owls hunt.", page=3, heading="Owls")
    called = (ToolCall("c1", "clock", '{"zone": "UTC"}'), ToolResult("c1", "clock", "12:00"), ToolCall("c2", "x", "?"))
    jsonschema.validate(answer_object(replace(answer, parts=(cited, *called, *answer.parts))), ANSWER)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(answer_object(replace(answer, error="why")) | {"error": "why"}, ANSWER)


def test_the_settings_schema_takes_the_defaults_and_refuses_nonsense() -> None:
    schema = json.loads(pages.schemas()[pages.SCHEMAS / "settings.json"])
    jsonschema.validate(json.loads(msgspec.json.encode(config.Settings())), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"model": {"contxt": 1}}, schema)
