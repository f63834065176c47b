"""Settings are typed, named in every error, overridden by the environment, and written without losing comments."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qwenchat import config
from qwenchat.chat.sampling import Dialect
from qwenchat.engine_settings import EngineSettings
from qwenchat.errors import FileError, WrongUse
from qwenchat.i18n import LANGUAGES, use_language
from qwenchat.tui import setting_words
from qwenchat.typed_values import problem


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new" / "config.toml"


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def test_no_file_means_defaults_and_makes_none(file: Path) -> None:
    assert config.load(file, {}) == config.Settings()
    assert not file.parent.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model]\ncontxt = 1", "contxt"),
        ("nonsense = 1", "nonsense"),
        ("[model]\ncontext = 'many'", "model.context"),
        ("[model]\ncontext = -1", "model.context"),
        ("[sampling]\ntop_p = 1.5", "sampling.top_p"),
        ("[sampling]\ntemperature = inf", "sampling.temperature"),
        ("language = 'fr'", "language"),
        ("[model", "TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(text: str, words: str, file: Path) -> None:
    with pytest.raises(WrongUse, match=words) as caught:
        config.load(write(file, text), {})
    assert str(file) in caught.value.message


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('language = "tlh"', ("language", "en, zh_CN", '"tlh"')),
        ('tehme = "ink"', ("tehme", "theme")),
        ("[model]\nthreads = 1000", ("model.threads", "0", "512", "1000")),
        ("[model]\ncontext = 1.5", ("model.context", "0", "1.5")),
        ('[model]\nkv_type = "q4"', ("model.kv_type", "auto, f16, q8_0", '"q4"')),
        ('[sampling]\ntop_p = "much"', ("sampling.top_p", "0", "1", '"much"')),
        ('timestamps = "now and then"', ("timestamps", "true", "false", '"now and then"')),
        ("theme = 7", ("theme", "7")),
        ('[hub]\nfolders = "/models"', ("hub.folders", '"/models"')),
        ("hub = 7", ("hub",)),
        ('[engines.lab]\nkind = "vllm"', ("engines.lab.url",)),
        ('[engines.lab]\nurl = "http://lab"\nkind = "v"', ("engines.lab.kind", "openai, llama-server, vllm", '"v"')),
        ("[keys]\nnew = 7", ("keys.new", "7")),
    ],
)
def test_what_is_wrong_is_said_in_words_with_the_choices(
    text: str, words: tuple[str, ...], language: str, file: Path
) -> None:
    use_language(language)
    with pytest.raises(WrongUse) as caught:
        config.load(write(file, text), {})
    message = caught.value.message
    assert all(_in_language(word, language) in message for word in words)
    assert not re.search(r"Invalid|Expected|Object|`|\$|str|int|array|enum", message.replace(str(file), ""))


def _in_language(word: str, language: str) -> str:
    return word.replace(", ", "、") if language == "zh_CN" else word


@pytest.mark.parametrize(
    "key", [*config.names(), "engines", "engines.lab", "engines.lab.url", "keys", "keys.new", "xyz"]
)
def test_what_msgspec_refuses_has_words_and_nothing_else(key: str) -> None:
    for value in (
        "",
        "x",
        "1",
        "true",
        0,
        -2,
        1.5,
        10**12,
        float("inf"),
        True,
        [],
        ["x"],
        [1],
        {},
        {"x": 1},
        {"url": "x"},
    ):
        document: dict[str, Any] = {}
        *sections, name = key.split(".")
        inner = document
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
        try:
            msgspec.convert(document, config.Settings, strict=False)
        except msgspec.ValidationError:
            assert problem(document, config.Settings, strict=False), (key, value)
        else:
            assert not problem(document, config.Settings, strict=False), (key, value)


def test_a_theme_that_is_not_there_is_refused_with_the_list(file: Path) -> None:
    with pytest.raises(WrongUse, match='No theme named "nope"') as caught:
        config.put(file, "theme", "nope")
    assert "gruvbox" in caught.value.hint and "ink" in caught.value.hint and not file.exists()
    (file.parent / "themes").mkdir(parents=True)
    (file.parent / "themes" / "mine.toml").touch()
    for name in ("mine", "paper", ""):
        assert config.put(file, "theme", name).theme == name


@pytest.mark.parametrize("key", config.names())
def test_a_description_says_more_than_the_title(key: str) -> None:
    use_language("en")
    small = {"the", "a", "of", "in", "for", "to", "more", "max", "maximum", "default"}
    title = {_stem(word) for word in re.findall(r"\w+", setting_words.title(key).lower())}
    said = {_stem(word) for word in re.findall(r"\w+", config.description(key).split(";")[0].lower())}
    assert len(said - title - small) >= 2


def _stem(word: str) -> str:
    return word.removesuffix("s")


def test_a_folder_instead_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        config.load(tmp_path, {})


def test_the_environment_wins(file: Path) -> None:
    write(file, "[model]\ncontext = 1024\nthreads = 3")
    settings = config.load(file, {"QWENCHAT_MODEL_CONTEXT": "2048", "QWENCHAT_HUB_FOLDERS": "/a,/b"})
    assert (settings.model.context, settings.model.threads) == (2048, 3)
    assert settings.hub.folders == ("/a", "/b")
    with pytest.raises(WrongUse, match="environment"):
        config.load(file, {"QWENCHAT_MODEL_CONTEXT": "lots"})


def test_writing_preserves_comments_and_order(file: Path) -> None:
    write(file, "# mine\nlanguage = 'en'  # for now\n\n[model]\n# small machine\ncontext = 1024\n")
    config.put(file, "language", "zh_CN")
    config.put(file, "model.context", "4096")
    config.put(file, "sampling.temperature", "0.3")
    config.put(file, "hub.offline", "true")
    text = file.read_text()
    assert "# mine" in text and "# for now" in text and "# small machine" in text
    settings = config.load(file, {})
    assert settings.language == "zh_CN"
    assert (settings.model.context, settings.sampling.temperature, settings.hub.offline) == (4096, 0.3, True)


def test_an_empty_value_returns_to_the_default(file: Path) -> None:
    config.put(file, "sampling.temperature", "0.3")
    config.put(file, "sampling.temperature", "")
    assert config.load(file, {}).sampling.temperature is None


def test_nothing_is_written_when_the_value_is_wrong(file: Path) -> None:
    write(file, "[model]\ncontext = 1024\n")
    for key, value in (("model.context", "x"), ("model.nothing", "1"), ("model", "1")):
        with pytest.raises(WrongUse):
            config.put(file, key, value)
    assert file.read_text() == "[model]\ncontext = 1024\n"


@pytest.mark.parametrize("text", ["model = '7b'\n", "model = ['7b']\n", "[[model]]\ndefault = '7b'\n"])
@pytest.mark.parametrize("value", ["7b", ""])
def test_a_value_instead_of_a_section_is_reported_and_preserved(text: str, value: str, file: Path) -> None:
    write(file, text)
    with pytest.raises(WrongUse, match="value for model"):
        config.put(file, "model.default", value)
    assert file.read_text() == text


@pytest.mark.parametrize("key", config.names())
def test_every_setting_can_be_read_and_has_a_variable_and_a_description(key: str) -> None:
    assert config.description(key)
    config.get(config.Settings(), key)
    assert config.variable(key).isupper()


def test_peers_are_checked(file: Path) -> None:
    config.put(file, "model.rpc", "192.168.1.20:50052, studio.lan:1")
    assert config.load(file, {}).model.rpc == ("192.168.1.20:50052", "studio.lan:1")
    found = config.load(file, {"QWENCHAT_MODEL_RPC": "127.0.0.1:50052"})
    assert found.model.rpc == ("127.0.0.1:50052",)
    for wrong in (
        "studio",
        "[::1]:50052",
        "::1",
        "a:0",
        "a:65536",
        "a b:1",
        "http://a:1",
        "a:1,a:1",
        "\u661f:1",
    ):
        with pytest.raises(WrongUse, match=r"model\.rpc is not the address of a peer"):
            config.put(file, "model.rpc", wrong)
    config.put(file, "model.rpc", ",".join(f"a:{port}" for port in range(1, 17)))
    with pytest.raises(WrongUse, match="16"):
        config.put(file, "model.rpc", ",".join(f"a:{port}" for port in range(1, 18)))


LAB = "[engines.lab]\nurl = 'http://10.0.0.5:8080'\n"


def test_engines_have_keys_of_their_own(file: Path) -> None:
    settings = config.load(write(file, LAB), {})
    assert "engines.lab.url" in config.names(settings)
    assert set(config.names()) < set(config.names(settings))
    assert config.get(settings, "engines.lab.url") == "http://10.0.0.5:8080"
    assert all(config.description(key) for key in config.names(settings))
    assert config.choices("engines.lab.kind")[:2] == ("openai", "llama-server")
    for key in ("engines.lab", "engines.other.url", "engines.lab.password", "engines"):
        with pytest.raises(WrongUse, match="No setting"):
            config.get(settings, key)


def test_the_environment_overrides_an_engine_of_the_file(file: Path) -> None:
    write(file, LAB.replace("lab", "my-lab"))
    settings = config.load(file, {"QWENCHAT_ENGINES_MY_LAB_URL": "https://Box/v1/", "QWENCHAT_ENGINES_X_URL": "no"})
    assert {name: engine.url for name, engine in settings.engines.items()} == {"my-lab": "https://box/v1"}


def test_an_engine_is_written_and_removed_among_comments(file: Path) -> None:
    write(file, f"# mine\n{LAB}kind = 'ollama'  # found out\n")
    config.put(file, "engines.lab.context", "8192")
    config.put(file, "engines.two.url", "HTTP://two/")
    config.put_engine(file, "three", EngineSettings(url="http://three", key_env="KEY"))
    assert "# mine" in file.read_text() and "# found out" in file.read_text()
    engines = config.load(file, {}).engines
    assert engines["lab"] == EngineSettings(url="http://10.0.0.5:8080", kind=Dialect.OLLAMA, context=8192)
    assert (engines["two"].url, engines["three"].key_env) == ("http://two", "KEY")
    config.put_engine(file, "two", None)
    config.put(file, "engines.lab.context", "")
    assert list(config.load(file, {}).engines) == ["lab", "three"]
    assert config.load(file, {}).engines["lab"].context == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("engines.lab.url", ""),
        ("engines.lab.url", "http://me:secret@box"),
        ("engines.lab.kind", "nonsense"),
        ("engines.lab.context", "-1"),
        ("engines.new.kind", "vllm"),
        ("engines.New.url", "http://box"),
        ("engines.a.b.url", "http://box"),
    ],
)
def test_a_wrong_engine_is_not_written(key: str, value: str, file: Path) -> None:
    write(file, LAB)
    with pytest.raises(WrongUse):
        config.put(file, key, value)
    assert file.read_text() == LAB


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAB + "[engines.two]\nkind = 'vllm'", "engines.two"),
        (LAB + "[engines.two]\nurl = 'http://two'\nkey = 'sk'", "key"),
        (LAB + "[engines.two]\nurl = 'two'", "two is not the URL"),
        ("engines = 3", "engines"),
        ("[engines]\nlab = 3", "engines.lab"),
    ],
)
def test_a_wrong_engine_of_the_file_is_named(text: str, words: str, file: Path) -> None:
    with pytest.raises(WrongUse, match=words) as caught:
        config.load(write(file, text), {})
    assert str(file) in caught.value.message


def test_each_tool_can_have_a_rule(file: Path) -> None:
    config.put(file, "tools.policy.read_file", "allow")
    settings = config.put(file, "tools.policy.notes__add", "deny")
    assert settings.tools.policy == {"read_file": "allow", "notes__add": "deny"}
    assert config.get(settings, "tools.policy.read_file") == "allow"
    assert "tools.policy.read_file" in config.names(settings)
    assert config.choices("tools.policy.read_file") == ("ask", "allow", "deny")
    assert config.description("tools.policy.read_file")
    assert config.put(file, "tools.policy.read_file", "").tools.policy == {"notes__add": "deny"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("tools.policy.read_file", "always"), ("tools.policy", "allow"), ("tools.policy.", "allow")),
        *(("tools.policy.a.b", "allow"), ("tools.max_rounds", "0"), ("tools.folders", "notes")),
    ],
)
def test_settings_of_tools_are_checked(key: str, value: str, file: Path) -> None:
    with pytest.raises(WrongUse):
        config.put(file, key, value)
    assert not file.exists()


def test_a_rule_can_come_from_the_environment_where_the_tool_has_one(file: Path) -> None:
    write(file, "[tools.policy]\nread_file = 'allow'\n")
    assert config.load(file, {"QWENCHAT_TOOLS_POLICY_READ_FILE": "deny"}).tools.policy == {"read_file": "deny"}
