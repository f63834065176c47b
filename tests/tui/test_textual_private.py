"""Private parts of Textual are used in one folder only, and Textual has an upper bound that the installed one keeps."""

import ast
import importlib
import inspect
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from types import ModuleType

from textual.message_pump import MessagePump
from textual.widgets import Static

from qwenchat import tui
from qwenchat.tui.textual_private.app import buffered

ROOT = Path(__file__).parents[2]
ALLOWED = "qwenchat.tui.textual_private."


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(tui.__path__, "qwenchat.tui."):
        if not f"{found.name}.".startswith(ALLOWED):
            yield importlib.import_module(found.name)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names_of(cls: type) -> set[str]:
    """What a class defines or reads of itself that begins with an underscore."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(cls) or cls))
    (body,) = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    defined = {node.name for node in body.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    read = {
        node.attr
        for node in ast.walk(body)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    }
    return {name for name in defined | read if is_private(name)}


def private_names_of_textual(cls: type) -> set[str]:
    """What the Textual classes below a class define, on themselves or on their instances."""
    return set().union(*(names_in(base) for base in cls.__mro__ if base.__module__.startswith("textual")))


@cache
def names_in(cls: type) -> frozenset[str]:
    return frozenset(filter(is_private, {*vars(cls), *re.findall(r"self\.(_\w+)", inspect.getsource(cls))}))


class Reaching(Static):
    """Reaches into Textual, so that the test is seen to find it."""

    def reach(self) -> object:
        return self._bindings


def test_no_widget_uses_or_replaces_a_private_name_of_textual() -> None:
    wrong = {
        f"{cls.__name__}: {name}"
        for module in modules()
        for cls in vars(module).values()
        if inspect.isclass(cls) and cls.__module__ == module.__name__ and issubclass(cls, MessagePump)
        for name in private_names_of(cls) & private_names_of_textual(cls)
    }
    assert wrong == set()
    assert private_names_of(Reaching) & private_names_of_textual(Reaching) == {"_bindings"}


def test_nothing_reads_a_private_name_of_another_object() -> None:
    wrong = {
        f"{module.__name__}:{node.lineno} {ast.unparse(node)}"
        for module in modules()
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os"))
    }
    assert wrong == set()


def test_nothing_imports_internal_modules_of_textual() -> None:
    internal = re.compile(r"textual\.(_\w+|messages)\b|from textual import .*\b_\w+")
    wrong = [module.__name__ for module in modules() if internal.search(inspect.getsource(module))]
    assert wrong == []


def test_textual_has_an_upper_bound_that_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (bounds,) = [line for line in project["dependencies"] if line.startswith("textual")]
    found = re.fullmatch(r"textual>=([\d.]+),<(\d+)", bounds)
    assert found is not None
    installed = tuple(map(int, version("textual").split(".")[:3]))
    assert tuple(map(int, found[1].split("."))) <= installed < (int(found[2]),)


def test_output_without_a_buffer_gets_one_for_what_a_signal_interrupts(tmp_path: Path) -> None:
    file = tmp_path / "terminal"
    with TextIOWrapper(FileIO(file, "w"), "gbk", "replace", write_through=True) as unbuffered:
        stream = buffered(unbuffered)
        assert isinstance(stream, TextIOWrapper) and isinstance(stream.buffer, BufferedWriter)
        assert stream.fileno() == unbuffered.fileno()
        stream.write("你😀\n")
        stream.flush()
        assert buffered(stream) is stream
    assert file.read_bytes() == "你?\n".encode("gbk")
