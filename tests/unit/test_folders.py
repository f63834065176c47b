"""The user's folders as tools see them: what is read in any encoding, and every way out of them."""

import asyncio
import os
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenchat.tools.builtin.folders import Entry, Folders, Place
from qwenchat.tools.builtin.list_files import ListFiles
from qwenchat.tools.builtin.read_file import ReadFile
from qwenchat.tools.builtin.search_files import SearchFiles
from qwenchat.tools.tool import ToolError

SECRET = "the secret of the house"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two folders for tools, `notes` and `work`, and secrets beside and inside them."""
    home = tmp_path_factory.mktemp("home")
    files = {
        "notes/todo.txt": "buy milk\ncall Anna\n",
        "notes/2025/plan  b.md": "Milk and honey",
        "notes/.env": SECRET,
        "notes/.git/config": SECRET,
        "notes/id_rsa": SECRET,
        "notes/server.PEM": SECRET,
        "notes/passwords.txt": SECRET,
        "work/report.txt": "quarterly milk report",
        "outside/plain.txt": SECRET,
        "notes-private/plain.txt": SECRET,
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    notes = home / "notes"
    (notes / "inside").symlink_to("2025")
    (notes / "out").symlink_to("../outside")
    (notes / "out.txt").symlink_to(home / "outside/plain.txt")
    (notes / "key.txt").symlink_to("id_rsa")
    (notes / "loop").symlink_to("loop")
    (notes / "null").symlink_to("/dev/null")
    (notes / "proc").symlink_to("/proc/self")
    os.mkfifo(notes / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(notes)  # the path of a socket is short
        listening.bind("socket")
        os.chdir(here)
    return home


@pytest.fixture(scope="module", params=[True, False], ids=["by component", "by name"])
def folders(home: Path, request: pytest.FixtureRequest) -> Folders:
    return Folders([home / "notes", home / "work"], by_component=request.param)


def read(folders: Folders, path: str, offset: int = 0) -> str:
    return asyncio.run(ReadFile(folders).run({"path": path, "offset": offset}))


def listed(folders: Folders, folder: str = "") -> list[str]:
    return asyncio.run(ListFiles(folders).run({"folder": folder})).split("\n")


def found(folders: Folders, text: str, folder: str = "") -> list[str]:
    return asyncio.run(SearchFiles(folders).run({"text": text, "folder": folder})).split("\n")


def test_files_are_read_by_any_name_that_means_them(folders: Folders, home: Path) -> None:
    names = ["notes/todo.txt", "todo.txt", "./todo.txt", "notes/2025/../todo.txt", str(home / "notes/todo.txt")]
    for name in names:
        assert read(folders, name) == "buy milk\ncall Anna\n"
    assert read(folders, "work/report.txt") == read(folders, "report.txt") == "quarterly milk report"
    assert read(folders, "notes/inside/plan  b.md") == "Milk and honey"


def test_a_path_that_was_made_up_around_the_name_of_a_folder_is_found(folders: Folders) -> None:
    assert read(folders, "/home/user/notes/todo.txt") == "buy milk\ncall Anna\n"
    assert [place.shown for place in folders.places("/home/user/Documents/notes")] == ["notes"]
    for name, words in (
        ("/home/user/notes/nothing.txt", "outside the folders"),
        ("/home/user/notes/../outside/plain.txt", "outside the folders"),
        ("/home/user/notes/out.txt", "leads out of the folder"),
        ("/home/user/notes/.env", "is hidden"),
    ):
        with pytest.raises(ToolError, match=words):
            read(folders, name)


def test_a_folder_of_the_same_name_inside_is_found(tmp_path: Path) -> None:
    (tmp_path / "notes/notes").mkdir(parents=True)
    (tmp_path / "notes/notes/a.txt").write_text("inner")
    assert read(Folders([tmp_path / "notes"]), "notes/a.txt") == "inner"


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place / "notes").mkdir(parents=True)
        (tmp_path / place / "notes/x.txt").write_text(place)
    folders = Folders([tmp_path / "a/notes", tmp_path / "b/notes"])
    assert (read(folders, "notes/x.txt"), read(folders, "notes-2/x.txt")) == ("a", "b")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *(("../outside/plain.txt", "outside the folders"), ("notes/../../outside/plain.txt", "outside the folders")),
        *(
            ("/etc/passwd", "outside the folders"),
            ("~/x", "outside the folders"),
            ("notes/../../..", "outside the folders"),
        ),
        *(("out/plain.txt", "leads out of the folder"), ("out.txt", "leads out"), ("null", "leads out")),
        *(("proc/environ", "leads out"), ("loop", "can't be read"), ("key.txt", "hidden or may hold keys")),
        *((".env", "hidden or may hold keys"), (".git/config", "hidden"), ("notes/id_rsa", "hidden or may hold keys")),
        *(("server.PEM", "hidden or may hold keys"), ("passwords.txt", "hidden or may hold keys")),
        *(("pipe", "is not a file"), ("socket", "is not a file"), ("notes/2025", "is a folder"), ("", "not the name")),
        *(
            ("notes", "is a folder"),
            (".", "not the name"),
            ("todo.txt\0", "not the name"),
            ("a" * 5000, "can't be read"),
        ),
        *(("todo.txt/x", "is not a folder"), ("nothing.txt", 'There is no "notes/nothing.txt"')),
    ],
)
def test_what_is_not_read_is_refused_in_words(name: str, words: str, folders: Folders) -> None:
    with pytest.raises(ToolError) as refused:
        read(folders, name)
    assert words in refused.value.reason and SECRET not in refused.value.reason


@pytest.mark.parametrize("name", ["/proc/self/environ", "/proc/version", "/dev/zero", "/sys/kernel/notes", "/proc"])
def test_the_systems_own_files_are_refused_even_where_everything_is_allowed(name: str) -> None:
    with pytest.raises(ToolError, match="belongs to the system"):
        read(Folders(["/"]), name)
    with pytest.raises(ToolError, match="belongs to the system"):
        listed(Folders(["/proc"]))


SEGMENTS = [
    "..",
    ".",
    "",
    "/",
    "//",
    "~",
    "notes",
    "work",
    "inside",
    "out",
    "out.txt",
    "loop",
    "proc",
    "root",
    "cwd",
    "2025",
]
SEGMENTS += [
    "plain.txt",
    "outside",
    "notes-private",
    ".git",
    "config",
    ".env",
    "id_rsa",
    "key.txt",
    "todo.txt",
    "\\",
    "%2e%2e",
]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(SEGMENTS) | st.text(max_size=4), max_size=7), st.booleans())
def test_no_name_leads_out(folders: Folders, home: Path, segments: list[str], is_absolute: bool) -> None:
    name = "/".join([str(home), *segments] if is_absolute else segments)
    for use in (read, listed, lambda folders, name: found(folders, SECRET[:10], name)):
        try:
            result = use(folders, name)
        except ToolError as error:
            assert SECRET not in error.reason
        else:
            assert SECRET not in "".join(result) and "plain.txt" not in "".join(result)


@pytest.fixture
def swapped(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file and a folder in it, beside a folder that is not named."""
    for name in ("notes/sub/a.txt", "outside/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(SECRET if name.startswith("outside") else "mine")
    yield tmp_path / "notes"


@pytest.mark.parametrize("by_component", [True, False])
def test_what_is_exchanged_for_a_link_after_the_check_is_not_followed(by_component: bool, swapped: Path) -> None:
    folders = Folders([swapped], by_component=by_component)
    file, folder = folders.place("sub/a.txt"), folders.place("sub")
    (swapped / "sub").rename(swapped / "old")
    (swapped / "sub").symlink_to("../outside")
    with pytest.raises(ToolError), folders.file(file) as opened:
        opened.read()
    with pytest.raises(ToolError):
        folders.entries(folder)
    (swapped / "sub").unlink()
    (swapped / "sub").mkdir()
    (swapped / "sub/a.txt").symlink_to("../../outside/a.txt")
    with pytest.raises(ToolError), folders.file(file) as opened:
        opened.read()


def test_a_file_exchanged_for_a_pipe_blocks_nobody(swapped: Path) -> None:
    folders = Folders([swapped])
    file = folders.place("sub/a.txt")
    (swapped / "sub/a.txt").unlink()
    os.mkfifo(swapped / "sub/a.txt")
    with pytest.raises(ToolError, match="is not a file"), folders.file(file):
        pass


def test_a_listing_shows_what_may_be_read_and_nothing_else(folders: Folders) -> None:
    lines = listed(folders, "notes")
    assert [line.split(" (")[0] for line in lines] == ["notes/2025/", "notes/inside/", "notes/todo.txt"]
    assert lines[-1].startswith("notes/todo.txt (19 B, 20")
    assert [line.split(" (")[0] for line in listed(folders)][-1] == "work/report.txt"
    assert listed(folders, "notes/2025")[0].startswith("notes/2025/plan  b.md (14 B")
    with pytest.raises(ToolError, match=r'todo\.txt" is not a folder'):
        listed(folders, "todo.txt")


def test_many_files_are_listed_in_part(tmp_path: Path) -> None:
    for number in range(250):
        (tmp_path / f"{number:03}").touch()
    lines = listed(Folders([tmp_path]))
    assert len(lines) == 201 and lines[-1] == "[50 more entries are not shown.]"


def test_names_with_control_characters_are_not_listed(tmp_path: Path) -> None:
    for name in ("a\x1b[31m", "b\nc", b"d\xff".decode(errors="surrogateescape"), "好 file"):
        (tmp_path / name).touch()
    assert [line.partition("/")[2].split(" (")[0] for line in listed(Folders([tmp_path]))] == ["好 file"]


def test_a_search_finds_names_and_lines_in_all_folders(folders: Folders) -> None:
    assert found(folders, "MILK") == [
        *(
            "notes/todo.txt:1: buy milk",
            "work/report.txt:1: quarterly milk report",
            "notes/2025/plan  b.md:1: Milk and honey",
        ),
    ]
    assert found(folders, "milk", "work") == ["work/report.txt:1: quarterly milk report"]
    assert found(folders, "todo") == ["notes/todo.txt"] and found(folders, "2025") == ["notes/2025/ (folder)"]
    assert found(folders, SECRET) == [f'Nothing contains "{SECRET}".']
    with pytest.raises(ToolError, match="Give the words"):
        found(folders, "  ")


def test_a_search_has_limits(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number:03}.txt").write_text("milk\n" * 100)
    lines = found(Folders([tmp_path]), "milk")
    assert len(lines) == 51 and lines[-1].startswith("[There may be more.")
    assert sum(":1: " in line for line in lines) == 10
    deep = tmp_path
    for _ in range(40):
        deep /= "d"
    deep.mkdir(parents=True)
    (deep / "deep.txt").write_text("needle")
    assert found(Folders([tmp_path]), "needle")[0].startswith("Nothing")


def test_a_match_far_into_a_line_is_shown(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("x" * 100_000 + " the needle is here")
    line = found(Folders([tmp_path]), "needle is")[0]
    assert "the needle is here" in line and len(line) < 300


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "cp1252"])
def test_texts_of_any_encoding_are_read_piece_by_piece(encoding: str, tmp_path: Path) -> None:
    line = "Schöne Grüße aus der Straße, für Käthe." if encoding == "cp1252" else "今天星期几？明天会下雨吗。"
    text = "".join(f"{number} {line}\n" for number in range(3000))
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    folders, pieces, offset = Folders([tmp_path]), "", 0
    while True:
        piece = read(folders, "a.txt", offset)
        body, note, rest = piece.rpartition("\n[This is up to byte ")
        pieces += body if note else piece
        if not note:
            break
        offset = int(rest.split("offset ")[1].removesuffix(".]"))
    assert hash(pieces) == hash(text)  # pytest would compare the texts for minutes
    assert "\ufffd" not in read(folders, "a.txt", 1001) or encoding == "gb18030"


