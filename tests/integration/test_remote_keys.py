"""Where the key of a server comes from, what is refused, and that it shows up nowhere."""

import asyncio
import os
import shlex
import sys
import traceback
from pathlib import Path

import pytest

from qwenchat.engines.remote.keys import Key, KeyLookup
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import RecoveryKind, RemoteUnauthorised

KEY = "sk-0123456789abcdef"


def from_env(value: str, variable: str = "GPU_KEY") -> KeyLookup:
    return KeyLookup(RemoteServer(name="gpu", url="http://h", key_env="GPU_KEY"), {variable: value})


def from_command(command: str, *, seconds: float = 30) -> KeyLookup:
    return KeyLookup(RemoteServer(name="gpu", url="http://h", key_command=command), {}, command_s=seconds)


def from_python(code: str, *, seconds: float = 30) -> KeyLookup:
    return from_command(shlex.join([sys.executable, "-c", code]), seconds=seconds)


def from_file(path: Path | str) -> KeyLookup:
    return KeyLookup(RemoteServer(name="gpu", url="http://h", key_file=str(path)), {})


async def sent(keys: KeyLookup) -> bytes:
    key = await keys.get()
    assert key and KEY not in repr(key) + str(key) + f"{key}"
    return key.header()


async def refusal(keys: KeyLookup) -> str:
    """Return what is said where a key can't be used."""
    with pytest.raises(RemoteUnauthorised) as caught:
        await keys.get()
    error = caught.value
    assert error.hint and error.exit_code == 4
    assert [(each.kind, each.name) for each in error.recoveries] == [(RecoveryKind.SET_KEY, "gpu")]
    said = f"{error.message} {error.hint}"
    assert KEY not in said + "".join(traceback.format_exception(error))
    assert said.isprintable()
    return said


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a key"
    path.write_text(f"{KEY}\n")
    path.chmod(0o600)
    return path


async def test_from_the_environment() -> None:
    assert await sent(from_env(f" {KEY}\n")) == b"Bearer " + KEY.encode()
    assert await sent(from_env("caf\u00e9 \u00a3")) == b"Bearer caf\xe9 \xa3"


async def test_a_variable_that_is_not_set() -> None:
    assert "GPU_KEY is not set" in await refusal(from_env(KEY, "OTHER"))
    assert "GPU_KEY is not set" in await refusal(from_env("  "))


@pytest.mark.parametrize("after", [f"\n{KEY}", "\x00", "\x1b[2J", "\u4f60", "\u201d", "\x85x"])
async def test_characters_that_can_not_be_sent(after: str) -> None:
    assert "characters that can't be sent" in await refusal(from_env(KEY + after))


async def test_a_key_without_end() -> None:
    assert "too long" in await refusal(from_env(KEY * 1000))


@pytest.mark.parametrize(
    ("url", "variables", "wanted"),
    [
        ("https://dashscope.aliyuncs.com/compatible-mode/v1", ["DASHSCOPE_API_KEY"], True),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", ["DASHSCOPE_API_KEY"], True),
        ("http://dashscope.aliyuncs.com/v1", ["DASHSCOPE_API_KEY"], False),
        ("https://dashscope.aliyuncs.com.evil.example/v1", ["DASHSCOPE_API_KEY"], False),
        ("https://evil.example/dashscope.aliyuncs.com", ["DASHSCOPE_API_KEY"], False),
        ("https://evildashscope.aliyuncs.com", ["DASHSCOPE_API_KEY"], False),
        ("https://dashscope.aliyuncs.com@evil.example", ["DASHSCOPE_API_KEY"], False),
        ("https://api.openai.com/v1", ["OPENAI_API_KEY", "DASHSCOPE_API_KEY"], False),
        ("http://127.0.0.1:8080", ["OPENAI_API_KEY", "LLAMA_API_KEY", "VLLM_API_KEY"], False),
        ("https://dashscope.aliyuncs.com/v1", ["OPENAI_API_KEY"], False),
    ],
)
async def test_a_well_known_variable_is_for_its_own_hosts_only(url: str, variables: list[str], *, wanted: bool) -> None:
    keys = KeyLookup(RemoteServer(name="x", url=url), dict.fromkeys(variables, KEY))
    assert (await keys.get() is not None) == wanted


async def test_from_a_command(tmp_path: Path) -> None:
    assert await sent(from_python(f"print('{KEY}')")) == b"Bearer " + KEY.encode()
    script = tmp_path / "with space"
    script.write_text(f"#!/bin/sh\necho {KEY}\n")
    script.chmod(0o700)
    assert await sent(from_command(f"'{script}' --quiet")) == b"Bearer " + KEY.encode()


async def test_a_command_runs_once_and_again_once_the_key_was_refused(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    keys = from_python(f"open({str(runs)!r}, 'a').write('x'); print('{KEY}')")
    assert len({id(key) for key in await asyncio.gather(*[keys.get() for _each in range(5)])}) == 1
    assert runs.read_text() == "x"
    keys.forget()
    await keys.get()
    assert runs.read_text() == "xx"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (from_command(f"/no/such/program {KEY}"), "can't be run: No such file"),
        (from_command(f"'unclosed {KEY}"), "it is not a command"),
        (from_command("   "), "it is not a command"),
        (from_python(f"import sys; print('{KEY}'); sys.exit('no {KEY}')"), "exit code 1"),
        (from_python("print()"), "it is empty"),
        (from_python(f"print('{KEY}'); print('{KEY}')"), "more than one line"),
        (from_python("import time; time.sleep(600)", seconds=0.2), "does not end"),
        (from_python("while True: print('y' * 4096)"), "too long"),
    ],
)
async def test_a_command_that_fails(keys: KeyLookup, words: str) -> None:
    assert words in await refusal(keys)


async def test_a_command_has_no_terminal() -> None:
    code = "import os, sys; print('no' if sys.stdin.read() or os.getsid(0) != os.getpid() else 'alone')"
    assert await sent(from_python(code)) == b"Bearer alone"


async def test_stopping_ends_the_command(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    code = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    asking = asyncio.create_task(from_python(code).get())
    pid = int(await asyncio.to_thread(started.read_text))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_from_a_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await sent(from_file(file)) == b"Bearer " + KEY.encode()
    monkeypatch.setenv("HOME", str(file.parent))
    assert await sent(from_file(f"~/{file.name}")) == b"Bearer " + KEY.encode()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666, 0o660, 0o620])
async def test_a_file_that_others_may_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert f"Run: chmod 600 '{file}'" in await refusal(from_file(file))


async def test_a_file_of_another_user(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    assert "belongs to another user" in await refusal(from_file(file))


async def test_what_is_no_file(tmp_path: Path) -> None:
    assert "No such file" in await refusal(from_file(tmp_path / "gone"))
    assert "is not a file" in await refusal(from_file(tmp_path))
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "is not a file" in await refusal(from_file(tmp_path / "pipe"))


def test_a_key_is_taken_out_of_what_a_server_says() -> None:
    key = Key(KEY)
    assert key.hide(f"a {KEY}, and {KEY}") == "a •••, and •••"
    assert KEY not in repr(key) + repr([key]) + f"{key}"
