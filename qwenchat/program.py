"""The one place where the parts meet: settings, folders, store, engine, models.

Parts are made when first asked for, so that `qwenchat --version` pays for none of them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qwenchat import config
from qwenchat.config import Settings
from qwenchat.engine.hardware import this_machine
from qwenchat.engine.local import LocalEngine, Planned
from qwenchat.engine.protocol import Device
from qwenchat.engine.saved_kv import SavedKV
from qwenchat.errors import NotFound
from qwenchat.i18n import _
from qwenchat.models import gguf
from qwenchat.paths import Paths
from qwenchat.planning import Wishes, plan


@dataclass(frozen=True)
class Program:
    """What every command starts from."""

    environ: Mapping[str, str]

    @classmethod
    def here(cls) -> "Program":
        """Return the program in this process's environment."""
        return cls(dict(os.environ))

    @cached_property
    def paths(self) -> Paths:
        """The folders."""
        return Paths.find(self.environ)

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises WrongUse or FileError."""
        return config.load(self.paths.settings, self.environ)

    def model_file(self, reference: str) -> Path:
        """Return the file that a model reference stands for. Raises NotFound."""
        path = Path(reference).expanduser()
        if path.suffix == ".gguf" or path.exists():
            return path
        raise NotFound(
            _("There is no model {reference} on this machine.").format(reference=reference),
            _("Give the path of a .gguf file."),
        )

    def engine(self, reference: str, wishes: Wishes) -> LocalEngine:
        """Return an engine for a model; it is loaded when it is first asked.

        Raises NotFound, FileError or CannotLoad for a file that can't be used.
        """
        path = self.model_file(reference)
        header = gguf.check(gguf.read_header(path))
        identity = gguf.identity(path)

        def planner(devices: Sequence[Device]) -> Planned:
            return plan(
                header,
                identity=identity,
                name=reference,
                machine=this_machine(),
                devices=devices,
                wishes=wishes,
                settings=self.settings.model,
            )

        saved = SavedKV(self.paths.saved_kv, round(self.settings.sessions.saved_kv_gb * 2**30))
        return LocalEngine(planner, self.paths.engine_log, saved, complete=wishes.complete)
