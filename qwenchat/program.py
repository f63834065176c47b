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
from qwenchat.models import catalog, fit, gguf, reference
from qwenchat.models.catalog import Catalog
from qwenchat.models.layouts import Places, free_bytes
from qwenchat.models.library import Library
from qwenchat.models.measured import Measured
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

    @cached_property
    def catalog(self) -> Catalog:
        """The Qwen2 family."""
        return catalog.load()

    @cached_property
    def places(self) -> Places:
        """Where models lie on this machine."""
        hub = self.settings.hub
        ours = (self.paths.models, *([Path(hub.folder).expanduser()] if hub.folder else []))
        folders = tuple(Path(folder).expanduser() for folder in hub.folders)
        return Places.find(self.environ, ours, folders, Path.home())

    @cached_property
    def library(self) -> Library:
        """The models on this machine."""
        return Library(self.places, self.paths.cache, self.catalog, self.resources)

    @cached_property
    def measured(self) -> Measured:
        """How fast this machine and its models are."""
        return Measured(self.paths.models / "measured.json")

    def resources(self, devices: Sequence[Device] = (), *, measure: bool = False) -> fit.Resources:
        """Return what the machine has now; with `measure` also its bandwidth, which takes half a second once."""
        machine = this_machine()
        return fit.Resources(
            ram_total=machine.memory_total,
            ram_available=machine.memory_available,
            gpu_available=max((device.memory_free for device in devices), default=0),
            disk_free=free_bytes(self.places.ours[-1] if self.settings.hub.folder else self.places.hf),
            bandwidth=self.measured.bandwidth(machine.cores) if measure else 0.0,
        )

    def model_file(self, name: str) -> Path:
        """Return the file that a model reference stands for. Raises WrongUse or NotFound."""
        return self.library.locate(reference.parse(name, self.catalog))

    def engine(self, model: str, wishes: Wishes) -> LocalEngine:
        """Return an engine for a model; it is loaded when it is first asked.

        Raises NotFound, FileError or CannotLoad for a file that can't be used.
        """
        path = self.model_file(model)
        header = gguf.check(gguf.read_header(path))
        identity = gguf.identity(path)

        def planner(devices: Sequence[Device]) -> Planned:
            return plan(
                header,
                identity=identity,
                name=model,
                machine=this_machine(),
                devices=devices,
                wishes=wishes,
                settings=self.settings.model,
            )

        saved = SavedKV(self.paths.saved_kv, round(self.settings.sessions.saved_kv_gb * 2**30))
        return LocalEngine(planner, self.paths.engine_log, saved, complete=wishes.complete)
