"""The one place where the parts are put together: settings, folders, store, engines, models. It decides nothing.

Parts are imported and made when they are first used, so that `qwenchat --version` pays for none of them, and the screen
is there before models and engines are. Several threads may use a program.
"""

# ruff: noqa: PLC0415

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from qwenchat import config
from qwenchat.chat.sampling import Sampling
from qwenchat.config import Settings
from qwenchat.errors import FileError, StoreError
from qwenchat.paths import Paths, expand_home
from qwenchat.runtime.lazy import MadeOnce

if TYPE_CHECKING:
    from qwenchat.chat.ports import Engine
    from qwenchat.chat.session import Session
    from qwenchat.documents.collections import Collections
    from qwenchat.documents.index import DocumentIndex
    from qwenchat.engines.local.loaded_model import PlannedModel, Planner
    from qwenchat.engines.local.protocol import Device
    from qwenchat.engines.local.saved_kv import SavedKV
    from qwenchat.engines.remote.server import RemoteServer
    from qwenchat.models.catalogue import Catalogue
    from qwenchat.models.download.plan import DownloadPlan
    from qwenchat.models.download.progress import Report
    from qwenchat.models.fit import Resources
    from qwenchat.models.folders import ModelFolders
    from qwenchat.models.library import Library, LocalModel
    from qwenchat.runtime.load_options import LoadOptions
    from qwenchat.runtime.machine import Machine
    from qwenchat.runtime.remote_engines import RemoteEngines
    from qwenchat.sessions.store import Store


