"""The one place where the parts meet: settings, folders, store, engine, models.

Parts are imported and made when first asked for, so that `qwenchat --version` pays for none of them, and the screen is
there before models and engine are.
"""

# ruff: noqa: PLC0415

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qwenchat import config
from qwenchat.chat.conversation import Session
from qwenchat.chat.sampling import Sampling
from qwenchat.config import Settings
from qwenchat.errors import NotFound, StoreError
from qwenchat.i18n import _
from qwenchat.paths import Paths, expand_home

if TYPE_CHECKING:
    from qwenchat.engines.local.engine import LocalEngine, Planned, Planner
    from qwenchat.engines.local.protocol import Device
    from qwenchat.engines.local.saved_kv import SavedKV
    from qwenchat.models.catalogue import Catalog
    from qwenchat.models.download.plan import Order
    from qwenchat.models.download.progress import Report
    from qwenchat.models.fit import Resources
    from qwenchat.models.layouts import Places
    from qwenchat.models.library import Library
    from qwenchat.runtime.load_planner import Wishes
    from qwenchat.runtime.machine import Machine
    from qwenchat.sessions.store import Store

_DAY_MS = 86_400_000


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

    def without_settings(self) -> "Program":
        """Return the program as it would be with nothing set, for what has to work where the settings are wrong."""
        plain = Program(self.environ)
        plain.__dict__["settings"] = Settings()
        return plain

    def reread_settings(self) -> None:
        """Read the settings anew when they are next asked for."""
        self.__dict__.pop("settings", None)

    @property
    def sampling(self) -> Sampling:
        """What the settings wish for. Raises WrongUse for a number that makes no sense."""
        return Sampling(**msgspec.structs.asdict(self.settings.sampling)).check()

    @cached_property
    def catalog(self) -> "Catalog":
        """The Qwen2 family."""
        from qwenchat.models import catalogue

        return catalogue.load()

    @cached_property
    def places(self) -> "Places":
        """Where models lie on this machine."""
        from qwenchat.models.layouts import Places

        hub = self.settings.hub
        chosen = expand_home(hub.folder) if hub.folder else None
        folders = tuple(expand_home(folder) for folder in hub.folders)
        return Places.find(self.environ, (self.paths.models,), folders, Path.home(), chosen)

    @cached_property
    def library(self) -> "Library":
        """The models on this machine."""
        from qwenchat.models.library import Library

        return Library(self.places, self.paths.cache, self.catalog, self.usable)

    @cached_property
    def machine(self) -> "Machine":
        """What this machine has, and how fast it is."""
        from qwenchat.runtime.machine import Machine

        return Machine(self.paths.models, self.places.downloads)

    def usable(self, *, measure: bool = False) -> "Resources":
        """Return what models may use: no accelerator where the settings say so. `Machine.resources` says the rest."""
        found: Sequence[Device] | None = () if self.settings.model.gpu_layers == 0 else None
        return self.machine.resources(found, measure=measure)

    def order(self, text: str, *, source: str = "", revision: str = "", folder: Path | None = None) -> "Order":
        """Return the download that a reference or an address orders. Raises WrongUse or NotFound."""
        from qwenchat.models.download.plan import Desk

        desk = Desk(self.catalog, self.settings.hub, self.environ, self.places.hf, self.paths.models, self.usable)
        return desk.order(text, source=source, revision=revision, folder=folder)

    def pull(self, order: "Order", report: "Report", stop: threading.Event) -> Path:
        """Carry out a download and return the model's file. It blocks; `models.pull.pull` says what it raises."""
        from qwenchat.models.download.pull import Manner, pull, same_file
        from qwenchat.models.download.retry import offline

        if order.source is None:
            path = self.library.find(order.reference) if order.reference else None
            if path is None:
                raise offline(str(order.reference or order.wanted.repo))
            return path
        manner = Manner(at_hand=partial(same_file, self.library)) if order.anywhere else Manner()
        return pull(order.wanted, order.source, order.place, report, stop, manner=manner)

    def usual_model(self) -> str:
        """Return the model to use where none is named: the settings', else the best that is here; empty without any."""
        if self.settings.model.default:
            return self.settings.model.default
        best = self.library.best()
        return best.reference if best else ""

    def model_to_ask(self, named: str, session: Session | None) -> str:
        """Return the model to ask: the one that a person named, else the session's, else the usual one.

        Empty where there is none but the guide. Raises WrongUse.
        """
        return (named and self.lasting(named)) or (session.model if session else "") or self.usual_model()

    def advised_model(self) -> str:
        """Return the model of the catalogue to take on this machine; the smallest where none fits now."""
        from qwenchat.models import recommendation

        best = recommendation.recommended(recommendation.table(self.catalog, self.usable(measure=True), {}))
        return best.reference if best else self.catalog.models[0].size

    def lasting(self, model: str) -> str:
        """Return a model reference that means the same from any folder. Raises WrongUse."""
        from qwenchat.models import reference

        parsed = reference.parse(model, self.catalog)
        if isinstance(parsed, reference.LocalFile):
            return reference.path_reference(parsed.path.absolute())
        return model

    def model_file(self, name: str) -> Path:
        """Return the file that a model reference stands for. Raises WrongUse or NotFound."""
        from qwenchat.models import reference

        return self.library.locate(reference.parse(name, self.catalog))

    def engine(self, model: str, wishes: "Wishes") -> "LocalEngine":
        """Return an engine for a model; it is loaded when it is first asked.

        Raises NotFound, FileError or CannotLoad for a file that can't be used.
        """
        from qwenchat.engines.local.engine import LocalEngine

        return LocalEngine(self.planner(model, wishes), self.paths.engine_log, self.saved_kv, complete=wishes.complete)

    def planner(self, model: str, wishes: "Wishes") -> "Planner":
        """Return what decides how a model is loaded. Raises what `engine` does."""
        from qwenchat.engines.local.devices import usable_cores
        from qwenchat.models import gguf
        from qwenchat.runtime.load_planner import Planning

        path = self.model_file(model)
        header = gguf.check(gguf.read_header(path))
        identity = gguf.identity(path)

        def planner(found: "Sequence[Device]") -> "Planned":
            planning = Planning(
                self.machine.resources(found), usable_cores(), self.settings.model, self.sampling, self.catalog
            )
            return planning.plan(header, identity=identity, name=model, wishes=wishes)

        return planner

    @cached_property
    def store(self) -> "Store":
        """The conversations. What was in the trash for longer than the person wants goes now, or another time.

        Raises StoreError.
        """
        from qwenchat.chat.ids import unix_ms
        from qwenchat.sessions.store import Store

        store = Store(self.paths.database)
        if days := self.settings.sessions.empty_trash_after_days:
            with suppress(StoreError, OSError):  # who opens the store came for something else
                self._forget_states(store.trash.empty(max(0, unix_ms() - days * _DAY_MS)))
        return store

    @cached_property
    def saved_kv(self) -> "SavedKV":
        """KV caches of sessions."""
        from qwenchat.engines.local.saved_kv import SavedKV

        return SavedKV(self.paths.saved_kv, round(self.settings.sessions.saved_kv_gb * 2**30))

    def delete_forever(self, session_ids: Sequence[str]) -> None:
        """Delete sessions and what is kept of them elsewhere. Raises NotFound and StoreError."""
        self.store.trash.delete_forever(*session_ids)
        self._forget_states(session_ids)

    def _forget_states(self, session_ids: Sequence[str]) -> None:
        for session_id in session_ids:
            self.saved_kv.forget_session(session_id)

    def close(self) -> None:
        """Close what was made. May be called twice."""
        if "store" in self.__dict__:
            self.store.close()


def no_model() -> NotFound:
    """Return the error for a question that no model is there to answer."""
    return NotFound(
        _("No model is chosen and none is here."), _("`qwenchat models fit` says which one to take, and how.")
    )
