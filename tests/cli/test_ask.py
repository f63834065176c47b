"""`qwenchat ask` as scripts and users use it: streams, formats, exit codes, Ctrl-C, every kind of bad input."""

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.fakes import ggufs
from tests.fakes.commands import environment, qwenchat


def test_the_answer_is_all_that_stdout_has(chain: ggufs.Chain) -> None:
    done = qwenchat("ask", "-m", chain.path, "你好", "--no-save")
    assert done.returncode == 0
    assert done.stdout == chain.text.replace("\x1b", "").replace("\x07", "").replace("\r\n", "\n") + "\n"
    assert done.stderr == ""


def test_json_is_one_object_with_the_contracts_keys(chain: ggufs.Chain) -> None:
    done = qwenchat("ask", "-m", chain.path, "--json", "hi")
    answer = json.loads(done.stdout)
    assert list(answer) == ["session", "message", "model", "text", "finish_reason", "context", "usage", "timings"]
    assert answer["text"] == chain.text
    assert answer["finish_reason"] == "stop"
    assert list(answer["usage"]) == ["prompt_tokens", "cached_tokens", "completion_tokens"]
    assert list(answer["timings"]) == ["load_s", "prefill_s", "prefill_tps", "decode_s", "decode_tps", "ttft_s"]
    assert answer["timings"]["load_s"] > 0
    assert "\x1b" not in done.stdout


