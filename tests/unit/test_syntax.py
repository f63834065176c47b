"""Where a file breaks the rules of TOML or JSON is said in the user's language, without the parser's own words."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qwenchat import config
from qwenchat.documents.collections import collections_in
from qwenchat.engines.schema.check import check_schema
from qwenchat.errors import QwenchatError, WrongUse
from qwenchat.i18n import use_language
from qwenchat.models.sources.folder import Manifest
from qwenchat.text import syntax
from qwenchat.tools.mcp import settings as tool_servers


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (tomllib.loads, "theme = dark\n", "line 1, column 9"),
        (tomllib.loads, 'theme = "ink"\n\n[model\n', "line 3, column 7"),
        (tomllib.loads, "[model]\nrpc = [1,\n\n", "line 2"),
        (json.loads, '{"a": 1,\n "b" 2}', "line 2, column 6"),
        (json.loads, "", "line 1, column 1"),
        (msgspec.json.decode, '{"好": 1,\n "好": x}', "line 2, column 7"),
        (msgspec.json.decode, '{"a":\n', "line 1"),
        (json.loads, "[" * 100_000, "it is nested too deeply"),
        (lambda text: msgspec.json.decode(text, type=dict[str, int]), '{"a": "b"}', "the field [...] is invalid"),
        (
            lambda text: msgspec.convert(json.loads(text), Manifest),
            '{"files": [{"size": 1}]}',
            "the field files[0].name is missing",
        ),
        (lambda text: text.encode("utf-16").decode("utf-8"), "x", "it is not UTF-8"),
    ],
)
def test_the_place_is_named(parse: Callable[[str], Any], text: str, words: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as caught:
        parse(text)
    assert syntax.fault(caught.value, text) == words


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (lambda file: config.load(file, {}), "theme = dark\n"),
        (tool_servers.load, '{ // mine\n/* not\n */ "mcpServers": x}'),
        (collections_in, '{"version":\n}'),
    ],
)
def test_chinese_users_read_no_english(read: Callable[[Path], Any], text: str, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text(text, "utf-8")
    use_language("zh_CN")
    with pytest.raises(QwenchatError) as caught:
        read(file)
    said = caught.value.message.replace(str(file), "")
    assert not any(word in said for word in ("Invalid", "malformed", "Expect", "Object", " at "))


async def test_a_schema_that_is_not_json_is_refused_with_the_place() -> None:
    with pytest.raises(WrongUse, match="it is not JSON: line 2, column 2"):
        await check_schema('{"type": "object"\n}}')
