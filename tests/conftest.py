"""Models that tests share, made once a run, and a home of its own for every test."""

import os
import signal
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from qwenchat.engines.local import devices
from qwenchat.i18n import use_language
from tests.fakes import ggufs

settings.register_profile("qwenchat", deadline=None)  # no test asserts a duration
settings.register_profile("ci", settings.get_profile("qwenchat"), derandomize=True)
"""A new counterexample is for a developer, not for a landing."""
settings.load_profile("ci" if os.environ.get("CI") else "qwenchat")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a run in the background, whose children would ignore Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)


_asked = cache(devices.ask_worker)
"""A worker is asked for its accelerators once for all tests."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep config, data, cache and logs of a test, and of what it starts, below one folder; speak English."""
    folder = tmp_path / "home"
    monkeypatch.setenv("QWENCHAT_HOME", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "person"))  # whose folders hold no models
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # each program would compile all of its modules again
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("QWENCHAT_MODEL_THREADS", "1")  # two threads on a busy machine wait for each other
    monkeypatch.setattr(devices, "ask_worker", _asked)
    use_language("en")  # whatever an earlier test chose in this context
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for models that live as long as the run."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def tiny(models: Path) -> Path:
    """A dense qwen2 with random weights."""
    return ggufs.write_model(models / "tiny.gguf")


@pytest.fixture(scope="session")
def chain(models: Path) -> ggufs.Chain:
    """A model that says AWKWARD, whatever it is asked."""
    return ggufs.write_chain(models / "chain.gguf", ggufs.AWKWARD)


@pytest.fixture(scope="session")
def endless(models: Path) -> ggufs.Chain:
    """A model that never ends by itself."""
    shape = ggufs.Shape(tied=False, context=32768)
    return ggufs.write_chain(models / "endless.gguf", "once upon a time ", shape=shape, ends=False)
