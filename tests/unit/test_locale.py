"""Chinese is complete, committed in both forms, and spoken: by the locale, by the setting, and by click."""

import ast
import errno
import os
import sys
from io import BytesIO

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from devtools import catalogue
from qwenchat.cli.help import localised
from qwenchat.cli.models import models
from qwenchat.i18n import use_language
from tests.fakes.commands import qwenchat

WORDS = {"_": 1, "ngettext": 2}
"""What takes strings to be translated, and how many."""
COLLECTED_ELSEWHERE = {
    ("cli/help.py", "_(inspect.cleandoc(command.help))"),
    ("cli/help.py", "_(parameter.help)"),
    ("i18n.py", "_(words)"),
    ("tui/arguments.py", "_(each.help)"),
    ("tui/dialogs/settings.py", "_(config.description(self.key))"),
    ("tui/dialogs/settings.py", "_(section)"),
    ("tui/dialogs/settings.py", "_(title)"),
    ("tui/dialogs/theme.py", "_(title)"),
    ("tui/palette.py", "_(config.description(key))"),
    ("tui/palette.py", "_(title)"),
}
"""Calls whose strings `catalogue.collected` finds where they are written: in docstrings, options, settings, themes."""


@pytest.fixture(scope="module")
def committed() -> Catalog:
    """The .po as it is in the repository."""
    with catalogue.PO.open("rb") as file:
        return read_po(file, locale="zh_CN")


@pytest.fixture(scope="module")
def today() -> Catalog:
    """The strings of today with the translations that there are."""
    use_language("en")  # made before what every test gets, in the language of the test before
    return catalogue.updated()


def _words(mo: bytes) -> dict[str, object]:
    """Return Chinese by English; of two English forms, by both."""
    return {str(message.id): message.string for message in read_mo(BytesIO(mo)) if message.id}


def test_every_string_has_chinese_with_fields_of_the_english(today: Catalog) -> None:
    assert catalogue.untranslated(today) == []


def test_the_catalogue_holds_exactly_the_strings_of_today(committed: Catalog, today: Catalog) -> None:
    assert {message.id for message in committed} == {message.id for message in today}


def test_help_in_another_language_leaves_the_commands_as_they_are_written() -> None:
    written = models.help
    use_language("zh_CN")
    assert localised(models).help == "选择、检查和管理模型。"
    assert models.help == written == "Choose, check and manage models."


def test_the_compiled_catalogue_is_the_committed_one(committed: Catalog) -> None:
    mo = _words(catalogue.PO.with_suffix(".mo").read_bytes())
    assert mo == _words(catalogue.compiled(committed))
    assert mo["No model is chosen, and none is installed."] == "没有选择模型，本机也没有模型。"


def test_every_string_is_written_where_it_is_collected_from() -> None:
    """`make locale` finds literal strings; one in an f-string it misses, and one that is computed it can't know."""
    wrong = []
    for file in sorted(catalogue.PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        inside = {id(part) for outer in ast.walk(tree) if isinstance(outer, ast.JoinedStr) for part in ast.walk(outer)}
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WORDS):
                continue
            texts = node.args[: WORDS[node.func.id]]
            literal = all(isinstance(text, ast.Constant) and isinstance(text.value, str) for text in texts)
            source, place = ast.unparse(node), file.relative_to(catalogue.PACKAGE).as_posix()
            if id(node) in inside or not (literal or (place, source) in COLLECTED_ELSEWHERE):
                wrong.append(f"{place}:{node.lineno}: {source}")
    assert not wrong, "\n".join(wrong)


def test_translations_are_put_in_by_their_english() -> None:
    catalog = Catalog(locale="zh_CN")
    catalog.add("size")
    catalog.add(("{count} file", "{count} files"))
    assert catalogue.untranslated(catalog) == ["size", "('{count} file', '{count} files')"]
    catalogue.translate(catalog, {"size": "大小", "{count} file": "{count} 个文件"})
    assert catalogue.untranslated(catalog) == []
    with pytest.raises(KeyError, match="no such string"):
        catalogue.translate(catalog, {"no such string": "无"})


@pytest.mark.parametrize(("locale", "setting"), [("zh_CN.UTF-8", ""), ("C.UTF-8", "zh_CN"), ("en_US", "zh_CN")])
def test_help_is_chinese_and_so_are_the_words_of_click(locale: str, setting: str) -> None:
    shown = qwenchat("sessions", "--help", LANG=locale, QWENCHAT_LANGUAGE=setting).stdout
    assert "查找、阅读、重命名和删除对话。" in shown
    assert shown.startswith("用法: qwenchat sessions")
    assert "显示帮助并退出。" in shown


def test_an_error_is_chinese_by_the_locale() -> None:
    done = qwenchat("ask", "-m", "/none.gguf", "hello", LANG="zh_CN.UTF-8")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == "错误：没有文件 /none.gguf。"


def test_what_the_system_says_is_chinese() -> None:
    done = qwenchat("sessions", "import", "/none.json", LANG="zh_CN.UTF-8")
    assert done.returncode == 8
    assert done.stderr.splitlines()[0] == "错误：/none.json：无法读取：文件或文件夹不存在。"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other words")
def test_the_words_of_the_system_are_what_it_says() -> None:
    said = {os.strerror(number) for number in errno.errorcode}
    said |= {"Name or service not known", "Temporary failure in name resolution"}  # of getaddrinfo
    assert {words for words in catalogue.SYSTEM if words[0].isupper()} <= said


def test_wrong_use_is_chinese() -> None:
    done = qwenchat("nothing", LANG="zh_CN.UTF-8")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "错误：没有命令 'nothing'。"


def test_the_setting_wins_over_the_locale() -> None:
    assert qwenchat("config", "set", "language", "en", LANG="zh_CN.UTF-8").returncode == 0
    done = qwenchat("sessions", "show", "abc", LANG="zh_CN.UTF-8")
    assert done.stderr.startswith("error: There is no session abc.")
    assert qwenchat("sessions", "--help", LANG="zh_CN.UTF-8").stdout.startswith("Usage:")


def test_help_is_there_where_the_settings_are_wrong() -> None:
    shown = qwenchat("--help", LANG="zh_CN.UTF-8", QWENCHAT_LANGUAGE="tlh").stdout
    assert shown.startswith("用法:")
    refused = qwenchat("models", "list", LANG="zh_CN.UTF-8", QWENCHAT_LANGUAGE="tlh")
    assert refused.stderr.startswith("错误：环境变量中有一项设置无效：")