def test_jsonl_gives_each_event_and_ends_with_the_same_object(chain: ggufs.Chain) -> None:
    events = [json.loads(line) for line in qwenchat("ask", "-m", chain.path, "--jsonl", "hi").stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "saved" and kinds[-1] == "done" and "prefill" in kinds
    assert "".join(event["text"] for event in events if event["event"] == "delta") == chain.text == events[-1]["text"]


def test_words_pipe_and_files_make_one_question(tiny: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_bytes("这是一份用国标编码保存的中文笔记，里面有不少汉字。".encode("gb18030"))
    words = ("ask", "-m", tiny, "--json", "--max-tokens", "1")

    def tokens(*more: str | Path, stdin: bytes = b"") -> int:
        return int(json.loads(qwenchat(*words, *more, stdin=stdin).stdout)["usage"]["prompt_tokens"])

    alone, piped, filed = tokens("hi"), tokens("hi", stdin=b"piped words"), tokens("hi", "-f", notes)
    assert alone < piped < filed
    assert qwenchat(*words, stdin=b"only piped").returncode == 0


def test_a_standard_input_that_can_not_be_read(tiny: Path) -> None:
    def ask(stdin: int) -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-m", "qwenchat", "ask", "-m", str(tiny), "--no-save", "--max-tokens", "1", "hi"]
        return subprocess.run(words, stdin=stdin, capture_output=True, text=True, env=environment(), check=False)

    with Path(os.devnull).open("wb") as as_nohup_leaves_it, socket.socket() as unconnected:
        assert (done := ask(as_nohup_leaves_it.fileno())).returncode == 0, done.stderr
        check_refusal(ask(unconnected.fileno()), 8, "standard input")


def test_verbose_tells_stderr_how_long_it_took(chain: ggufs.Chain) -> None:
    done = qwenchat("ask", "-m", chain.path, "-v", "hi")
    assert "tokens/s" in done.stderr
    assert "tokens/s" not in done.stdout


def asked_in(script: str, chain: ggufs.Chain, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run a script whose arguments are those of a question, with nothing on its standard input."""
    return subprocess.run(
        [sys.executable, "-c", script, "ask", "-m", str(chain.path), *options, "hi"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )


def test_rich_is_imported_for_a_terminal_only(chain: ggufs.Chain) -> None:
    script = (
        "import sys\nfrom qwenchat.cli.main import main\ncode = main(sys.argv[1:])\n"
        "print('rich' in sys.modules, file=sys.stderr)\nsys.exit(code)"
    )
    done = asked_in(script, chain)
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert done.stdout.startswith("Look:")


def test_what_asks_is_imported_once_the_worker_starts(chain: ggufs.Chain) -> None:
    script = (
        "import sys\nfrom qwenchat.cli.main import main\nfrom qwenchat.engines.local.process import WorkerProcess\n"
        "later = ['qwenchat.cli.ask_turn', 'qwenchat.cli.ask_documents', 'qwenchat.sessions.store']\n"
        "start = WorkerProcess.start.__func__\n"
        "async def noting(cls, log):\n"
        "    print([name for name in later if name in sys.modules], file=sys.stderr)\n"
        "    return await start(cls, log)\n"
        "WorkerProcess.start = classmethod(noting)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = asked_in(script, chain, "--no-attach")
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_warnings_about_the_model_go_to_stderr(chain: ggufs.Chain) -> None:
    script = (
        "import sys\nfrom qwenchat.cli.main import main\nfrom qwenchat.runtime import load_planner\n"
        "load_planner.load_warnings = lambda load, **more: ('YaRN is on',)\nsys.exit(main(sys.argv[1:]))"
    )
    done = asked_in(script, chain, "--json")
    assert done.stderr == "YaRN is on\n"
    assert json.loads(done.stdout)["text"] == chain.text


def test_sampling_of_the_settings_is_checked(tiny: Path) -> None:
    for name in ("QWENCHAT_SAMPLING_TEMPERATURE", "QWENCHAT_SESSIONS_SAVED_KV_GB", "QWENCHAT_MODEL_THREADS"):
        check_refusal(qwenchat("ask", "-m", tiny, "hi", stdin=b"", **{name: "1e12"}), 2)


def test_stop_and_seed_and_limits_reach_the_engine(chain: ggufs.Chain) -> None:
    done = qwenchat("ask", "-m", chain.path, "--json", "--stop", "你好", "--seed", "1", "--temperature", "1", "hi")
    answer = json.loads(done.stdout)
    assert answer["finish_reason"] == "stop"
    assert "你好" not in answer["text"]
    done = qwenchat("ask", "-m", chain.path, "--json", "--max-tokens", "2", "hi")
    assert json.loads(done.stdout)["finish_reason"] == "length"


def test_a_schema_file_makes_json(tiny: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"enum": ["yes", "no"]}')
    done = qwenchat("ask", "-m", tiny, "--schema", schema, "--temperature", "0", "hi")
    assert json.loads(done.stdout) in ("yes", "no")


def test_the_wrapper_of_openai_is_taken_off(tiny: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    inner = {"name": "n", "strict": True, "schema": {"enum": ["好 😀"]}}
    schema.write_text(json.dumps({"type": "json_schema", "json_schema": inner}))
    done = qwenchat("ask", "-m", tiny, "--schema", schema, "--temperature", "0", "--json", "hi")
    answer = json.loads(done.stdout)
    assert answer["text"] == '"好 😀"'
    assert answer["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}, "#/properties/a/uniqueItems"),
        (
            {"$ref": "#/$defs/0", "$defs": {str(n): {"$ref": f"#/$defs/{(n + 1) % 9000}"} for n in range(9000)}},
            "complex",
        ),
    ],
    ids=["keyword", "crashes its compiler"],
)
def test_a_schema_is_refused_before_anything_is_loaded_or_saved(
    schema: dict[str, object], place: str, tiny: Path, tmp_path: Path
) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    check_refusal(qwenchat("ask", "-m", tiny, "--schema", file, "hi"), 2, place)
    assert json.loads(qwenchat("sessions", "list", "--json").stdout)["sessions"] == []


def test_json_that_is_cut_off_is_said_to_be(tiny: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "array", "minItems": 1000000000}')
    done = qwenchat("ask", "-m", tiny, "--schema", schema, "--json", "--max-tokens", "5", "hi")
    assert json.loads(done.stdout)["finish_reason"] == "length"
    assert "JSON is incomplete" in done.stderr


def test_ctrl_c_saves_the_partial_answer_and_leaves_nothing_running(endless: ggufs.Chain) -> None:
    asking = subprocess.Popen(
        [sys.executable, "-m", "qwenchat", "ask", "-m", str(endless.path), "--ctx", "32768", "hi"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert asking.stdout
    begun = asking.stdout.read(20).decode()
    children = psutil.Process(asking.pid).children(recursive=True)
    asking.send_signal(signal.SIGINT)
    rest = asking.stdout.read().decode()
    assert asking.wait(timeout=60) == 130
    assert begun + rest == (endless.text * 10000)[: len(begun + rest) - 1].rstrip("\n") + "\n"
    assert children and not any(child.is_running() for child in children)


def test_ctrl_c_works_before_the_model_is_loaded(endless: ggufs.Chain, home: Path) -> None:
    words = ["ask", "-m", str(endless.path), "--ctx", "32768", "--max-tokens", "20000", "--jsonl", "hi"]
    asking = subprocess.Popen(
        [sys.executable, "-m", "qwenchat", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert asking.stdout
    assert json.loads(asking.stdout.readline())["event"] == "saved"  # and no worker yet
    asking.send_signal(signal.SIGINT)
    out, _err = asking.communicate(timeout=60)
    assert asking.returncode == 130
    assert b'"delta"' not in out


def test_sigterm_saves_the_partial_answer_and_shows_the_cursor_again(endless: ggufs.Chain, home: Path) -> None:
    words = ["ask", "-m", str(endless.path), "--ctx", "32768", "hi"]
    pid, terminal = pty.fork()
    if not pid:
        os.environ.update(COLUMNS="60", LINES="20", TERM="xterm-256color")
        os.execve(sys.executable, [sys.executable, "-m", "qwenchat", *words], environment())
    sent = b""
    while b"once upon" not in sent:
        sent += os.read(terminal, 4096)
    assert b"\x1b[?25l" in sent
    os.kill(pid, signal.SIGTERM)
    sent += rest_of(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert sent.rindex(b"\x1b[?25h") > sent.rindex(b"\x1b[?25l")
    (session,) = json.loads(qwenchat("sessions", "list", "--json").stdout)["sessions"]
    kept = json.loads(qwenchat("sessions", "show", session["id"], "--json").stdout)["messages"][1]
    assert kept["status"] == "stopped" and kept["text"].startswith("once upon")


def test_what_came_of_an_answer_is_printed_when_the_engine_dies(endless: ggufs.Chain, home: Path) -> None:
    words = ["ask", "-m", str(endless.path), "--ctx", "32768", "--no-save", "--jsonl", "hi"]
    asking = subprocess.Popen(
        [sys.executable, "-m", "qwenchat", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert asking.stdout
    while json.loads(asking.stdout.readline())["event"] != "delta":
        pass
    for worker in psutil.Process(asking.pid).children():
        worker.kill()
    out, err = asking.communicate(timeout=60)
    assert asking.returncode == 6, err
    answer = json.loads(out.splitlines()[-1])
    assert answer["event"] == "done" and (endless.text * 10_000).startswith(answer["text"]) and answer["text"]
    assert (answer["finish_reason"], answer["usage"]) == (None, None)
    assert b"SIGKILL" in err


BAD: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "missing.gguf": (lambda path: None, 3, "no file"),
    "folder.gguf": (lambda path: path.mkdir(), 8, "not a file"),
    "empty.gguf": (lambda path: path.write_bytes(b""), 5, "empty"),
    "page.gguf": (lambda path: path.write_text("<!DOCTYPE html><html>Not found</html>"), 5, "web page"),
    "bert.gguf": (lambda path: ggufs.write_model(path, arch="bert"), 5, "bert"),
    "clip.gguf": (lambda path: ggufs.write_model(path, arch="clip"), 5, "clip"),
    "words.gguf": (lambda path: ggufs.write_model(path, weights=False), 5, "vocabulary"),
    "base.gguf": (lambda path: ggufs.write_model(path, chat_template=None), 5, "chat template"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_model_is_refused_in_two_lines(name: str, tmp_path: Path) -> None:
    make, code, word = BAD[name]
    make(tmp_path / name)
    check_refusal(qwenchat("ask", "-m", tmp_path / name, "hi"), code, word)


def check_refusal(done: "subprocess.CompletedProcess[str]", code: int, word: str = "") -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and lines[0].startswith("error: "), done.stderr
    assert word in done.stderr


@pytest.mark.parametrize("where", ["header", "vocabulary", "tensors"])
def test_a_model_cut_short_is_refused(where: str, tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    end = {"header": 20, "vocabulary": data.index(b"tokenizer.ggml.tokens") + 500, "tensors": len(data) * 2 // 3}
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(data[: end[where]])
    check_refusal(qwenchat("ask", "-m", cut, "hi"), 5)


def test_parts_of_a_split_model(models: Path, tmp_path: Path) -> None:
    first = ggufs.write_model(tmp_path / "whole.gguf", tensors_per_part=10)
    second = Path(str(first).replace("-00001-", "-00002-"))
    check_refusal(qwenchat("ask", "-m", second, "hi"), 5, "first part")
    second.unlink()
    check_refusal(qwenchat("ask", "-m", first, "hi"), 5, second.name)


def test_a_file_without_permission(tiny: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked.gguf"
    locked.write_bytes(tiny.read_bytes())
    locked.chmod(0)
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if bound and not shutil.which("setpriv"):
        pytest.skip("root may read everything, and nothing here takes that from it")
    words = [*bound, sys.executable, "-m", "qwenchat", "ask", "-m", str(locked), "hi"]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(), check=False
    )
    check_refusal(done, 8, "locked.gguf")


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        (["--ctx", "10000000", "hi"], 5, "4,096"),
        (["--temperature", "nan", "hi"], 2, "temperature"),
        (["--temperature", "-1", "hi"], 2, "temperature"),
        (["--top-p", "1.5", "hi"], 2, "top-p"),
        (["--seed", "-3", "hi"], 2, "seed"),
        (["--max-tokens", "0", "hi"], 2, "max-tokens"),
        (["--max-tokens", "9" * 30, "hi"], 2, "max-tokens"),
        (["--stop", "", "hi"], 2, "stop"),
        ([""], 2, "question"),
        ([], 2, "question"),
        (["-f", "/nowhere/file.txt", "hi"], 8, "/nowhere"),
        (["-f", "/bin", "hi"], 8, "folder"),
        (["--schema", "/bin/ls", "hi"], 8, "text"),
        (["--schema", __file__, "hi"], 2, "JSON"),
        (["--schema", __file__, "--stop", "x", "hi"], 2, "--stop"),
        (["--lora", "/nowhere/lora.gguf:0.5", "hi"], 8, "adapter"),
        (["x" * 100_000], 2, "context window"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_arguments_are_refused_in_two_lines(words: list[str], code: int, word: str, tiny: Path) -> None:
    check_refusal(qwenchat("ask", "-m", tiny, *words), code, word)


def test_a_prompt_of_a_megabyte_is_refused_with_its_size(tiny: Path) -> None:
    check_refusal(qwenchat("ask", "-m", tiny, stdin=b"word " * 200_000), 2, "tokens")


def test_a_binary_pipe_is_refused(tiny: Path) -> None:
    check_refusal(qwenchat("ask", "-m", tiny, stdin=b"a\0b"), 8, "standard input")


ODD = {"marks": "a" + "\u0301" * 10_000, "joiners": "\u200d\ufe0f" * 50, "right to left": "مرحبا " * 20}


@pytest.mark.parametrize("kind", ODD)
def test_odd_text_is_read_as_it_is(kind: str, models: Path) -> None:
    text = ODD[kind]
    wide = models / "wide.gguf"
    if not wide.exists():
        ggufs.write_model(wide, shape=ggufs.Shape(context=32768))
    done = qwenchat("ask", "-m", wide, "--json", "--max-tokens", "2", stdin=text.encode())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["usage"]["prompt_tokens"] > len(text)


def test_bytes_that_are_not_text_in_an_argument(tiny: Path) -> None:
    words: list[str | bytes] = [
        "ask",
        "-m",
        str(tiny),
        "--json",
        "--max-tokens",
        "1",
        "--stop",
        b"\xff",
        b"caf\xe9 \xed\xa0\x80",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "qwenchat", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there every name is text")
def test_a_model_and_an_adapter_whose_names_are_not_text(chain: ggufs.Chain, tmp_path: Path) -> None:
    model, lora = tmp_path / os.fsdecode(b"\xe9.gguf"), tmp_path / os.fsdecode(b"\xff.gguf")
    model.write_bytes(chain.path.read_bytes())
    ggufs.write_lora(tmp_path / "lora.gguf").rename(lora)
    for words in (["-m", model], ["-c"], ["-c", "--lora", lora]):
        done = qwenchat("ask", *words, "--json", "hi")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert (answer["text"], answer["model"]) == (chain.text, f"{tmp_path.as_uri()}/%E9.gguf")


def test_no_model_and_unknown_model() -> None:
    check_refusal(qwenchat("ask", "-m", "nothing-like-it", "hi"), 3)


def test_too_little_memory_is_reported_before_loading(models: Path) -> None:
    huge = ggufs.Shape(context=32768, layers=2, width=128, heads=2, kv_heads=2)
    path = ggufs.write_model(models / "huge.gguf", shape=huge)
    with path.open("r+b") as file:
        file.truncate(8 << 40)  # a sparse file of 8 TiB
    check_refusal(qwenchat("ask", "-m", path, "hi"), 5, "TB")


def on_a_terminal(*words: str | Path, columns: int = 60) -> str:
    """Run a command on a pseudo-terminal and return the bytes that it sent there."""
    pid, terminal = pty.fork()
    if not pid:
        os.environ.update(COLUMNS=str(columns), LINES="20", TERM="xterm-256color")
        os.execve(sys.executable, [sys.executable, "-m", "qwenchat", *map(str, words)], environment())
    sent = rest_of(terminal)
    os.waitpid(pid, 0)
    return sent.decode()


def rest_of(terminal: int) -> bytes:
    """Return all that is written to a terminal until its last program ends, and close it."""
    sent = b""
    while True:
        try:
            block = os.read(terminal, 4096)
        except OSError:
            break
        if not block:
            break
        sent += block
    os.close(terminal)
    return sent


def test_a_terminal_gets_rendered_markdown_and_nothing_that_it_obeys(chain: ggufs.Chain, models: Path) -> None:
    text = "# Title\n\n**bold** and List<String>\n\n- one\n- two\n\n[bold red]not markup[/] \x1b]0;pwned\x07 the end."
    path = ggufs.write_chain(models / "markdown.gguf", text).path
    sent = on_a_terminal("ask", "-m", path, "hi")
    assert "**" not in sent and "bold" in sent
    assert "List<String>" in sent and "[bold red]not markup[/]" in sent
    assert "\x1b]0;" not in sent and "\x07" not in sent
    assert "\x1b[31m" not in on_a_terminal("ask", "-m", chain.path, "hi", "--raw")
