"""The tools that come with the program: which are offered, and what a model is told of them."""

import json
from pathlib import Path

import pytest

from qwenchat.config import ToolSettings
from qwenchat.engines.schema.check import check_schema
from qwenchat.tools.builtin import builtin_tools
from qwenchat.tools.builtin.search_chats import ChatExcerpt, SearchChats
from qwenchat.tools.builtin.search_documents import DocumentExcerpt, SearchDocuments
from qwenchat.tools.tool import ToolError

ALL = ToolSettings(folders=("/tmp/notes", "/tmp/work"), fetch=True)
FILES = {"list_files", "read_file", "search_files"}


def names(settings: ToolSettings, *, offline: bool = False) -> set[str]:
    return {tool.spec.name for tool in builtin_tools(settings, find_in_chats=lambda _words, _most: [], offline=offline)}


def test_only_what_the_settings_allow_for_is_offered() -> None:
    always = {"calculator", "date_time", "days_between", "search_chats"}
    assert names(ToolSettings()) == always
    assert names(ALL) == always | FILES | {"fetch_page"}
    assert names(ALL, offline=True) == always | FILES
    with_documents = builtin_tools(
        ToolSettings(), find_in_chats=None, find_in_documents=lambda _words, _most: [], offline=False
    )
    assert with_documents[-1].spec.name == "search_documents" and not with_documents[-1].writes
    without_store = builtin_tools(ToolSettings(), find_in_chats=None, offline=False)
    assert [tool.spec.name for tool in without_store] == ["calculator", "date_time", "days_between"]


def test_only_fetching_sends_anything_from_this_machine() -> None:
    tools = builtin_tools(ALL, find_in_chats=lambda _words, _most: [], offline=False)
    assert [tool.spec.name for tool in tools if tool.writes] == ["fetch_page"]


async def test_a_model_can_be_made_to_follow_every_schema_and_is_told_little() -> None:
    for tool in builtin_tools(ALL, find_in_chats=lambda _words, _most: [], offline=False):
        await check_schema(tool.spec.parameters)
        assert len(json.loads(tool.spec.parameters)["properties"]) <= 3
        assert len(tool.spec.description) < 120 and len(tool.spec.parameters) < 600


def test_arguments_name_the_folders_and_descriptions_of_tools_do_not() -> None:
    settings = ToolSettings(folders=("/tmp/{a}", "/tmp/work"))
    tools = [tool for tool in builtin_tools(settings, find_in_chats=None, offline=True) if tool.spec.name in FILES]
    assert [tool.spec.name for tool in tools] == ["read_file", "list_files", "search_files"]
    for tool in tools:
        arguments = json.loads(tool.spec.parameters)["properties"]
        described = arguments["path" if tool.spec.name == "read_file" else "folder"]["description"]
        assert "{a}, work" in described and "{a}" not in tool.spec.description
        assert all(next(iter(argument)) == "type" for argument in arguments.values())


@pytest.mark.parametrize("arguments", [{}, {"expression": None}, {"path": []}, {"x": 1}, {"folder": {"a": 1}}])
async def test_arguments_that_do_not_follow_the_schema_are_refused_by_every_tool(arguments: dict[str, object]) -> None:
    for tool in builtin_tools(ALL, find_in_chats=lambda _words, _most: [], offline=False):
        if arguments or "required" in json.loads(tool.spec.parameters):
            with pytest.raises(ToolError, match="do not follow the schema"):
                await tool.run(arguments)


async def test_folders_that_do_not_exist_are_refused_in_words(tmp_path: Path) -> None:
    settings = ToolSettings(folders=(str(tmp_path / "gone"),))
    for tool in builtin_tools(settings, find_in_chats=None, offline=True):
        if tool.spec.name in FILES:
            with pytest.raises(ToolError, match='There is no "gone'):
                await tool.run(
                    {"path": "a.txt"} if tool.spec.name == "read_file" else {"folder": "", **needed(tool.spec.name)}
                )


def needed(name: str) -> dict[str, str]:
    return {"text": "x"} if name == "search_files" else {}


async def test_a_search_in_documents_is_that_of_the_index() -> None:
    asked = []

    def find(words: str, most: int) -> list[DocumentExcerpt]:
        asked.append((words, most))
        pages = [
            DocumentExcerpt(document="bay\n.pdf", page=7, text="the \x1b[1mlighthouse"),
            DocumentExcerpt(document="b", page=None, text="x" * 9000),
        ]
        return pages if words == "lighthouse" else []

    tool = SearchDocuments(find)
    first, second = (await tool.run({"words": "lighthouse"})).split("\n\n")
    assert first == "bay .pdf, page 7: the [1mlighthouse" and second.startswith("b: xxx") and len(second) < 2000
    assert asked == [("lighthouse", 5)]
    assert await tool.run({"words": "a\nb"}) == 'No document contains "a b".'


async def test_a_search_in_chats_is_that_of_the_store() -> None:
    asked = []

    def find(words: str, most: int) -> list[ChatExcerpt]:
        asked.append((words, most))
        return [ChatExcerpt(title="Trip\nto Rome", created=1_750_000_000_000, text="the \x1b[1mhotel is booked")]

    assert await SearchChats(find).run({"words": "hotel"}) == '2025-06-15 "Trip to Rome": the [1mhotel is booked'
    assert asked == [("hotel", 10)]
    assert await SearchChats(lambda _words, _most: []).run({"words": "x"}) == 'No earlier chat contains "x".'
