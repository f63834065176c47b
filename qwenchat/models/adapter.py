"""Checks that a LoRA adapter can be used with a model, before anything is loaded.

llama.cpp refuses an adapter without saying which file is wrong, and takes one without weights as if it were none. The
checks follow its rules (https://github.com/ggml-org/llama.cpp/blob/master/src/llama-adapter.cpp); no tensor is read.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from qwenchat.errors import CannotLoad, FileError, QwenchatError
from qwenchat.i18n import _
from qwenchat.models.gguf import ModelHeader
from qwenchat.models.gguf_reader import FileHeader, read_file_header
from qwenchat.text.safe import clean_line

_A, _B = ".lora_a", ".lora_b"
_IGNORED = "_norm.weight"
"""Tensors that llama.cpp leaves out."""
_UNCONVERTED = (".safetensors", ".bin", ".pt")


def check_adapters(paths: Sequence[Path], model: ModelHeader) -> None:
    """Raise CannotLoad for an adapter that can't be used with a model, FileError for one that can't be read."""
    if not paths:
        return
    shapes: dict[str, Sequence[int]] = {}
    for part in model.parts:
        shapes |= read_file_header(part).shapes
    for path in paths:
        _check_adapter(path, model.architecture, shapes)


def _check_adapter(path: Path, architecture: str, model: Mapping[str, Sequence[int]]) -> None:
    name = clean_line(path.name)
    if path.is_dir() or path.suffix in _UNCONVERTED:
        raise _unconverted(path)
    try:
        adapter = read_file_header(path)
    except CannotLoad as error:
        raise CannotLoad(error.message, _give_another()) from error
    kind, form = adapter.word("general.type"), adapter.word("adapter.type")
    if kind in ("", "model"):
        raise CannotLoad(_("{name} is a model, not an adapter.").format(name=name), _("Give it as the model instead."))
    if kind != "adapter" or form != "lora":
        what = kind if kind != "adapter" else form
        raise CannotLoad(
            _("{name} is not a LoRA adapter: it contains {what}.").format(name=name, what=what), _give_another()
        )
    theirs = adapter.word("general.architecture")
    if theirs != architecture:
        raise CannotLoad(
            _("{name} is an adapter for {theirs}, and the model is {ours}.").format(
                name=name, theirs=theirs, ours=architecture
            ),
            _made_for_it(),
        )
    _check_tensors(name, adapter, model)


def _check_tensors(name: str, adapter: FileHeader, model: Mapping[str, Sequence[int]]) -> None:
    shapes = {tensor: shape for tensor, shape in adapter.shapes.items() if not tensor.endswith(_IGNORED)}
    if not shapes:
        raise CannotLoad(_("{name} contains no weights.").format(name=name), _give_another())
    for tensor in shapes:
        base = tensor.removesuffix(_A).removesuffix(_B)
        a, b = shapes.get(base + _A), shapes.get(base + _B)
        if a is None or b is None:
            raise CannotLoad(
                _("{name} is not a complete LoRA adapter: {tensor} has no pair.").format(
                    name=name, tensor=clean_line(tensor)
                ),
                _give_another(),
            )
        if base not in model:
            raise CannotLoad(
                _("{name} changes {tensor}, which the model does not have.").format(name=name, tensor=clean_line(base)),
                _made_for_it(),
            )
        # Shapes are (columns, rows). The embedding is looked up by rows, so its halves are the other way round.
        changed = (b[1], a[1]) if base == "token_embd.weight" else (a[0], b[1])
        if changed != tuple(model[base][:2]):
            raise CannotLoad(
                _("{name} was made for another model: its {tensor} is {theirs}, and the model's is {ours}.").format(
                    name=name, tensor=base, theirs=_size(changed), ours=_size(model[base])
                ),
                _made_for_it(),
            )


def _unconverted(path: Path) -> QwenchatError:
    """Return the error for an adapter as PEFT saves it, or for another folder."""
    folder = path if path.is_dir() else path.parent
    if not (folder / "adapter_config.json").is_file():
        words = _("{name} is not a GGUF adapter.").format(name=clean_line(path.name))
        return FileError(words, _give_another())
    return CannotLoad(
        _("{name} is a PEFT adapter, which must be converted first.").format(name=clean_line(path.name)),
        _("With llama.cpp's sources: python convert_lora_to_gguf.py {folder}").format(
            folder=shlex.quote(clean_line(str(folder), 1000))
        ),
    )


def _give_another() -> str:
    return _("Download or convert it again, or give another file.")


def _made_for_it() -> str:
    return _("Use an adapter that was made for exactly this model, whatever its quantisation.")


def _size(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
