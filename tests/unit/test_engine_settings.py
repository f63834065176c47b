"""An engine elsewhere has a name that references can use, a URL in one form, and no key in the settings."""

import pytest

from qwenchat.chat.sampling import Dialect
from qwenchat.engine_settings import EngineSettings, checked, normalised_url
from qwenchat.errors import WrongUse


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (" HTTP://Box:8080/v1/ ", "http://box:8080/v1"),
        ("https://example.com:443/x/", "https://example.com/x"),
        ("http://10.0.0.5:80", "http://10.0.0.5"),
        ("http://[::1]:11434/", "http://[::1]:11434"),
        ("http://localhost:8080/v1", "http://localhost:8080/v1"),
        ("http://аpple.com", "http://xn--pple-43d.com"),
    ],
)
def test_a_url_has_one_form_in_which_no_letter_passes_for_another(typed: str, stored: str) -> None:
    assert normalised_url(typed) == stored
    assert normalised_url(stored) == stored


@pytest.mark.parametrize(
    "url",
    [
        "",
        "box",
        "localhost:8080",
        "ftp://box",
        "file:///etc/passwd",
        "http://",
        "http://box:port",
        "http://box:99999",
        "http://bo x",
        "http://box/\x1b[2J",
        "http://box\\@evil",
        "http://[::1",
        "http://me:secret@box",
        "http://secret@box",
        "http://box/v1?key=secret",
        "http://box/#",
    ],
)
def test_what_is_no_url_of_a_server_is_refused_and_no_secret_in_it_is_shown(url: str) -> None:
    with pytest.raises(WrongUse) as caught:
        normalised_url(url)
    assert caught.value.hint
    assert "me:secret" not in caught.value.message
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize("name", ["", "Lab", "my_lab", "-lab", "lab-", "a/b", "a.b", "@lab", "l" * 33, "实验室"])
def test_a_name_that_references_could_not_use_is_refused(name: str) -> None:
    with pytest.raises(WrongUse):
        checked(name, EngineSettings(url="http://box"))


def test_a_key_has_one_place() -> None:
    with pytest.raises(WrongUse, match="more than one"):
        checked("lab", EngineSettings(url="http://box", key_env="A", key_file="b"))
    assert checked("lab", EngineSettings(url="http://Box/", key_env="A", kind=Dialect.VLLM)).url == "http://box"


@pytest.mark.parametrize(
    ("url", "exposes"),
    [
        ("http://8.8.8.8:8000", True),
        ("http://llm.example.com", True),
        ("https://llm.example.com", False),
        ("http://localhost", False),
        ("http://10.1.2.3", False),
        ("http://100.100.1.1", False),
        ("http://[fd00::1]", False),
        ("http://box", False),
        ("http://box.local", False),
    ],
)
def test_a_key_that_crosses_a_public_network_unencrypted_is_known(url: str, exposes: bool) -> None:
    assert EngineSettings(url=url, key_env="KEY").exposes_key is exposes
    assert EngineSettings(url=url).exposes_key is False