def test_what_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "b.bin").write_bytes(b"text " * 10_000 + b"\0\1\2" * 10_000)
    folders = Folders([tmp_path])
    for name, offset in (("a.bin", 0), ("b.bin", 50_000)):
        with pytest.raises(ToolError, match="not a text file"):
            read(folders, name, offset)
    assert found(folders, "text") == ['Nothing contains "text".']


def test_the_end_of_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "short").write_text("short")
    folders = Folders([tmp_path])
    assert read(folders, "empty") == f"[{tmp_path.name}/empty is empty.]"
    assert read(folders, "short", 2) == "ort"
    for offset in (5, 10**30):
        with pytest.raises(ToolError, match="has only 5 bytes"):
            read(folders, "short", offset)


def test_a_file_of_a_gigabyte_costs_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "big.txt").open("wb") as file:
        file.write(b"needle " * 5000)
        file.seek(1 << 30)
        file.write(b"the end")
    folders = Folders([tmp_path])
    tracemalloc.start()
    assert read(folders, "big.txt").startswith("needle ")
    assert read(folders, "big.txt", 1 << 30) == "the end"
    assert found(folders, "needle")[0].startswith("Nothing")  # zeros follow: it is not a text
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


async def test_a_search_that_is_cancelled_ends(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    looked: list[Place] = []
    began, may_go_on, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    class Slow(Folders):
        def entries(self, place: Place) -> list[Entry]:
            looked.append(place)
            loop.call_soon_threadsafe(began.set)
            may_go_on.wait()
            return super().entries(place)

    running = asyncio.create_task(SearchFiles(Slow([tmp_path])).run({"text": "x"}))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    may_go_on.set()
    await loop.shutdown_default_executor()
    assert len(looked) == 1
