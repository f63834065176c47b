"""What a model answered in each cell, and the file that persists it while a test runs.

Each answer is appended to the file as soon as it is known, so a test that was stopped or killed continues after it. The
file is named by everything that an answer depends on; what is damaged in it is tested again.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import fmean

import msgspec

from qwenchat.chat.ports import ModelInfo
from qwenchat.documents.needle.plan import Cell, NeedlePlan
from qwenchat.errors import FileError
from qwenchat.i18n import _, reason_of
from qwenchat.paths import private_folder

_VERSION = 1
"""Of the prompts and of the file. What another version tested is tested again."""


class CellResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a model answered in one cell."""

    length: int
    depth: float
    prompt_tokens: int
    exact: bool
    """Whether the tokens were counted, and not estimated."""
    needles: tuple[str, ...]
    """The sentences in the text."""
    places: tuple[int, ...]
    """The tokens of text before each of them."""
    question: str
    expected: tuple[str, ...]
    """The numbers."""
    found: tuple[bool, ...]
    """Whether the answer has each of them."""
    answer: str
    cached_tokens: int
    prefill_s: float
    decode_s: float
    took_s: float
    """Making the prompt included."""

    @property
    def cell(self) -> Cell:
        """Where the result belongs."""
        return Cell(self.length, self.depth)

    @property
    def score(self) -> float:
        """The share of the needles that were found, from 0 to 1."""
        return fmean(self.found)


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedleReport:
    """A test: what was asked, of what, and the results so far."""

    model: ModelInfo
    plan: NeedlePlan
    text: str
    """The name of the text; empty for the one that comes with the program."""
    results: dict[Cell, CellResult]
    """Of cells of the plan."""
    predicted_s: float = 0.0
    took_s: float = 0.0
    """Without what earlier runs took."""

    def score(self, *, length: int | None = None) -> float | None:
        """Return the mean score of all results, or of those of one length; None without a result."""
        scores = [each.score for each in self.results.values() if length in (None, each.length)]
        return fmean(scores) if scores else None

    def as_json(self) -> dict[str, object]:
        """Return the report for programs."""
        plan, model = self.plan, self.model
        cells = (self.results[cell] for cell in sorted(self.results, key=lambda cell: (cell.length, cell.depth)))
        return {
            "model": model.reference,
            "name": model.name,
            **({"host": model.host} if model.host else {}),
            "context": {"window": model.n_ctx, "yarn_factor": round(model.yarn_factor, 4)},
            "kv_type": model.kv_type or None,
            "language": plan.language,
            "text": self.text or None,
            "seed": plan.seed,
            "needles": plan.needles,
            "lengths": plan.lengths,
            "depths": plan.depths,
            "score": _rounded(self.score()),
            "score_by_length": {str(length): _rounded(self.score(length=length)) for length in plan.lengths},
            "predicted_s": round(self.predicted_s, 1),
            "took_s": round(self.took_s, 1),
            "cells": [{**msgspec.to_builtins(each), "score": round(each.score, 4)} for each in cells],
        }


class ResultsFile:
    """The results of one test on disk."""

    def __init__(self, folder: Path, model: ModelInfo, plan: NeedlePlan, source: str) -> None:
        """Choose the file in `folder` for a test with the text `source`; lengths and depths do not matter."""
        depends_on = (
            *(_VERSION, model.file, model.kv_type, model.yarn_factor),
            *(plan.seed, plan.language, plan.needles, sha256(source.encode("utf-8", "replace")).hexdigest()),
        )
        name = sha256(msgspec.json.encode(depends_on)).hexdigest()[:32]
        self._file = folder / f"{name}.jsonl"

    def load(self) -> dict[Cell, CellResult]:
        """Return the results of earlier runs. Raises FileError."""
        try:
            lines = self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._failed(error) from error
        return {result.cell: result for result in _decoded(lines)}

    def clear(self) -> None:
        """Forget them. Raises FileError."""
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from error

    def append(self, result: CellResult) -> None:
        """Persist a result: it is on disk when this returns. Raises FileError."""
        private_folder(self._file.parent)
        try:
            with self._file.open("ab") as file:
                file.write(b"\n" + msgspec.json.encode(result) + b"\n")  # the line before may have been cut off
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> FileError:
        return FileError(
            _("The results in {file} can't be read or written: {reason}.").format(
                file=self._file, reason=reason_of(error)
            ),
            _("Free some space, or set QWENCHAT_HOME to a folder that is writable."),
        )


def _decoded(lines: Iterable[bytes]) -> Iterable[CellResult]:
    for line in lines:
        try:
            result = msgspec.json.decode(line, type=CellResult)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if result.found:
            yield result


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 4)
