"""Settings are typed, named in every error, overridden by the environment, and written without losing comments."""

from pathlib import Path

import pytest

from qwenchat import config
from qwenchat.chat.sampling import Dialect
from qwenchat.engine_settings import EngineSettings
from qwenchat.errors import FileError, WrongUse


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