class Program(Struct, frozen=True, dict=True):
    """What every command and the screen start from."""

    environ: Mapping[str, str]

    @classmethod
    def here(cls) -> "Program":
        """Return the program in this process's environment."""
        return cls(dict(os.environ))

    @MadeOnce
    def paths(self) -> Paths:
        """The folders."""
        return Paths.find(self.environ)

    @MadeOnce
    def settings(self) -> Settings:
        """The settings. Raises WrongUse or FileError."""
        return config.load(self.paths.settings, self.environ)

    def without_settings(self) -> "Program":
        """Return the program with default settings, for what has to work where the settings are wrong."""
        plain = Program(self.environ)
        plain.__dict__["settings"] = Settings()
        return plain

    def reread_settings(self) -> None:
        """Read the settings again when they are next used."""
        for name in ("settings", "remote_engines"):
            self.__dict__.pop(name, None)

    @property
    def sampling(self) -> Sampling:
        """The sampling parameters of the settings. Raises WrongUse for a number that makes no sense."""
        return Sampling(**structs.asdict(self.settings.sampling)).check()

    def offers_tools(self, session: "Session") -> bool:
        """Return whether the model of a session may call tools."""
        return self.settings.tools.enabled if session.tools is None else session.tools

    @MadeOnce
    def catalogue(self) -> "Catalogue":
        """The Qwen2 family."""
        from qwenchat.models import catalogue

        return catalogue.load()

    @MadeOnce
    def model_folders(self) -> "ModelFolders":
        """The folders that models lie in on this machine."""
        from qwenchat.models.folders import ModelFolders

        hub = self.settings.hub
        return ModelFolders.find(
            self.environ,
            own=(self.paths.models,),
            folders=tuple(expand_home(folder) for folder in hub.folders),
            home=Path.home(),
            download_folder=expand_home(hub.folder) if hub.folder else None,
        )

    @MadeOnce
    def library(self) -> "Library":
        """The models on this machine."""
        from qwenchat.models.library import Library

        return Library(self.model_folders, self.paths.cache, self.catalogue, self.usable)

    @MadeOnce
    def remote_engines(self) -> "RemoteEngines":
        """The engines elsewhere."""
        from qwenchat.runtime.remote_engines import RemoteEngines

        settings = self.settings
        file = self.paths.cache / "engines.json"
        return RemoteEngines(settings.engines, offline=settings.hub.offline, file=file)

    @MadeOnce
    def machine(self) -> "Machine":
        """What this machine has, and how fast it is."""
        from qwenchat.runtime.machine import Machine

        return Machine(self.paths.models, self.model_folders.downloads)

    def usable(self, *, measure: bool = False) -> "Resources":
        """Return what models may use: no accelerator where the settings say so. `Machine.resources` says the rest."""
        found: Sequence[Device] | None = () if self.settings.model.gpu_layers == 0 else None
        return self.machine.resources(found, peers=self.allowed_peers, measure=measure)

    @property
    def allowed_peers(self) -> tuple[str, ...]:
        """The peers of the settings; offline, only those that are this machine."""
        from qwenchat.net.addresses import is_loopback

        settings = self.settings
        return tuple(
            peer for peer in settings.model.rpc if not settings.hub.offline or is_loopback(peer.rpartition(":")[0])
        )

    def plan_download(
        self, text: str, *, source: str = "", revision: str = "", folder: Path | None = None
    ) -> "DownloadPlan":
        """Return how to download what a reference or an address stands for. Raises WrongUse or NotFound."""
        from qwenchat.models.download.plan import DownloadPlanner

        planner = DownloadPlanner(
            catalogue=self.catalogue,
            settings=self.settings.hub,
            environ=self.environ,
            hub_cache=self.model_folders.hf,
            own_folder=self.paths.models,
            resources=self.usable,
        )
        return planner.plan(text, source=source, revision=revision, folder=folder)

    def pull(self, plan: "DownloadPlan", report: "Report", stop: threading.Event) -> Path:
        """Carry out a download and return the model's file. It blocks; `download.pull.pull` says what it raises."""
        from qwenchat.models.download.pull import pull

        return pull(plan, report, stop, library=self.library)

    def model_file(self, name: str) -> Path:
        """Return the file that a model reference stands for. Raises WrongUse or NotFound."""
        return self.library.locate(self.library.parse(name))

    def model_name(self, reference: str) -> str:
        """Return the name for users of a model, given its reference."""
        return str(self.library.name_of(reference)) if reference else ""

    def engine(self, model: str, options: "LoadOptions") -> "Engine":
        """Return an engine for a model; it is loaded when it is first asked. `engine_for` says what it raises."""
        from qwenchat.runtime.engine_registry import engine_for

        return engine_for(self, model, options)

    def remote_engine(self, server: "RemoteServer", model: str) -> "Engine":
        """Return an engine for a model of a server, which need not be in the settings."""
        from qwenchat.runtime.engine_registry import remote_engine

        return remote_engine(self, server, model)

    def planner(self, model: str, options: "LoadOptions") -> "Planner":
        """Return what decides how a model is loaded here.

        Raises NotFound, FileError or CannotLoad for a file that can't be used, WrongUse for a model elsewhere.
        """
        from qwenchat.engines.local.devices import usable_cores
        from qwenchat.models import gguf
        from qwenchat.models.adapter import check_adapters
        from qwenchat.runtime.load_planner import LoadPlanner

        path, name = self.model_file(model), self.model_name(model)
        adapters = [Path(os.fsdecode(lora.path)) for lora in options.loras]
        check_adapters(adapters, gguf.check(gguf.read_header(path)))  # refused now, not when it is loaded

        def draft_models(wanted: str) -> "Sequence[LocalModel]":
            library = self.library
            return library.usable() if wanted == "auto" else [library.model(library.parse(wanted))]

        def plan(found: "Sequence[Device]") -> "PlannedModel":
            header = gguf.check(gguf.read_header(path))  # it may have been replaced since
            planner = LoadPlanner(
                resources=self.machine.resources(found),
                devices=found,
                cores=usable_cores(),
                settings=self.settings.model,
                allowed_peers=self.allowed_peers,
                sampling=self.sampling,
                catalogue=self.catalogue,
                draft_models=draft_models,
            )
            return planner.plan(header, identity=gguf.identity(path), reference=model, name=name, options=options)

        return plan

    @MadeOnce
    def store(self) -> "Store":
        """The sessions; what is old in the trash is deleted. Raises StoreError."""
        from qwenchat.sessions.store import Store

        store = Store(self.paths.database, deleted=self._forget_session)
        if days := self.settings.sessions.empty_trash_after_days:
            with suppress(StoreError, OSError):  # the next program that opens the store tries again
                store.trash.empty_after(days)
        return store

    def _forget_session(self, session_id: str) -> None:
        """Delete what was made of a session that is deleted forever."""
        from qwenchat.documents.index import chat_owner

        self.saved_kv.forget_session(session_id)
        if self.paths.documents.exists():
            with suppress(StoreError):  # then the next program that uses the index finds that the session is gone
                self._unswept_documents.drop(chat_owner(session_id))

    def _has_session(self, session_id: str) -> bool:
        """Return whether there is a session, in the trash or not. Raises StoreError."""
        return self.paths.database.exists() and self.store.exists(session_id)

    @MadeOnce
    def documents(self) -> "DocumentIndex":
        """The index of documents, without those of chats and collections that are gone. Raises StoreError."""
        from qwenchat.documents.collections import collections_in

        index = self._unswept_documents
        if not index.is_read_only:
            with suppress(StoreError, FileError):  # where it is not known what exists, nothing is deleted
                index.sweep(
                    self._has_session,
                    lambda name: any(each.name == name for each in collections_in(self.paths.collections)),
                )
        return index

    @MadeOnce
    def _unswept_documents(self) -> "DocumentIndex":
        from qwenchat.documents.index import DocumentIndex

        return DocumentIndex(self.paths.documents)

    @MadeOnce
    def collections(self) -> "Collections":
        """The user's collections of documents."""
        from qwenchat.documents.collections import Collections

        return Collections(self.paths.collections, lambda: self.documents)

    @MadeOnce
    def saved_kv(self) -> "SavedKV":
        """KV caches of sessions."""
        from qwenchat.engines.local.saved_kv import SavedKV

        def exists(session_id: str) -> bool:
            with suppress(StoreError):  # where that is not known, nothing is saved
                return self._has_session(session_id)
            return False

        return SavedKV(self.paths.saved_kv, round(self.settings.sessions.saved_kv_gb * 2**30), exists)

    def close(self) -> None:
        """Close what was made. May be called twice."""
        if "store" in self.__dict__:
            self.store.close()
        if "_unswept_documents" in self.__dict__:
            self._unswept_documents.close()
