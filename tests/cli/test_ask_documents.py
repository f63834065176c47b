"""Documents in `qwenchat ask` and `qwenchat docs ask`, with a real engine whose answers are known."""

import json
from pathlib import Path

import pytest

from qwenchat.documents.index import collection_owner
from qwenchat.runtime.program import Program
from tests.fakes import ggufs
from tests.fakes.commands import qwenchat
from tests.fakes.files import docx

BAY = "# Harbour\n\nThe lighthouse of Kestrel Bay has 214 steps.\n"
LONG = BAY + "".join(f"\n# Day {day}\n\nThe ferry left, and the harbour was calm.\n" for day in range(300))
KEYS = ["number", "document", "page", "heading", "text"]


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "bay.md").write_text(BAY)
    return folder


def word_file(file: Path, text: str) -> Path:
    """Write a document of Word."""
    file.write_bytes(docx(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"))
    return file


def indexed(name: str) -> list[str]:
    program = Program.here()
    names = [each.name for each in program.documents.owned(collection_owner(name))]
    program.close()
    return names


def test_a_folder_is_indexed_read_and_cited(chain: ggufs.Chain, papers: Path) -> None:
    words = ("ask", "-m", chain.path, "--level", "1", "--json")
    done = qwenchat(*words, "--docs", papers, "How many steps has the lighthouse?")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["text"]) == (0, chain.text)
    [cited] = answer["citations"]
    assert list(cited) == KEYS and "214 steps" in cited["text"]
    assert (cited["number"], cited["document"], cited["page"], cited["heading"]) == (1, "bay.md", None, "Harbour")
    (papers / "owls.txt").write_text("Owls hunt at night.")
    answer = json.loads(qwenchat(*words, "--docs", papers, "When do owls hunt?").stdout)
    assert "owls.txt" in {each["document"] for each in answer["citations"]}
    assert indexed(str(papers)) == ["bay.md", "owls.txt"]
    answer = json.loads(qwenchat(*words, "-c", "Where?").stdout)  # the session reads them on
    assert answer["citations"]


def test_text_ends_with_its_sources_and_events_have_them(chain: ggufs.Chain, papers: Path) -> None:
    words = ("docs", "ask", "-m", chain.path, "--level", "1", papers, "How many steps has the lighthouse?")
    assert qwenchat(*words).stdout.endswith("\n\n[1] bay.md · Harbour\n")
    events = [json.loads(line) for line in qwenchat(*words, "--jsonl").stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds.index("saved") < kinds.index("reading") < kinds.index("citation") < kinds.index("delta")
    [cited] = [event for event in events if event["event"] == "citation"]
    assert list(cited) == ["event", *KEYS] and events[-1]["citations"] == [{key: cited[key] for key in KEYS}]


def test_docs_ask_reads_the_collections_that_are_named_or_all(chain: ggufs.Chain, papers: Path) -> None:
    words = ("docs", "ask", "-m", chain.path, "--level", "1", "--json")
    assert qwenchat(*words, "Why?").returncode == 3
    assert qwenchat("docs", "add", papers, "--collection", "bay").returncode == 0
    for more in (("bay",), ()):
        assert json.loads(qwenchat(*words, *more, "How many steps?").stdout)["citations"]
    done = qwenchat(*words, "bay", "how", "many", "steps")
    assert (done.returncode, done.stdout) == (3, "") and "quotes" in done.stderr


def test_a_file_that_does_not_fit_is_read_in_parts(chain: ggufs.Chain, tmp_path: Path) -> None:
    words = ("ask", "-m", chain.path, "--level", "1", "--json", "--ctx", "2048")
    long, short = tmp_path / "long.md", word_file(tmp_path / "short.docx", "The baker is Odile.")
    long.write_text(LONG)
    done = qwenchat(*words, "How many steps has the lighthouse?", "-f", long, "-f", short)
    answer = json.loads(done.stdout)
    assert {each["document"] for each in answer["citations"]} == {"long.md"}
    assert "long.md has " in done.stderr and "read in parts" in done.stderr and "short.docx" not in done.stderr
    shown = json.loads(qwenchat("sessions", "export", answer["session"], "-f", "json").stdout)
    files = shown[0]["messages"][0]["attachments"]
    assert [(each["name"], each["in_parts"]) for each in files] == [("long.md", True), ("short.docx", False)]
    done = qwenchat(*words, "Who?", "-f", short)
    assert "citations" not in json.loads(done.stdout) and not done.stderr


def test_a_short_file_is_read_in_parts_where_the_window_is_small(chain: ggufs.Chain, tmp_path: Path) -> None:
    file = tmp_path / "short.md"
    file.write_text("".join(f"# Part {number}\n\nThe lighthouse has {number} steps.\n\n" for number in range(40)))
    done = qwenchat("ask", "-m", chain.path, "--level", "1", "--json", "--ctx", "1024", "-f", file, "What has 7 steps?")
    assert done.returncode == 0 and json.loads(done.stdout)["citations"], done.stderr
    assert "read in parts" in done.stderr


def test_the_guide_is_asked_about_no_documents(papers: Path) -> None:
    for words in (("-f", papers / "bay.md"), ("--docs", papers)):
        done = qwenchat("ask", "-m", "guide", *words, "Why?")
        assert (done.returncode, done.stdout) == (2, "") and "can't read documents" in done.stderr
        done = qwenchat("ask", *words, "Why?")
        assert (done.returncode, done.stdout) == (3, "") and "qwenchat models fit" in done.stderr
    assert qwenchat("sessions", "list").stdout == qwenchat("docs", "list").stdout == ""


def test_without_saving_nothing_of_them_stays(chain: ggufs.Chain, papers: Path, home: Path) -> None:
    words = ("ask", "-m", chain.path, "--level", "1", "--json", "--no-save")
    answer = json.loads(qwenchat(*words, "--docs", papers, "How many steps has the lighthouse?").stdout)
    assert "214 steps" in answer["citations"][0]["text"]
    assert not [path for path in home.rglob("*") if path.is_file() and b"Kestrel" in path.read_bytes()]


def test_what_can_not_be_read_is_refused(chain: ggufs.Chain, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.docx").write_bytes(b"PK\x03\x04 broken")
    for words, code in (
        (("--docs", tmp_path / "empty"), 8),
        (("--docs", tmp_path / "gone"), 3),
        (("--docs", tmp_path, "--complete"), 2),
        (("--level", "2", "--complete"), 2),
        (("-f", tmp_path / "no.docx"), 8),
    ):
        done = qwenchat("ask", "-m", chain.path, *words, "Why?")
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
