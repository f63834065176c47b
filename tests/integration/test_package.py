"""The wheel and the source package: what is in them, and that an empty environment can run what was installed."""

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from qwenchat import __version__
from tests.fakes.commands import ROOT

PACKAGE = ROOT / "qwenchat"
GUIDE = PACKAGE / "models" / "guide"
SUFFIXES = {".py", ".toml", ".mo", ".tcss", ".css", ".html", ".js", ".sql", ".json", ".txt", ".typed"}
BESIDE = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "LICENSE", "qwenchat.1"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both packages; the wheel is made from the source package."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in an environment of its own, which borrows dependencies and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    bin_folder = folder / ("Scripts" if os.name == "nt" else "bin")
    python = str(bin_folder / "python")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", str(wheel))
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (Path(site) / "borrowed.pth").write_text("\n".join(filter(_has_packages, sys.path)), "utf-8")
    return bin_folder / "qwenchat"


def _has_packages(folder: str) -> bool:
    """Return whether a folder of the path has installed packages, and is no source of this one."""
    return Path(folder).name in ("site-packages", "dist-packages")


def run(*command: str | Path, **environ: str) -> str:
    """Run a command away from the repository, whose code it could take for the installed one."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        env=clean | environ,
        cwd=tempfile.gettempdir(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names(wheel: Path) -> list[Path]:
    with zipfile.ZipFile(wheel) as archive:
        return [Path(name) for name in archive.namelist()]


def test_the_wheel_contains_only_what_is_needed_to_run(wheel: Path) -> None:
    guide = {name.name for name in names(wheel) if "guide" in name.parts}
    assert guide <= {"__init__.py", "guide.gguf", "README.md"}
    assert ("guide.gguf" in guide) == (GUIDE / "guide.gguf").exists()
    rest = [name for name in names(wheel) if "guide" not in name.parts]
    odd = [n for n in rest if n.parts[0] == "qwenchat" and n.suffix not in SUFFIXES]
    assert odd == []
    beside = {name for name in rest if name.parts[0] != "qwenchat"}
    assert {name.name for name in beside} == BESIDE
    assert {name.parts[0] for name in beside} == {f"qwenchat-{__version__}.{end}" for end in ("dist-info", "data")}


def test_the_wheel_lacks_nothing_that_runs(wheel: Path) -> None:
    there = set(names(wheel))
    files = [f for f in PACKAGE.rglob("*") if f.suffix in SUFFIXES and GUIDE not in f.parents]
    assert {file.relative_to(ROOT) for file in files} <= there
    themes = {Path("qwenchat/themes") / file.name for file in (ROOT / "themes").glob("*.toml")}
    assert len(themes) >= 8 and themes <= there


def test_it_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        about: Message = Parser().parsestr(
            archive.read(f"qwenchat-{__version__}.dist-info/METADATA").decode(), headersonly=True
        )
    assert (about["Name"], about["Version"]) == ("qwenchat", __version__)
    assert (about["License-Expression"], about["License-File"]) == ("Apache-2.0", "LICENSE")
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_source_package_has_all_that_git_tracks(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        there = {"/".join(Path(name).parts[1:]) for name in archive.getnames()}
    assert {"pyproject.toml", "tests/conftest.py", "docs/screen.svg", ".ci/run"} <= there
    assert tracked() - there == set()
    assert {name.split("/")[0] for name in there} & {".venv", "shared", "site", "dist"} == set()


def tracked() -> set[str]:
    """Return the files that git tracks here; none in an unpacked source package."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    return set(filter(None, done.stdout.decode().split("\0")))


def test_it_runs_where_nothing_else_of_it_is(installed: Path, tmp_path: Path) -> None:
    home = {"QWENCHAT_HOME": str(tmp_path), "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    assert run(installed, "--version", **home).split() == ["qwenchat", __version__]
    catalogue = run(installed, "models", "catalog", **home)
    assert "7b:q4_k_m" in catalogue
    where = run(installed.with_name("python"), "-c", "import qwenchat; print(qwenchat.__file__)", **home)
    assert Path(where.strip()).is_relative_to(installed.parents[1])
    assert (installed.parents[1] / "share" / "man" / "man1" / "qwenchat.1").is_file()


@pytest.mark.skipif(not (GUIDE / "guide.gguf").exists(), reason="the guide is not trained yet")
@pytest.mark.parametrize(("question", "says"), [("How do I stop an answer?", "Esc"), ("怎么停止回答？", "Esc")])
def test_the_guide_answers_where_no_model_is(installed: Path, tmp_path: Path, question: str, says: str) -> None:
    home = {"QWENCHAT_HOME": str(tmp_path), "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    assert says in run(installed, "ask", "--no-save", question, **home)
