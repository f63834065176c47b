"""Settings are typed, named in every error, overridden by the environment, and written without losing comments."""

from pathlib import Path

import pytest

from qwenchat import config
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
        "-x:1",
        "a:1,a:1",
        "\u661f:1",
    ):
        with pytest.raises(WrongUse, match=r"model\.rpc is not the address of a peer"):
            config.put(file, "model.rpc", wrong)
    config.put(file, "model.rpc", ",".join(f"a:{port}" for port in range(1, 17)))
    with pytest.raises(WrongUse, match="16"):
        config.put(file, "model.rpc", ",".join(f"a:{port}" for port in range(1, 18)))
